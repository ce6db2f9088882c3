"""ControlNets from disk, and whether they fit a base: diffusers' folders, and single files.

network = load(Path("controlnet/canny"), family)        # config.json and safetensors weights
network = load(Path("control_v11p_sd15_canny.safetensors"), family)

A single file says nothing of its shape but the shapes of its tensors; what they leave open is taken from the base.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import mask_channels
from brushwork.controlnet import Network
from brushwork.controlnet.kinds import kind_of, must_equal, sorts, unwarned
from brushwork.errors import ConfigError, ModelError, nearest
from brushwork.filehash import sha256

if TYPE_CHECKING:
    from brushwork.controlnet import Control
    from brushwork.controlnet.kinds import Kind
    from brushwork.values import Family

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
INDEX = "diffusion_pytorch_model.safetensors.index.json"
"""Of weights in several files."""
FOLDER = Path("controlnet")
"""Where names are looked for."""
HASH_DIGITS = 8


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

    kind = kind_of(family)
    parameter = next(family.denoiser.parameters())
    name = name or (path.name if path.is_dir() else path.stem)
    file = _weights(path, name) if path.is_dir() else path
    with unwarned():
        module = _of_folder(path, file, kind, name, family) if path.is_dir() else _of_file(path, family, kind, name)
    nn.Module.to(module, parameter.device, parameter.dtype)  # diffusers' own warns of types that it does not change
    network = Network(name, module.eval().requires_grad_(requires_grad=False), sha256(file)[:HASH_DIGITS])
    check(network, family)
    return network


def check(network: Network, family: Family) -> None:
    """Refuse a ControlNet for another base, with both numbers.

    Raises:
        ConfigError: With what differs.
    """
    kind = kind_of(family)
    made = type(network.module).__name__
    if made not in kind.classes:
        message = f"controlnet: {network.name!r} is a {made}; this base ({family.name}) takes a {kind.class_name}"
        raise ConfigError(message)
    denoiser = mask_channels.plain(family)
    for key in kind.same:
        must_equal(network, family, key, *(_plain(each.get(key)) for each in (network.config, denoiser.config)))
    kind.fit(network, family)


def check_control(control: Control, family: Family) -> None:
    """Refuse a control that a base cannot follow.

    Raises:
        ConfigError: With what cannot be, and what to do.
    """
    check(control.network, family)
    if control.mode not in kind_of(family).modes:
        message = (
            f"controlnet: the mode {control.mode} is for bases with a UNet; this one ({family.name}) has 'balanced'"
        )
        raise ConfigError(message)
    modes = sorts(control.network)
    if modes is None and control.union is not None:
        message = f"controlnet: {control.network.name!r} is for one sort of maps; leave union={control.union} out"
        raise ConfigError(message)
    if modes is not None and (control.union is None or not 0 <= control.union < modes):
        message = (
            f"controlnet: {control.network.name!r} is a union of {modes} sorts of maps; say which one with union=0 to "
            f"union={modes - 1}, as its maker numbers them{'' if control.union is None else f', not {control.union}'}"
        )
        raise ConfigError(message)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _weights(folder: Path, name: str) -> Path:
    for each in (*WEIGHTS, INDEX):
        if (folder / each).is_file():
            return folder / each
    message = f"controlnet: {name!r} has no {WEIGHTS[0]}; only safetensors weights are read"
    raise ModelError(message)


def _of_folder(folder: Path, file: Path, kind: Kind, name: str, family: Family) -> Any:
    import diffusers

    said = class_of(folder)
    if said not in kind.classes:
        message = (
            f"controlnet: {name!r} is a {said or 'folder without a config.json'}; this base ({family.name}) takes a "
            f"{kind.class_name}"
        )
        raise ModelError(message)
    variant = "fp16" if ".fp16." in file.name else None
    made = getattr(diffusers, said)
    try:
        return made.from_pretrained(folder, use_safetensors=True, variant=variant, local_files_only=True)
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


def _of_file(file: Path, family: Family, kind: Kind, name: str) -> Any:
    """Return a network of the shape that a file's tensors have, with its weights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        read = load_file(file)
    except (OSError, SafetensorError) as error:
        message = f"controlnet: {name!r} cannot be read as safetensors"
        raise ModelError(message) from error
    module, state, names, exact = kind.build(read, family, name)
    weights = {}
    for key, value in module.state_dict().items():
        said = names.get(key, key)
        shape = tuple(state[said].shape) if said in state else None
        if shape != tuple(value.shape):
            what = f"has no {said}" if shape is None else f"has {said} of the shape {shape}, not {tuple(value.shape)}"
            message = f"controlnet: {name!r} is for another base than this one ({family.name}): it {what}"
            raise ConfigError(message)
        weights[key] = state[said]
    strange = sorted(set(state) - {names.get(key, key) for key in weights}) if exact else []
    if strange:
        message = f"controlnet: {name!r} has {strange[0]}, which no {kind.class_name} of this base's shape has"
        raise ConfigError(message)
    module.load_state_dict(weights, assign=True)
    return module
