"""What base and tuned predict on the same noisy latents, as features of the metric `noise_drift`.

    for drawn in sets(subject, planned, folder):
        drawn.base, drawn.tuned                 # (P, BINS, 2): lengths and distances of predictions

x0 is the base's own picture of each prompt (its first seed), through the base's VAE; the noise is drawn from a seed of
its own for each prompt and timestep; timesteps lie in the middle of equal bins. Both models get the very same x_t. A
model that was given another noise schedule gets the timestep of its schedule whose noise is the nearest.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brushwork import features, mask_channels, predictions
from brushwork.metrics import Drawn
from brushwork.progress import bar, note
from brushwork.runs import replacing
from brushwork.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from brushwork.evaluate.subjects import Subject
    from brushwork.metrics import PromptSet
    from brushwork.pairs import Plan
    from brushwork.values import Family, Prediction

NEEDS = "predictions"
BINS = 4
BATCH = 8
NAME, REVISION = "the models' own predictions", "1"
PREPROCESSING = "pictures as the model encodes them, one noise for each timestep"


def sets(subject: Subject, planned: Plan, folder: Path) -> list[Drawn]:
    """Return the features of the sets that do not ask for what was learnt; empty when the two cannot be compared."""
    asked = [each for each in planned.prompt_sets if each[0] != "target"]
    if not asked:
        return []
    prompts = [text for _, shown, _ in asked for text in shown]
    first = [folder / "base" / name for _, _, names in asked for name in names[:: planned.seeds]]
    seed = subject.config.validation.seed
    key = _key(subject, prompts, first, seed)
    known = _known(folder, key) or _compare(subject, prompts, first, seed)
    if known is None:
        return []
    if key is not None:
        _keep(folder, key, known)
    lengths, distances = known
    base = np.stack([lengths, np.zeros_like(lengths)], axis=-1)
    tuned = np.stack([lengths, distances], axis=-1)
    return _split(asked, base, tuned, seed)


def _split(
    asked: Sequence[tuple[PromptSet, tuple[str, ...], list[str]]],
    base: NDArray[np.float64], tuned: NDArray[np.float64], seed: int,
) -> list[Drawn]:  # fmt: skip
    drawn, at = [], 0
    for name, shown, _ in asked:
        rows = slice(at, at + len(shown))
        about = (NAME, REVISION, seed)
        drawn.append(Drawn(shown, name, base[rows], tuned[rows], None, None, *about, preprocessing=PREPROCESSING))
        at += len(shown)
    return drawn


@dataclass(frozen=True)
class _Levels:
    """The noise of each timestep bin, from little to much: x_t = signal x0 + sigma noise."""

    signal: Tensor
    sigma: Tensor
    timesteps: Tensor

    @staticmethod
    def of(family: Family) -> _Levels:
        """Return those of a family: of its schedule, or of a flow, which counts 1000 sigma."""
        import torch

        middles = (torch.arange(BINS) + 0.5) / BINS
        if family.prediction == "flow":
            return _Levels(1 - middles, middles, 1000 * middles)
        times = (middles * len(family.alphas_cumprod)).long()
        a = family.alphas_cumprod[times]
        return _Levels(a.sqrt().float(), (1 - a).sqrt().float(), times)

    def seen_by(self, family: Family) -> Tensor:
        """Return the timesteps (BINS,) at which a family has the same noise, or nearly."""
        import torch

        if family.prediction == "flow":
            return self.timesteps
        own = family.alphas_cumprod.sqrt().float()
        return torch.stack([(own - signal).abs().argmin() for signal in self.signal])


def _compare(
    subject: Subject, prompts: Sequence[str], pictures: Sequence[Path], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the lengths of the base's predictions and the distances of the tuned one's from them, (P, BINS) each."""
    base = subject.open_base().family
    levels, spoken = _Levels.of(base), base.prediction
    noisy = _noisy(base, prompts, pictures, levels, seed)
    before = _predict(base, prompts, noisy, levels)
    del base
    gc.collect()  # two models at once may be more than the device holds
    tuned = subject.open_tuned().family
    same_kind = tuned.prediction == spoken or "flow" not in (tuned.prediction, spoken)
    if not same_kind or _latent_shape(tuned, pictures[0]) != noisy.shape[2:]:
        note("noise_drift is not measured: the two models do not denoise the same latents in the same way")
        return None
    after = _predict(tuned, prompts, noisy, levels)
    if tuned.prediction != spoken:  # then in the words that both have: the noise
        before, after = _noise_in(before, noisy, levels, spoken), _noise_in(after, noisy, levels, tuned.prediction)
    lengths = before.double().flatten(2).norm(dim=2)
    return lengths.numpy(), (after - before).double().flatten(2).norm(dim=2).numpy()


def _noisy(family: Family, prompts: Sequence[str], pictures: Sequence[Path], levels: _Levels, seed: int) -> Tensor:
    """Return x_t, (P, BINS, C, H, W) on the CPU."""
    import torch

    rows = []
    for text, path in zip(prompts, pictures, strict=True):
        clean = _clean(family, path)
        generators = (torch.Generator().manual_seed(derive(seed, "noise drift", text, place)) for place in range(BINS))
        noise = torch.stack([torch.randn(clean.shape, generator=each) for each in generators])
        signal, sigma = (each.view(-1, *[1] * clean.ndim) for each in (levels.signal, levels.sigma))
        rows.append(signal * clean + sigma * noise)
    return torch.stack(rows)


def _clean(family: Family, path: Path) -> Tensor:
    """Return a picture's scaled latents, (C, H, W), float32 on the CPU."""
    import torch

    weight = next(family.vae.parameters())
    with torch.inference_mode():
        moments = family.encode_images(_pixels(path).to(weight.device, weight.dtype))
        return family.scale_latents(moments.mean)[0].float().cpu()


def _latent_shape(family: Family, path: Path) -> tuple[int, ...]:
    return tuple(_clean(family, path).shape)


def _pixels(path: Path) -> Tensor:
    """Return a picture as (1, 3, H, W) in [-1, 1]."""
    import torch
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]


def _predict(family: Family, prompts: Sequence[str], noisy: Tensor, levels: _Levels) -> Tensor:
    """Return predictions, (P, BINS, C, H, W), float32 on the CPU."""
    import torch

    weight = next(family.denoiser.parameters())
    times, flat, said = levels.seen_by(family).to(weight.device), noisy.flatten(0, 1), []
    with torch.inference_mode(), bar("noise predictions", len(flat)) as advance:
        size = (noisy.shape[-2], noisy.shape[-1])
        conditioning = mask_channels.all_masked(family, family.encode_text(list(prompts)), size)
        for first in range(0, len(flat), BATCH):
            places = torch.arange(first, min(first + BATCH, len(flat)))
            batch = flat[places].to(weight.device, weight.dtype)
            at = times[(places % BINS).to(weight.device)]
            said.append(family.predict(batch, at, conditioning.rows(places // BINS)).float().cpu())
            advance(len(places))
    return torch.cat(said).reshape(noisy.shape)


def _noise_in(predicted: Tensor, noisy: Tensor, levels: _Levels, kind: Prediction) -> Tensor:
    """Return the noise that predictions (P, BINS, C, H, W) imply."""
    a = (levels.signal**2).repeat(len(noisy))
    return predictions.split(predicted.flatten(0, 1), noisy.flatten(0, 1), a, kind)[1].reshape(noisy.shape)


def _key(subject: Subject, prompts: Sequence[str], pictures: Sequence[Path], seed: int) -> str | None:
    """Return what the numbers depend on; None where it is not known which weights are compared."""
    from PIL import Image

    if subject.base_key is None or subject.tuned_key is None:
        return None
    hashes = []
    for path in pictures:
        with Image.open(path) as image:
            hashes.append(features.image_hash(image))
    return repr((REVISION, BINS, subject.base_key, subject.tuned_key, list(prompts), hashes, seed))


def _known(folder: Path, key: str | None) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return what was measured before on the same pictures by the same weights."""
    path = folder / "features" / "predictions.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        return (stored["lengths"], stored["distances"]) if str(stored["key"]) == key else None


def _keep(folder: Path, key: str, known: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    path = folder / "features" / "predictions.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, key=np.array(key), lengths=known[0], distances=known[1])
