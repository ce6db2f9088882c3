"""A single file in the original code's names is known by its keys, and what is loaded is the very same model."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
import tiny_families
import torch
from safetensors.torch import save_file

from brushwork import families
from brushwork.errors import ModelError
from brushwork.formats import dits, ldm, single_file

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.values import Family

NORMS = {"query_norm": "norm_q", "key_norm": "norm_k"}


def stacked(module: Any) -> dict[str, torch.Tensor]:
    """Return the layers of a transformer under their original names, without its norms."""
    state = {}
    for name, layers, swapped in dits.original_layers(type(module).__name__, module):
        for end in ("weight", "bias"):
            tensor = torch.cat([getattr(module.get_submodule(layer), end) for layer in layers])
            state[f"{name}.{end}"] = torch.cat(tensor.chunk(2)[::-1]) if swapped else tensor
    return state


def vae_of(family: Family) -> dict[str, torch.Tensor]:
    vae: Any = family.vae
    names = ldm.vae_names(vae)
    return {f"first_stage_model.{ldm.rename(key, names)}": each for key, each in vae.state_dict().items()}


def write(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    save_file({key: each.detach().contiguous().clone() for key, each in tensors.items()}, path)
    return path


def sdxl(family: Family) -> dict[str, torch.Tensor]:
    return single_file.write({"unet": family.denoiser, "vae": family.vae, **family.text_encoders})


def sd3(family: Family) -> dict[str, torch.Tensor]:
    """As sd3_medium_incl_clips: transformer, VAE and both CLIPs; T5 is a file of its own."""
    module: Any = family.denoiser
    state = {**stacked(module), "pos_embed": module.pos_embed.pos_embed}
    for number, block in enumerate(module.transformer_blocks):
        for side, attention, added in (("x", "attn", ""), ("context", "attn", "added_"), ("x", "attn2", "")):
            layer = getattr(block, attention, None)
            for which in ("q", "k") if layer is not None else ():
                norm = getattr(layer, f"norm_{added}{which}")
                state[f"joint_blocks.{number}.{side}_block.{attention}.ln_{which}.weight"] = norm.weight
    tensors = {f"model.diffusion_model.{key}": each for key, each in state.items()} | vae_of(family)
    for name, part in (("clip_l", "text_encoder"), ("clip_g", "text_encoder_2")):
        for key, tensor in family.text_encoders[part].state_dict().items():
            tensors[f"text_encoders.{name}.transformer.{ldm.hugging_face_name(key)}"] = tensor
    return tensors


def flux(family: Family) -> dict[str, torch.Tensor]:
    """As flux1-dev: the transformer alone."""
    module: Any = family.denoiser
    state = stacked(module)
    for number, block in enumerate(module.transformer_blocks):
        for theirs, ours in NORMS.items():
            state[f"double_blocks.{number}.img_attn.norm.{theirs}.scale"] = getattr(block.attn, ours).weight
            added = getattr(block.attn, ours.replace("norm_", "norm_added_"))
            state[f"double_blocks.{number}.txt_attn.norm.{theirs}.scale"] = added.weight
    for number, block in enumerate(module.single_transformer_blocks):
        for theirs, ours in NORMS.items():
            state[f"single_blocks.{number}.norm.{theirs}.scale"] = getattr(block.attn, ours).weight
    return state


@pytest.fixture
def _flux_of_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diffusers' reader has the width of the real FLUX written into it: its own code, with that number replaced."""
    from diffusers.loaders import single_file_model, single_file_utils

    source = inspect.getsource(single_file_utils.convert_flux_transformer_checkpoint_to_diffusers)
    assert "inner_dim = 3072" in source
    scope: dict[str, Any] = dict(vars(single_file_utils))
    exec(source.replace("inner_dim = 3072", "inner_dim = 16"), scope)  # noqa: S102  (diffusers' own source)
    reader = scope["convert_flux_transformer_checkpoint_to_diffusers"]
    known = single_file_model.SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"]
    monkeypatch.setitem(known, "checkpoint_mapping_fn", reader)


def identity_projection(family: Family) -> None:
    """Make the first CLIP's projection what diffusers takes it for: the files of SD3 have none."""
    with torch.no_grad():
        weight = family.text_encoders["text_encoder"].text_projection.weight
        weight.copy_(torch.eye(len(weight)))


@pytest.mark.usefixtures("_flux_of_any_width")
@pytest.mark.parametrize(
    ("name", "prefix"), [("sdxl", ""), ("sd3", ""), ("flux", ""), ("flux", "model.diffusion_model.")]
)
def test_a_single_file_is_the_same_model(name: str, prefix: str, tmp_path: Path) -> None:
    """Every weight of every part, those that the file lacks from ``base_config``."""
    family = families.load(str(tiny_families.make(name, tmp_path / "made")))
    if name == "sd3":
        identity_projection(family)
    family.save(tmp_path / "base")
    family = families.load(str(tmp_path / "base"))
    tensors = {"sdxl": sdxl, "sd3": sd3, "flux": flux}[name](family)
    file = write({prefix + key: each for key, each in tensors.items()}, tmp_path / "one.safetensors")
    again = families.load(str(file), config=str(tmp_path / "base"))
    assert (again.name, again.fingerprint) == (name, family.fingerprint)
    assert again.flow is None or again.flow.shift == family.flow.shift  # type: ignore[union-attr]


@pytest.mark.parametrize("config", [None, "empty"])
def test_a_file_without_text_encoders_and_no_folder_beside_it_is_refused(
    config: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    family = families.load(str(tiny_families.make("flux", tmp_path / "base")))
    file = write(flux(family), tmp_path / "one.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"could not be read as a FluxPipeline(.|\n)*base_config"):
        families.load(str(file), config=config and str(tmp_path / config))
