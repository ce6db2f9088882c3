"""Drawing step by step, pictures with different prompts, seeds, samplers, steps and guidance together.

    drawings = [Drawing(family, request) for request in requests]
    while not all(each.done for each in drawings):
        advance(family, [each for each in drawings if not each.done])   # one look at the model for all of them
    images = [each.image() for each in drawings]

``brushwork.generate`` draws a list of requests whose settings are equal; this is for a server, where pictures come and
go at any step (continuous batching). A picture is that of ``generate`` up to the last bits of a matrix product, whoever
was drawn beside it: noise, schedule and text are its own.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from brushwork import canvas, denoise, wordings
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import PIL.Image
    from torch import Tensor

    from brushwork.generate import Request
    from brushwork.values import Family

AT_ONCE = 16
"""So many latents go through the denoiser at once, unless told otherwise; a guided picture is two."""


class Drawing:
    """One picture on its way. The request has its size filled in."""

    def __init__(self, family: Family, request: Request) -> None:
        """Encode the texts and lay down the noise.

        Raises:
            ConfigError: The sampler cannot do so many steps.
            ModelError: The denoiser wants more than noise and text.
        """
        import torch

        denoise.check_channels(family)
        self.family, self.request, self.index = family, request, 0
        self.scheduler = denoise.scheduler_of(family, request)
        self.generators = [torch.Generator().manual_seed(request.seed)]
        with denoise.undisturbed(family):
            self.timesteps = denoise.set_timesteps(self.scheduler, request, family)
            self.start = canvas.start(family, self.scheduler, [request], self.generators, self.timesteps[:1])
            self.wording = wordings.encode(family, request)
        self.latents = self.start.latents

    @property
    def total(self) -> int:
        """How many steps there are."""
        return len(self.timesteps)

    @property
    def done(self) -> bool:
        """Whether the last step is made."""
        return self.index >= self.total

    @property
    def texts(self) -> Conditioning:
        """What the denoiser is told at the next step."""
        return self.wording.at(self.index, self.total)

    def inputs(self) -> tuple[Tensor, Tensor]:
        """Return what the denoiser is to look at next, (1 or 2, C, H, W), and the timestep of each."""
        import torch

        timestep = self.timesteps[self.index]
        flows = self.family.flow is not None
        scaled = self.latents if flows else self.scheduler.scale_model_input(self.latents, timestep)
        rows = 2 if denoise.guided(self.family, self.request) else 1
        return torch.cat([scaled] * rows), timestep.expand(rows)

    def step(self, predicted: Tensor) -> None:
        """Go on with what the denoiser said to ``inputs``, in float32."""
        timestep = self.timesteps[self.index]
        guided = denoise.combine(self.family, predicted, self.request)
        latents = denoise.step(self.scheduler, guided, timestep, self.latents, self.generators)
        self.index += 1
        self.latents = self.start.keep(latents, self.scheduler, self.timesteps[self.index : self.index + 1])

    def image(self) -> PIL.Image.Image:
        """Return the finished picture.

        Raises:
            RunFailed: The numbers became NaN or infinite.
        """
        denoise.check_finite(self.latents, [self.request], "latents")
        with denoise.undisturbed(self.family):
            pixels = denoise.decode(self.family, self.latents)
        denoise.check_finite(pixels, [self.request], "decoded pixels")
        return self.start.paste(canvas.to_images(pixels))[0]


def advance(family: Family, drawings: Sequence[Drawing], at_once: int = AT_ONCE) -> None:
    """Make one step of each drawing, with as few looks at the model as their shapes allow."""
    groups: dict[tuple[Any, ...], list[tuple[Drawing, Tensor, Tensor]]] = defaultdict(list)
    for drawing in drawings:
        inputs, timesteps = drawing.inputs()
        shapes = tuple((name, tuple(tensor.shape[1:])) for name, tensor in sorted(drawing.texts.tensors.items()))
        groups[tuple(inputs.shape[1:]), str(timesteps.dtype), shapes].append((drawing, inputs, timesteps))
    for members in groups.values():
        for part in _parts(members, at_once):
            _look(family, part)


def _parts(members: list[tuple[Drawing, Tensor, Tensor]], at_once: int) -> list[list[tuple[Drawing, Tensor, Tensor]]]:
    parts: list[list[tuple[Drawing, Tensor, Tensor]]] = []
    rows = at_once
    for member in members:
        if rows + len(member[1]) > at_once:
            parts.append([])
            rows = 0
        parts[-1].append(member)
        rows += len(member[1])
    return parts


def _look(family: Family, members: list[tuple[Drawing, Tensor, Tensor]]) -> None:
    import torch

    dtype = next(family.denoiser.parameters()).dtype
    texts = (
        members[0][0].texts if len(members) == 1 else Conditioning.concatenate([each.texts for each, _, _ in members])
    )
    latents = torch.cat([inputs for _, inputs, _ in members]).to(dtype)
    timesteps = torch.cat([each for _, _, each in members])
    with denoise.undisturbed(family):
        predicted = family.predict(latents, timesteps, texts).float()
    for (drawing, inputs, _), own in zip(members, predicted.split([len(each) for _, each, _ in members]), strict=True):
        assert len(own) == len(inputs)
        drawing.step(own)


def pictures(family: Family, requests: Sequence[Request], tell: Callable[[float], None]) -> list[PIL.Image.Image]:
    """Draw requests together; see ``brushwork.denoise.pictures``."""
    drawings = [Drawing(family, each) for each in requests]
    while any(not each.done for each in drawings):
        advance(family, [each for each in drawings if not each.done], at_once=2 * len(drawings))
        tell(sum(each.index for each in drawings) / sum(each.total for each in drawings))
    return [each.image() for each in drawings]
