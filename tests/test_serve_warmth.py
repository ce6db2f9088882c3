"""What the worker keeps: models within its memory, ControlNets beside them, and texts that it has encoded."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from PIL import Image
from tiny_controls import make_control

from brushwork import families, wordings
from brushwork.generate import Request as Drawn
from brushwork.serve.controls import ControlAsked
from brushwork.serve.easel import Easel, EaselConfig, Request

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TINY = 1.1e-3
"""GiB: room for two tiny models (0.44 MB each) and a half."""


QUICK: dict[str, Any] = {
    "prompt": "a dog", "steps": 1, "guidance_scale": 5.0, "sampler": "Euler", "grammar": True, "seed": 1,
}  # fmt: skip


def drawn(easel: Easel, told: list[dict[str, Any]], folder: Path, base: Path, **more: Any) -> list[str]:
    """Draw a picture and return what was told, without steps."""
    told.clear()
    easel.ask(Request(id="p", base=str(base), name=base.name, draw=QUICK, out=str(folder / "p.png"), **more))
    while easel.turn():
        pass
    return [each["event"] for each in told if each["event"] != "step"]


def test_models_stay_warm_while_there_is_room_and_the_longest_unused_goes(tiny_sd: Path, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    models = [shutil.copytree(tiny_sd, tmp_path / name) for name in "abc"]
    easel = Easel(EaselConfig(device="cpu", memory=TINY), told.append)
    cold, warm = ["taken", "loading", "began", "done"], ["taken", "began", "done"]
    assert [drawn(easel, told, tmp_path, models[n]) for n in (0, 1, 0)] == [cold, cold, warm]
    sizes = [each.size for each in easel.warm.values()]
    assert sum(sizes) <= TINY * 2**30 < sum(sizes) + sizes[0]
    assert drawn(easel, told, tmp_path, models[2]) == cold
    assert [key[0] for key in easel.warm] == [str(models[0]), str(models[2])], "b was unused longest"
    assert drawn(easel, told, tmp_path, models[1]) == cold

    easel.ask(Request(id="q", base=str(models[1]), draw={**QUICK, "steps": 3}, out=str(tmp_path / "q.png")))
    easel.turn()
    easel.unload()
    assert [key[0] for key in easel.warm] == [str(models[1])], "what is being drawn keeps its model"
    assert drawn(easel, told, tmp_path, models[1])[-1] == "done"

    small = Easel(EaselConfig(device="cpu", memory=1e-6), told.append)
    assert [drawn(small, told, tmp_path, models[0]) for _ in range(2)] == [cold, warm], "one is always kept"


def test_controlnets_are_kept_in_what_the_models_leave(tiny_sd: Path, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    family = families.load(str(tiny_sd))
    Image.new("RGB", (32, 32), "red").save(tmp_path / "map.png")
    seen = str(tmp_path / "map.png")
    usual = ControlAsked(model="x", image=seen).model_dump()
    nets = [make_control(family, tmp_path / name) for name in ("edges", "depth")]
    asked = [{**usual, "model": each.name, "path": str(each)} for each in nets]
    easel = Easel(EaselConfig(device="cpu"), told.append)
    for control in asked:
        assert drawn(easel, told, tmp_path, tiny_sd, controls=(control,))[-1] == "done"
    both = easel.networks.bytes()
    easel.config = EaselConfig(device="cpu", memory=1e-6)
    assert drawn(easel, told, tmp_path, tiny_sd, controls=(asked[0],))[-1] == "done"
    assert easel.networks.bytes() == both / 2, "one is always kept"
    easel.unload()
    assert (easel.networks.bytes(), len(easel.warm)) == (0, 0)
    assert drawn(easel, told, tmp_path, tiny_sd, controls=({**asked[0], "path": str(tiny_sd)},))[-1] == "failed"
    assert drawn(easel, told, tmp_path, tiny_sd)[-1] == "done"


def test_latents_that_are_no_numbers_fail_before_they_are_decoded_and_the_next_picture_is_drawn(
    tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    easel = Easel(EaselConfig(device="cpu"), told.append)
    drawn(easel, told, tmp_path, tiny_sd)
    family: Any = next(iter(easel.warm.values())).model.family
    good = family.unet.conv_out.weight.data.clone()
    family.unet.conv_out.weight.data[:] = float("nan")
    decoded: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(family, "decode_latents", decoded.append)
        assert drawn(easel, told, tmp_path, tiny_sd)[-1] == "failed"
    assert decoded == []
    assert "the latents became NaN" in told[-1]["message"]
    family.unet.conv_out.weight.data[:] = good
    assert drawn(easel, told, tmp_path, tiny_sd)[-1] == "done"


def test_a_text_is_encoded_once_for_a_model_and_only_where_it_means_the_same(tiny_sd: Path) -> None:
    family: Any = families.load(str(tiny_sd))
    remembered = wordings.Remembered(most=3)
    usual: dict[str, Any] = {"prompt": "a (red:1.3) dog", "grammar": True, "guidance_scale": 5.0, "steps": 4}
    first = remembered.encode(family, Drawn(**usual, seed=1))
    assert remembered.encode(family, Drawn(**usual, seed=2, width=48)) is first
    fresh = wordings.encode(family, Drawn(**usual))
    assert bool((first.encoded.tensors["states"] == fresh.encoded.tensors["states"]).all())
    for other in ({"prompt": "a dog"}, {"negative_prompt": "x"}, {"grammar": False}, {"steps": 5},
                  {"guidance_scale": 1.0}):  # fmt: skip
        assert remembered.encode(family, Drawn(**{**usual, **other})) is not first
    assert remembered.encode(family, Drawn(**usual)) is not first, "it was forgotten for newer ones"
