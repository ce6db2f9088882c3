"""LoRA fine-tuning of Stable Diffusion in one file, to read from top to bottom. It imports nothing of brushwork.

    python examples/one_file_lora.py BASE_FOLDER PICTURES_FOLDER --steps 300 --rank 16 --out my-lora

BASE_FOLDER is a diffusers pipeline; PICTURES_FOLDER holds pictures, each with its caption in a .txt beside it. What
comes out loads with ``pipeline.load_lora_weights``. The losses it prints are those of ``brushwork train`` with the same
settings, to the last digit: a test holds the two together.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

# Shape letters: B batch, C channels, H height, W width, L tokens, D width of the text encoder.


def derive(seed, *where):
    """Make a seed for one use of randomness: no generator has to be saved, and every sample has its own noise."""
    text = "\0".join([str(seed), *(f"{type(part).__name__}:{part}" for part in where)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def read_picture(path, side, flip):
    """Resize the shorter side, cut out the middle, mirror if asked; (3, H, W) in [-1, 1]."""
    picture = Image.open(path).convert("RGB")
    width, height = picture.size
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    left, top = round((picture.width - side) / 2), round((picture.height - side) / 2)
    picture = picture.crop((left, top, left + side, top + side))
    if flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255).sub_(0.5).div_(0.5)


@torch.no_grad()
def encode_pictures(vae, paths, side):
    """Encode every picture once, both ways round, to the mean and deviation of its latents, each (C, H, W).

    The frozen encoder is a third of the work of a step when it runs in each. What is kept is the posterior, not one
    draw from it, so training still sees fresh samples.
    """
    moments = {}
    for path in paths:
        for flip in (False, True):
            posterior = vae.encode(read_picture(path, side, flip)[None]).latent_dist
            moments[path, flip] = posterior.mean[0], posterior.std[0]
    return moments


@torch.no_grad()
def encode_captions(text_encoder, tokenizer, captions):
    """Encode every caption once to the text encoder's last states, (L, D)."""
    states = {}
    for caption in set(captions):
        length = tokenizer.model_max_length
        tokens = tokenizer([caption], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        states[caption] = text_encoder(tokens.input_ids)[0][0]
    return states


def add_lora(unet, rank, alpha, seed):
    """Freeze the UNet and add two small matrices A, B beside each attention projection: W x + alpha / rank * B A x."""
    unet.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "lora", "denoiser"))
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=targets))
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


def draw_batch(paths, captions, moments, states, positions, seed, flips):
    """Return clean latents x0, noise (both B, C, H, W), text states (B, L, D) and uniform numbers (B,)."""
    x0, noise, texts, uniform = [], [], [], []
    for position in positions:  # sample number `position` of the whole run
        epoch, place = divmod(position, len(paths))
        order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(derive(seed, "order", epoch)))
        index = int(order[place])
        chance = torch.rand(3, generator=torch.Generator().manual_seed(derive(seed, "augment", position)))[0]
        mean, std = moments[paths[index], flips and chance.item() < 0.5]
        generator = torch.Generator().manual_seed(derive(seed, "noise", position))
        x0.append(mean + std * torch.randn(mean.shape, generator=generator))
        noise.append(torch.randn(mean.shape, generator=generator))
        uniform.append(torch.rand((), generator=generator))
        texts.append(states[captions[index]])
    return torch.stack(x0), torch.stack(noise), torch.stack(texts), torch.stack(uniform)


def losses(unet, scheduler, x0, noise, texts, uniform):
    """Return each sample's loss, (B,): tell the noise, or the velocity, from the noisy latents (DDPM, equation 14)."""
    a = scheduler.alphas_cumprod.double()
    t = (uniform * len(a)).long()
    signal, sigma = (part.float().view(-1, 1, 1, 1) for part in (a[t].sqrt(), (1 - a[t]).sqrt()))
    xt = signal * x0 + sigma * noise
    target = noise if scheduler.config.prediction_type == "epsilon" else signal * noise - sigma * x0
    predicted = unet(xt, t, texts, return_dict=False)[0]
    return (predicted.float() - target.float()).square().flatten(1).mean(1)


def train(options):
    """Train; yield the loss of each step; save at the end."""
    base = Path(options.base)
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    vae = AutoencoderKL.from_pretrained(base / "vae")
    text_encoder = CLIPTextModel.from_pretrained(base / "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    scheduler = DDPMScheduler.from_pretrained(base / "scheduler")

    paths = sorted(
        path for path in Path(options.pictures).iterdir() if path.suffix.lower() in {".png", ".jpg", ".webp"}
    )
    captions = [path.with_suffix(".txt").read_text("utf-8").strip() for path in paths]
    side = options.resolution or unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1)
    moments = encode_pictures(vae.eval(), paths, side)
    states = encode_captions(text_encoder.eval(), tokenizer, captions)

    trained = add_lora(unet, options.rank, options.alpha or options.rank, options.seed)
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, fused=True)
    unet.train()
    for step in range(options.steps):
        positions = range(step * options.batch, (step + 1) * options.batch)
        batch = draw_batch(paths, captions, moments, states, positions, options.seed, options.flip)
        x0, noise, texts, uniform = batch
        each = losses(unet, scheduler, x0 * vae.config.scaling_factor, noise, texts, uniform)
        (each.sum() / options.batch).backward()
        # A list, not a generator: an exhausted generator clips nothing, and says nothing.
        torch.nn.utils.clip_grad_norm_(trained, options.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        yield sum(each.tolist()) / options.batch

    # Alpha is not among the weights: without this header readers take it to be the rank.
    header = unet.peft_config["default"].to_dict()
    layers = get_peft_model_state_dict(unet)
    StableDiffusionPipeline.save_lora_weights(options.out, layers, unet_lora_adapter_metadata=header)


def main():
    """Read the command line, train, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("base", help="a diffusers pipeline folder")
    parser.add_argument("pictures", help="a folder of pictures, each with a .txt beside it")
    parser.add_argument("--out", default="my-lora")
    for name, kind, default in (
        ("steps", int, 300), ("batch", int, 4), ("rank", int, 16), ("alpha", float, None), ("seed", int, 0),
        ("resolution", int, None), ("learning-rate", float, 1e-4), ("max-grad-norm", float, 1.0),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--flip", action="store_true", help="mirror half of the pictures")
    for step, loss in enumerate(train(parser.parse_args()), start=1):
        print(f"step {step}: loss {loss!r}")


if __name__ == "__main__":
    main()
