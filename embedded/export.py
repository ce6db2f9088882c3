"""Put trained nets together as a plain diffusers pipeline in half precision.

python -m embedded.export                     # scratch/base, vae.pt and text.pt -> the package's mini/
"""

import argparse
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
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # diffusers writes them for the owner alone
    for part in ("unet", "vae"):
        forget_origin(folder / part / "config.json")


def load_in_single_precision(config_path: Path) -> None:
    """Name float32 in a transformers config: its default is the stored half precision, unlike diffusers'."""
    import json

    config = json.loads(config_path.read_text())
    config["dtype"] = "float32"
    config_path.write_text(json.dumps(config, indent=2) + "\n")


def forget_origin(config_path: Path) -> None:
    """Remove from a diffusers config the folder that the net was loaded from."""
    import json

    config = json.loads(config_path.read_text())
    config.pop("_name_or_path", None)
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


def trained_unet(run: Path) -> "UNet2DConditionModel":
    """Return the UNet of a finished run, or the running average in the newest checkpoint of one that still goes on."""
    from brushwork import checkpoints
    from diffusers import UNet2DConditionModel

    if (run / "weights").exists():
        return UNet2DConditionModel.from_pretrained(run / "weights" / "unet")
    newest = checkpoints.steps(run / "checkpoints")[-1]
    state = checkpoints.load(run / "checkpoints" / str(newest))
    unet = UNet2DConditionModel.from_pretrained(WORK / "untrained" / "unet")
    names = [name.removeprefix("denoiser.") for name in state["trained"]]
    unet.load_state_dict(dict(zip(names, state["average"], strict=True)))
    return unet


def trained_pipeline(run: Path = WORK / "base") -> "StableDiffusionPipeline":
    """Return what the stages have made so far."""
    return pipeline_of(trained_vae(), trained_text_encoder(), trained_unet(run))


def main() -> None:
    """Write the package's mini/, or another folder."""
    parser = argparse.ArgumentParser(description="Export mini.")
    parser.add_argument("--run", type=Path, default=WORK / "base")
    parser.add_argument("--to", type=Path, default=ASSETS / "mini")
    options = parser.parse_args()
    save_pipeline(options.to, trained_vae(), trained_text_encoder(), trained_unet(options.run))
    print(f"exported {options.to}")


if __name__ == "__main__":
    main()
