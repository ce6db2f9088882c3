"""Proof that an adapter was active: its layers, how much it moves the weights, and pictures with and without it.

    measured = norms("mini+my-lora@0.8")
    measured["parts"]["unet"]                   # layers 64 of 64, delta 3.1, base 120, relative 0.026
    pixels(with_it, without_it, names)          # the mean difference, and how many pictures differ

The norms are Frobenius norms over the layers that the adapter touches, ``|W' - W|`` beside ``|W|``, of the weights as
they are drawn with (strength included; DoRA's magnitudes too, because the layers are merged to look).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from brushwork import families, models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from brushwork.models import LoadedModel

ONE_A_LAYER = re.compile(r"(lora_A|lora_down|lora\.down|hada_w1_a|lokr_w1(_a)?|oft_r|oft_blocks)(\.|$)", re.IGNORECASE)
"""Keys of which an adapter's file has one for each layer."""


def norms(text: str, *, device: str = "cpu") -> dict[str, Any]:
    """Return how far a MODEL's weights are from its base's, by part; empty for a model without adapters.

    The model is opened for this, merged, and let go.
    """
    spec = models.parse(text)
    if not (spec.adapters or models.as_run(spec.base)):
        return {"parts": {}, "words": [], "weights": [], "layers_in_files": 0, "layers_carried": 0}
    model = models.open_model(spec, device=device)
    loras = [each for each in model.adapters if each.kind == "lora"]
    active = any(each.weight for each in loras) or not model.adapters  # without adapters it is a run's whole model
    return {
        "parts": (_merged(model) or _against_base(model, text)) if active else {},
        "words": [each.name for each in model.adapters if each.kind == "embedding"],
        "weights": [each.weight for each in model.adapters],
        "layers_in_files": sum(layers_in(each.path) for each in loras),
        "layers_carried": sum(each.layers for each in loras),
    }


def layers_in(path: Path) -> int:
    """Return for how many layers a LoRA, LoHa, LoKr or OFT file has something."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return sum(ONE_A_LAYER.search(key) is not None for key in file.keys())  # noqa: SIM118  (it is no mapping)


def _modules(family: Any) -> dict[str, Any]:
    return {family.denoiser_name: family.denoiser, **family.text_encoders}


def _merged(model: LoadedModel) -> dict[str, dict[str, float]]:
    """Merge the layers that peft holds, and compare each with itself before."""
    from peft.tuners.lora import LoraLayer

    parts = {}
    for name, module in _modules(model.family).items():
        sums = _Sums()
        for layer in [each for each in module.modules() if isinstance(each, LoraLayer)]:
            weight = layer.get_base_layer().weight
            before = weight.detach().clone()
            layer.merge()
            sums.add(before, layer.get_base_layer().weight.detach())
        if sums.layers:
            parts[name] = sums.told()
    return parts


def _against_base(model: LoadedModel, text: str) -> dict[str, dict[str, float]]:
    """Compare with the base, loaded beside: for adapters that were merged already, and for whole models."""
    spec = models.parse(text)
    run = models.as_run(spec.base)
    if run is None:
        base = families.load(spec.base)
    else:
        base = families.load(run.config.base, revision=run.config.revision, config=run.config.base_config)
    there = {name: dict(module.named_parameters()) for name, module in _modules(base).items()}
    parts = {}
    for name, module in _modules(model.family).items():
        sums = _Sums()
        for key, parameter in module.named_parameters():
            before = there[name].get(key)
            if before is not None and before.shape == parameter.shape:
                sums.add(before.detach(), parameter.detach(), only_changed=True)
        if sums.layers:
            parts[name] = sums.told()
    return parts


class _Sums:
    """Adds up squares over layers."""

    def __init__(self) -> None:
        self.layers, self.changed, self.delta, self.base = 0, 0, 0.0, 0.0

    def add(self, before: Any, after: Any, *, only_changed: bool = False) -> None:
        delta = float((after.double() - before.double()).square().sum())
        if only_changed and delta == 0:
            return
        self.layers += 1
        self.changed += delta > 0
        self.delta += delta
        self.base += float(before.double().square().sum())

    def told(self) -> dict[str, float]:
        delta, base = math.sqrt(self.delta), math.sqrt(self.base)
        relative = delta / base if base else 0.0
        return {"layers": self.layers, "changed": self.changed, "delta": delta, "base": base, "relative": relative}


def pixels(folder: Path, without: Path | None, names: Sequence[str]) -> dict[str, Any]:
    """Compare the pictures of two sides pixel by pixel: mean absolute difference of 0 to 255, and how many differ."""
    import numpy as np
    from PIL import Image

    pairs = [(folder / name, without / name) for name in names if without and (without / name).is_file()]
    differences = []
    for one, other in pairs:
        with Image.open(one) as first, Image.open(other) as second:
            if first.size != second.size:
                continue
            a, b = (np.asarray(each.convert("RGB"), np.float64) for each in (first, second))
        differences.append(float(np.abs(a - b).mean()))
    return {
        "pairs": len(differences),
        "differ": sum(each > 0 for each in differences),
        "mean_difference": float(np.mean(differences)) if differences else None,
    }


def sentence(label: str, found: Mapping[str, Any]) -> tuple[str, bool]:
    """Say what was found, and whether anything is amiss: an adapter that changed nothing."""
    if not found["parts"] and not found["words"] and not found["layers_in_files"]:
        return f"{label}: no adapter.", False
    told = [f"{label}:"]
    if found["layers_in_files"]:
        told.append(f"{found['layers_carried']} of the {found['layers_in_files']} layers in its file matched;")
    told += [
        f"{name} moved by {part['delta']:.3g} of {part['base']:.3g} ({100 * part['relative']:.2g} %) over "
        f"{part['layers']} {'layer' if part['layers'] == 1 else 'layers'};"
        for name, part in found["parts"].items()
    ]
    if found["words"]:
        told.append(f"learnt {', '.join(found['words'])};")
    if found["pairs"]:
        told.append(
            f"{found['differ']} of {found['pairs']} pictures differ from those without it, "
            f"by {found['mean_difference']:.3g} of 255 on average."
        )
    moved = bool(found["words"]) or any(part["delta"] > 0 for part in found["parts"].values())
    wanted = not found["weights"] or any(found["weights"])
    dead = wanted and (not moved or (found["pairs"] > 0 and found["differ"] == 0))
    if dead:
        told.append("NOTHING CHANGED: it is empty, or no prompt has its word.")
    return " ".join(told).replace(";.", "."), dead
