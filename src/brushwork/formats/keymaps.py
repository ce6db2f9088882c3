"""What each layer of a loaded model is called in the adapter files of this world, read off the modules themselves.

    names = KeyMap({"unet": unet, "text_encoder": encoder})
    names.places[0].written["kohya"]                # lora_unet_down_blocks_0_attentions_0_proj_in
    names.spelled["unet.conv_in"]                   # the place that a key with this beginning belongs to

kohya's sd-scripts join a layer's path with underscores: diffusers' path for Stable Diffusion 1 and 2, the original
code's for XL, 3 and FLUX.1. ComfyUI reads the same for UNets, and ``diffusion_model.`` with the original path for
transformers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork.formats import dits, ldm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

UNET = "UNet2DConditionModel"
DENOISERS = ("unet", "transformer")
MATRICES = (2, 4, 5)
"""The axes that a weight may have to be adapted: linear layers and convolutions."""


@dataclass(frozen=True)
class Place:
    """A layer as a file has it: the layers here whose rows it stacks, as ``part.path``, and its names by target."""

    layers: tuple[str, ...]
    rows: tuple[int, ...]
    written: Mapping[str, str] = field(default_factory=dict)
    swapped: bool = False


class KeyMap:
    """The places of a model's parts, and every known spelling of each."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        self.places: list[Place] = []
        self.spelled: dict[str, Place] = {}
        self.shapes = {
            f"{part}.{path}": tuple(module.weight.shape)
            for part, each in parts.items()
            for path, module in adaptable(each)
        }
        for part, module in parts.items():
            if part in DENOISERS:
                self._add_denoiser(part, module)
            else:
                self._add_text_encoder(part, module, alone="unet" in parts and "text_encoder_2" not in parts)

    def _add(self, place: Place, *spellings: str) -> None:
        for spelling in (*place.written.values(), *spellings):
            self.spelled.setdefault(spelling, place)

    def _place(self, part: str, paths: tuple[str, ...], written: Mapping[str, str], *, swapped: bool = False) -> Place:
        layers = tuple(f"{part}.{path}" for path in paths)
        return Place(layers, tuple(self.shapes[layer][0] for layer in layers), dict(written), swapped)

    def _add_denoiser(self, part: str, module: nn.Module) -> None:
        architecture = type(module).__name__
        paths = [key.partition(".")[2] for key in self.shapes if key.partition(".")[0] == part]
        if architecture == UNET:
            self._add_unet(part, module, paths)
        originals = dits.original_layers(architecture, module)
        for name, layers, swapped in originals:
            flat = f"lora_unet_{name.replace('.', '_')}"
            written = {"kohya": flat, "comfyui": f"diffusion_model.{name}"}
            place = self._place(part, layers, written, swapped=swapped)
            self.places.append(place)
            self._add(place, f"model.diffusion_model.{name}", f"lycoris_{flat.removeprefix('lora_unet_')}", name)
        for path in paths:
            place = self._place(part, (path,), {})
            self._add(place, *_diffusers(part, path))
            if architecture != UNET and not originals:  # ComfyUI took diffusers' own names over
                self._add(place, f"diffusion_model.{path}", f"lora_unet_{path.replace('.', '_')}")

    def _add_unet(self, part: str, unet: Any, paths: list[str]) -> None:
        names = ldm.unet_names(unet)
        is_xl = unet.config.addition_embed_type == "text_time"
        for path in paths:
            original = ldm.rename(path, names)
            ours = f"lora_unet_{path.replace('.', '_')}"
            if original is None:
                continue
            theirs = f"lora_unet_{original.replace('.', '_')}"
            flat = theirs if is_xl else ours
            place = self._place(part, (path,), {"kohya": flat, "comfyui": flat})
            self.places.append(place)
            generic = (f"diffusion_model.{original}", f"model.diffusion_model.{original}")
            self._add(place, ours, theirs, *generic, f"lycoris_{path.replace('.', '_')}")

    def _add_text_encoder(self, part: str, module: nn.Module, *, alone: bool) -> None:
        number, comfy = _text_encoder(part, module, alone=alone)
        for key in [key for key in self.shapes if key.partition(".")[0] == part]:
            path = key.partition(".")[2]
            named = path if comfy == "t5xxl" else ldm.hugging_face_name(path)
            flat = named.replace(".", "_")
            # A UNet's ComfyUI names are kohya's throughout; transformers have the names that every model has there.
            generic = f"text_encoders.{comfy}.transformer.{named}"
            kohya = f"lora_te{'' if alone else number}_{flat}"
            written = {"kohya": kohya, "comfyui": kohya if comfy in ("clip_l", "clip_g", "clip_h") else generic}
            place = self._place(part, (path,), written)
            self.places.append(place)
            self._add(place, generic, f"lora_te{number}_{flat}", *_diffusers(part, path), *_diffusers(part, named))


def adaptable(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Return the layers that may carry an adapter, also where another adapter lies around them already."""
    inside: tuple[str, ...] = ()
    for path, each in module.named_modules():
        if path.startswith(inside) and inside:
            continue
        if hasattr(each, "base_layer"):
            inside += (f"{path}.",)
        if getattr(getattr(each, "weight", None), "ndim", 0) in MATRICES and "Embedding" not in type(each).__name__:
            yield path, each


def _text_encoder(part: str, module: nn.Module, *, alone: bool) -> tuple[int, str]:
    """Return kohya's number of a text encoder, and ComfyUI's name for it."""
    if type(module).__name__.startswith(("T5", "UMT5")):
        return 3, "t5xxl"
    if part != "text_encoder":
        return 2, "clip_g"
    # OpenCLIP's models, which Stable Diffusion 2 took its encoder from, have the exact gelu; OpenAI's a quick one.
    is_open = alone and getattr(module.config, "hidden_act", "") == "gelu"
    return 1, "clip_h" if is_open else "clip_l"


def _diffusers(part: str, path: str) -> list[str]:
    """Return how diffusers and peft have spelled a layer over the years."""
    older = path.replace(".to_", ".processor.to_").removesuffix(".0") if ".to_" in path else path
    for new, old in (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out")):
        if path.endswith(f"self_attn.{new}"):
            older = path.replace(new, old)
    spellings = [f"{part}.{path}", f"{part}.{older}", f"base_model.model.{part}.{path}"]
    if part in DENOISERS:
        spellings += [path, older, f"base_model.model.{path}", f"lora_{part}_{path.replace('.', '_')}"]
    return spellings
