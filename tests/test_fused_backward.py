"""Adafactor in the backward pass: the same weights as after it, one gradient at a time, and what it cannot do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import rows
import torch

from brushwork import agreement, processes
from brushwork import config as configs
from brushwork.errors import ConfigError, Diverged
from brushwork.forecast import estimate
from brushwork.runs import RunFolder
from brushwork.train import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config

ADAFACTOR: dict[str, Any] = {"type": "adafactor", "learning_rate": 1e-2, "max_grad_norm": None}
FUSED: dict[str, Any] = {"optimizer": ADAFACTOR, "train": {"fused_backward": True}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fused")
    rows.make_data(folder)
    return folder


def config(base: Path, data: Path, *, fused: bool, **train: Any) -> Config:
    own = {"train_text_encoder": True, "keep_base": False}
    here = {"base": str(base), "data": {"path": str(data / "pictures")}, "optimizer": ADAFACTOR, "method": own}
    tree = configs.merge(configs.merge(rows.COMMON, here), {"train": {"fused_backward": fused, **train}})
    return configs.load(tree, method="full")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_weights_are_those_of_the_ordinary_step_and_it_goes_on_exactly(
    *, checkpointing: bool, tiny_sd: Path, data: Path, tmp_path: Path
) -> None:
    """In fp32, bit for bit; the norm is the same number within rounding."""
    courses, files = [], []
    for fused in (False, True):
        settings = config(tiny_sd, data, fused=fused, gradient_checkpointing=checkpointing)
        run = RunFolder.create(settings, tmp_path / str(fused))
        courses.append(list(prepare(settings).steps(run)))
        files.append({each.name: each.read_bytes() for each in run.weights.rglob("*.safetensors")})
    assert [each.losses for each in courses[0]] == [each.losses for each in courses[1]]
    assert [each.grad_norm for each in courses[0]] == pytest.approx([each.grad_norm for each in courses[1]], rel=1e-5)
    assert files[0] == files[1] != {}
    resumed = RunFolder.create(settings, tmp_path / "resumed")
    shutil.copytree(run.path / "checkpoints" / str(rows.SAVED), resumed.path / "checkpoints" / str(rows.SAVED))
    assert [each.losses for each in prepare(settings).steps(resumed)] == [
        each.losses for each in courses[1][rows.SAVED :]
    ]
    assert {each.name: each.read_bytes() for each in resumed.weights.rglob("*.safetensors")} == files[1]


def test_one_gradient_is_alive_at_a_time_and_the_forecast_says_so(tiny_sd: Path, data: Path) -> None:
    alive: dict[bool, int] = {}
    forecasts = {}
    for fused in (False, True):
        trainer = prepare(config(tiny_sd, data, fused=fused))
        parameters = list(trainer.named.values())
        seen: list[int] = []
        for each in parameters:
            each.register_hook(lambda _, seen=seen, every=parameters: seen.append(_held(every)))
        next(iter(trainer.steps()))
        alive[fused] = max(seen)
        training = next(phase for phase in estimate.of(trainer).phases if phase.name == "training")
        forecasts[fused] = training.parts["gradients"]
    sizes = [each.numel() * 4 for each in parameters]
    assert alive[True] == 0  # beside the one that the hook is told
    assert alive[False] > sum(sizes) / 2
    assert forecasts == {False: sum(sizes), True: max(sizes)}


def _held(parameters: list[torch.nn.Parameter]) -> int:
    return sum(each.grad.numel() * 4 for each in parameters if each.grad is not None)


def test_a_loss_that_is_no_number_touches_no_weight(tiny_sd: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = prepare(config(tiny_sd, data, fused=True))
    before = {name: each.detach().clone() for name, each in trainer.named.items()}
    losses = trainer.losses
    monkeypatch.setattr(trainer, "losses", lambda *given: losses(*given) * float("nan"))
    with pytest.raises(Diverged, match="Step 1: the loss of"):
        next(iter(trainer.steps()))
    assert all(torch.equal(each, before[name]) for name, each in trainer.named.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"type": "adamw"}}, "is Adafactor's, and optimizer.type is adamw"),
        ({"optimizer": {"max_grad_norm": 1.0}}, r"set optimizer\.max_grad_norm=null"),
        ({"train": {"gradient_accumulation_steps": 2}}, r"set train\.gradient_accumulation_steps=1"),
        ({"train": {"mixed_precision": "fp16"}}, r"set train\.mixed_precision=bf16"),
    ],
)
def test_what_needs_all_gradients_at_once_is_refused(changes: dict[str, Any], message: str) -> None:
    tree = configs.merge(configs.merge(FUSED, {"base": "mini", "data": {"path": "engravings"}}), changes)
    with pytest.raises(ConfigError, match=message):
        configs.load(tree, method="full")


def test_several_processes_are_refused(tiny_sd: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(tiny_sd, data, fused=True)
    monkeypatch.setattr(processes, "join", lambda: processes.World(0, 2))
    source, method, objective = settings.data.build(), settings.method.build(), settings.objective.build()
    with pytest.raises(ConfigError, match="2 processes add up their gradients"):
        agreement.check(source, settings, method, objective)
