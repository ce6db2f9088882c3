"""The denoising loss: predict the noise, or the velocity, that was mixed into clean latents.

A flow model's velocity, and how much noise its samples get, is in ``brushwork.flow``.

x_t = sqrt(a_t) x0 + sqrt(1 - a_t) noise               (DDPM, Ho et al. 2020, eq. 4; a_t is alphas_cumprod)
epsilon target: noise
v target: sqrt(a_t) noise - sqrt(1 - a_t) x0            (Salimans & Ho 2022, appendix D)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from brushwork import distances, flow, noise, timesteps, weighting
from brushwork.config import PluginSettings
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from brushwork.values import Family, Prediction, Task


class Config(PluginSettings):
    """Settings of the denoising loss."""

    type: Literal["denoising"] = "denoising"
    prediction_type: Literal["auto", "epsilon", "v_prediction"] = Field(
        "auto", description="What the model learns to predict; auto: what the base predicts."
    )
    force_prediction_type: bool = Field(default=False, description="Allow another prediction_type than the base's.")
    loss: Literal["l2", "huber", "smooth_l1"] = Field(
        "l2", description="The error: squared, or pseudo-Huber, which lets single wild pictures pull less."
    )
    huber_c: float = Field(0.1, gt=0, le=1, description="Above about this error Huber's grows only linearly.")
    huber_schedule: distances.Schedule = Field("snr", description="How huber_c falls from 1 with the noise, if at all.")
    snr_gamma: PositiveFloat | None = Field(
        None, description="Min-SNR weighting: caps the weight of nearly clean pictures; 5 is usual."
    )
    keep_noisiest: bool = Field(
        default=False,
        description="With snr_gamma and v_prediction: the noisiest timesteps keep their full weight. They decide "
        "composition and background.",
    )
    debiased_estimation: bool = Field(
        default=False, description="Weigh by 1 / sqrt(SNR): noisy pictures count more. Not with snr_gamma."
    )
    min_timestep: NonNegativeInt = Field(0, description="The least noise that is trained.")
    max_timestep: PositiveInt | None = Field(
        None, description="The timestep before which the most noise lies; null: all of the schedule."
    )
    timestep_sampling: Literal["auto", "uniform", "logit_normal"] = Field(
        "auto", description="logit_normal: the middle timesteps more often; auto: as the base was trained."
    )
    logit_mean: float = Field(0.0, description="Of logit_normal; above 0: more noise.")
    logit_std: PositiveFloat = Field(1.0, description="Of logit_normal; smaller: nearer to the middle.")
    timestep_shift: PositiveFloat | Literal["auto"] = Field(
        "auto",
        description="Of flow models: above 1 noisier timesteps are trained more; auto: what the base is drawn with at "
        "this size; 1: none, as diffusers' scripts train FLUX.",
    )
    flow_weighting: flow.Weighting = Field("none", description="Of flow models: how much each timestep counts.")
    noise_offset: NonNegativeFloat = Field(
        0.0, description="Shift the noise of each channel by so much times a normal number; 0.05 to 0.1 is usual."
    )
    pyramid_noise_discount: float | None = Field(
        None, gt=0, lt=1, description="Add ever coarser noise, each level so many times weaker; 0.3 to 0.8 is usual."
    )
    input_perturbation: NonNegativeFloat = Field(
        0.0, description="More noise in the input than in the target; 0.1 is usual."
    )
    rescale_betas_zero_snr: bool = Field(
        default=False, description="Train down to pure noise (zero terminal SNR); only for v_prediction."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.snr_gamma is not None and self.debiased_estimation:
            message = "snr_gamma and debiased_estimation are two weightings; set one of them"
            raise ValueError(message)
        self._refuse_changed("snr_gamma is null", self.snr_gamma is not None, "keep_noisiest")
        if self.noise_offset and self.pyramid_noise_discount is not None:
            message = "noise_offset and pyramid_noise_discount both add coarse noise; set one of them"
            raise ValueError(message)
        if self.max_timestep is not None and self.min_timestep >= self.max_timestep:
            message = f"min_timestep is {self.min_timestep} but max_timestep is only {self.max_timestep}"
            raise ValueError(message)
        self._refuse_changed("loss is l2", self.loss != "l2", "huber_c", "huber_schedule")
        sampled = self.timestep_sampling != "uniform"
        self._refuse_changed("timestep_sampling is uniform", sampled, "logit_mean", "logit_std")
        return self

    def build(self) -> Denoising:
        """Build the objective."""
        return Denoising(self)


NOT_FLOW = ("snr_gamma", "debiased_estimation", "rescale_betas_zero_snr")
"""Settings that are about the noise schedule of epsilon and v_prediction."""


@dataclass(frozen=True)
class Noised:
    """Latents with noise in them, and what the model should say of them. Shapes: (B, C, H, W), times and a (B,)."""

    inputs: Tensor
    target: Tensor
    timesteps: Tensor
    alphas_cumprod: Tensor


class Denoising:
    """The error between prediction and target, one number for each sample."""

    uses_masks = True
    comparable = True

    def __init__(self, config: Config) -> None:
        self.config = config

    def losses(self, task: Task) -> Tensor:
        """Return the loss of each sample, shape (B,)."""
        noised = self.noised(task, self.timesteps(task))
        return self.errors(task.predict(noised.inputs, noised.timesteps), noised, task)

    def timesteps(self, task: Task) -> Tensor:
        """Return how much noise each sample gets, (B,): whole timesteps, or 1000 sigma in a flow."""
        config, family = self.config, task.family
        first, stop = config.min_timestep, config.max_timestep or len(family.alphas_cumprod)
        asked = config.timestep_sampling
        if family.flow is None:
            kind: timesteps.Sampling = "uniform" if asked == "auto" else asked
            return timesteps.choose(task.uniform, first, stop, kind, config.logit_mean, config.logit_std)
        shift = config.timestep_shift
        if shift == "auto":
            shift = flow.shift_of(family.flow, flow.tokens(family.flow, task.latents.shape))
        kind = family.flow.sampling if asked == "auto" else asked
        sigma = flow.sigmas(task.uniform, kind, config.logit_mean, config.logit_std, shift)
        return first + (stop - first) * sigma

    def noised(self, task: Task, times: Tensor) -> Noised:
        """Mix noise into the latents up to the timesteps ``times`` (B,)."""
        config, latents = self.config, task.latents
        if task.family.flow is not None:
            return self._flowing(task, times)
        a = task.family.alphas_cumprod.to(latents.device)[times]
        signal, sigma = (part.to(latents.dtype).view(-1, 1, 1, 1) for part in (a.sqrt(), (1 - a).sqrt()))
        drawn = self._noise(task)
        target = drawn if self.prediction(task.family) == "epsilon" else signal * drawn - sigma * latents
        mixed_in = noise.perturbed(drawn, task.seeds, config.input_perturbation) if config.input_perturbation else drawn
        return Noised(signal * latents + sigma * mixed_in, target, times, a)

    def _flowing(self, task: Task, times: Tensor) -> Noised:
        """Mix noise in as a flow does: x = (1 - sigma) x0 + sigma noise; the target is noise - x0."""
        latents, drawn = task.latents, self._noise(task)
        sigma = times / flow.TIMESTEPS
        share = sigma.to(latents.dtype).view(-1, 1, 1, 1)
        perturbation = self.config.input_perturbation
        mixed_in = noise.perturbed(drawn, task.seeds, perturbation) if perturbation else drawn
        return Noised((1 - share) * latents + share * mixed_in, drawn - latents, times, flow.equivalent(sigma))

    def errors(self, predicted: Tensor, noised: Noised, task: Task) -> Tensor:
        """Return each sample's weighted error (B,) of a prediction (B, C, H, W)."""
        config = self.config
        if config.loss == "l2":
            errors = distances.squared(predicted, noised.target)
        else:
            schedule = task.family.alphas_cumprod.to(predicted.device)
            times = noised.timesteps.long().clamp(max=len(schedule) - 1)
            width = distances.huber_width(config.huber_c, config.huber_schedule, times, schedule)
            errors = distances.huber(predicted, noised.target, width, smooth_l1=config.loss == "smooth_l1")
        means = distances.per_sample(errors, task.mask)
        if task.family.flow is not None:
            return means * flow.weights(noised.timesteps / flow.TIMESTEPS, config.flow_weighting).to(means.dtype)
        return self._weighted(means, noised.alphas_cumprod, self.prediction(task.family))

    def _noise(self, task: Task) -> Tensor:
        config = self.config
        if config.noise_offset:
            return noise.offset(task.noise, task.seeds, config.noise_offset)
        if config.pyramid_noise_discount is not None:
            return noise.pyramid(task.noise, task.seeds, config.pyramid_noise_discount)
        return task.noise

    def _weighted(self, errors: Tensor, alphas_cumprod: Tensor, prediction: Prediction) -> Tensor:
        if self.config.snr_gamma is not None:
            gamma, keep = self.config.snr_gamma, self.config.keep_noisiest
            weights = weighting.min_snr(alphas_cumprod, prediction, gamma, keep_noisiest=keep)
            return errors * weights.to(errors.dtype)
        if self.config.debiased_estimation:
            return errors * weighting.debiased(alphas_cumprod, prediction).to(errors.dtype)
        return errors

    def prepare(self, family: Family) -> None:
        """Check that the objective fits the base, and give it the prediction and the schedule that it will have.

        The same for training and for drawing with what was trained.

        Raises:
            ConfigError: It does not fit.
        """
        prediction = self.prediction(family)
        self._check_flow(family)
        limit, stop = len(family.alphas_cumprod), self.config.max_timestep
        if max(stop or 0, self.config.min_timestep + 1) > limit:
            message = (
                f"objective: the timesteps {self.config.min_timestep} to {stop or limit} go beyond the base's "
                f"schedule, which has {limit} (0 to {limit - 1}). Lower objective.min_timestep or max_timestep."
            )
            raise ConfigError(message)
        if self.config.rescale_betas_zero_snr and prediction != "v_prediction":
            message = (
                f"objective.rescale_betas_zero_snr needs v_prediction, but here {prediction} is predicted: from pure "
                f"noise there is no noise to tell apart. Use a base of v_prediction."
            )
            raise ConfigError(message)
        if self.config.keep_noisiest and prediction != "v_prediction":
            message = (
                f"objective.keep_noisiest is for v_prediction; with {prediction} min-SNR leaves the noisiest timesteps "
                f"their weight anyway. Leave it out."
            )
            raise ConfigError(message)
        if prediction != family.prediction:
            family.prediction = prediction
            family.scheduler_config = {**family.scheduler_config, "prediction_type": prediction}
        if self.config.rescale_betas_zero_snr:
            timesteps.make_zero_terminal_snr(family)

    def _check_flow(self, family: Family) -> None:
        """Refuse what means nothing to a flow model, or to any other."""
        names = NOT_FLOW if family.flow is not None else ("timestep_shift", "flow_weighting")
        fields = Config.model_fields
        wrong = [each for each in names if getattr(self.config, each) != fields[each].default]
        if wrong:
            kind = "a flow model, which has no such schedule" if family.flow is not None else "no flow model"
            message = f"objective.{wrong[0]}: this base ({family.name}) is {kind}. Leave it out."
            raise ConfigError(message)
        sampling = "uniform" if self.config.timestep_sampling == "auto" else self.config.timestep_sampling
        if family.flow is not None and self.config.timestep_sampling == "auto":
            sampling = family.flow.sampling
        changed = [each for each in ("logit_mean", "logit_std") if getattr(self.config, each) != fields[each].default]
        if changed and sampling != "logit_normal":
            message = (
                f"objective.{changed[0]}: timesteps are drawn {sampling}. Set objective.timestep_sampling=logit_normal"
            )
            raise ConfigError(message)

    def prediction(self, family: Family) -> Prediction:
        """Return what the model learns to predict.

        Raises:
            ConfigError: The configuration asks for something else than the base without force_prediction_type.
        """
        asked = self.config.prediction_type
        if asked == "auto":
            return family.prediction
        if family.flow is not None:
            message = (
                f"objective.prediction_type is {asked} but the base is a flow model ({family.name}), which has no "
                f"other prediction. Leave it out."
            )
            raise ConfigError(message)
        if asked != family.prediction and not self.config.force_prediction_type:
            message = (
                f"objective.prediction_type is {asked} but the base predicts {family.prediction}: training would first "
                f"destroy it. Use auto, or set objective.force_prediction_type=true if you mean it."
            )
            raise ConfigError(message)
        return asked
