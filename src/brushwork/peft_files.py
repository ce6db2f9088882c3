"""LoHa, LoKr and OFT adapters as files: peft's own keys under the name of each part, peft's settings in the header.

    save(folder / NAME, {"unet": (module, "brushwork")})
    layers = apply(family, header[HEADER], tensors, "mine", 1.0)

diffusers reads LoRA only, so these are merged into the base's weights: the picture is the same, and drawing costs
nothing more than the base does.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

from brushwork.checkpoints import sort_header
from brushwork.errors import ModelError, listing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from brushwork.values import Family

NAME = "peft_adapter.safetensors"
HEADER = "peft_config"
KINDS = {"LOHA": "LoHa", "LOKR": "LoKr", "OFT": "OFT"}


def save(path: Path, parts: Mapping[str, tuple[Any, str]]) -> None:
    """Write the adapters of several modules, each given with its adapter's name, into one file."""
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for part, (module, adapter) in parts.items():
        state = get_peft_model_state_dict(module, adapter_name=adapter)
        tensors |= {f"{part}.{key}": tensor.contiguous() for key, tensor in state.items()}
    described = {part: settings(module, adapter) for part, (module, adapter) in parts.items()}
    save_file(tensors, path, metadata={"format": "pt", HEADER: json.dumps(described, sort_keys=True)})
    sort_header(path)


def settings(module: Any, adapter: str) -> dict[str, Any]:
    """Return an adapter's settings as JSON values, the same every time."""
    found: dict[str, Any] = module.peft_config[adapter].to_dict()
    # A path of this machine is nobody's business; a set would be written in a different order each time.
    return found | {"base_model_name_or_path": None, "target_modules": sorted(found["target_modules"])}


def apply(family: Family, header: str, tensors: Mapping[str, Tensor], name: str, weight: float) -> int:
    """Merge an adapter into a family's weights; return how many layers it changed, 0 at weight 0.

    Args:
        family: Whose modules are changed.
        header: What the file's header says under ``HEADER``.
        tensors: The file's tensors.
        name: The adapter's, for messages.
        weight: Its strength.

    Raises:
        ModelError: It does not fit wholly, was not the first adapter, or cannot be applied with this weight.
    """
    parts: dict[str, Any] = {family.denoiser_name: family.denoiser, **family.text_encoders}
    try:
        described: dict[str, dict[str, Any]] = json.loads(header)
        kinds = {KINDS[each["peft_type"]] for each in described.values()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        message = f"adapter: the header of {name!r} does not say which kind of adapter it is ({error})."
        raise ModelError(message) from error
    strangers = [key for key in tensors if key.partition(".")[0] not in described]
    if strangers or not set(described) <= set(parts):
        message = f"adapter: {name!r} has parts that this base has not: {listing(strangers or sorted(described))}."
        raise ModelError(message)
    if "OFT" in kinds and weight not in (0, 1):
        message = f"adapter: {name!r} is an OFT, a rotation of the weights; it has no half. Its weight is 0 or 1."
        raise ModelError(message)
    if any(getattr(parts[part], "peft_config", None) for part in described):
        message = f"adapter: {name!r} is a {' and '.join(sorted(kinds))}: name it before the LoRAs, BASE+{name}+LORA."
        raise ModelError(message)
    injected = {
        part: _inject(parts[part], each, _of(part, tensors), f"{name!r} ({part})") for part, each in described.items()
    }
    return sum(_merge(parts[part], layers, weight) for part, layers in injected.items())


def _of(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{part}."): each for key, each in tensors.items() if key.startswith(f"{part}.")}


def _inject(module: nn.Module, described: dict[str, Any], tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
    """Add peft's layers, copy the tensors in, and return the layers by name; every tensor must find its place."""
    import torch
    from peft import get_peft_config, inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import get_peft_model_state_dict

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Invalid `oft_block_size`")  # adjusted in the same way when it was trained
        try:
            inject_adapter_in_model(get_peft_config(described), module)
        except ValueError as error:  # none of the target layers is there
            message = f"adapter: {name} does not fit this base: {str(error).splitlines()[0][:200]}"
            raise ModelError(message) from error
    layers = {key: each for key, each in module.named_modules() if isinstance(each, BaseTunerLayer)}
    ours: dict[str, Tensor] = get_peft_model_state_dict(module)
    wrong = [key for key in {**ours, **tensors} if key not in ours or key not in tensors]
    wrong += [key for key in ours if key in tensors and ours[key].shape != tensors[key].shape]
    if wrong:
        take_out(module, layers)
        message = (
            f"adapter: {name} does not fit: {len(wrong)} of its {len(tensors)} tensors have no place of their shape "
            f"in this base: {listing(wrong, 2)}.\nUse it with the base that it was trained on."
        )
        raise ModelError(message)
    with torch.no_grad():
        for key, tensor in ours.items():
            tensor.copy_(tensors[key])
    return layers


def _merge(module: nn.Module, layers: Mapping[str, Any], weight: float) -> int:
    """Add the updates to the weights beneath and put the plain layers back."""
    import torch

    with torch.no_grad():
        for layer in layers.values() if weight else ():
            if weight != 1:
                layer.set_scale("default", weight)
            layer.merge()
    take_out(module, layers)
    return len(layers) if weight else 0


def take_out(module: Any, layers: Mapping[str, Any]) -> None:
    """Put the plain layers back in place of peft's, by name, and forget the adapters."""
    for key, layer in layers.items():
        parent, _, name = key.rpartition(".")
        setattr(module.get_submodule(parent), name, layer.get_base_layer())
    del module.peft_config
    module.eval().requires_grad_(False)  # noqa: FBT003  (torch's own name)
