"""Train the VAE (AutoencoderKL, f4, four channels), then its decoder alone.

python -m embedded.vae --minutes 20                       # whole VAE, resumes from scratch/vae.pt
python -m embedded.vae --minutes 20 --decoder-only        # the encoder stays as it is: latents stay valid
"""

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedded.speed import device, restart_with_malloc

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

CHANNELS = (32, 64, 96)


def new_vae(channels: tuple[int, ...] = CHANNELS) -> "AutoencoderKL":
    """Return the untrained VAE with the initialisation without which it does not learn (see README.md)."""
    from diffusers import AutoencoderKL

    blocks = len(channels)
    vae = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        mid_block_add_attention=False,
    )
    initialise(vae)
    return vae


def initialise(vae: "AutoencoderKL") -> None:
    """Weights N(0, 1/fan_in), biases 0, second convolution of each residual block 0, small ends, small variance."""
    import torch
    from torch import nn

    with torch.no_grad():
        for name, module in vae.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
                nn.init.zeros_(module.bias)
            if name.endswith(".conv2"):
                nn.init.zeros_(module.weight)
        vae.decoder.conv_out.weight.mul_(0.5)
        vae.quant_conv.bias[4:] = -6.0
        vae.quant_conv.weight[4:].mul_(0.1)


def loss_of(output: "torch.Tensor", target: "torch.Tensor", squares: float = 2.0) -> "torch.Tensor":
    """L1 + MSE (times ``squares``) + L1 of the horizontal and vertical gradients."""
    error = output - target
    gradients = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + squares * error.square().mean() + 0.5 * gradients


class Pictures:
    """Random batches of crops or whole pictures in [-1, 1]."""

    def __init__(self, work: Path, shares: tuple[float, ...] = (0.52, 0.24, 0.10, 0.07, 0.07)) -> None:
        """Map the stored pictures."""
        import numpy as np

        self.pixels = np.load(work / "vae.npy", mmap_mode="r")
        kinds = np.load(work / "vae-kinds.npy")
        self.groups = [np.flatnonzero(kinds == k) for k in range(len(shares))]
        self.shares, self.rng = shares, np.random.default_rng()

    def batch(self, count: int, side: int) -> "torch.Tensor":
        """Return `count` crops of side x side."""
        import numpy as np
        import torch

        rows = []
        for kind in self.rng.choice(len(self.shares), count, p=self.shares):
            picture = self.pixels[self.rng.choice(self.groups[kind])]
            y, x = self.rng.integers(0, 65 - side, 2) // 4 * 4
            crop = picture[y : y + side, x : x + side]
            rows.append(crop[:, ::-1] if self.rng.random() < 0.5 else crop)
        pixels = torch.from_numpy(np.stack(rows).copy()).permute(0, 3, 1, 2)
        return pixels.to(device()).float().div_(127.5).sub_(1).to(memory_format=torch.channels_last)


def psnr(vae: "AutoencoderKL", work: Path) -> dict[str, float]:
    """Return dB per kind of unseen picture, each picture's value averaged."""
    import numpy as np
    import torch

    from embedded.pictures_for_vae import KINDS

    pixels, kinds = np.load(work / "vae-test.npy"), np.load(work / "vae-test-kinds.npy")
    values: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with torch.no_grad():
        for start in range(0, len(pixels), 32):
            batch = torch.from_numpy(pixels[start : start + 32]).permute(0, 3, 1, 2).to(device()).float() / 127.5 - 1
            output = vae.decode(vae.encode(batch).latent_dist.mode()).sample.float().clamp(-1, 1)
            errors = ((output - batch) / 2).square().mean((1, 2, 3))
            for error, kind in zip(errors.tolist(), kinds[start : start + 32], strict=True):
                values[KINDS[kind]].append(-10 * math.log10(error))
    return {kind: round(float(np.mean(v)), 2) for kind, v in values.items()}


def train(options: argparse.Namespace, work: Path) -> None:
    """Train for so many minutes, decaying to zero at the end (cosine over the last half)."""
    import torch

    from embedded.muon import Muon

    torch.set_num_threads(options.threads)
    vae = new_vae(tuple(options.channels))
    path = work / f"{options.name}.pt"
    seen = 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        vae.load_state_dict(state["vae"])
        seen = state["seen"]
    vae.to(device(), memory_format=torch.channels_last)
    if options.decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    named = [(n, p) for n, p in vae.named_parameters() if p.requires_grad]
    if options.optimizer == "muon":
        optimizer: torch.optim.Optimizer = Muon(named, lr=options.lr, adam_lr=options.adam_lr)
    else:
        optimizer = torch.optim.AdamW([p for _, p in named], lr=options.adam_lr, betas=(0.9, 0.99), weight_decay=0)
        optimizer.param_groups[0]["peak"] = options.adam_lr
    pictures, start, step, mean = Pictures(work), time.time(), 0, 0.0
    while (share := (time.time() - start) / (60 * options.minutes)) < 1:
        rate = min(1.0, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * max(0.0, 2 * share - 1)))
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        whole = step % 4 == 3
        batch = pictures.batch(options.batch // 4 if whole else options.batch, 64 if whole else 32)
        loss = _step(vae, batch, options.decoder_only, options.squares)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimizer.step()
        step, seen = step + 1, seen + len(batch)
        mean = loss.item() if step == 1 else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"{time.time() - start:6.0f}s step {step} seen {seen} loss {mean:.4f} lr x{rate:.2f}", flush=True)
        if step % 500 == 0:
            _save(vae, seen, path)
    _save(vae, seen, path)
    print(psnr(vae, work), flush=True)


def _step(vae: "AutoencoderKL", batch: "torch.Tensor", decoder_only: bool, squares: float) -> "torch.Tensor":
    import torch

    with torch.autocast(device(), torch.bfloat16):
        with torch.set_grad_enabled(not decoder_only):
            posterior = vae.encode(batch).latent_dist
        output = vae.decode(posterior.sample()).sample
    loss = loss_of(output.float(), batch, squares)
    if not decoder_only:
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        loss = loss + 5e-4 * kl
    return loss


def _save(vae: "AutoencoderKL", seen: int, path: Path) -> None:
    import torch

    state: dict[str, Any] = {"vae": {k: v.contiguous() for k, v in vae.state_dict().items()}, "seen": seen}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--decoder-only", action="store_true")
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--channels", type=int, nargs="+", default=list(CHANNELS))
    parser.add_argument("--squares", type=float, default=2.0, help="weight of the squared error, which PSNR measures")
    parser.add_argument("--name", default="vae")
    from embedded.paths import WORK

    train(parser.parse_args(), WORK)


if __name__ == "__main__":
    restart_with_malloc()
    main()
