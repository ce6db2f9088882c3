"""Diffusion-DPO: rather the chosen picture than the rejected one (Wallace et al. 2023, arXiv:2311.12908, equation 14).

e(x) = |target - prediction(x_t)|^2, averaged over the elements;  gain(x) = e of the base - e of the model
loss = -log sigmoid(beta / 2 (gain(chosen) - gain(rejected)))

Both pictures of a pair are seen under the same caption, at the same timestep and with the same noise. The factor 1/2
and the mean instead of a sum are those of the authors' code, so that their values of beta hold; diffusers' script has
no 1/2, so its beta is half of ours.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat

from brushwork import distances, timesteps
from brushwork.config import PluginSettings
from brushwork.errors import ConfigError
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from brushwork.values import Family, Task


class Config(PluginSettings):
    """Settings of Diffusion-DPO."""

    type: Literal["dpo"] = "dpo"
    beta: PositiveFloat = Field(
        5000.0, description="Larger: it stays nearer to the base. The authors took 2000 to 5000."
    )

    def build(self) -> Dpo:
        """Build the objective."""
        return Dpo(self)


class Dpo:
    """How much less the model gains on chosen pictures than on rejected ones, one number for each pair."""

    uses_pairs = True
    uses_base = True

    def __init__(self, config: Config) -> None:
        self.config = config

    def prepare(self, family: Family) -> None:
        """Refuse a base whose target is neither the noise nor the velocity.

        Raises:
            ConfigError: It is another.
        """
        if family.prediction not in ("epsilon", "v_prediction"):
            message = (
                f"objective.type=dpo works on bases that predict noise or velocity; this one: {family.prediction}."
            )
            raise ConfigError(message)

    def losses(self, task: Task) -> Tensor:
        """Return the loss of each pair, shape (B,); reports ``implicit_accuracy`` and ``chosen_gain``."""
        import torch

        assert task.rejected is not None, "agreement.check makes sure of it"
        schedule = task.family.alphas_cumprod.to(task.latents.device)
        times = timesteps.choose(task.uniform, 0, len(schedule), "uniform", 0.0, 1.0).repeat(2)
        latents, noise = torch.cat([task.latents, task.rejected]), task.noise.repeat(2, 1, 1, 1)
        a = schedule[times]
        signal, sigma = (part.to(latents.dtype).view(-1, 1, 1, 1) for part in (a.sqrt(), (1 - a).sqrt()))
        noisy = signal * latents + sigma * noise
        target = noise if task.family.prediction == "epsilon" else signal * noise - sigma * latents

        def errors(conditioning: Conditioning) -> Tensor:
            twice = Conditioning.concatenate([conditioning, conditioning])
            return distances.per_sample(distances.squared(task.family.predict(noisy, times, twice), target), None)

        # The base first: a checkpointed block is computed again in the backward pass, by what is then switched on.
        with _as_base(task) as conditioning:
            before = errors(conditioning)
        gain = before - errors(task.conditioning)
        chosen, rejected = gain.chunk(2)
        preferred = (chosen - rejected).detach()
        task.numbers["implicit_accuracy"] = (preferred > 0).float() + 0.5 * (preferred == 0).float()
        task.numbers["chosen_gain"] = chosen.detach()
        return torch.nn.functional.softplus(-0.5 * self.config.beta * (chosen - rejected))


@contextlib.contextmanager
def _as_base(task: Task) -> Iterator[Conditioning]:
    """Within this context the family predicts as the untouched base; yields the captions as that base reads them."""
    import torch

    device = task.latents.device.type
    # Autocast remembers the weights that it has cast: those of the base must not be taken for the model's.
    fresh = torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False)
    with torch.no_grad(), fresh, task.method.disabled():
        reads = task.method.trains & {"text_encoder", "embeddings"}
        yield task.family.encode_text(task.captions).completed(task.conditioning) if reads else task.conditioning
