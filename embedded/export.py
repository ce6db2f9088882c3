"""Put trained nets together as a plain diffusers pipeline in half precision.

python -m embedded.export                     # scratch/base.pt (EMA) + scratch/vae.pt -> the package's mini/
"""

from pathlib import Path
from typing import TYPE_CHECKING

from embedded import tokenizer as tokenizers
from embedded.paths import ASSETS, WORK

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel


def pipeline_of(
    vae: "AutoencoderKL", text_encoder: "CLIPTextModel", unet: "UNet2DConditionModel"
) -> "StableDiffusionPipeline":
    """Return the nets as a Stable Diffusion pipeline."""
    from diffusers import StableDiffusionPipeline

    from embedded.nets import new_scheduler

    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizers.load(),
        unet=unet.eval(),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_pipeline(
    folder: Path, vae: "AutoencoderKL", text_encoder: "CLIPTextModel", unet: "UNet2DConditionModel"
) -> None:
    """Write a pipeline folder with fp16 weights; the nets themselves are changed to half precision."""
    import torch

    nets = (net.to("cpu", torch.float16, memory_format=torch.contiguous_format) for net in (vae, text_encoder, unet))
    pipeline_of(*nets).save_pretrained(folder, safe_serialization=True)
    load_in_single_precision(folder / "text_encoder" / "config.json")


def load_in_single_precision(config_path: Path) -> None:
    """Name float32 in a transformers config: its default is the stored half precision, unlike diffusers'."""
    import json

    config = json.loads(config_path.read_text())
    config["dtype"] = "float32"
    config_path.write_text(json.dumps(config, indent=2) + "\n")


def trained_vae(scaling_factor: float | None = None) -> "AutoencoderKL":
    """Return the VAE of scratch/vae.pt with its measured scaling factor."""
    import json

    import torch

    from embedded.vae import new_vae

    vae = new_vae()
    vae.load_state_dict(torch.load(WORK / "vae.pt", weights_only=True)["vae"])
    if scaling_factor is None:
        scaling_factor = json.loads((WORK / "latents.json").read_text())["scaling_factor"]
    vae.register_to_config(scaling_factor=scaling_factor)
    return vae


def trained_text_encoder() -> "CLIPTextModel":
    """Return the reader of scratch/text.pt."""
    import torch

    from embedded.nets import new_text_encoder

    text_encoder = new_text_encoder()
    text_encoder.load_state_dict(torch.load(WORK / "text.pt", weights_only=True, map_location="cpu"))
    return text_encoder


def trained_nets(path: Path | None = None) -> tuple["CLIPTextModel", "UNet2DConditionModel", int]:
    """Return text encoder and UNet (averaged weights unless annealed), and the samples seen."""
    import torch

    from embedded.nets import new_unet

    state = torch.load(path or WORK / "base.pt", weights_only=True, map_location="cpu")
    text_encoder, unet = trained_text_encoder(), new_unet()
    annealed = path is not None and path.stem.endswith("annealed")  # at rate zero the average only lags behind
    unet.load_state_dict(state["unet" if annealed else "ema_unet"])
    return text_encoder, unet, state["seen"]


def main() -> None:
    """Export the annealed checkpoint, or else the newest."""
    annealed = WORK / "base-annealed.pt"
    text_encoder, unet, seen = trained_nets(annealed if annealed.exists() else None)
    save_pipeline(ASSETS / "mini", trained_vae(), text_encoder, unet)
    print(f"exported {ASSETS / 'mini'} after {seen} samples")


if __name__ == "__main__":
    main()
