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

import contextlib
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from brushwork import canvas, denoise, hires, tiling, wordings
from brushwork.controlnet import maps
from brushwork.controlnet.kinds import kind_of
from brushwork.controlnet.steering import Asked, Look, residuals
from brushwork.errors import RunFailed
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import PIL.Image
    from torch import Tensor

    from brushwork.generate import Request
    from brushwork.values import Family

    Encode = Callable[[Family, Request], wordings.Wording]

AT_ONCE = 16
"""So many latents go through the denoiser at once, unless told otherwise; a guided picture is two."""


@dataclass(frozen=True)
class Pass:
    """A way from noise, or from a picture with noise on it, to a picture; a second one makes it larger."""

    request: Request
    scheduler: Any
    timesteps: Tensor
    wording: wordings.Wording


class Drawing:
    """One picture on its way. The request has its size filled in."""

    def __init__(self, family: Family, request: Request, encode: Encode = wordings.encode) -> None:
        """Encode the texts and lay down the noise.

        Args:
            family: The model.
            request: What to draw.
            encode: Encodes the texts; one that remembers them saves their encoder's work.

        Raises:
            ConfigError: The sampler cannot do so many steps.
            ModelError: The denoiser wants more than noise and text.
        """
        denoise.check_channels(family)
        self.family, self.request, self.index, self.at = family, request, 0, 0
        self.broken: RunFailed | None = None
        """Why there is no picture to enlarge; ``image`` raises it."""
        self.passes = [_pass(family, request, encode)]
        larger = hires.second(request)
        if larger is not None:
            self.passes.append(_pass(family, larger, encode, begun=True))
        self.total = sum(len(each.timesteps) for each in self.passes)
        """How many steps there are, of both passes."""
        self._begin(self.passes.pop(0))

    def _begin(self, now: Pass, *, clean: Tensor | None = None) -> None:
        """Lay down the noise of a pass: on the request's picture, or on ``clean`` latents."""
        import torch

        self.now, self.at = now, 0
        self.generators = [torch.Generator().manual_seed(now.request.seed)]
        with denoise.undisturbed(self.family), self.edges():
            self.start = canvas.start(
                self.family, now.scheduler, [now.request], self.generators, now.timesteps[:1], clean=clean
            )
        self.latents = self.start.latents
        self.seen = self._maps(now.request)

    def _maps(self, request: Request) -> list[Tensor]:
        """Return what each ControlNet sees."""
        size, view = canvas.size(request), self.start.views[0] if self.start.views else None
        seen = []
        with denoise.undisturbed(self.family):
            for each in request.controls:
                pixels = maps.tensor(each.image, each.module, each.resize_mode, size, view).to(self.latents.device)
                seen.append(kind_of(self.family).see(self.family, each.network.module, pixels))
        return seen

    def edges(self) -> AbstractContextManager[None]:
        """Within this context the model's edges are joined, if the picture shall tile."""
        if self.request.tiling:
            return tiling.circular(self.family.denoiser, self.family.vae)
        return contextlib.nullcontext()

    @property
    def done(self) -> bool:
        """Whether the last step is made."""
        return self.index >= self.total

    @property
    def texts(self) -> Conditioning:
        """What the denoiser is told at the next step."""
        return self.start.told(self.now.wording.at(self.at, len(self.now.timesteps)))

    def inputs(self) -> tuple[Tensor, Tensor]:
        """Return what the denoiser is to look at next, (1 or 2, C, H, W), and the timestep of each."""
        import torch

        timestep = self.now.timesteps[self.at]
        flows = self.family.flow is not None
        scaled = self.latents if flows else self.now.scheduler.scale_model_input(self.latents, timestep)
        rows = 2 if denoise.guided(self.family, self.now.request) else 1
        return torch.cat([scaled] * rows), timestep.expand(rows)

    def asked(self, place: int) -> list[Asked]:
        """Return what ControlNets are to say at the next step; ``place`` is the picture's among others."""
        total = len(self.now.timesteps)
        return [
            Asked(place, control, seen, self.request.tiling)
            for control, seen in zip(self.now.request.controls, self.seen, strict=True)
            if control.steers(self.at, total)
        ]

    def step(self, predicted: Tensor) -> None:
        """Go on with what the denoiser said to ``inputs``, in float32."""
        now = self.now
        timestep = now.timesteps[self.at]
        guided = denoise.combine(self.family, predicted, now.request)
        latents = denoise.step(now.scheduler, guided, timestep, self.latents, self.generators)
        self.index += 1
        self.at += 1
        self.latents = self.start.keep(latents, now.scheduler, now.timesteps[self.at : self.at + 1])
        if self.at == len(now.timesteps) and self.passes:
            try:
                self._enlarge(self.passes.pop(0))
            except RunFailed as error:
                self.broken, self.index = error, self.total

    def _enlarge(self, following: Pass) -> None:
        """Begin the second pass with what the first one drew."""
        asked = self.request.hires
        assert asked is not None, "nothing else has a second pass"
        if asked.upscaler == "Latent":
            denoise.check_finite(self.latents, [self.request], "latents")
            size = canvas.latent_size(self.family, following.request)
            self._begin(following, clean=hires.enlarge_latents(self.latents, size))
        else:
            large = hires.enlarge_picture(self.image(), asked)
            self._begin(replace(following, request=replace(following.request, init=large)))

    def image(self) -> PIL.Image.Image:
        """Return the finished picture.

        Raises:
            RunFailed: The numbers became NaN or infinite.
        """
        if self.broken is not None:
            raise self.broken
        denoise.check_finite(self.latents, [self.request], "latents")
        with denoise.undisturbed(self.family), self.edges():
            pixels = denoise.decode(self.family, self.latents)
        denoise.check_finite(pixels, [self.request], "decoded pixels")
        return self.start.paste(canvas.to_images(pixels))[0]


class Whole:
    """A picture of a family that draws by itself: one step, in which all of it is drawn."""

    total = 1

    def __init__(self, family: Family, request: Request) -> None:
        self.family, self.request, self.index = family, request, 0
        self._drawn: list[PIL.Image.Image] = []

    @property
    def done(self) -> bool:
        """Whether it is drawn."""
        return bool(self._drawn)

    def draw(self) -> None:
        """Draw it.

        Raises:
            ConfigError: The family cannot do what the request asks for.
        """
        family: Any = self.family
        with denoise.undisturbed(self.family):
            self._drawn = list(family.draw([self.request], lambda _: None))
        self.index = 1

    def image(self) -> PIL.Image.Image:
        """Return the finished picture."""
        return self._drawn[0]


def _pass(family: Family, request: Request, encode: Encode, *, begun: bool = False) -> Pass:
    scheduler = denoise.scheduler_of(family, request)
    with denoise.undisturbed(family):
        timesteps = denoise.set_timesteps(scheduler, request, family, begun=begun)
        return Pass(request, scheduler, timesteps, encode(family, request))


_Next = tuple[Drawing, Look]


def begin(family: Family, request: Request, encode: Encode = wordings.encode) -> Drawing | Whole:
    """Begin with a picture, step by step where the family lets us; see ``Drawing``.

    Raises:
        ConfigError: The sampler cannot do so many steps, or the family not what is asked for.
        ModelError: The denoiser wants more than noise and text.
    """
    return Drawing(family, request, encode) if getattr(family, "draw", None) is None else Whole(family, request)


def advance(family: Family, drawings: Sequence[Drawing], at_once: int = AT_ONCE) -> None:
    """Make one step of each drawing, with as few looks at the model as their shapes allow."""
    groups: dict[tuple[Any, ...], list[_Next]] = defaultdict(list)
    for drawing, look in zip(drawings, _looks(family, drawings), strict=True):
        shapes = tuple((name, tuple(tensor.shape[1:])) for name, tensor in sorted(look.texts.tensors.items()))
        groups[tuple(look.inputs.shape[1:]), str(look.timesteps.dtype), shapes, drawing.request.tiling].append(
            (drawing, look)
        )
    for members in groups.values():
        for part in _parts(members, at_once):
            _look(family, part)


def _looks(family: Family, drawings: Sequence[Drawing]) -> list[Look]:
    """Return what the denoiser is to look at next; what ControlNets say is among the texts."""
    looks = [Look(*each.inputs(), each.texts) for each in drawings]
    asked = [one for place, each in enumerate(drawings) for one in each.asked(place)]
    if not asked:
        return looks
    with denoise.undisturbed(family):
        told = residuals(family, looks, asked)
    return [look._replace(texts=texts) for look, texts in zip(looks, told, strict=True)]


def _dtype(family: Family) -> Any:
    return next(family.denoiser.parameters()).dtype


def _parts(members: list[_Next], at_once: int) -> list[list[_Next]]:
    parts: list[list[_Next]] = []
    rows = at_once
    for member in members:
        count = len(member[1].inputs)
        if rows + count > at_once:
            parts.append([])
            rows = 0
        parts[-1].append(member)
        rows += count
    return parts


def _look(family: Family, members: list[_Next]) -> None:
    import torch

    looks = [look for _, look in members]
    texts = looks[0].texts if len(looks) == 1 else Conditioning.concatenate([each.texts for each in looks])
    latents = torch.cat([each.inputs for each in looks]).to(_dtype(family))
    timesteps = torch.cat([each.timesteps for each in looks])
    with denoise.undisturbed(family), members[0][0].edges():
        predicted = family.predict(latents, timesteps, texts).float()
    for (drawing, look), own in zip(members, predicted.split([len(each.inputs) for each in looks]), strict=True):
        assert len(own) == len(look.inputs)
        drawing.step(own)


def pictures(family: Family, requests: Sequence[Request], tell: Callable[[float], None]) -> list[PIL.Image.Image]:
    """Draw requests together; see ``brushwork.denoise.pictures``."""
    drawings = [Drawing(family, each) for each in requests]
    while any(not each.done for each in drawings):
        advance(family, [each for each in drawings if not each.done], at_once=2 * len(drawings))
        tell(sum(each.index for each in drawings) / sum(each.total for each in drawings))
    return [each.image() for each in drawings]
