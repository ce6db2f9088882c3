"""An adapter file of any common form, read as updates of the layers of a loaded model; what does not fit is an error.

    layers = read(tensors, header, {"unet": unet, "text_encoder": encoder}, "style")
    layers["unet.mid_block.attentions.0.proj_in"].rank

Read: LoRA in peft's, diffusers' (new and old), kohya's and ComfyUI's words, LoHa and LoKr in LyCORIS'.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from brushwork.errors import ModelError, listing, nearest
from brushwork.formats import fused
from brushwork.formats.keymaps import KeyMap
from brushwork.formats.layers import WORDS, Kind, Layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

    from brushwork.formats.keymaps import Place

FIRST = "unet.conv_in"
"""The only layer whose shape differs between a plain base and the one for inpainting that was made of it."""
_SIDES = {"A": "down", "B": "up", "down": "down", "up": "up", "mid": "mid"}
_LORA = re.compile(
    r"(?:\.lora_(A|B)(?:\.default)?(?:\.weight)?|[._]lora[._](down|up|mid)\.weight|\.lora_linear_layer\.(down|up)\.weight)$"
)
_MAGNITUDE = re.compile(r"\.lora_magnitude_vector(?:\.default)?(?:\.weight)?$")
_LYCORIS = re.compile(r"\.(hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))$")
_ALPHA = re.compile(r"(?:\.lora(?:\.down|\.up)?(?:\.weight)?)?\.alpha$")
_FOREIGN = {
    "dora_scale": "a DoRA of another program, whose readers do not agree on what it is divided by",
    "oft_": "an OFT of another program, which rotates the outputs",
    ".boft_": "a BOFT",
    ".glora_": "a GLoRA",
    "ia3_": "an (IA)3",
}
_NEEDED: Mapping[Kind, tuple[frozenset[str], ...]] = {
    "lora": (frozenset({"down", "up"}),),
    "loha": (frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}),),
    "lokr": tuple(
        frozenset({*first, *second})
        for first in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
        for second in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))
    ),
}


def read(
    tensors: Mapping[str, Tensor], header: Mapping[str, str], parts: Mapping[str, nn.Module], name: str
) -> dict[str, Layer]:
    """Return the updates by ``part.layer``.

    Args:
        tensors: The file's.
        header: Its metadata, where peft has alpha.
        parts: The modules of the base, by their names in the pipeline.
        name: The adapter's, for messages.

    Raises:
        ModelError: Not every key belongs to a layer of this base, with its shape.
    """
    stems = _stems(tensors, name)
    names = KeyMap(parts)
    found = {stem: place for stem in stems if (place := names.spelled.get(_plain(stem))) is not None}
    if len(found) < len(stems):
        raise ModelError(_unmatched(name, stems, found, names.spelled))
    layers: dict[str, Layer] = {}
    for stem, held in stems.items():
        for layer, update in _unpacked(_layer(held, stem, name), found[stem], name).items():
            if layer in layers:
                message = f"adapter: {name!r} has the layer {layer} twice, in two spellings; it is damaged."
                raise ModelError(message)
            layers[layer] = _with_peft_alpha(update, layer, header)
    layers = {layer: _widened(update, layer, names.shapes[layer]) for layer, update in layers.items()}
    for layer, update in layers.items():
        _check_shape(layer, update, names.shapes[layer], name)
    if len({"magnitude" in each.tensors for each in layers.values() if each.kind == "lora"}) > 1:
        message = f"adapter: {name!r} is a DoRA in some of its layers and a LoRA in others; it is incomplete."
        raise ModelError(message)
    return layers


def _stems(tensors: Mapping[str, Tensor], name: str) -> dict[str, dict[str, Tensor]]:
    """Sort the tensors by what stands before their role."""
    foreign = [what for mark, what in _FOREIGN.items() if any(mark in key for key in tensors)]
    if foreign:
        message = (
            f"adapter: {name!r} is {foreign[0]}; it is not read. Use a model with it merged in, or peft's form of it."
        )
        raise ModelError(message)
    stems: dict[str, dict[str, Tensor]] = defaultdict(dict)
    strangers = []
    for key, tensor in tensors.items():
        stem, role = _role(key)
        if role:
            stems[stem][role] = tensor
        else:
            strangers.append(key)
    held = {stem for stem, roles in stems.items() if set(roles) != {"alpha"}}
    if not held:
        message = f"adapter: {name!r} holds no LoRA; it holds {listing(tensors) or 'nothing'}."
        raise ModelError(message)
    strangers += [f"{stem}.alpha" for stem in stems if stem not in held]
    strangers += [stem for stem in stems if stem in held and not _complete(stems[stem])]
    if strangers:
        message = f"adapter: {name!r} has keys that belong to no LoRA layer: {listing(sorted(strangers))}."
        raise ModelError(message)
    return dict(stems)


def _role(key: str) -> tuple[str, str]:
    """Split a key into the layer's name and what the tensor is to it; "" for the role when it is none of ours."""
    if match := _LORA.search(key):
        return key[: match.start()], _SIDES[next(side for side in match.groups() if side)]
    if match := _LYCORIS.search(key):
        return key[: match.start()], match[1]
    for pattern, role in ((_MAGNITUDE, "magnitude"), (_ALPHA, "alpha")):
        if match := pattern.search(key):
            return key[: match.start()], role
    return key, ""


def _plain(stem: str) -> str:
    """Return a layer's name without the wrappers that peft leaves in some files."""
    return stem.removeprefix("base_model.model.")


def _kind(roles: Iterable[str]) -> Kind:
    first = next(role for role in roles if role != "alpha")
    return "loha" if first.startswith("hada") else "lokr" if first.startswith("lokr") else "lora"


def _complete(held: Mapping[str, Tensor]) -> bool:
    kind = _kind(held)
    optional = {"alpha", "mid", "magnitude", "hada_t1", "hada_t2", "lokr_t2"}
    return set(held) - optional in [set(each) for each in _NEEDED[kind]]


def _layer(held: Mapping[str, Tensor], stem: str, name: str) -> Layer:
    alpha = held.get("alpha")
    if alpha is not None and (alpha.numel() != 1 or not math.isfinite(float(alpha))):
        message = f"adapter: {name!r} has an alpha for {stem} that is no number."
        raise ModelError(message)
    roles = {role: tensor for role, tensor in held.items() if role != "alpha"}
    return Layer(_kind(roles), roles, None if alpha is None else float(alpha))


def _unpacked(layer: Layer, place: Place, name: str) -> dict[str, Layer]:
    """Return the update of each layer here that a place of the file stands for."""
    if place.swapped:
        layer = fused.swap(layer)
    if len(place.layers) == 1:
        return {place.layers[0]: layer}
    if layer.shape[0] != sum(place.rows):
        message = (
            f"adapter: {name!r} does not fit: {' and '.join(place.layers)} have {sum(place.rows)} outputs together in "
            f"this base, and {layer.shape[0]} in it.\nIt was trained on another base; use it with that one."
        )
        raise ModelError(message)
    split = fused.split(layer, place.rows)
    return {key: each for key, each in zip(place.layers, split, strict=True) if each is not None}


def _unmatched(name: str, stems: Iterable[str], found: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Say how many layers matched, which did not, and what they may have meant."""
    every = list(stems)
    missing = [stem for stem in every if stem not in found]
    # Spellings of the same form only: an underscore-joined name has nothing to learn from a dotted one.
    alike = [each for each in known if each.split("_")[0].split(".")[0] == missing[0].split("_")[0].split(".")[0]]
    hint = nearest(missing[0], alike) if alike and len(missing) < len(every) else ""
    hint = hint if hint.startswith(" Did") else ""
    return (
        f"adapter: {len(found)} of {len(every)} layers of {name!r} matched this base; not matched: "
        f"{listing(missing)}.{hint}\n"
        f"It was made for another architecture. Use it with the base that it was trained on."
    )


def _with_peft_alpha(update: Layer, layer: str, header: Mapping[str, str]) -> Layer:
    """Give an update without a tensor for it the alpha that peft wrote into the header."""
    part, _, path = layer.partition(".")
    settings = _settings(header, part)
    rank = update.rank
    if update.alpha is not None or rank is None or update.kind != "lora" or not settings:
        return update
    alpha = by_ending(settings.get("alpha_pattern") or {}, path) or settings.get("lora_alpha") or rank
    factor = math.sqrt(rank) if settings.get("use_rslora") else 1.0
    return Layer("lora", update.tensors, float(alpha) * factor)


def _settings(header: Mapping[str, str], part: str) -> dict[str, Any]:
    """Return what peft wrote into the header about one part, if it did."""
    try:
        every = json.loads(header.get("lora_adapter_metadata", "{}"))
    except json.JSONDecodeError:
        return {}
    return {key.removeprefix(f"{part}."): value for key, value in every.items() if key.startswith(f"{part}.")}


def by_ending(pattern: Mapping[str, float], layer: str) -> float | None:
    """Look a layer up as peft does: a key is the end of its name."""
    found = [value for key, value in pattern.items() if re.fullmatch(rf"(.*\.)?({key})", layer)]
    return found[0] if found else None


def _widened(update: Layer, layer: str, here: tuple[int, ...]) -> Layer:
    """Return a plain base's update of the first convolution for an inpainting base: nothing for what that sees besides.

    So A1111 does it, too.
    """
    from torch.nn.functional import pad

    there, kernel = update.shape, math.prod(here[2:])
    inputs = math.prod(there[1:]) // kernel
    plain = (here[0], inputs, *here[2:])
    if layer != FIRST or inputs >= here[1] or not update.fits(plain):
        return update
    edges = (*[0, 0] * (len(here) - 2), 0, here[1] - inputs)
    if update.kind == "lora":
        return dataclasses.replace(update, tensors={**update.tensors, "down": pad(update.tensors["down"], edges)})
    return Layer("diff", {"diff": pad(update.delta(plain), edges)})


def _check_shape(layer: str, update: Layer, here: tuple[int, ...], name: str) -> None:
    magnitude = update.tensors.get("magnitude")
    inner = update.kind != "lora" or update.tensors["up"].shape[1] == update.tensors["down"].shape[0]
    if not inner or not update.fits(here) or (magnitude is not None and magnitude.numel() != here[0]):
        there, here_ = ("x".join(map(str, shape)) for shape in (update.shape, here))
        message = (
            f"adapter: {name!r} does not fit: {layer} is {there} in it and {here_} in this base "
            f"({WORDS[update.kind]}).\nIt was trained on another base; use it with that one."
        )
        raise ModelError(message)
