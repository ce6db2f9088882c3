"""What a file says about itself: ModelSpec 1.0.1, and those of kohya's ``ss_`` fields that programs look at.

    header = modelspec(Described("stable-diffusion-v1/lora", "old-books", ...)) | kohya(run, ...)

A1111 sorts LoRAs by ``ss_base_model_version`` and ``ss_v2``, shows ``ss_output_name`` and ``ss_tag_frequency``, and
hashes by ``sshs_model_hash``. Nothing here says where files lie on this machine.
"""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from brushwork import __version__
from brushwork.filehash import tensors_sha256
from brushwork.formats import single_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

SPEC = "1.0.1"
ARCHITECTURES = {"FluxTransformer2DModel": "flux-1-dev", "SD3Transformer2DModel": "stable-diffusion-3-medium"}
KOHYA_VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
KOHYA_TRANSFORMERS = {"FluxTransformer2DModel": "flux1", "SD3Transformer2DModel": "sd3"}
IMPLEMENTATIONS = {
    "kohya": "https://github.com/Stability-AI/generative-models",
    "comfyui": "https://github.com/comfyanonymous/ComfyUI",
    "single-file": "https://github.com/Stability-AI/generative-models",
    "diffusers": "diffusers",
}


def architecture(parts: Mapping[str, nn.Module], prediction: str) -> str:
    """Return the architecture's id in ModelSpec: that of its original, or the name of its class."""
    denoiser = parts.get("unet") or parts["transformer"]
    if "unet" not in parts:
        name = type(denoiser).__name__
        return ARCHITECTURES.get(name, name)
    layout = single_file.version(parts)
    if layout == "sd2":
        return "stable-diffusion-v2-768-v" if prediction == "v_prediction" else "stable-diffusion-v2-512"
    return {"sd1": "stable-diffusion-v1", "sdxl": "stable-diffusion-xl-v1-base"}[layout]


def modelspec(
    *,
    architecture: str,
    implementation: str,
    title: str,
    resolution: int,
    prediction: str,
    description: str = "",
    trigger: str = "",
    merged_from: str = "",
) -> dict[str, str]:
    """Return the fields of ModelSpec; the hash is added when the tensors are written."""
    fields = {
        "sai_model_spec": SPEC,
        "architecture": architecture,
        "implementation": implementation,
        "title": title,
        "resolution": f"{resolution}x{resolution}",
        "description": description,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "trigger_phrase": trigger,
        "merged_from": merged_from,
        "prediction_type": {"epsilon": "epsilon", "v_prediction": "v"}.get(prediction, ""),
    }
    return {f"modelspec.{key}": value for key, value in fields.items() if value}


def kohya(parts: Mapping[str, nn.Module], *, title: str, rank: float, alpha: float, kind: str) -> dict[str, str]:
    """Return what every LoRA says in kohya's words, whoever trained it."""
    denoiser = parts.get("unet") or parts["transformer"]
    layout = single_file.version(parts) if "unet" in parts else ""
    fields = {
        "ss_base_model_version": KOHYA_VERSIONS.get(layout) or KOHYA_TRANSFORMERS.get(type(denoiser).__name__, ""),
        "ss_v2": str(layout == "sd2"),
        "ss_output_name": title,
        "ss_network_module": "networks.lora" if kind == "lora" else "lycoris.kohya",
        "ss_network_dim": f"{rank:g}",
        "ss_network_alpha": f"{alpha:g}",
        "ss_network_args": json.dumps({} if kind == "lora" else {"algo": kind}),
    }
    return {key: value for key, value in fields.items() if value}


def of_run(config: Any, record: Mapping[str, Any], steps: int) -> dict[str, str]:
    """Return what a run's settings are in kohya's words. Names of folders and captions stay out."""
    train, optimizer, objective = config.train, config.optimizer, config.objective
    data = record.get("data", {})
    fields = {
        "ss_sd_model_name": config.base if _is_hub_id(config.base) else "",
        "ss_resolution": record.get("resolution") or getattr(config.data, "resolution", None),
        "ss_num_train_images": data.get("count"),
        "ss_steps": steps,
        "ss_max_train_steps": train.max_train_steps,
        "ss_learning_rate": optimizer.learning_rate,
        "ss_text_encoder_lr": getattr(config.method, "text_encoder_lr", None),
        "ss_optimizer": optimizer.type,
        "ss_lr_scheduler": optimizer.lr_scheduler,
        "ss_lr_warmup_steps": optimizer.lr_warmup_steps,
        "ss_batch_size_per_device": train.train_batch_size,
        "ss_gradient_accumulation_steps": train.gradient_accumulation_steps,
        "ss_mixed_precision": train.mixed_precision,
        "ss_seed": config.seed,
        "ss_min_snr_gamma": getattr(objective, "snr_gamma", None),
        "ss_noise_offset": getattr(objective, "noise_offset", None),
        "ss_prior_loss_weight": getattr(config.data, "prior_loss_weight", None),
        "ss_training_comment": f"brushwork {__version__}",
    }
    return {key: str(value) for key, value in fields.items() if value not in (None, "")}


def _is_hub_id(base: str) -> bool:
    return base.count("/") == 1 and not base.startswith((".", "/", "~"))


def save(tensors: Mapping[str, Any], path: Path, header: Mapping[str, str], *, hashed: bool) -> None:
    """Write a safetensors file; ``hashed`` adds the hash of the tensors, in ModelSpec's words and in kohya's."""
    from safetensors.torch import save_file

    from brushwork.checkpoints import add_to_header
    from brushwork.runs import replacing

    with replacing(path) as temporary:
        save_file(dict(tensors), temporary, metadata={"format": "pt", **header})
        more = {}
        if hashed:
            digest = tensors_sha256(temporary)
            more["modelspec.hash_sha256"] = f"0x{digest}"
            if any(key.startswith("ss_") for key in header):
                more["sshs_model_hash"] = digest
        add_to_header(temporary, more)
