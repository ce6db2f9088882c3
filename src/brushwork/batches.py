"""What the loop is fed: which samples, in which order, with which noise.

Sample number p of a run (counted over all steps) determines everything random about it: its place in the shuffled
order, its flip and crop, its noise and its timestep. So batches do not depend on loader workers or on how a step is
split into micro-batches, and resuming is starting to count elsewhere.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork.processes import join
from brushwork.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from torch import Tensor

    from brushwork.config import Config
    from brushwork.encoding import Encoder, Pictures
    from brushwork.values import Conditioning, Sample


@dataclass(frozen=True)
class Batch:
    """One micro-batch on the training device. Shapes: latents and noise (B, C, H, W), uniform and weights (B,)."""

    names: list[str]
    captions: list[str]
    conditioning: Conditioning | None
    latents: Tensor
    noise: Tensor
    uniform: Tensor
    weights: Tensor
    seeds: list[int]
    mask: Tensor | None = None
    preserved: tuple[bool, ...] = ()
    """Which samples the base drew itself; empty: none."""
    rejected: Tensor | None = None
    """(B, C, H, W): the latents of the pictures that these are preferred to."""
    told: Mapping[str, Tensor] = field(default_factory=dict)
    """What the denoiser is told besides the captions."""

    def conditioned(self, text: Conditioning) -> Conditioning:
        """Return what the denoiser is told, text and the rest."""
        return text.told(**self.told)


class Examples:
    """A map-style torch data set over sample numbers, so that loader workers can decode ahead."""

    def __init__(self, pictures: Pictures, seed: int) -> None:
        self.pictures, self.seed = pictures, seed
        self.data = pictures.data

    def index(self, position: int) -> int:
        """Return which sample of the source is seen as number ``position``."""
        epoch, place = divmod(position, len(self.data.train))
        return self.data.train[self._order(epoch)[place]]

    @functools.lru_cache(maxsize=2)  # noqa: B019  (lives as long as the run)
    def _order(self, epoch: int) -> list[int]:
        import torch

        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        return torch.randperm(len(self.data.train), generator=generator).tolist()

    def sample(self, position: int) -> Sample:
        """Return the sample seen as number ``position``."""
        return self.data.source[self.index(position)]

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return the pixels, or the cached moments, with everything random about them decided."""
        import torch

        index = self.index(position)
        generator = torch.Generator().manual_seed(derive(self.seed, "augment", position))
        chance, x, y = torch.rand(3, generator=generator).tolist()
        flip = self.pictures.settings.random_flip and chance < 0.5  # noqa: PLR2004
        sample = self.data.source[index]
        caption = "" if self._drops_caption(position) else self._caption(position, sample)
        example: dict[str, Any] = {"position": position, "name": sample.name, "caption": caption}
        example["preserved"] = bool(sample.extra.get("preserved", False))
        random_xy = None if self.pictures.settings.center_crop else (x, y)
        if "mask" in sample.extra:
            example["mask"] = self.pictures.mask(index, flip=flip, random_xy=random_xy)
        example["geometry"] = self.pictures.geometry(index, flip=flip, random_xy=random_xy)
        for prefix, side in self.pictures.sides.items():  # both pictures of a pair are mirrored and cropped alike
            if self.pictures.store:
                found = self.pictures.store.get(self.pictures.key(index, flip=flip, rejected=side))
            else:
                pixels = self.pictures.pixels(index, flip=flip, random_xy=random_xy, rejected=side)
                found = {"pixels": pixels}
            example |= {f"{prefix}{name}": tensor for name, tensor in found.items()}
        return example

    def _caption(self, position: int, sample: Sample) -> str:
        if not sample.others:
            return sample.caption
        return sample.captions[derive(self.seed, "which caption", position) % len(sample.captions)]

    def _drops_caption(self, position: int) -> bool:
        return derive(self.seed, "caption", position) < self.pictures.settings.caption_dropout * 2**63


def batches(examples: Examples, encoder: Encoder, config: Config, start: int, stop: int) -> Iterator[Batch]:
    """Yield this process's micro-batches of the samples numbered ``start`` to ``stop``."""
    import torch

    loader: torch.utils.data.DataLoader[dict[str, Any]] = torch.utils.data.DataLoader(
        examples,  # type: ignore[arg-type]
        batch_sampler=join().micro_batches(start, stop, config.train.batch),  # type: ignore[arg-type]
        num_workers=config.train.dataloader_num_workers,
        collate_fn=_list,
        pin_memory=encoder.device.startswith("cuda"),
        generator=torch.Generator(),
    )
    for rows in loader:
        yield collate(rows, examples, encoder)


def _list(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows


def collate(rows: Sequence[dict[str, Any]], examples: Examples, encoder: Encoder) -> Batch:
    """Draw latents from their posterior, noise and timesteps, each from its sample's own generator."""
    import torch

    moments = {prefix: _moments(rows, prefix, encoder) for prefix in examples.pictures.sides}
    shape = moments[""]["mean"].shape[1:]
    draws, noises, uniforms = [], [], []
    seeds = [derive(examples.seed, "noise", row["position"]) for row in rows]
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        draws.append(torch.randn(shape, generator=generator))
        noises.append(torch.randn(shape, generator=generator))
        uniforms.append(torch.rand((), generator=generator))
    captions = [row["caption"] for row in rows]
    # The two pictures of a pair share the draw too: what they have in common cannot be preferred.
    draw = torch.stack(draws).to(encoder.device)
    latents = {name: encoder.family.scale_latents(each["mean"] + each["std"] * draw) for name, each in moments.items()}
    weights = torch.tensor([examples.sample(row["position"]).weight for row in rows])
    return Batch(
        names=[row["name"] for row in rows],
        captions=captions,
        conditioning=encoder.conditioning(captions) if encoder.cache_text else None,
        latents=latents[""],
        noise=torch.stack(noises).to(encoder.device),
        uniform=torch.stack(uniforms).to(encoder.device),
        weights=weights.to(encoder.device),
        seeds=seeds,
        mask=_masks([row.get("mask") for row in rows], encoder.device),
        preserved=tuple(row["preserved"] for row in rows),
        rejected=latents.get("rejected_"),
        told=_geometry([row["geometry"] for row in rows], encoder.device),
    )


def _moments(rows: Sequence[dict[str, Any]], prefix: str, encoder: Encoder) -> dict[str, Tensor]:
    """Return mean and standard deviation, each (B, C, H, W), of the pictures under a prefix; encode what is not yet."""
    import torch

    if f"{prefix}pixels" in rows[0]:
        return encoder.encode(torch.stack([row[f"{prefix}pixels"] for row in rows]))
    return {name: torch.stack([row[f"{prefix}{name}"] for row in rows]).to(encoder.device) for name in ("mean", "std")}


def _masks(masks: Sequence[Tensor | None], device: str) -> Tensor | None:
    """Stack masks (1, H, W); a sample without one counts everywhere."""
    import torch

    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    return torch.stack([torch.ones_like(given[0]) if mask is None else mask for mask in masks]).to(device)


def _geometry(rows: Sequence[Tensor | None], device: str) -> dict[str, Tensor]:
    """Stack sizes and crops (6,), if the family reads them."""
    import torch

    given = [row for row in rows if row is not None]
    return {"geometry": torch.stack(given).to(device)} if given else {}


def held_out_pictures(encoder: Encoder, config: Config) -> list[str]:
    """Return the digest of the picture of each sample that ``held_out_batches`` yields, in its order."""
    looked_at, slots = encoder.data.held_out[: config.validation.loss_images], config.validation.loss_timesteps
    return [encoder.data.digests[index] for index in looked_at for _ in range(slots)]


def held_out_batches(encoder: Encoder, config: Config) -> Iterator[Batch]:
    """Yield the held-out samples at fixed noise and evenly spaced timesteps: the same in every call."""
    import torch

    validation, pictures = config.validation, encoder.pictures
    rows = []
    for index in encoder.data.held_out[: validation.loss_images]:
        sample = encoder.data.source[index]
        means = {prefix: _mean(encoder, index, rejected=side) for prefix, side in pictures.sides.items()}
        mask = pictures.mask(index, flip=False) if "mask" in sample.extra else None
        geometry = pictures.geometry(index, flip=False)
        for slot in range(validation.loss_timesteps):
            seed = derive(config.seed, "validation", encoder.data.digests[index], slot)
            noise = torch.randn(means[""].shape, generator=torch.Generator().manual_seed(seed))
            rows.append((sample, means, noise, (slot + 0.5) / validation.loss_timesteps, seed, mask, geometry))
    size = config.train.batch
    for part in (rows[first : first + size] for first in range(0, len(rows), size)):
        captions = [sample.caption for sample, *_ in part]
        latents = {
            prefix: encoder.family.scale_latents(
                torch.stack([means[prefix] for _, means, *_ in part]).to(encoder.device)
            )
            for prefix in pictures.sides
        }
        yield Batch(
            names=[sample.name for sample, *_ in part],
            captions=captions,
            conditioning=encoder.conditioning(captions) if encoder.cache_text else None,
            latents=latents[""],
            noise=torch.stack([noise for _, _, noise, *_ in part]).to(encoder.device),
            uniform=torch.tensor([slot for *_, slot, _, _, _ in part], device=encoder.device),
            weights=torch.tensor([sample.weight for sample, *_ in part], device=encoder.device),
            seeds=[seed for *_, seed, _, _ in part],
            mask=_masks([mask for *_, mask, _ in part], encoder.device),
            told=_geometry([geometry for *_, geometry in part], encoder.device),
            rejected=latents.get("rejected_"),
        )


def _mean(encoder: Encoder, index: int, *, rejected: bool) -> Tensor:
    """Return the mean latents (C, H, W) of one picture, not mirrored, on the CPU."""
    pictures = encoder.pictures
    if pictures.store:
        return pictures.store.get(pictures.key(index, flip=False, rejected=rejected))["mean"]
    return encoder.encode(pictures.pixels(index, flip=False, rejected=rejected)[None], squeeze=True)["mean"].cpu()
