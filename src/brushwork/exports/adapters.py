"""An adapter as a file for another program.

    what, proof = write(model, Path("runs/style/weights/pytorch_lora_weights.safetensors"), 1.0, order)

Alpha: kohya and ComfyUI have a tensor for each layer; diffusers has peft's settings in the header, and without a header
the factor is multiplied into the second matrix, so that no reader can miss it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from brushwork import adapters, peft_files, sampling
from brushwork.errors import ModelError
from brushwork.exports import orders, proof, whole
from brushwork.exports.proof import Proof
from brushwork.formats import headers, reading, writing
from brushwork.formats.layers import WORDS, Layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from brushwork.exports.orders import Order
    from brushwork.models import LoadedModel
    from brushwork.values import Family

HEADER = "lora_adapter_metadata"


def write(model: LoadedModel, path: Path, weight: float, order: Order) -> tuple[str, Proof]:
    """Write the adapter of an opened model and read it back.

    Raises:
        ModelError: The target could not use it.
    """
    family = model.family
    fresh = orders.reopened(model, order.device)
    parts = adapters.parts_of(fresh)
    layers = read_layers(path, parts)
    if weight != 1:
        layers = {key: each.scaled(weight) for key, each in layers.items()}
    if order.torch_dtype is not None:
        layers = {key: each.to(order.torch_dtype) for key, each in layers.items()}
    described = _header(model, layers, order, parts) | _kept(path, order)
    if order.target == "diffusers":
        tensors, peft = _for_diffusers(layers, metadata=order.metadata)
        described |= peft
    else:
        tensors = writing.write(layers, parts, "kohya" if order.target == "kohya" else "comfyui")
    headers.save(tensors, order.out, described, hashed=order.metadata)
    kinds = " and ".join(sorted({WORDS[each.kind] for each in layers.values()}))
    return f"{kinds} of {len(layers)} layers for {order.target}", _proof(model, family, fresh, layers, order)


def read_layers(path: Path, parts: Mapping[str, nn.Module]) -> dict[str, Layer]:
    """Return what an adapter's file adds to each layer, our own LoHa and LoKr among them.

    Raises:
        ModelError: It does not fit, or rotates the weights instead of adding to them.
    """
    from safetensors.torch import load_file

    header, keys = adapters.read_header(path, path.stem)
    if any("oft_" in key for key in keys) and peft_files.HEADER in header:
        message = (
            "export: this is an OFT, which rotates the inputs of the layers; other programs' OFT rotates the outputs.\n"
            "Use --merge."
        )
        raise ModelError(message)
    layers = reading.read(load_file(path), header, parts, path.stem)
    if peft_files.HEADER not in header:
        return layers
    described: dict[str, dict[str, Any]] = json.loads(header[peft_files.HEADER])
    return {key: _scaled_as_peft(layer, key, described) for key, layer in layers.items()}


def _scaled_as_peft(layer: Layer, key: str, described: Mapping[str, Mapping[str, Any]]) -> Layer:
    """Give a layer the factor alpha / r that peft's settings have for it."""
    part, _, path = key.partition(".")
    settings = described[part]
    rank = reading.by_ending(settings.get("rank_pattern") or {}, path) or settings["r"]
    alpha = reading.by_ending(settings.get("alpha_pattern") or {}, path) or settings["alpha"]
    return Layer(layer.kind, layer.tensors).scaled(alpha / rank)


def _for_diffusers(layers: Mapping[str, Layer], *, metadata: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors by peft's names, and what peft wants to know of them."""
    odd = sorted({WORDS[each.kind] for each in layers.values() if not each.is_plain})
    if odd:
        message = (
            f"export: diffusers reads LoRA only, and this is a {' and '.join(odd)}. Use --to kohya or --to comfyui, or "
            f"--merge."
        )
        raise ModelError(message)
    tensors: dict[str, Tensor] = {}
    for key, layer in layers.items():
        up = layer.tensors["up"] if metadata else layer.tensors["up"] * layer.scale
        tensors |= {f"{key}.lora_A.weight": layer.tensors["down"], f"{key}.lora_B.weight": up}
        if "magnitude" in layer.tensors:
            tensors[f"{key}.lora_magnitude_vector"] = layer.tensors["magnitude"]
    return tensors, {HEADER: json.dumps(_peft_settings(layers), sort_keys=True)} if metadata else {}


def _peft_settings(layers: Mapping[str, Layer]) -> dict[str, Any]:
    """Return peft's settings by ``part.name``, as diffusers keeps them."""
    from peft import LoraConfig

    settings: dict[str, Any] = {}
    for part in sorted({key.partition(".")[0] for key in layers}):
        own = {key.partition(".")[2]: each for key, each in layers.items() if key.partition(".")[0] == part}
        ranks = {path: int(each.tensors["down"].shape[0]) for path, each in own.items()}
        alphas = {path: each.scale * ranks[path] for path, each in own.items()}
        rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            target_modules=sorted(own),
            rank_pattern={path: each for path, each in ranks.items() if each != rank},
            alpha_pattern={path: each for path, each in alphas.items() if each != alpha},
            use_dora=any("magnitude" in each.tensors for each in own.values()),
        ).to_dict()
        config |= {"base_model_name_or_path": None, "target_modules": sorted(own)}
        settings |= {f"{part}.{name}": value for name, value in config.items() if _is_json(value)}
    return settings


def _kept(path: Path, order: Order) -> dict[str, str]:
    """Return what an adapter says about how it is to be drawn (LCM: in four steps)."""
    said, _ = adapters.read_header(path, path.stem)
    return {sampling.HEADER: said[sampling.HEADER]} if order.metadata and sampling.HEADER in said else {}


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _header(
    model: LoadedModel, layers: Mapping[str, Layer], order: Order, parts: Mapping[str, nn.Module]
) -> dict[str, str]:
    if not order.metadata:
        return {}
    family, first = model.family, next(iter(layers.values()))
    ranks = [each.rank or 0 for each in layers.values()]
    header = whole.described(model, order.target, order.out, adapter="lora")
    header |= headers.kohya(
        parts,
        title=order.out.stem,
        rank=max(ranks),
        alpha=first.scale * (first.rank or 1),
        kind=first.kind,
    )
    return header | whole.trained(model) | {"ss_network_resolution": str(family.resolution)}


def _proof(model: LoadedModel, family: Family, fresh: Family, layers: Mapping[str, Layer], order: Order) -> Proof:
    """Draw with the model as it was, and with its base and the new file; count and compare the layers."""
    expected = proof.picture(family, proof.PROMPT, model.sampling)
    plain = proof.picture(fresh, proof.PROMPT, model.sampling)
    back = read_layers(order.out, adapters.parts_of(fresh))
    reader = _attach(fresh, order.out, layers, order.target)
    drawn = proof.picture(fresh, proof.PROMPT, model.sampling)
    return Proof(
        reader,
        len(back),
        proof.largest_delta(layers, back),
        proof.difference(expected, drawn),
        proof.difference(plain, drawn),
        proof.type_name(order.torch_dtype),
    )


def _attach(family: Family, path: Path, layers: Mapping[str, Layer], target: str) -> str:
    """Put a file on a base: by diffusers where it finds every layer, else by our own reader; say by which."""
    pipeline = family.pipeline()
    if _diffusers_finds(pipeline, family, path, len(layers), target):
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
        return "diffusers"
    adapters.attach(family, path, path.stem, 1.0)
    return "brushwork"


def _diffusers_finds(pipeline: Any, family: Family, path: Path, count: int, target: str) -> bool:
    """Return whether diffusers reads as many layers from the file as were written into it."""
    is_unet = family.denoiser_name == "unet"
    # Of transformers it reads its own names only, or others' at the sizes that are written into its readers.
    if not hasattr(pipeline, "lora_state_dict") or not (is_unet or target == "diffusers"):
        return False
    more = {"unet_config": getattr(family.denoiser, "config", None)} if is_unet else {}
    try:
        found = pipeline.lora_state_dict(str(path.parent), weight_name=path.name, **more)
    except (ValueError, KeyError, IndexError):  # names that its reader does not know
        return False
    state = found[0] if isinstance(found, tuple) else found
    ends = ("lora_A.weight", "lora.down.weight", "_layer.down.weight")
    return sum(1 for key in state if key.endswith(ends)) == count
