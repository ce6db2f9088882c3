"""The small typed values through which families, methods, sources, objectives and metrics meet.

Shape letters: B batch, C channels, H height, W width, T training timesteps.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from brushwork.settings import Sampling

Prediction = Literal["epsilon", "v_prediction", "flow"]
Guidance = Literal["free", "embedded", "renormed"]
"""How the guidance scale is followed: by a second prediction without the prompt (arXiv:2207.12598), by a number that
the denoiser is told, or as the first with every token brought back to the length it had before."""
Trained = Literal["denoiser", "text_encoder", "embeddings"]


class ImageBytes(Protocol):
    """An encoded image that can be read again and again, also in another process."""

    def read(self) -> bytes:
        """Return the encoded bytes (PNG, JPEG, ...)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One training example, light enough to hold by the million: the picture is read when it is needed.

    ``name`` says where it came from, for messages. ``extra`` holds what only some families and objectives understand:
    ``mask``, and ``rejected``, the picture that this one is preferred to (both ``ImageBytes``); ``preserved`` for a
    picture of the base's own drawing; ``original_size``, (width, height) in pixels before somebody made it smaller.
    """

    name: str
    image: ImageBytes
    caption: str
    weight: float = 1.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    """Further captions. Each time the picture is seen, one of all its captions is drawn."""

    @property
    def captions(self) -> tuple[str, ...]:
        """All captions, the first first."""
        return (self.caption, *self.others)


@dataclass(frozen=True)
class Prior:
    """Pictures that the base draws before training and is then trained on beside the data; see ``brushwork.prior``."""

    name: str
    prompts: tuple[str, ...]
    count: int
    weight: float
    key: str
    """The setting that it comes from, for messages."""
    folder: str | None = None
    """Where they lie; None: in the cache."""


class Source(Protocol):
    """Yields samples by index; the order and the augmentation are the loop's business."""

    def __len__(self) -> int:
        """Return how many samples there are."""

    def __getitem__(self, index: int) -> Sample:
        """Return one sample."""


@dataclass(frozen=True)
class Moments:
    """The VAE's posterior: mean and standard deviation, each (B, C, H, W), before scaling."""

    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser is told besides the noisy latents: named tensors, batch first. Opaque outside the family."""

    tensors: dict[str, Tensor]

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Conditioning:
        """Return a copy on a device, floating-point tensors in ``dtype``."""
        moved = {
            name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
            for name, value in self.tensors.items()
        }
        return Conditioning(moved)

    def told(self, **more: Tensor) -> Conditioning:
        """Return a copy that says more."""
        return Conditioning({**self.tensors, **more})

    def completed(self, other: Conditioning) -> Conditioning:
        """Return a copy that says what only the other says, too: of the same pictures, their size and crop."""
        return Conditioning({**other.tensors, **self.tensors})

    def rows(self, places: Tensor) -> Conditioning:
        """Return that of some of the samples, by their places in the batch (N,)."""
        return Conditioning({name: value[places.to(value.device)] for name, value in self.tensors.items()})

    @staticmethod
    def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
        """Join along the batch."""
        import torch

        return Conditioning({name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors})


@dataclass(frozen=True)
class ParameterGroup:
    """Named trainable parameters that share a learning rate; ``learning_rate`` None means the optimizer's."""

    name: str
    parameters: dict[str, nn.Parameter]
    learning_rate: float | None = None


@dataclass(frozen=True)
class Flow:
    """How a flow model counts noise: sigma from 0 (picture) to 1 (noise), x = (1 - sigma) x0 + sigma noise.

    ``shift`` s moves sigma to s sigma / (1 + (s - 1) sigma), nearer to noise where s > 1 (Esser et al. 2024,
    arXiv:2403.03206, equation 23). ``mu`` gives log s for a number of image tokens and of drawing steps instead.
    """

    shift: float = 1.0
    mu: Callable[[int, int], float] | None = None
    patch: int = 2
    """The side of a token, in latents."""
    sampling: Literal["uniform", "logit_normal"] = "uniform"
    """How sigma is chosen in training, before the shift."""
    even: bool = True
    """Whether drawing starts from evenly spaced sigmas, 1 to 1/steps; else from the scheduler's own."""


class Family(Protocol):
    """Knows one base architecture. Lives in ``families/<name>.py``, which also has ``recognises`` and ``load``.

    It may have ``encode_negative(captions)``, for texts to steer away from where they are encoded otherwise; ``draw``,
    where drawing is not for ``brushwork.denoise`` (see ``families/any_pipeline.py``); ``control``, what ControlNets
    are to it (see ``brushwork.controlnet.kinds``); and ``inference_only``, the reason why it cannot be trained.
    """

    name: str
    prediction: Prediction
    flow: Flow | None
    """Of a family that predicts the flow's velocity; None: it has ``alphas_cumprod``."""
    guidance: Guidance
    sampling: Sampling | None
    """How it is drawn unless somebody says otherwise; None: as any other."""
    reads_geometry: bool
    """Whether ``predict`` reads the conditioning's ``geometry``, (B, 6): the picture's height and width before it was
    resized, the crop's top and left, the crop's height and width."""
    pixels_per_latent: int
    size_multiple: int
    """A picture's sides are multiples of so many pixels."""
    latent_channels: int
    resolution: int
    """The side in pixels that the base was trained at."""
    fingerprint: str
    """A hash of the weights of all parts."""
    vae_fingerprint: str
    """A hash of what ``encode_images`` depends on."""
    text_fingerprint: str
    """A hash of what ``encode_text`` depends on."""
    alphas_cumprod: Tensor
    """(T,), float64 on the CPU; the schedule that the base was trained with, or what comes to the same in a flow."""
    scheduler_config: dict[str, Any]
    """The config of the scheduler that the base was shipped with."""
    denoiser: nn.Module
    denoiser_name: str
    """The denoiser's name in the pipeline: ``unet`` or ``transformer``."""
    text_encoders: dict[str, nn.Module]
    tokenizers: dict[str, Any]
    """Each text encoder's own, by the same name."""
    vae: nn.Module

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """Encode captions as the family's pipeline does."""

    def encode_images(self, pixels: Tensor) -> Moments:
        """Encode pixels (B, 3, H, W) in [-1, 1] to the posterior over unscaled latents."""

    def scale_latents(self, latents: Tensor) -> Tensor:
        """Bring unscaled latents to the scale that the denoiser works on."""

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode scaled latents to pixels (B, 3, H, W), about [-1, 1]."""

    def unread(self, caption: str) -> str:
        """Return the end of a caption that does not fit into the text encoder; "" when all of it does."""

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the denoiser on noisy latents (B, C, H, W) at timesteps (B,): integers, or 1000 sigma in a flow."""

    def pipeline(self) -> Any:
        """Return a diffusers pipeline around the same modules (nothing is copied)."""

    def save(self, folder: Path) -> None:
        """Write everything as a diffusers pipeline folder."""


class Method(Protocol):
    """Decides what is trained. Lives in ``methods/<name>.py`` beside its ``Config``."""

    trains: frozenset[Trained]
    artefact: str
    """What ``save`` makes: a file name, or "" for a pipeline folder."""
    updates_base: bool
    """Whether the base's own weights change (they are then kept in float32 under mixed precision)."""

    def attach(self, family: Family, seed: int) -> list[ParameterGroup]:
        """Prepare the family's modules for training (only the groups' parameters require gradients)."""

    def save(self, family: Family, folder: Path) -> None:
        """Write only what the method made, in the form that plain diffusers loads."""

    def disabled(self) -> AbstractContextManager[None]:
        """Within this context the family predicts as the untouched base."""


@dataclass(frozen=True)
class Task:
    """One micro-batch as an objective sees it. Shapes: latents and noise (B, C, H, W), uniform (B,)."""

    family: Family
    method: Method
    conditioning: Conditioning
    captions: Sequence[str]
    latents: Tensor
    """Clean scaled latents x0."""
    noise: Tensor
    """Standard normal."""
    uniform: Tensor
    """In [0, 1); decides each sample's timestep."""
    seeds: Sequence[int] = ()
    """One for each sample, for whatever else is random about it: ``seeds.derive(seed, "what for")``."""
    mask: Tensor | None = None
    """(B, 1, H, W) in [0, 1]: how much each latent pixel counts; None: all of them wholly."""
    preserved: Sequence[bool] = ()
    """Which samples are pictures of the base's own drawing, there to be kept as they are; empty: none."""
    rejected: Tensor | None = None
    """Clean scaled latents (B, C, H, W) of the pictures that these are preferred to; None: the data are no pairs."""
    numbers: dict[str, Tensor] = field(default_factory=dict)
    """For the objective to fill in: what it measured beside the loss, (B,) by name; logged as means over samples."""
    averaged: Callable[[], AbstractContextManager[None]] | None = None
    """Within it the trained weights are their moving average; None: there is none, or it is in place already."""

    def predict(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        """Run the denoiser on noisy latents (B, C, H, W) at timesteps (B,), under the samples' conditioning."""
        return self.family.predict(latents, timesteps, self.conditioning)

    @contextlib.contextmanager
    def base(self) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
        """Within this context the untouched base's ``predict``, without gradients; the method must train no texts."""
        import torch

        kind = self.latents.device.type
        # Autocast keeps the cast weights by the parameter, whose numbers may be others here: no cache.
        cast = torch.autocast(
            kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
        )
        with torch.no_grad(), cast, self.method.disabled():
            yield self.predict

    def rows(self, places: Sequence[int]) -> Task:
        """Return the task of some of its samples, by their places in the batch."""
        import torch

        at = torch.tensor(places, dtype=torch.long, device=self.latents.device)
        return replace(
            self,
            conditioning=self.conditioning.rows(at),
            captions=[self.captions[place] for place in places],
            latents=self.latents[at],
            noise=self.noise[at],
            uniform=self.uniform[at],
            seeds=[self.seeds[place] for place in places] if self.seeds else (),
            mask=None if self.mask is None else self.mask[at],
            preserved=[self.preserved[place] for place in places] if self.preserved else (),
        )


class Objective(Protocol):
    """Turns predictions into a loss per sample. Lives in ``objectives/<name>.py``.

    It may have ``prepare(family)``, called after loading, for training and for drawing with what was trained: to refuse
    a base, or to change its noise schedule. ``attach(config, family, method)`` is called after the method's, and only
    before training: to load what the loss needs, and to refuse a method. ``uses_masks = True`` says that it reads
    ``Task.mask``, ``uses_pairs`` that it needs ``Task.rejected``, ``uses_base`` that it predicts within
    ``Method.disabled``, ``comparable`` that the loss of a sample at fixed noise means the same from beginning to end,
    so that a state can be best. What it measures beside the loss it leaves in ``Task.numbers``. A ``Config`` with
    ``clip`` names the CLIP model that is optimised: evaluation marks its numbers. One with ``sampling`` says how what
    was trained wants to be drawn, unless the user says otherwise.
    """

    def losses(self, task: Task) -> Tensor:
        """Return the loss of each sample, shape (B,)."""
