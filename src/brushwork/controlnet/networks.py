"""ControlNets from disk, and whether they fit a base: diffusers' folders, and single files in either naming.

network = load(Path("controlnet/canny"), family)        # config.json and safetensors weights
network = load(Path("control_v11p_sd15_canny.safetensors"), family)

A single file says nothing of its shape but the shapes of its tensors; it must be that of the base's own encoder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork.controlnet import Network
from brushwork.errors import ConfigError, ModelError, nearest
from brushwork.filehash import sha256
from brushwork.formats.ldm import rename, unet_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from brushwork.values import Family

CLASS = "ControlNetModel"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
FOLDER = Path("controlnet")
"""Where names are looked for."""
RGB = 3
HASH_DIGITS = 8
SAME = ("in_channels", "cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type")
"""Of the denoiser's config: what its encoder's copy must share, or its outputs could not be added to it."""
EMBEDDING, HINT = "controlnet_cond_embedding", "input_hint_block"
"""The layers that see the map, as diffusers and the paper's code call them."""
PREFIX = "control_model."


def find(text: str, folder: Path = FOLDER) -> Path:
    """Return where a ControlNet lies: at a path, or by its name in ``controlnet/``.

    Raises:
        ModelError: There is none, with the nearest name.
    """
    path = Path(text)
    for each in (path, folder / text, folder / f"{text}.safetensors"):
        if each.exists():
            return each
    there = [each.stem if each.is_file() else each.name for each in sorted(folder.glob("*"))] if folder.is_dir() else []
    hint = nearest(text, there) if there else f" There are none in {folder}/ either."
    message = f"controlnet: there is no {text!r}, neither a path nor a name.{hint}"
    raise ModelError(message)


def load(path: Path, family: Family, name: str = "") -> Network:
    """Load a ControlNet, frozen, in the denoiser's precision and where it is.

    Args:
        path: A folder with ``config.json`` and safetensors weights, or a ``.safetensors`` file.
        family: The base that it shall steer.
        name: Default: the folder's or the file's.

    Raises:
        ConfigError: The family takes none, or it is for another base.
        ModelError: It cannot be read.
    """
    from torch import nn

    check_family(family)
    parameter = next(family.denoiser.parameters())
    name = name or (path.name if path.is_dir() else path.stem)
    if path.is_dir():
        file = _weights(path, name)
        module = _of_folder(path, file, name)
    else:
        file = path
        module = _of_file(path, family, name)
    nn.Module.to(module, parameter.device, parameter.dtype)  # diffusers' own warns of types that it does not change
    network = Network(name, module.eval().requires_grad_(requires_grad=False), sha256(file)[:HASH_DIGITS])
    check(network, family)
    return network


def check_family(family: Family) -> None:
    """Refuse a family that takes no ControlNets.

    Raises:
        ConfigError: It does not.
    """
    if getattr(family, "controlled", None) is None:
        message = f"controlnet: this base ({family.name}) takes none; leave it out, or choose another base"
        raise ConfigError(message)


def check(network: Network, family: Family) -> None:
    """Refuse a ControlNet for another base, with both numbers.

    Raises:
        ConfigError: With what differs.
    """
    check_family(family)
    denoiser: Any = family.denoiser
    for key in SAME:
        theirs, ours = (_plain(each.get(key)) for each in (network.config, denoiser.config))
        if theirs != ours:
            message = (
                f"controlnet: {network.name!r} is for another base than this one ({family.name}): its {key} is "
                f"{theirs}, that of the base is {ours}"
            )
            raise ConfigError(message)
    channels = int(network.config.get("conditioning_channels", RGB))
    if channels != RGB:
        message = f"controlnet: {network.name!r} sees maps of {channels} channels, but a picture has {RGB}"
        raise ConfigError(message)
    factor = 2 ** (len(network.config["conditioning_embedding_out_channels"]) - 1)
    if factor != family.pixels_per_latent:
        message = (
            f"controlnet: {network.name!r} sees {factor} pixels a side as one latent, but those of this base "
            f"({family.name}) are {family.pixels_per_latent}"
        )
        raise ConfigError(message)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _weights(folder: Path, name: str) -> Path:
    for each in WEIGHTS:
        if (folder / each).is_file():
            return folder / each
    message = f"controlnet: {name!r} has no {WEIGHTS[0]}; only safetensors weights are read"
    raise ModelError(message)


def _of_folder(folder: Path, file: Path, name: str) -> Any:
    from diffusers import ControlNetModel

    kind = class_of(folder)
    if kind != CLASS:
        message = f"controlnet: {name!r} is a {kind or 'folder without a config.json'}; a {CLASS} is needed"
        raise ModelError(message)
    variant = "fp16" if ".fp16." in file.name else None
    try:
        return ControlNetModel.from_pretrained(folder, use_safetensors=True, variant=variant, local_files_only=True)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        message = f"controlnet: {name!r} cannot be read: {str(error).splitlines()[0][:200]}"
        raise ModelError(message) from error


def class_of(folder: Path) -> str:
    """Return the class that a folder's ``config.json`` names; "" without one."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(config.get("_class_name", "")) if isinstance(config, dict) else ""


def _of_file(file: Path, family: Family, name: str) -> Any:
    """Return a network of the shape of the base's own encoder with a file's weights."""
    from diffusers import ControlNetModel
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = _hints(load_file(file))
    except (OSError, SafetensorError) as error:
        message = f"controlnet: {name!r} cannot be read as safetensors"
        raise ModelError(message) from error
    widths = _embedding(state, name)
    module = ControlNetModel.from_unet(
        family.denoiser,
        conditioning_embedding_out_channels=widths,
        load_weights_from_unet=False,
        conditioning_channels=int(state[f"{EMBEDDING}.conv_in.weight"].shape[1]),
    )
    theirs = original_names(module) if "time_embed.0.weight" in state else {}
    weights = {}
    for key, value in module.state_dict().items():
        said = (rename(key, theirs) if theirs else None) or key
        shape = tuple(state[said].shape) if said in state else None
        if shape != tuple(value.shape):
            what = f"has no {said}" if shape is None else f"has {said} of the shape {shape}, not {tuple(value.shape)}"
            message = f"controlnet: {name!r} is for another base than this one ({family.name}): it {what}"
            raise ConfigError(message)
        weights[key] = state[said]
    module.load_state_dict(weights)
    return module


def original_names(module: Any) -> dict[str, str]:
    """Return what the modules of a ``ControlNetModel`` are called in its paper's code, but for those of the map."""
    names = {key: theirs for key, theirs in unet_names(module).items() if not theirs.startswith("out.")}
    zeros = range(len(module.controlnet_down_blocks))
    names |= {f"controlnet_down_blocks.{place}": f"zero_convs.{place}.0" for place in zeros}
    return names | {"controlnet_mid_block": "middle_block_out.0"}


def _hints(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's tensors without the original code's prefix, those of the map by diffusers' names."""
    inner = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)} or dict(state)
    places = sorted({int(key.split(".")[1]) for key in inner if key.startswith(f"{HINT}.")})
    ours = {f"{HINT}.{place}": f"{EMBEDDING}.blocks.{number - 1}" for number, place in enumerate(places)}
    if places:
        ours |= {f"{HINT}.{places[0]}": f"{EMBEDDING}.conv_in", f"{HINT}.{places[-1]}": f"{EMBEDDING}.conv_out"}
    return {rename(key, ours) or key: value for key, value in inner.items()}


def _embedding(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Return the channels of the layers that bring the map to the size of the latents, from their shapes."""
    blocks = sorted(
        (int(key.split(".")[2]), value.shape[0])
        for key, value in state.items()
        if key.startswith(f"{EMBEDDING}.blocks.") and key.endswith(".weight")
    )
    if f"{EMBEDDING}.conv_in.weight" not in state or not blocks:
        message = f"controlnet: {name!r} is no ControlNet: it has no layers for a map ({EMBEDDING})"
        raise ModelError(message)
    widths = [channels for place, channels in blocks if place % 2 == 0]
    return (*widths, blocks[-1][1])
