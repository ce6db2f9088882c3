"""Noise-prediction drift: how differently base and tuned denoise the same noisy latents. No evaluator is asked.

    E ||tuned(x_t, t, c) - base(x_t, t, c)||^2 / E ||base(x_t, t, c)||^2

on fixed draws of x0, c, t and noise, over prompts and by timestep: the quantity that drift correction regularises
(arXiv:2410.14159). 0 means that nothing changed for these prompts: an adapter of weight 0, or a new word that they do
not contain. High timesteps decide what a picture shows, low ones how it is drawn.

Its features are a summary of predictions that keeps their lengths and distances: the base's is (|b|, 0), the tuned
one's (|b|, |t - b|). See ``brushwork.evaluate.predicted``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.metrics import Kind, estimate

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "predictions"
KIND = Kind("noise_drift", "1", "lower")
ASKS = "content or held-out prompts, and two models that denoise the same latents"


def measure(drawn: Drawn) -> list[Result]:
    """Measure sets that do not ask for what was learnt; seeds are timestep bins here, from little noise to much."""
    if drawn.prompt_set == "target":
        return []
    base, tuned = drawn.base.astype(np.float64), drawn.tuned.astype(np.float64)
    moved, length = ((tuned - base) ** 2).sum(axis=-1), (base**2).sum(axis=-1)
    if not length.sum():
        return []
    relative = moved / length.mean()
    bins = [float(m / b) if b else None for m, b in zip(moved.mean(axis=0), length.mean(axis=0), strict=True)]
    rows = [
        {"prompt": prompt, "drift": float(each)}
        for prompt, each in zip(drawn.prompts, relative.mean(axis=1), strict=True)
    ]
    return [drawn.result(KIND, "ratio", estimate(relative, drawn.seed), bins=bins, prompts=rows)]
