"""Another VAE in place of a model's own: a folder of diffusers or a ``.safetensors`` file, in either naming.

    family = families.load("sd15/")
    used = put(family, Path("vae-ft-mse/"))         # used.name and used.hash, for the infotext

Only one of the same shape fits: the denoiser knows the latents of its own VAE, and fine-tunes of that one are what is
exchanged. Nothing is fetched and nothing but numbers is read.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork.components import fingerprint
from brushwork.errors import ModelError
from brushwork.filehash import sha256

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from brushwork.values import Family

WEIGHTS = "diffusion_pytorch_model.safetensors"
SAME = ("latent_channels", "scaling_factor", "shift_factor")
"""What of a folder's config the denoiser depends on."""
SHORT = 10


@dataclass(frozen=True)
class Used:
    """A VAE as the infotext names it."""

    name: str
    hash: str


def put(family: Family, path: Path) -> Used:
    """Replace the family's VAE by another of the same shape.

    Args:
        family: The model; its ``vae`` and ``vae_fingerprint`` are new afterwards, and nothing else.
        path: A folder with ``config.json`` and safetensors weights, or a file.

    Raises:
        ModelError: It cannot be read, or is of another shape.
    """
    own: Any = family.vae
    file = path / WEIGHTS if path.is_dir() else path
    if path.is_dir():
        _check(path, own)
    weight = next(own.parameters())
    new = copy.deepcopy(own)
    wrong = new.load_state_dict(_named(_read(file), own), strict=False)
    if wrong.missing_keys or wrong.unexpected_keys:
        kind, missing, more = family.name, len(wrong.missing_keys), len(wrong.unexpected_keys)
        message = f"vae: {path.name!r} is none for {kind}: it lacks {missing} weights of its VAE and has {more} others"
        raise ModelError(message)
    family.vae = new.to(weight.device, weight.dtype).eval().requires_grad_(requires_grad=False)
    family.vae_fingerprint = fingerprint(family.vae)
    return Used(path.name if path.is_dir() else path.stem, sha256(file)[:SHORT])


def _check(folder: Path, own: Any) -> None:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        message = f"vae: {folder.name!r} has no config.json that can be read"
        raise ModelError(message) from error
    for name in SAME:
        theirs, ours = config.get(name), getattr(own.config, name, None)
        if theirs is not None and theirs != ours:
            message = f"vae: {folder.name!r} has {name} {theirs}, but the model was trained with {ours}"
            raise ModelError(message)


def _read(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        message = f"vae: {file.name!r} cannot be read as safetensors; a folder needs {WEIGHTS}"
        raise ModelError(message) from error


def _named(state: dict[str, Tensor], own: Any) -> dict[str, Tensor]:
    """Return weights by diffusers' names, in the shapes of the model's own."""
    if any("decoder.mid.block_1" in key for key in state):
        from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

        state = convert_ldm_vae_checkpoint(state, dict(own.config))
    shapes = {name: value.shape for name, value in own.state_dict().items()}
    return {
        name: value.reshape(shapes[name]) if name in shapes and value.numel() == shapes[name].numel() else value
        for name, value in state.items()
        if name not in shapes or value.numel() == shapes[name].numel()
    }
