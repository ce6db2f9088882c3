"""The denoising loss: predict the noise, or the velocity, that was mixed into clean latents.

x_t = sqrt(a_t) x0 + sqrt(1 - a_t) noise               (DDPM, Ho et al. 2020, eq. 4; a_t is alphas_cumprod)
epsilon target: noise
v target: sqrt(a_t) noise - sqrt(1 - a_t) x0            (Salimans & Ho 2022, appendix D)
min-SNR weight: min(SNR, gamma) / SNR, for v / (SNR + 1)  (Hang et al. 2023, section 3.4)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat

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
    snr_gamma: PositiveFloat | None = Field(
        None, description="Min-SNR weighting: caps the weight of nearly clean pictures; 5 is usual."
    )

    def build(self) -> Denoising:
        """Build the objective."""
        return Denoising(self)


class Denoising:
    """The mean squared error between prediction and target, one number for each sample."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def losses(self, task: Task) -> Tensor:
        """Return the loss of each sample, shape (B,)."""
        latents, noise = task.latents, task.noise
        prediction = self.prediction(task.family)
        schedule = task.family.alphas_cumprod.to(latents.device)
        timesteps = (task.uniform * len(schedule)).long().clamp_(max=len(schedule) - 1)
        a = schedule[timesteps]
        signal, sigma = (part.to(latents.dtype).view(-1, 1, 1, 1) for part in (a.sqrt(), (1 - a).sqrt()))
        target = noise if prediction == "epsilon" else signal * noise - sigma * latents
        predicted = task.predict(signal * latents + sigma * noise, timesteps)
        errors = (predicted.float() - target.float()).square().flatten(1).mean(1)
        if self.config.snr_gamma is None:
            return errors
        return errors * min_snr_weights(a, prediction, self.config.snr_gamma).to(errors.dtype)

    def prediction(self, family: Family) -> Prediction:
        """Return what the base predicts.

        Raises:
            ConfigError: The configuration asks for something else without force_prediction_type.
        """
        asked = self.config.prediction_type
        if asked == "auto":
            return family.prediction
        if asked != family.prediction and not self.config.force_prediction_type:
            message = (
                f"objective.prediction_type is {asked} but the base predicts {family.prediction}: training would first "
                f"destroy it. Use auto, or set objective.force_prediction_type=true if you mean it."
            )
            raise ConfigError(message)
        return asked


def min_snr_weights(alphas_cumprod: Tensor, prediction: Prediction, gamma: float) -> Tensor:
    """Return min(SNR, gamma) / SNR (epsilon) or / (SNR + 1) (v) for alphas_cumprod of any shape."""
    snr = alphas_cumprod / (1 - alphas_cumprod)
    return snr.clamp(max=gamma) / (snr if prediction == "epsilon" else snr + 1)
