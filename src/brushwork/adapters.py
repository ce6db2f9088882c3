"""Adapter files on a loaded base: LoRA in any common form, checked layer by layer, attached with a weight.

    adapter = attach(family, Path("runs/mine/weights/pytorch_lora_weights.safetensors"), "mine", 0.8)
    print(adapter.layers)                           # so many layers carry it; all of the file's, or an error

The update of a layer is ``weight * alpha / rank * B A`` (arXiv:2106.09685). Alpha comes from kohya's ``.alpha`` tensors
or from the header that peft writes; without either it is the rank. DoRA's magnitudes (arXiv:2402.09353) are read in
peft's form. LoHa, LoKr and OFT are read as ``brushwork.peft_files`` writes them.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from brushwork import peft_files, sampling
from brushwork.errors import ModelError, listing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from brushwork.settings import Sampling
    from brushwork.values import Family

WEIGHT_NAME, PEFT_NAME = "pytorch_lora_weights.safetensors", peft_files.NAME
FOREIGN = {"hada_w": "LoHa", "lokr_w": "LoKr", "dora_scale": "DoRA", "oft_": "OFT"}
_SUFFIX = re.compile(r"\.lora_(?:(A|B)(?:\.default)?\.weight|(magnitude)_vector(?:\.weight)?)$")


@dataclass(frozen=True)
class Adapter:
    """An adapter as it was applied. ``layers`` counts what carries it: 0 when the weight is 0 (nothing is attached)."""

    name: str
    path: Path
    weight: float
    layers: int
    hash: str
    kind: Literal["lora", "embedding"] = "lora"
    sampling: Sampling | None = None
    """How it was made to be drawn, if it was made for something of its own."""


@dataclass
class _Update:
    """What the file holds for one layer: A is (rank, in, ...), B is (out, rank, ...), for DoRA magnitude has out."""

    matrices: dict[str, Tensor]
    alpha: float | None = None

    @property
    def rank(self) -> int:
        return int(self.matrices["A"].shape[0])


def attach(family: Family, path: Path, name: str, weight: float) -> Adapter:
    """Put an adapter on a family's modules. At weight 0 the file is checked but the modules stay as they are.

    Raises:
        ModelError: It is no LoRA, or not every layer of it fits this base; nothing is attached then.
    """
    parts = {family.denoiser_name: family.denoiser, **family.text_encoders}
    header, keys = _header(path, name)
    wanted = sampling.read(header) if weight else None
    if peft_files.HEADER in header:
        from safetensors.torch import load_file

        count = peft_files.apply(family, header[peft_files.HEADER], load_file(path), name, weight)
        return Adapter(name, path, weight, count, weights_hash(path), sampling=wanted)
    updates = _read(family, path, name, keys)
    by_part = _match(updates, parts, name)
    if weight:
        for part, layers in by_part.items():
            _inject(parts[part], layers, _settings(header, part), weight)
    return Adapter(name, path, weight, len(updates) if weight else 0, weights_hash(path), sampling=wanted)


def _header(path: Path, name: str) -> tuple[dict[str, str], list[str]]:
    """Return what a file says about itself, and its keys."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), list(file.keys())
    except (SafetensorError, OSError) as error:
        message = f"adapter: {name!r} is not a readable .safetensors file ({error})."
        raise ModelError(message) from error


def _read(family: Family, path: Path, name: str, keys: list[str]) -> dict[str, _Update]:
    """Return the updates by ``part.layer``, whatever the form of the file."""
    foreign = sorted({kind for mark, kind in FOREIGN.items() if any(mark in key for key in keys)})
    if foreign:
        kinds = " and ".join(foreign)
        message = (
            f"adapter: {name!r} is a {kinds} of another program, which is not read. Use a model with it merged in."
        )
        raise ModelError(message)
    if not any("lora" in key for key in keys):
        message = f"adapter: {name!r} holds no LoRA; it holds {listing(keys) or 'nothing'}."
        raise ModelError(message)
    try:
        found = _lora_state(family, path)
    except (ValueError, KeyError, IndexError) as error:
        message = f"adapter: {name!r} mixes forms that cannot be told apart: {str(error).splitlines()[0]}"
        raise ModelError(message) from error
    state, alphas = found
    return _updates(state, alphas, family, name)


def _lora_state(family: Family, path: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Let the family's pipeline read a file; some give alphas with it, and some take the denoiser's settings."""
    read = type(family.pipeline()).lora_state_dict
    more: dict[str, Any] = {"return_alphas": True} if "return_alphas" in inspect.signature(read).parameters else {}
    if family.denoiser_name == "unet":
        more = {"unet_config": getattr(family.denoiser, "config", None)}
    state, *rest = read(str(path), return_lora_metadata=True, **more)
    return state, (rest[0] or {}) if len(rest) == 2 else {}  # noqa: PLR2004  (alphas and metadata)


def _updates(state: Mapping[str, Tensor], alphas: Mapping[str, float], family: Family, name: str) -> dict[str, _Update]:
    """Pair A with B and give each pair its own alpha."""
    pairs: dict[str, dict[str, Tensor]] = defaultdict(dict)
    own: dict[str, float] = {}
    strangers = []
    for key, original in _in_peft_words(state, family).items():
        found = _SUFFIX.search(key)
        if found is None:
            strangers.append(original)
            continue
        layer = key[: found.start()]
        pairs[layer][found[1] or found[2]] = state[original]
        # diffusers files an alpha under the layer, or under the whole name of its lower matrix
        for entry in (f"{original.split('.lora.')[0]}.alpha", f"{original}.alpha"):
            if entry in alphas:
                own[layer] = float(alphas[entry])
    strangers += [layer for layer, pair in pairs.items() if not {"A", "B"} <= set(pair)]
    if len({"magnitude" in pair for pair in pairs.values()}) > 1:
        message = f"adapter: {name!r} is a DoRA in some of its layers and a LoRA in others; it is incomplete."
        raise ModelError(message)
    if strangers or not pairs:
        message = f"adapter: {name!r} has keys that belong to no LoRA layer: {listing(strangers) or 'all of them'}."
        raise ModelError(message)
    if len(own) < len(alphas):
        message = f"adapter: {name!r} has {len(alphas)} alphas but only {len(own)} belong to one of its layers."
        raise ModelError(message)
    return {layer: _Update(pair, own.get(layer)) for layer, pair in pairs.items()}


def _in_peft_words(state: Mapping[str, Tensor], family: Family) -> dict[str, str]:
    """Map every key, written as ``part.layer.lora_A.weight``, to what it is called in the file."""
    from diffusers.utils import state_dict_utils as forms

    words: dict[str, str] = {}
    for part in {key.partition(".")[0] for key in state}:
        inner = {key.removeprefix(f"{part}."): key for key in state if key.partition(".")[0] == part}
        if part not in family.text_encoders:
            inner = forms.convert_unet_state_dict_to_peft(inner)
        else:  # diffusers writes attention in its own form and other layers in peft's, into one file
            old = {key: original for key, original in inner.items() if not _SUFFIX.search(key)}
            inner = {key: original for key, original in inner.items() if key not in old}
            inner |= forms.convert_state_dict_to_peft(old, original_type=forms.StateDictType.DIFFUSERS_OLD)
        words |= {_here(f"{part}.{key}", family): original for key, original in inner.items()}
    return words


def _here(key: str, family: Family) -> str:
    """Name a layer as this version of transformers does: since version 5 CLIP's layers lie without ``text_model.``."""
    part, _, layer = key.partition(".")
    encoder = family.text_encoders.get(part)
    if encoder is None:
        return key
    layer = layer.removeprefix("text_model.")
    return f"{part}.text_model.{layer}" if hasattr(encoder, "text_model") else f"{part}.{layer}"


def _match(updates: Mapping[str, _Update], parts: Mapping[str, nn.Module], name: str) -> dict[str, dict[str, _Update]]:
    """Sort the updates by part, after checking that each has a layer of its shape.

    Raises:
        ModelError: A layer is missing or has another shape.
    """
    layers = {f"{part}.{key}": each for part, module in parts.items() for key, each in module.named_modules()}
    missing = [layer for layer in updates if not hasattr(layers.get(layer), "weight")]
    if missing:
        fitting = len(updates) - len(missing)
        message = (
            f"adapter: only {fitting} of the {len(updates)} layers of {name!r} exist in this base; "
            f"missing: {listing(missing, 2)}.\n"
            f"It was made for another architecture. Use it with the base that it was trained on."
        )
        raise ModelError(message)
    for layer, update in updates.items():
        _check_shape(layer, update, tuple(layers[layer].weight.shape), name)
    by_part: dict[str, dict[str, _Update]] = defaultdict(dict)
    for layer, update in updates.items():
        part, _, key = layer.partition(".")
        by_part[part][key] = update
    return by_part


def _check_shape(layer: str, update: _Update, here: tuple[int, ...], name: str) -> None:
    down, up = (tuple(update.matrices[side].shape) for side in "AB")
    there = (up[0], down[1], *down[2:])
    magnitude = update.matrices.get("magnitude")
    if there != here or up[1] != down[0] or (magnitude is not None and magnitude.numel() != up[0]):
        sizes = ["x".join(map(str, shape)) for shape in (there, here)]
        message = (
            f"adapter: {name!r} does not fit: {layer} is {sizes[0]} in it and {sizes[1]} in this base.\n"
            f"It was trained on another base; use it with that one."
        )
        raise ModelError(message)


def _settings(header: Mapping[str, str], part: str) -> dict[str, Any]:
    """Return what peft wrote into the header about one part, if it did."""
    try:
        every = json.loads(header.get("lora_adapter_metadata", "{}"))
    except json.JSONDecodeError:
        return {}
    return {key.removeprefix(f"{part}."): value for key, value in every.items() if key.startswith(f"{part}.")}


def _inject(module: nn.Module, updates: Mapping[str, _Update], settings: Mapping[str, Any], weight: float) -> None:
    """Add the layers through peft and copy the matrices in."""
    import torch
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    slot = f"adapter_{len(getattr(module, 'peft_config', {}))}"
    pattern = settings.get("alpha_pattern") or {}
    ranks = {layer: update.rank for layer, update in updates.items()}
    alphas = {
        layer: update.alpha or _by_ending(pattern, layer) or settings.get("lora_alpha") or update.rank
        for layer, update in updates.items()
    }
    exactly = {f"^{re.escape(layer)}": layer for layer in updates}
    config = LoraConfig(
        r=max(ranks.values()),
        target_modules="|".join(map(re.escape, updates)),
        rank_pattern={anchored: ranks[layer] for anchored, layer in exactly.items()},
        alpha_pattern={anchored: alphas[layer] for anchored, layer in exactly.items()},
        use_rslora=bool(settings.get("use_rslora")),
        use_dora=any("magnitude" in update.matrices for update in updates.values()),
    )
    # peft draws initial values, which are replaced at once, and warns of what is meant here: several adapters.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
        inject_adapter_in_model(config, module, adapter_name=slot)
    layers = dict(module.named_modules())
    with torch.no_grad():
        for layer, update in updates.items():
            layers[layer].lora_A[slot].weight.copy_(update.matrices["A"])
            layers[layer].lora_B[slot].weight.copy_(update.matrices["B"])
            if "magnitude" in update.matrices:
                own = layers[layer].lora_magnitude_vector[slot].weight
                own.copy_(update.matrices["magnitude"].reshape(own.shape))
            layers[layer].set_scale(slot, weight)
    for each in layers.values():
        if isinstance(each, LoraLayer):
            each.set_adapter(list(each.lora_A.keys()))
    module.eval().requires_grad_(False)  # noqa: FBT003  (torch's own name)


def _by_ending(pattern: Mapping[str, float], layer: str) -> float | None:
    """Look a layer up as peft does: a key is the end of its name."""
    found = [value for key, value in pattern.items() if re.fullmatch(rf"(.*\.)?({key})", layer)]
    return found[0] if found else None


def weights_hash(path: Path) -> str:
    """Return A1111's hash of a LoRA: 12 digits over the tensors only, so that editing the header keeps it."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        stored: str | None = json.loads(file.read(size)).get("__metadata__", {}).get("sshs_model_hash")
        return (stored or digest(file))[:12]


def digest(file: BinaryIO) -> str:
    """Return the SHA-256 of the rest of a file."""
    sha256 = hashlib.sha256()
    while block := file.read(1 << 20):
        sha256.update(block)
    return sha256.hexdigest()
