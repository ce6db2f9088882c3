"""A whole model, its adapters merged into it: a diffusers folder, or a single file.

what, proof = write(model, Order("single-file", Path("mine.safetensors")))
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import adapters, families, mask_channels, models, peft_files, progress
from brushwork.devices import resolve_device
from brushwork.exports import proof
from brushwork.exports.proof import Proof
from brushwork.formats import headers, single_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from brushwork.exports.orders import Order
    from brushwork.models import LoadedModel
    from brushwork.values import Family


def write(model: LoadedModel, order: Order) -> tuple[str, Proof]:
    """Write a whole model and read it back.

    Raises:
        ModelError: It has no form as a single file.
    """
    family, target, out, dtype = model.family, order.target, order.out, order.torch_dtype
    if target == "single-file" and single_file.version(modules(family)) == "sd1" and family.prediction != "epsilon":
        progress.note(f"programs take a Stable Diffusion 1 for one that predicts noise; tell them: {family.prediction}")
    expected = proof.picture(family, proof.PROMPT, model.sampling)
    merge(family)
    every = modules(family)
    if dtype is not None:
        for module in every.values():
            module.to(dtype)
    if target == "single-file":
        schedule = family.scheduler_config
        tensors = single_file.write(
            every, prediction=family.prediction, zero_snr=bool(schedule.get("rescale_betas_zero_snr"))
        )
        header = described(model, target, out) | trained(model) if order.metadata else {}
        headers.save(tensors, out, header, hashed=order.metadata)
    else:
        family.save(out)
    with tempfile.TemporaryDirectory() as configs:
        source: dict[str, Any] = {}
        if out.is_file():
            save_configs(family.pipeline(), Path(configs))
            source = {"config": configs}
        again = families.load(str(out), device=resolve_device(order.device), **source)
    drawn = proof.picture(again, proof.PROMPT, model.sampling)
    count, worst = _compared(every, modules(again))
    what = f"{len(model.adapters)} adapter(s) merged into {model.name}" if model.adapters else model.name
    picture = proof.difference(expected, drawn)
    return f"{what} for {target}", Proof("diffusers", count, worst, picture, -1, proof.type_name(dtype))


def merge(family: Family) -> int:
    """Put every adapter that lies beside a family's weights into them; return how many layers that were."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    count = 0
    for module in adapters.parts_of(family).values():
        layers = {key: each for key, each in module.named_modules() if isinstance(each, BaseTunerLayer)}
        if layers:
            with torch.no_grad():
                for layer in layers.values():
                    layer.merge()
            peft_files.take_out(module, layers)
            count += len(layers)
    return count


def modules(family: Family) -> dict[str, nn.Module]:
    """Return everything of a model that has weights, by its name in the pipeline."""
    return {**adapters.parts_of(family), "vae": family.vae}


def save_configs(pipeline: Any, folder: Path) -> None:
    """Write a pipeline's configs and tokenizers, but not its weights: what reads a single file needs them."""
    pipeline.save_config(folder)
    for name, component in pipeline.components.items():
        if hasattr(component, "save_config"):
            component.save_config(folder / name)
        elif hasattr(component, "config"):
            component.config.save_pretrained(folder / name)
        elif component is not None and hasattr(component, "save_pretrained"):
            component.save_pretrained(folder / name)


def _compared(ours: Mapping[str, nn.Module], theirs: Mapping[str, nn.Module]) -> tuple[int, float]:
    """Return how many tensors there are, and by how much they differ at most, of the largest number in each."""
    count, worst = 0, 0.0
    for part, module in ours.items():
        here, there = module.state_dict(), theirs[part].state_dict()
        if here.keys() != there.keys():
            return len(here), float("inf")
        for key, tensor in here.items():
            size = float(tensor.float().abs().max()) or 1.0
            worst = max(worst, float((tensor.float() - there[key].float()).abs().max()) / size)
            count += 1
    return count, worst


def described(model: LoadedModel, target: str, out: Path, *, adapter: str = "", trigger: str = "") -> dict[str, str]:
    """Return the fields of ModelSpec for a file of this model."""
    family = model.family
    run = models.as_run(model.spec.base)
    architecture = headers.architecture(adapters.parts_of(family), family.prediction)
    kind = adapter or ("inpaint" if mask_channels.sees_masks(family) else "")
    names = [model.name, *(each.name for each in model.adapters)]
    return headers.modelspec(
        architecture=f"{architecture}/{kind}" if kind else architecture,
        implementation=headers.IMPLEMENTATIONS[target],
        title=out.stem,
        resolution=family.resolution,
        prediction=family.prediction,
        description=f"Made with brushwork from {model.name}." if run is not None else "",
        trigger=trigger or (_trigger(run.config) if run is not None else ""),
        merged_from="" if adapter or not model.adapters else ", ".join(names),
    )


def trained(model: LoadedModel) -> dict[str, str]:
    """Return what is known of the training, where the model or its only adapter is a run."""
    named = [model.spec.base, *(each.text for each in model.spec.adapters)]
    runs = [run for run in map(models.as_run, named) if run is not None]
    if len(runs) != 1:
        return {}
    steps = runs[0].steps()
    return headers.of_run(runs[0].config, runs[0].record, steps[-1]["index"] if steps else 0)


def _trigger(config: Any) -> str:
    """Return the word that a run taught, if it taught one."""
    return getattr(config.method, "token", None) or getattr(config.data, "instance_token", None) or ""
