"""Updates of layers as the tensors of a file that kohya's programs, ComfyUI or diffusers read.

    tensors = write(layers, {"unet": unet}, "kohya")        # {"lora_unet_...": ..., "lora_unet_....alpha": ...}

What a program would leave out silently, or read as something else, is refused here with what to do instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from brushwork.errors import ModelError, listing
from brushwork.formats import fused
from brushwork.formats.keymaps import KeyMap
from brushwork.formats.layers import WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from brushwork.formats.keymaps import Place
    from brushwork.formats.layers import Layer

Target = Literal["kohya", "comfyui"]
LOADERS: Mapping[Target, str] = {"kohya": "sd-scripts, A1111 and Forge", "comfyui": "ComfyUI"}
ROLES = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight"}


def write(layers: Mapping[str, Layer], parts: Mapping[str, nn.Module], target: Target) -> dict[str, Tensor]:
    """Return the tensors of the file, each layer with its own alpha.

    Args:
        layers: The updates by ``part.layer``.
        parts: The modules of the base, by their names in the pipeline.
        target: Whose names to write.

    Raises:
        ModelError: The target has no names for this architecture, or would not read what this is.
    """
    _refuse(layers, target)
    names = KeyMap(parts)
    tensors: dict[str, Tensor] = {}
    left = set(layers)
    for place in names.places:
        members = [layers.get(layer) for layer in place.layers]
        if any(members):
            stem = place.written[target]
            tensors |= _named(stem, _joined(place, members, target))
            left -= set(place.layers)
    if left:
        kinds = sorted({type(parts[key.partition(".")[0]]).__name__ for key in left})
        message = (
            f"export: there are no names in {LOADERS[target]} for {listing(sorted(left), 2)} of a {', '.join(kinds)}.\n"
            f"Use --to diffusers, which has diffusers' own names, or --merge."
        )
        raise ModelError(message)
    return tensors


def _refuse(layers: Mapping[str, Layer], target: Target) -> None:
    if any("magnitude" in each.tensors for each in layers.values()):
        message = (
            f"export: this is a DoRA. Of {LOADERS[target]} some leave its magnitudes out and others divide by another "
            f"norm: the pictures would differ without a word.\nUse --to diffusers (peft's form), or --merge."
        )
        raise ModelError(message)


def _joined(place: Place, members: list[Layer | None], target: Target) -> Layer:
    """Return the one update of a place of the file."""
    present = [each for each in members if each is not None]
    if len(members) > 1:
        odd = [each for each in present if not each.is_plain]
        if odd:
            message = (
                f"export: in {LOADERS[target]} {place.written[target]} is one layer where this {WORDS[odd[0].kind]} "
                f"has {len(members)}; only LoRA can be joined without loss.\nUse --to diffusers, or --merge."
            )
            raise ModelError(message)
        layer = fused.fuse(members, place.rows)
    else:
        layer = present[0]
    return fused.swap(layer) if place.swapped else layer


def _named(stem: str, layer: Layer) -> dict[str, Tensor]:
    import torch

    named = {f"{stem}.{ROLES.get(role, role)}": tensor for role, tensor in layer.tensors.items()}
    if layer.kind != "diff" and layer.rank is not None:
        named[f"{stem}.alpha"] = torch.tensor(layer.scale * layer.rank, dtype=torch.float32)
    return named
