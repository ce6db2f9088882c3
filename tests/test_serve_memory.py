"""Memory that ends while pictures are drawn: once more and lighter, said, and then a clear end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from brushwork import infotext
from brushwork.serve import easel
from brushwork.serve.easel import Easel, EaselConfig, Request

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def worked() -> tuple[Easel, list[dict[str, Any]]]:
    """One easel for all tests, since it loads a model."""
    told: list[dict[str, Any]] = []
    return Easel(EaselConfig(device="cpu"), told.append), told


def ask(one: Easel, folder: Path, *names: str) -> None:
    draw = {"prompt": "a dog", "steps": 2, "guidance_scale": 5.0, "sampler": "Euler", "grammar": True}
    for seed, name in enumerate(names):
        request = Request(id=name, base="mini", name="mini", draw={**draw, "seed": seed}, out=str(folder / name))
        one.ask(request)


def run(one: Easel, told: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Draw until nothing is left and return what ended, and what was said of memory."""
    told.clear()
    while one.turn():
        pass
    return [
        (each["event"], each.get("id") or each["pictures"])
        for each in told
        if each["event"] in ("done", "failed", "lighter")
    ]


def failing(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let the memory end in so many steps, and return how many pictures each step had."""
    real, together = easel.advance, []

    def advance(family: Any, drawings: list[Any], **options: Any) -> None:
        together.append(len(drawings))
        if len(together) <= times:
            message = "CUDA out of memory"
            raise torch.OutOfMemoryError(message)
        real(family, drawings, **options)

    monkeypatch.setattr(easel, "advance", advance)
    return together


def test_what_was_too_much_together_is_drawn_one_by_one_and_said(
    worked: tuple[Easel, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, told = worked
    together = failing(monkeypatch, 1)
    ask(one, tmp_path, "a", "b", "c")
    assert run(one, told) == [("lighter", ["a", "b", "c"]), ("done", "a"), ("done", "b"), ("done", "c")]
    assert together == [3, 1, 1, 1, 1, 1, 1]
    assert one.together == EaselConfig().together  # once it is over, the next may be many again


def test_a_single_picture_that_never_fits_fails_after_one_more_try(
    worked: tuple[Easel, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, told = worked
    failing(monkeypatch, 2)
    ask(one, tmp_path, "a")
    assert run(one, told) == [("lighter", ["a"]), ("failed", "a")]
    failed = next(each for each in told if each["event"] == "failed")
    assert failed["type"] == "out_of_memory"
    assert "not enough memory for this picture, even alone" in failed["message"]
    ask(one, tmp_path, "b")
    assert run(one, told) == [("done", "b")]


def test_memory_that_ends_at_decoding_or_loading_is_tried_once_more(
    worked: tuple[Easel, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, told = worked
    left = {"image": 1, "load": 0}
    real_image, real_model = easel.Drawing.image, Easel._model

    def image(self: Any) -> Any:
        left["image"] -= 1
        if left["image"] >= 0:
            raise MemoryError
        return real_image(self)

    def model(self: Easel, asked: Request) -> Any:
        left["load"] -= 1
        if left["load"] >= 0:
            raise MemoryError
        return real_model(self, asked)

    monkeypatch.setattr(easel.Drawing, "image", image)
    monkeypatch.setattr(Easel, "_model", model)
    ask(one, tmp_path, "a", "b")
    assert sorted(run(one, told)) == [("done", "a"), ("done", "b"), ("lighter", ["a", "b"])]
    left["load"] = 1
    ask(one, tmp_path, "c")
    assert run(one, told) == [("lighter", ["c"]), ("done", "c")]
    left["load"] = 9
    ask(one, tmp_path, "d")
    assert [each for each in run(one, told) if each[0] != "lighter"] == [("failed", "d")]
    assert "not enough memory for this model" in next(each["message"] for each in told if "message" in each)


def test_a_picture_that_cannot_be_written_fails_and_leaves_nothing(
    worked: tuple[Easel, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, told = worked

    def full(picture: Any, path: Path) -> None:
        del picture
        path.with_name(f".{path.name}.part").write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(infotext, "save_png", full)
    ask(one, tmp_path, "a")
    assert run(one, told) == [("failed", "a")]
    assert next(each for each in told if each["event"] == "failed")["type"] == "disk_full"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    ask(one, tmp_path, "a")
    assert run(one, told) == [("done", "a")]
