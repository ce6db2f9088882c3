"""A picture on its way out of the noise: what the denoiser is shown at each step, and what it then takes the end to be.

    drawn = draw(model.family, Request("a red cat", seed=1, steps=20))
    drawn.image                                   # the same as always, bit for bit
    drawn.frames[0].xt, drawn.frames[0].x0        # decoded: the noisy latents, and the predicted picture
    drawn.attention                               # (tokens, height, width), None where there is no cross-attention

It is drawn by the code that always draws, with a family that notes what passes through it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from brushwork import canvas, denoise, generate, predictions
from brushwork.anatomy import attention, shapes
from brushwork.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import PIL.Image
    from torch import Tensor

    from brushwork.anatomy.shapes import Row
    from brushwork.generate import Request
    from brushwork.values import Conditioning, Family

FRAMES = 8
"""So many calls of the denoiser are shown, spread evenly from the first to the last."""

FLOW_TIME = 1000.0
"""Flow models are told 1000 sigma, where sigma is the share of noise."""


@dataclass(frozen=True)
class Call:
    """One call of the denoiser: latents and guided prediction, (1, C, H, W), at a timestep."""

    timestep: float
    latents: Tensor
    predicted: Tensor


@dataclass(frozen=True)
class Frame:
    """A call, decoded. ``noise`` is the share of noise in the latents' variance."""

    number: int
    timestep: float
    noise: float
    xt: PIL.Image.Image
    x0: PIL.Image.Image


@dataclass(frozen=True)
class Drawn:
    """A picture with what was seen on the way."""

    image: PIL.Image.Image
    request: Request
    latents: Tensor
    """The last prediction of the clean latents, (1, C, H, W)."""
    calls: int
    frames: tuple[Frame, ...]
    attention: Tensor | None
    attention_layers: tuple[str, ...]
    shapes: tuple[Row, ...]


class Listening:
    """A family that does everything as another one and notes the denoiser's calls."""

    def __init__(self, family: Family, request: Request) -> None:
        self._family, self._request = family, request
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._family, name)

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Predict, and note what was predicted, guided as ``brushwork.denoise`` guides it."""
        predicted = self._family.predict(latents, timesteps, conditioning)
        said = denoise.combine(self._family, predicted.float(), self._request)
        self.calls.append(Call(float(timesteps[-1]), latents[-1:].float().cpu(), said.cpu()))
        return predicted


def draw(family: Family, request: Request, frames: int = FRAMES) -> Drawn:
    """Draw one picture and return it with what was seen on the way.

    Args:
        family: The model; afterwards it is as it was.
        request: What to draw.
        frames: At most so many calls are decoded.

    Raises:
        UserError: As ``generate.draw``; or the family draws without its denoiser being called here.
    """
    listening = Listening(family, request)
    parts = {**family.text_encoders, family.denoiser_name: family.denoiser}
    with attention.recording(family.denoiser) as record, shapes.tracing(**parts) as rows, _decoding(family) as decoded:
        picture = next(generate.draw(cast("Any", listening), [request]))
    if not listening.calls:
        message = (
            f"model: {family.name} draws by a pipeline of its own, whose steps cannot be listened to.\n"
            f"Explain a model of a family that brushwork draws itself; mini and Stable Diffusion are such."
        )
        raise ModelError(message)
    size = (listening.calls[0].latents.shape[2], listening.calls[0].latents.shape[3])
    chosen, last = spread(len(listening.calls), frames), listening.calls[-1]
    return Drawn(
        picture.image,
        picture.request,
        clean(family, last),
        len(listening.calls),
        tuple(_frame(family, number, listening.calls[number]) for number in chosen),
        record.maps(size) if record.sums else None,
        tuple(record.sums),
        (*rows, *decoded),
    )


@contextlib.contextmanager
def _decoding(family: Family) -> Iterator[list[Row]]:
    """Note the shapes on the way from latents to pixels; a VAE is called by its parts, never as a whole."""
    vae: Any = family.vae
    with shapes.tracing(decoder=vae.decoder) as rows:
        yield rows


def spread(count: int, limit: int) -> list[int]:
    """Return at most ``limit`` of ``count`` numbers, evenly spread, with the first and the last.

    >>> spread(20, 4), spread(3, 8)
    ([0, 6, 13, 19], [0, 1, 2])
    """
    if count <= limit or limit < 2:  # noqa: PLR2004  (the first and the last)
        return list(range(min(count, limit)))
    return [round(turn * (count - 1) / (limit - 1)) for turn in range(limit)]


def clean(family: Family, call: Call) -> Tensor:
    """Return the clean latents x0 (1, C, H, W) that a call implies."""
    if family.prediction == "flow":
        # x_t = (1 - s) x0 + s noise and v = noise - x0 (rectified flow, Liu et al. 2022, arXiv:2209.03003).
        return call.latents - noise_level(family, call.timestep) * call.predicted
    level = 1 - noise_level(family, call.timestep)
    alphas = call.latents.new_tensor([level], dtype=call.latents.dtype).double()
    return predictions.split(call.predicted, call.latents, alphas, family.prediction)[0]


def noise_level(family: Family, timestep: float) -> float:
    """Return the share of noise at a timestep: of the variance, 1 - alphas_cumprod; for flow, of the mix.

    Between the timesteps of training, where some samplers look, it is interpolated.
    """
    import numpy as np

    if family.prediction == "flow":
        return timestep / FLOW_TIME
    alphas = family.alphas_cumprod.cpu().numpy()
    return 1 - float(np.interp(timestep, np.arange(len(alphas)), alphas))


def _frame(family: Family, number: int, call: Call) -> Frame:
    xt, x0 = decode(family, [call.latents, clean(family, call)])
    return Frame(number, call.timestep, noise_level(family, call.timestep), xt, x0)


def decode(family: Family, latents: Sequence[Tensor]) -> list[PIL.Image.Image]:
    """Decode latents, (1, C, H, W) each, to pictures."""
    import torch

    weight = next(family.vae.parameters())
    with torch.no_grad():
        return [canvas.to_images(family.decode_latents(each.to(weight)).float())[0] for each in latents]
