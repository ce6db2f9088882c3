"""A CLIP model's opinion of the picture as a loss, alone or beside the denoising loss.

global: 1 - cos(E_I(picture), E_T(target))     (DiffusionCLIP: Kim et al. 2022, arXiv:2110.02711, equation 4)
directional: 1 - cos(E_I(picture) - E_I(reference), E_T(target) - E_T(source))      (equation 5)

The picture is what the model's prediction at the training timestep implies (``through: x0``), or what the last steps of
sampling lead to (``through: sampling``, as DiffusionCLIP does); it is decoded and prepared for CLIP with gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from brushwork import ddim, encoders, predictions
from brushwork.clip_pixels import held
from brushwork.config import PluginSettings
from brushwork.critic import CAPTION, Critic, directional_loss, global_loss
from brushwork.errors import ConfigError
from brushwork.objectives.denoising import Config as DenoisingConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from brushwork.config import Config as WholeConfig
    from brushwork.values import Family, Method, Task

DECODED_AT_ONCE = 1 << 18
"""Pixels that are decoded with gradients at a time: one picture of 512 x 512."""
SAMPLING = ("start", "start_timestep", "num_steps", "gradient_steps", "inversion_steps")
OF_ERRORS = (
    *("loss", "huber_c", "huber_schedule", "snr_gamma", "keep_noisiest", "debiased_estimation"),
    *("min_timestep", "max_timestep", "timestep_sampling", "logit_mean", "logit_std"),
)
OF_NOISE = ("noise_offset", "pyramid_noise_discount", "input_perturbation")
"""Settings of the denoising loss that are idle without it; those of the noise as well where sampling starts anew."""


class Config(PluginSettings):
    """Settings of the CLIP loss."""

    type: Literal["clip"] = "clip"
    loss: Literal["global", "directional"] = Field(
        "global", description="global: near to the target text; directional: changed as source to target changes."
    )
    target: str = Field(
        CAPTION, min_length=1, description="The text to come near to; {caption} stands for each picture's caption."
    )
    source: str | None = Field(
        None, min_length=1, description="The text of the reference, for directional: a photo, or {caption}."
    )
    clip: str = Field(
        "auto", description="A CLIP model: mini-clip, a hub id or a folder; auto: mini-clip for mini, else ViT-B/32."
    )
    weight: PositiveFloat = Field(1.0, description="How much the CLIP loss counts.")
    l1_weight: NonNegativeFloat = Field(
        0.0, description="How much the mean absolute difference to the reference's pixels (-1 to 1) counts."
    )
    denoising_weight: NonNegativeFloat = Field(1.0, description="How much the denoising loss counts; 0: CLIP alone.")
    denoising: DenoisingConfig = Field(DenoisingConfig(), description="The settings of `objective: {type: denoising}`.")
    reference: Literal["base", "picture"] = Field(
        "base", description="What is compared with: what the base makes of the same noise, or the training picture."
    )
    through: Literal["x0", "sampling"] = Field(
        "x0", description="x0: the clean picture predicted at the training timestep; sampling: the end of a DDIM path."
    )
    min_timestep: NonNegativeInt = Field(0, description="The least noise at which x0 is judged.")
    max_timestep: PositiveInt | None = Field(
        None, description="The timestep before which the most lies; null: all of the schedule."
    )
    start: Literal["noised", "inverted"] = Field(
        "noised", description="Where sampling starts: the picture with noise in it, or inverted by the base."
    )
    start_timestep: PositiveInt = Field(500, description="Before which timestep sampling starts; more: larger changes.")
    num_steps: PositiveInt = Field(6, description="DDIM steps from there to the picture.")
    gradient_steps: PositiveInt | None = Field(
        None, description="The gradient goes through so many of the last of them; null: all."
    )
    inversion_steps: PositiveInt = Field(40, description="DDIM steps of the inversion.")
    gradient_checkpointing: bool = Field(
        default=True, description="Compute sampling steps and decoder again in the backward pass: less memory."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        directional = self.loss == "directional"
        if directional and (self.source is None or self.source == self.target):
            message = "loss is directional, which leads from a source text to another target; set both"
            raise ValueError(message)
        compares = directional or self.l1_weight > 0
        self._refuse_changed("loss is global", directional, "source")
        self._refuse_changed("loss is global and l1_weight is 0", compares, "reference")
        self._refuse_changed("through is x0", self.through == "sampling", *SAMPLING)
        self._refuse_changed("through is sampling", self.through == "x0", "min_timestep", "max_timestep")
        self._refuse_changed("start is noised", self.start == "inverted", "inversion_steps")
        self._check_steps()
        return self

    def _check_steps(self) -> None:
        first, stop, trained = self.min_timestep, self.max_timestep, self.denoising
        if stop is not None and first >= stop:
            message = f"min_timestep is {first} but max_timestep is only {stop}"
            raise ValueError(message)
        never = (trained.max_timestep or first + 1) <= first or (
            stop or trained.min_timestep + 1
        ) <= trained.min_timestep
        if self.denoising_weight and self.through == "x0" and never:
            message = "min_timestep and max_timestep leave nothing of the timesteps that denoising trains"
            raise ValueError(message)
        if (self.gradient_steps or 1) > self.num_steps:
            message = f"gradient_steps is {self.gradient_steps} but num_steps is only {self.num_steps}"
            raise ValueError(message)
        if max(self.num_steps, self.inversion_steps) > self.start_timestep:
            message = f"start_timestep is {self.start_timestep}, too few for so many steps from there"
            raise ValueError(message)

    @property
    def uses_base(self) -> bool:
        """Whether the untouched base is asked while training."""
        compares = self.loss == "directional" or self.l1_weight > 0
        return (compares and self.reference == "base") or self.start == "inverted"

    def build(self) -> ClipGuided:
        """Build the objective."""
        return ClipGuided(self)


class ClipGuided:
    """The CLIP loss of what the model draws, and the denoising loss, one number for each sample."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.denoising = config.denoising.build()
        self.uses_masks = config.denoising_weight > 0
        self._critic: Critic | None = None

    @property
    def critic(self) -> Critic:
        """The CLIP model that judges; there after ``attach``."""
        assert self._critic is not None, "attach comes first"
        return self._critic

    def prepare(self, family: Family) -> None:
        """Check that the objective fits the base, as ``denoising`` does.

        Raises:
            ConfigError: It does not.
        """
        self.denoising.prepare(family)
        if family.prediction not in ("epsilon", "v_prediction"):
            message = f"objective: clip wants a base of epsilon or v_prediction; this one predicts {family.prediction}."
            raise ConfigError(message)
        limit, config = len(family.alphas_cumprod), self.config
        last = config.start_timestep if config.through == "sampling" else config.max_timestep
        if max(last or 0, config.min_timestep + 1) > limit:
            key = "start_timestep" if config.through == "sampling" else "min_timestep or max_timestep"
            message = f"objective.{key} goes beyond the base's schedule, which has {limit} timesteps. Lower it."
            raise ConfigError(message)

    def attach(self, config: WholeConfig, family: Family, method: Method) -> None:
        """Load the CLIP model and refuse a method that the loss cannot be computed with.

        Raises:
            ConfigError: The method changes the texts or keeps no base, or a text is longer than CLIP reads.
            ModelError: The CLIP model cannot be used.
        """
        _check_method(self.config, config.method.type, method)
        if self.config.denoising_weight == 0:
            _check_idle(self.config, config)
        device = str(next(family.vae.parameters()).device)
        name = encoders.resolve_judge(self.config.clip, config.base)
        self._critic = Critic(encoders.load_clip(name, device=device, key="objective.clip"))
        fixed = [text for text in (self.config.target, self.config.source) if text and CAPTION not in text]
        # With two texts of ours, so that a model to which all texts are equal is found out now.
        _, cut = self.critic.clip.encode_texts([*fixed, "a cat", "a dog"])
        if set(fixed) & set(cut):
            message = f"objective: {cut[0]!r} is longer than {name} reads; it would be cut off. Shorten it."
            raise ConfigError(message)

    def losses(self, task: Task) -> Tensor:
        """Return the loss of each sample, shape (B,).

        Preserved pictures get the denoising loss alone, with the weight 1; so do, with its own weight, pictures whose
        dropped or missing caption the texts would need.
        """
        asked = [place for place in range(len(task.captions)) if self._is_judged(task, place)]
        if self.config.through == "sampling":
            return self._by_sampling(task, asked)
        return self._by_prediction(task, asked)

    def _is_judged(self, task: Task, place: int) -> bool:
        texts = self.config.target + (self.config.source or "")
        preserved = bool(task.preserved) and task.preserved[place]
        return not preserved and (bool(task.captions[place]) or CAPTION not in texts)

    def _weights(self, task: Task) -> Tensor:
        """Return how much each sample's denoising loss counts, (B,)."""
        import torch

        preserved = task.preserved or [False] * len(task.captions)
        own = self.config.denoising_weight
        return torch.tensor([1.0 if each else own for each in preserved], device=task.latents.device)

    def _by_prediction(self, task: Task, asked: Sequence[int]) -> Tensor:
        """Judge what one pass of the denoiser implies; the denoising loss shares the pass."""
        config, weights = self.config, self._weights(task)
        stop = config.max_timestep or len(task.family.alphas_cumprod)
        times = self.denoising.timesteps(task)
        if not config.denoising_weight:
            own = (task.uniform * (stop - config.min_timestep)).long().clamp_(max=stop - config.min_timestep - 1)
            times = times.where(weights > 0, own + config.min_timestep)
        noised = self.denoising.noised(task, times)
        predicted = task.predict(noised.inputs, times)
        losses = weights * self.denoising.errors(predicted, noised, task)
        places = [place for place in asked if config.min_timestep <= times[place] < stop]
        if not places:
            return losses
        some = task.rows(places)
        at = _at(places, task)
        noisy, a, prediction = noised.inputs[at], noised.alphas_cumprod[at], task.family.prediction
        clean, _ = predictions.split(predicted[at], noisy, a, prediction)

        def by_base(predict: ddim.Predict) -> Tensor:
            return predictions.split(predict(noisy, times[at]), noisy, a, prediction)[0]

        return losses.index_add(0, at, self.judged(some, clean, by_base))

    def _by_sampling(self, task: Task, asked: Sequence[int]) -> Tensor:
        """Judge where sampling leads; the denoising loss has a pass of its own, on what it counts for."""
        import torch

        weights = self._weights(task)
        losses = torch.zeros_like(weights)
        trained = [place for place, weight in enumerate(weights.tolist()) if weight or not asked]
        if trained:
            some = task.rows(trained)
            at = _at(trained, task)
            losses = losses.index_add(0, at, weights[at] * self.denoising.losses(some))
        if not asked:
            return losses
        some = task.rows(asked)
        noisy = self._start(some)

        def by_base(predict: ddim.Predict) -> Tensor:
            return self._sample(predict, noisy, some.family)

        return losses.index_add(0, _at(asked, task), self.judged(some, by_base(some.predict), by_base))

    def _start(self, task: Task) -> Tensor:
        """Return noisy latents (N, C, H, W) from which sampling leads to the picture, or to one like it."""
        config, family, clean = self.config, task.family, task.latents.float()
        schedule = family.alphas_cumprod.to(clean.device)
        if config.start == "inverted":
            times = ddim.ladder(config.start_timestep, config.inversion_steps)
            with task.base() as predict:
                return ddim.invert(predict, clean, times, schedule, family.prediction)
        return predictions.mix(clean, task.noise, schedule[config.start_timestep - 1].expand(len(clean)))

    def _sample(self, predict: ddim.Predict, noisy: Tensor, family: Family) -> Tensor:
        config = self.config
        return ddim.sample(
            predict,
            noisy,
            ddim.ladder(config.start_timestep, config.num_steps),
            family.alphas_cumprod.to(noisy.device),
            family.prediction,
            tracked=config.gradient_steps or config.num_steps,
            checkpointing=config.gradient_checkpointing,
        )

    def judged(self, task: Task, clean: Tensor, by_base: Callable[[ddim.Predict], Tensor]) -> Tensor:
        """Return the CLIP loss and the L1 loss of latents, (N,).

        Args:
            task: Of these samples.
            clean: What the model made, (N, C, H, W), with gradients.
            by_base: Given the base's ``predict``, what the base would have made, for the reference.
        """
        import torch

        config, texts = self.config, self.critic.texts(task.captions, self.config.target)
        pixels = self._decode(task.family, clean)
        images = self.critic.images(pixels)
        directional = config.loss == "directional"
        if not (directional or config.l1_weight):
            return config.weight * global_loss(images, texts)
        with torch.no_grad():
            reference = task.latents
            if config.reference == "base":
                with task.base() as predict:
                    reference = by_base(predict)
            reference_pixels = self._decode(task.family, reference)
        if directional:
            before = self.critic.texts(task.captions, config.source or "")
            with torch.no_grad():
                origin = self.critic.images(reference_pixels)
            losses = config.weight * directional_loss(images, origin, texts, before)
        else:
            losses = config.weight * global_loss(images, texts)
        if config.l1_weight:
            losses = losses + config.l1_weight * (held(pixels) - held(reference_pixels)).abs().flatten(1).mean(1)
        return losses

    def _decode(self, family: Family, latents: Tensor) -> Tensor:
        """Return pixels (N, 3, H, W) in about [-1, 1], a few pictures at a time."""
        import torch
        from torch.utils.checkpoint import checkpoint

        dtype = next(family.vae.parameters()).dtype
        each = latents.shape[2] * latents.shape[3] * family.pixels_per_latent**2
        parts = []
        for part in torch.split(latents.to(dtype), max(1, DECODED_AT_ONCE // each)):
            if self.config.gradient_checkpointing and torch.is_grad_enabled():
                decoded = checkpoint(family.decode_latents, part, use_reentrant=False)
            else:
                decoded = family.decode_latents(part)
            parts.append(decoded.float())
        return torch.cat(parts)


def _at(places: Sequence[int], task: Task) -> Tensor:
    import torch

    return torch.tensor(places, dtype=torch.long, device=task.latents.device)


def _check_idle(config: Config, whole: WholeConfig) -> None:
    """Refuse what only the denoising loss would read, where it counts for nothing."""
    data: Any = whole.data
    if data.caption_dropout and CAPTION in config.target + (config.source or ""):
        message = (
            f"data.caption_dropout: without its caption a picture has no target, and objective.denoising_weight is 0, "
            f"so nothing would be learnt from it. Leave it out, or write texts without {CAPTION}."
        )
        raise ConfigError(message)
    prior = getattr(data, "prior", None)
    if whole.preserve is not None or (prior is not None and prior() is not None):
        return  # the base's own pictures have a denoising loss in any case
    idle = OF_ERRORS + (OF_NOISE if config.through == "sampling" else ())
    fields = DenoisingConfig.model_fields
    changed = [name for name in idle if getattr(config.denoising, name) != fields[name].default]
    if changed:
        message = (
            f"objective.denoising.{changed[0]}: objective.denoising_weight is 0, so there is no denoising loss to have "
            f"it. Leave it out, or give the weight."
        )
        raise ConfigError(message)


def _check_method(config: Config, name: str, method: Method) -> None:
    if "embeddings" in method.trains and CAPTION in config.target + (config.source or ""):
        message = (
            f"objective: {name} writes its new word into the captions, and CLIP does not know it. Set objective.target "
            f"(and source) to words without {CAPTION}, or take another objective."
        )
        raise ConfigError(message)
    if not config.uses_base:
        return
    changed = sorted(method.trains - {"denoiser"})
    if changed:
        message = (
            f"objective: it compares with the untouched base on the same texts, but {name} changes what they mean: it "
            f"trains {' and '.join(changed)}.\nTrain the denoiser only, or set objective.reference=picture and "
            f"objective.start=noised."
        )
        raise ConfigError(message)
    with method.disabled():  # a method that lacks a setting for it says so now
        pass
