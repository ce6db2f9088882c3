"""Noise other than plain: what is drawn for a sample depends on its own seed and on what it is drawn for, nothing else.

    noise = offset(task.noise, task.seeds, 0.1)

Shape letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

LEVELS = 10
"""Of the pyramid at most; a level of one pixel ends it before."""
PARALLEL = 1e-4
"""Sine of an angle below which two directions are one."""


def in_the_middle(small: Tensor, large: Tensor) -> Tensor:
    """Return ``large`` (C, H, W) with the middle of ``small`` (C, h, w) in its own middle; either may be the larger."""
    high, wide = (min(each) for each in zip(small.shape[-2:], large.shape[-2:], strict=True))

    def middle(whole: Tensor) -> Tensor:
        top, left = (whole.shape[-2] - high) // 2, (whole.shape[-1] - wide) // 2
        return whole[..., top : top + high, left : left + wide]

    result = large.clone()
    middle(result).copy_(middle(small))
    return result


def normal(seeds: Sequence[int], use: str, like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
    """Draw standard normal numbers for each sample, on the CPU, so that every device sees the same.

    Args:
        seeds: One for each sample.
        use: What they are for; another word gives other numbers.
        like: Gives type and device, and the shape if there is no other.
        shape: Of one sample.

    Returns:
        (B, *shape).
    """
    import torch

    size = tuple(like.shape[1:] if shape is None else shape)
    generators = (torch.Generator().manual_seed(derive(seed, use)) for seed in seeds)
    return torch.stack([torch.randn(size, generator=generator) for generator in generators]).to(like)


def offset(noise: Tensor, seeds: Sequence[int], strength: float) -> Tensor:
    """Shift each channel of each sample's noise (B, C, H, W) by a normal number times ``strength``.

    Plain noise hardly touches a picture's mean, so a model never learns to change it (N. Guttenberg, "Diffusion with
    offset noise", 2023).
    """
    return noise + strength * normal(seeds, "offset", noise, (noise.shape[1], 1, 1))


def pyramid(noise: Tensor, seeds: Sequence[int], discount: float) -> Tensor:
    """Add ever coarser noise to (B, C, H, W), each level times ``discount`` once more; keep the deviation at 1.

    J. Whitaker, "Multi-resolution noise for diffusion model training", 2023: level i is drawn at 1 / r^i of the size,
    r anew in [2, 4), and enlarged bilinearly.
    """
    import torch

    return torch.stack([_pyramid(each, seed, discount) for each, seed in zip(noise, seeds, strict=True)])


def _pyramid(noise: Tensor, seed: int, discount: float) -> Tensor:
    import torch
    from torch.nn.functional import interpolate

    generator = torch.Generator().manual_seed(derive(seed, "pyramid"))
    channels, height, width = noise.shape
    total = noise
    for level in range(LEVELS):
        ratio = 2 + 2 * float(torch.rand((), generator=generator))
        size = (max(1, int(height / ratio**level)), max(1, int(width / ratio**level)))
        drawn = torch.randn((1, channels, *size), generator=generator).to(noise)
        total = total + discount**level * interpolate(drawn, (height, width), mode="bilinear")[0]
        if 1 in size:
            break
    return total / total.std()


def perturbed(noise: Tensor, seeds: Sequence[int], strength: float) -> Tensor:
    """Return noise (B, C, H, W) with more of it, to be mixed into the input only.

    The target stays as it was: the model meets at training the errors that sampling will feed it (Ning et al. 2023,
    arXiv:2301.11706, algorithm 1).
    """
    return noise + strength * normal(seeds, "perturbation", noise)


def slerp(low: Tensor, high: Tensor, fraction: float) -> Tensor:
    """Turn noise (C, H, W) towards other noise by a fraction of the angle, each column by itself, as A1111 does.

    A mean of the two would have too little variance; on the way between two directions (Shoemake 1985) lengths of
    independent noise are kept: a = angle, (sin((1 - f) a) low + sin(f a) high) / sin a.
    """
    import torch

    norms = low.norm(dim=1, keepdim=True) * high.norm(dim=1, keepdim=True)
    cosine = ((low * high).sum(1, keepdim=True) / norms).clamp(-1, 1)
    angle = torch.acos(cosine.double())
    sine = torch.sin(angle)
    first, second = torch.sin((1 - fraction) * angle), torch.sin(fraction * angle)
    together = sine < PARALLEL
    safe = torch.where(together, torch.ones_like(sine), sine)
    first = torch.where(together, torch.full_like(sine, 1 - fraction), first / safe)
    second = torch.where(together, torch.full_like(sine, fraction), second / safe)
    return (first * low + second * high).to(low.dtype)
