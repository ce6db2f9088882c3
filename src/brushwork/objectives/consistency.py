"""Latent consistency distillation: the tuned model learns to jump to where the base's own path would lead.

One step of the base from x_t towards the picture, with guidance, gives x_s; the tuned model shall say the same of both
(Luo et al. 2023, arXiv:2310.04378, algorithm 1; into a LoRA: arXiv:2311.05556):

    f(x, t) = c_skip(t) x + c_out(t) x0(x, t)
    loss = d(f(x_t, t), f'(x_s, s)),  x_s = DDIM(x_t, t -> s)

f' takes no gradient. The guidance, drawn anew for each sample, is taken in by the weights: there is no embedding of it,
so the base's architecture stays as it is, and no second pass is needed to draw.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from brushwork import distances, predictions
from brushwork.config import PluginSettings
from brushwork.errors import ConfigError
from brushwork.seeds import derive
from brushwork.settings import Sampling
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from brushwork.config import Config as WholeConfig
    from brushwork.values import Family, Method, Task

SIGMA_DATA = 0.5
"""The deviation of the data in c_skip and c_out; LCMScheduler's, whatever the model."""
GRID = 50
"""LCMScheduler's ``original_inference_steps``: its timesteps are among so many evenly spaced ones."""


class Config(PluginSettings):
    """Settings of latent consistency distillation."""

    type: Literal["consistency"] = "consistency"
    skipped_steps: PositiveInt = Field(
        20, description="How many timesteps one step of the base passes (the paper's k)."
    )
    guidance_scale_min: PositiveFloat = Field(
        3.0, description="The base is guided by at least so much (usual CFG; the papers' w is one less)."
    )
    guidance_scale_max: PositiveFloat = Field(8.0, description="And at most so much; equal to the least: always.")
    target: Literal["student", "average"] = Field(
        "student", description="What is aimed at: the tuned model itself, or its average (needs train.use_ema)."
    )
    loss: Literal["huber", "l2"] = Field("huber", description="The error: pseudo-Huber or squared.")
    huber_c: PositiveFloat = Field(0.001, description="Above about this error Huber's grows only linearly.")
    timestep_scaling: PositiveFloat = Field(
        10.0, description="How fast the boundary condition fades with the timestep; samplers assume 10."
    )
    sampler: Literal["LCM", "TCD"] = Field("LCM", description="What the tuned model is drawn with, unless asked.")
    num_inference_steps: PositiveInt = Field(4, description="In so many steps.")
    guidance_scale: NonNegativeFloat = Field(
        1.0, description="With so much guidance on top of what it has learnt; 1: none, half the work."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.guidance_scale_min > self.guidance_scale_max:
            message = (
                f"guidance_scale_min is {self.guidance_scale_min:g} but guidance_scale_max is only "
                f"{self.guidance_scale_max:g}"
            )
            raise ValueError(message)
        if self.loss == "l2" and self.huber_c != type(self).model_fields["huber_c"].default:
            message = "loss is l2, so huber_c cannot apply"
            raise ValueError(message)
        if self.num_inference_steps > GRID:
            message = f"num_inference_steps is {self.num_inference_steps}, but {self.sampler} has at most {GRID}"
            raise ValueError(message)
        return self

    @property
    def sampling(self) -> Sampling:
        """How the tuned model is drawn."""
        return Sampling(self.sampler, self.num_inference_steps, self.guidance_scale)

    def build(self) -> Consistency:
        """Build the objective."""
        return Consistency(self)


class Consistency:
    """The distance between what the tuned model says at two points of one of the base's paths."""

    uses_base = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self._empty: Conditioning | None = None

    def prepare(self, family: Family) -> None:
        """Check that the objective fits the base.

        Raises:
            ConfigError: The base predicts something else, or its schedule cannot be divided so.
        """
        if family.prediction not in ("epsilon", "v_prediction"):
            message = (
                f"objective: consistency distillation wants a base of epsilon or v_prediction; this one predicts "
                f"{family.prediction}."
            )
            raise ConfigError(message)
        spacing = len(family.alphas_cumprod) // GRID
        if spacing % self.config.skipped_steps:
            fitting = ", ".join(str(each) for each in range(1, spacing + 1) if spacing % each == 0)
            message = (
                f"objective.skipped_steps is {self.config.skipped_steps}, but the samplers' timesteps are {spacing} "
                f"apart and must be among the trained ones. Take one of {fitting}."
            )
            raise ConfigError(message)

    def attach(self, config: WholeConfig, family: Family, method: Method) -> None:  # noqa: ARG002  (the protocol's)
        """Refuse a method whose base cannot be asked, and an average that is not kept.

        Raises:
            ConfigError: The method changes what texts mean, keeps no base, or keeps no average.
        """
        changed = sorted(method.trains - {"denoiser"})
        if changed:
            message = (
                f"objective: consistency distillation asks the untouched base about the same texts, but this method "
                f"changes what they mean: it trains {' and '.join(changed)}. Train the denoiser only."
            )
            raise ConfigError(message)
        if self.config.target == "average" and not config.train.use_ema:
            message = (
                "objective.target is average, but none is kept. Set train.use_ema=true or objective.target=student."
            )
            raise ConfigError(message)
        with method.disabled():  # one that lacks a setting for it says so now
            pass

    def losses(self, task: Task) -> Tensor:
        """Return the loss of each sample, shape (B,)."""
        schedule = task.family.alphas_cumprod.to(task.latents.device)
        start, end = self._interval(task.uniform, len(schedule))
        noisy = predictions.mix(task.latents, task.noise, schedule[start])
        # Base and target first: both may borrow the place of the weights that the gradient will be taken of.
        with _apart(task.latents):
            earlier = self._solve(task, noisy, start, end, schedule)
            average = task.averaged if self.config.target == "average" else None
            with average() if average else contextlib.nullcontext():
                target = self._jump(task, earlier, end, schedule)
        errors = distances.squared(self._jump(task, noisy, start, schedule), target)
        if self.config.loss == "huber":
            errors = (errors + self.config.huber_c**2).sqrt() - self.config.huber_c
        return distances.per_sample(errors, None)

    def _interval(self, uniform: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """Return where each sample's path is looked at, (B,) each: t of k - 1, 2k - 1, ... and s = t - k or 0."""
        width = self.config.skipped_steps
        count = total // width
        start = ((uniform * count).long().clamp_(max=count - 1) + 1) * width - 1
        return start, (start - width).clamp(min=0)

    def _solve(self, task: Task, noisy: Tensor, start: Tensor, end: Tensor, schedule: Tensor) -> Tensor:
        """Return the guided base's DDIM step from ``start`` to ``end`` (Song et al. 2020, arXiv:2010.02502, eq. 12)."""
        import torch

        both = Conditioning.concatenate([self._unconditional(task), task.conditioning])
        with task.method.disabled():
            said = task.family.predict(torch.cat([noisy, noisy]), torch.cat([start, start]), both)
        without, within = said.float().chunk(2)
        scale = self._guidance(task).to(noisy).view(-1, 1, 1, 1)
        # Clean latents and noise are linear in the prediction, so to guide it is to guide both, as in section 4.2.
        guided = without + scale * (within - without)
        clean, noise = predictions.split(guided, noisy, schedule[start], task.family.prediction)
        return predictions.mix(clean, noise, schedule[end])

    def _guidance(self, task: Task) -> Tensor:
        """Return each sample's guidance (B,), uniform between the two ends, from its own seed."""
        import torch

        generators = (torch.Generator().manual_seed(derive(seed, "guidance")) for seed in task.seeds)
        chance = torch.stack([torch.rand((), generator=generator) for generator in generators])
        least, most = self.config.guidance_scale_min, self.config.guidance_scale_max
        return least + (most - least) * chance

    def _unconditional(self, task: Task) -> Conditioning:
        """Return what the base is told without a prompt, once for each sample; the text side stands still."""
        if self._empty is None:
            encode = getattr(task.family, "encode_negative", task.family.encode_text)
            self._empty = encode([""])
        kinds = [each.dtype for each in task.conditioning.tensors.values() if each.is_floating_point()]
        empty = self._empty.to(task.latents.device, kinds[0])
        return Conditioning.concatenate([empty] * len(task.latents)).completed(task.conditioning)

    def _jump(self, task: Task, noisy: Tensor, timesteps: Tensor, schedule: Tensor) -> Tensor:
        """Return f(x, t), the tuned model's guess at the end of the path, (B, C, H, W)."""
        said = task.predict(noisy, timesteps)
        clean, _ = predictions.split(said, noisy, schedule[timesteps], task.family.prediction)
        skip, out = boundary(timesteps, self.config.timestep_scaling)
        return skip.view(-1, 1, 1, 1) * noisy + out.view(-1, 1, 1, 1) * clean


@contextlib.contextmanager
def _apart(like: Tensor) -> Iterator[None]:
    """Within this context there are no gradients, and autocast casts weights anew.

    It would keep them by parameter: the base's numbers for the student's, or copies that no gradient passes.
    """
    import torch

    kind = like.device.type
    dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
    with torch.no_grad(), torch.autocast(kind, dtype, enabled=enabled, cache_enabled=False):
        yield


def boundary(timesteps: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Return c_skip and c_out, each (B,): 1 and 0 at timestep 0, where the picture itself is the answer.

    Args:
        timesteps: (B,).
        scaling: What they are multiplied by, so that the condition holds near 0 only.
    """
    scaled = timesteps.float() * scaling
    square = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / square, scaled / square.sqrt()
