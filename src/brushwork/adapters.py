"""Adapter files on a loaded base: LoRA in any common form, checked layer by layer, attached with a weight.

    adapter = attach(family, Path("runs/mine/weights/pytorch_lora_weights.safetensors"), "mine", 0.8)
    print(adapter.layers)                           # so many layers carry it; all of the file's, or an error

The update of a layer is ``weight * alpha / rank * B A`` (arXiv:2106.09685). Alpha comes from kohya's ``.alpha`` tensors
or from the header that peft writes; without either it is the rank. DoRA's magnitudes (arXiv:2402.09353) are read in
peft's form. Which names are understood: ``brushwork.formats.reading``. LoHa, LoKr and OFT of our own lie in the files
of ``brushwork.peft_files``; others' LoHa and LoKr are merged into the base's weights like those.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from brushwork import peft_files, sampling
from brushwork.errors import ModelError
from brushwork.filehash import tensors_sha256
from brushwork.formats import reading

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from brushwork.formats.layers import Layer
    from brushwork.settings import Sampling
    from brushwork.values import Family

WEIGHT_NAME, PEFT_NAME = "pytorch_lora_weights.safetensors", peft_files.NAME


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


def attach(family: Family, path: Path, name: str, weight: float) -> Adapter:
    """Put an adapter on a family's modules. At weight 0 the file is checked but the modules stay as they are.

    Raises:
        ModelError: It is no LoRA, or not every layer of it fits this base; nothing is attached then.
    """
    header, _ = read_header(path, name)
    wanted = sampling.read(header) if weight else None
    tensors = _tensors(path)
    if peft_files.HEADER in header:
        count = peft_files.apply(family, header[peft_files.HEADER], tensors, name, weight)
        return Adapter(name, path, weight, count, weights_hash(path), sampling=wanted)
    layers = reading.read(tensors, header, parts_of(family), name)
    if weight:
        apply(family, layers, name, weight)
    return Adapter(name, path, weight, len(layers) if weight else 0, weights_hash(path), sampling=wanted)


def apply(family: Family, layers: Mapping[str, Layer], name: str, weight: float) -> None:
    """Put updates, by ``part.layer``, on a family's modules: beside the weights where peft can, else into them.

    Raises:
        ModelError: What must be merged comes after what lies beside the weights.
    """
    parts = parts_of(family)
    by_part: dict[str, dict[str, Layer]] = defaultdict(dict)
    for key, layer in layers.items():
        part, _, path = key.partition(".")
        by_part[part][path] = layer
    for part, updates in by_part.items():
        if all(each.is_plain for each in updates.values()):
            _inject(parts[part], updates, weight)
        else:
            _merge(parts[part], updates, weight, name)


def parts_of(family: Family) -> dict[str, nn.Module]:
    """Return the modules that an adapter may change, by their names in the pipeline."""
    return {family.denoiser_name: family.denoiser, **family.text_encoders}


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def read_header(path: Path, name: str) -> tuple[dict[str, str], list[str]]:
    """Return what a file says about itself, and its keys."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), list(file.keys())
    except (SafetensorError, OSError) as error:
        message = f"adapter: {name!r} is not a readable .safetensors file ({error})."
        raise ModelError(message) from error


def _merge(module: nn.Module, updates: Mapping[str, Layer], weight: float, name: str) -> None:
    """Add updates to the weights themselves."""
    import torch

    if getattr(module, "peft_config", None):
        message = f"adapter: {name!r} is no plain LoRA: name it before the LoRAs, BASE+{name}+LORA."
        raise ModelError(message)
    with torch.no_grad():
        for path, update in updates.items():
            own: Tensor = module.get_submodule(path).weight  # type: ignore[assignment]
            own += (update.delta(own.shape) * weight).to(own.device, own.dtype)


def _inject(module: nn.Module, updates: Mapping[str, Layer], weight: float) -> None:
    """Add the layers through peft and copy the matrices in."""
    import torch
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    slot = f"adapter_{len(getattr(module, 'peft_config', {}))}"
    ranks = {layer: update.tensors["down"].shape[0] for layer, update in updates.items()}
    alphas = {layer: update.scale * ranks[layer] for layer, update in updates.items()}
    exactly = {f"^{re.escape(layer)}": layer for layer in updates}
    config = LoraConfig(
        r=max(ranks.values()),
        target_modules="|".join(map(re.escape, updates)),
        rank_pattern={anchored: ranks[layer] for anchored, layer in exactly.items()},
        alpha_pattern={anchored: alphas[layer] for anchored, layer in exactly.items()},
        use_dora=any("magnitude" in update.tensors for update in updates.values()),
    )
    # peft draws initial values, which are replaced at once, and warns of what is meant here: several adapters.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
        inject_adapter_in_model(config, module, adapter_name=slot)
    layers = dict(module.named_modules())
    with torch.no_grad():
        for layer, update in updates.items():
            layers[layer].lora_A[slot].weight.copy_(update.tensors["down"])
            layers[layer].lora_B[slot].weight.copy_(update.tensors["up"])
            if "magnitude" in update.tensors:
                own = layers[layer].lora_magnitude_vector[slot].weight
                own.copy_(update.tensors["magnitude"].reshape(own.shape))
            layers[layer].set_scale(slot, weight)
    for each in layers.values():
        if isinstance(each, LoraLayer):
            each.set_adapter(list(each.lora_A.keys()))
    module.eval().requires_grad_(False)  # noqa: FBT003  (torch's own name)


def weights_hash(path: Path) -> str:
    """Return A1111's hash of a LoRA: 12 digits over the tensors only, so that editing the header keeps it."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        stored: str | None = json.loads(file.read(size)).get("__metadata__", {}).get("sshs_model_hash")
    return (stored or tensors_sha256(path))[:12]
