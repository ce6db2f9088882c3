"""``brushwork export`` on every family: read back it is the same model, or the target is refused with what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import tiny_families
from safetensors import safe_open
from tiny_parts import make_lora

from brushwork import families
from brushwork.cli import run
from brushwork.errors import ConfigError
from brushwork.exports import proof
from brushwork.generate import Request, fitted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMED_BY_OTHERS = ("sdxl", "sd3", "flux")
"""Whose layers have names in kohya's programs and ComfyUI."""
LATER = ("flux2", "qwen_image")
"""As ``flux`` and ``sana`` in all that an export does; left to `make test-all`."""
every_family = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.thorough] * (name in LATER)) for name in tiny_families.MAKERS],
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return tiny_families.kept(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="module")
def tuned(base: Callable[[str], Path]) -> Callable[[str], str]:
    """Return MODEL of a family's base with a LoRA whose alpha is not its rank."""

    def model(name: str) -> str:
        folder = base(name).parent / f"{name}-lora"
        if not folder.exists():
            make_lora(base(name), folder, rank=2, alpha=6)
        return f"{base(name)}+{next(folder.iterdir())}"

    return model


def export(model: str, *options: str, out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """Run the command; return what it said was verified."""
    capsys.readouterr()
    assert run(["export", model, *options, "--out", str(out), "--device", "cpu", "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    verified: dict[str, object] = said["verified"]
    return verified


@every_family
def test_diffusers_reads_every_layer_of_an_exported_lora(
    name: str,
    base: Callable[[str], Path],
    tuned: Callable[[str], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "mine.safetensors"
    said = export(tuned(name), "--to", "diffusers", out=out, capsys=capsys)
    with safe_open(out, framework="np") as file:
        layers = {key.rpartition(".lora_")[0] for key in file.keys()}  # noqa: SIM118  (it is no mapping)
    assert (said["reader"], said["tensors"], said["picture"]) == ("diffusers", len(layers), 0)
    assert said["delta"] <= 1e-6  # type: ignore[operator]
    assert said["effect"] > 0  # type: ignore[operator]
    pipeline = families.load(str(base(name))).pipeline()
    pipeline.load_lora_weights(str(tmp_path), weight_name=out.name)
    denoiser = getattr(pipeline, families.load(str(base(name))).denoiser_name)
    assert {each.lora_alpha for each in denoiser.peft_config.values()} == {6}


@every_family
def test_a_merged_model_is_the_base_with_its_adapter(
    name: str, tuned: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = export(tuned(name), "--to", "diffusers", "--merge", out=tmp_path / "mine", capsys=capsys)
    assert said["delta"] == 0
    assert said["picture"] <= 1  # type: ignore[operator]
    assert families.load(str(tmp_path / "mine")).name == name


@every_family
@pytest.mark.parametrize("target", ["kohya", "comfyui"])
def test_other_programs_names_are_written_where_there_are_such(
    name: str, target: str, tuned: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.safetensors"
    if name in NAMED_BY_OTHERS:
        said = export(tuned(name), "--to", target, out=out, capsys=capsys)
        assert said["picture"] == 0
        assert said["effect"] > 0  # type: ignore[operator]
        return
    assert run(["export", tuned(name), "--to", target, "--out", str(out), "--device", "cpu"]) == 2
    assert "there are no names in" in capsys.readouterr().err
    assert not out.exists()


def test_a_single_file_of_sdxl_is_exported_by_the_command(
    base: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = export(str(base("sdxl")), "--to", "single-file", out=tmp_path / "mine.safetensors", capsys=capsys)
    assert (said["delta"], said["picture"]) == (0, 0)


def test_text_encoders_of_one_width_are_no_single_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Diffusers' reader picks the encoder whose width fits, and of two that fit the first, for both."""
    monkeypatch.setattr(tiny_families, "SECOND", tiny_families.WIDTH)
    monkeypatch.setattr(tiny_families, "BOTH", 2 * tiny_families.WIDTH)
    twins = tiny_families.make("sdxl", tmp_path / "twins")
    out = tmp_path / "mine.safetensors"
    assert run(["export", str(twins), "--to", "single-file", "--out", str(out), "--device", "cpu"]) == 2
    assert "both text encoders are 32 wide" in capsys.readouterr().err
    assert not out.exists()


def test_a_proof_is_drawn_small_and_a_size_without_places_is_refused(base: Callable[[str], Path]) -> None:
    family = families.load(str(base("z_image")))
    assert proof.picture(family, proof.PROMPT, family.sampling).shape == (256, 256, 3)
    assert fitted(family, Request("a cat", width=1024, height=8)).width == 1024  # 128 places of 2 x 2 latents
    with pytest.raises(ConfigError, match="width 1032 is more than this base can take: 1024"):
        fitted(family, Request("a cat", width=1032, height=8))
