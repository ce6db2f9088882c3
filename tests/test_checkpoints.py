"""Complete training states on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from brushwork import checkpoints
from brushwork.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_state_comes_back_exactly(tmp_path: Path) -> None:
    shared = torch.randn(3)
    state: dict[str, Any] = {
        "step": 7,
        "weights": {"a.b": torch.randn(2, 2, dtype=torch.bfloat16), "same": shared, "again": shared},
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0)}, 1: {}},
            "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}],
        },
        "nothing": None,
        "losses": [0.1, 1 / 3],
    }
    checkpoints.save(tmp_path / "7", state)
    read = checkpoints.load(tmp_path / "7")
    assert torch.equal(read["weights"].pop("a.b"), state["weights"].pop("a.b"))
    assert torch.equal(read["weights"]["again"], shared)
    assert read["optimizer"]["state"][0]["step"] == 3
    assert read["optimizer"]["param_groups"] == [{"lr": 1e-3, "betas": [0.9, 0.999]}]
    assert (read["step"], read["nothing"], read["losses"]) == (7, None, [0.1, 1 / 3])


def test_an_error_while_writing_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "7", {"step": 7})
    with pytest.raises(TypeError, match="a set cannot be part"):
        checkpoints.save(tmp_path / "7", {"step": {8}})
    assert checkpoints.load(tmp_path / "7") == {"step": 7}
    assert [each.name for each in tmp_path.iterdir()] == ["7"]


def test_latest_is_the_highest_step_and_ignores_what_is_not_whole(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path) is None
    for step in (9, 10):
        checkpoints.save(tmp_path / str(step), {"step": step})
    (tmp_path / "11").mkdir()
    latest = checkpoints.latest(tmp_path)
    assert latest is not None
    assert latest.name == "10"


@pytest.mark.parametrize(("limit", "left"), [(2, [3, 4]), (None, [1, 2, 3, 4]), (9, [1, 2, 3, 4])])
def test_keep_removes_the_oldest(tmp_path: Path, limit: int | None, left: list[int]) -> None:
    for step in range(1, 5):
        checkpoints.save(tmp_path / str(step), {"step": step})
    checkpoints.keep(tmp_path, limit)
    assert checkpoints.steps(tmp_path) == left


def test_a_damaged_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "7", {"x": torch.zeros(9)})
    (tmp_path / "7" / checkpoints.TENSORS).write_bytes(b"half")
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        checkpoints.load(tmp_path / "7")
