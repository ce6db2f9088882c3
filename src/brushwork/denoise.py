"""The denoising of one batch: noise in, pictures out. ``brushwork.generate`` is how to call it.

Latents stay in float32 whatever the model runs in, so that the noise that samplers add is the same in every precision.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING, Any

from brushwork import flow, mask_channels, samplers
from brushwork.errors import ConfigError, ModelError, RunFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import PIL.Image
    from torch import Generator, Tensor

    from brushwork.generate import Request
    from brushwork.values import Conditioning, Family

DECODED_AT_ONCE = 1 << 20
"""Pixels; the decoder needs far more memory for a pixel than the denoiser."""


def pictures(family: Family, requests: Sequence[Request], tell: Callable[[float], None]) -> list[PIL.Image.Image]:
    """Draw requests whose settings are equal.

    Args:
        family: The model; its modes and gradients are as before afterwards, torch's own random state is not used.
        requests: What differs is the prompt, the negative prompt, the seed, and the pictures to start from.
        tell: Given the fraction that is done, after each step.

    Raises:
        ConfigError: The sampler cannot do so many steps.
        ModelError: The denoiser is not one that draws from noise and text alone.
        RunFailed: The numbers became NaN or infinite.
    """
    import torch

    from brushwork import canvas, stepwise

    own = getattr(family, "draw", None)
    if own is not None:
        return list(own(requests, tell))
    first = requests[0]
    if first.grammar or first.clip_skip != 1 or first.hires is not None or first.tiling or first.controls:
        return stepwise.pictures(family, requests, tell)
    check_channels(family)
    scheduler = scheduler_of(family, first)
    generators = [torch.Generator().manual_seed(each.seed) for each in requests]
    with undisturbed(family):
        timesteps = set_timesteps(scheduler, first, family)
        start = canvas.start(family, scheduler, requests, generators, timesteps[:1])
        texts = start.told(conditioning(family, requests))
        latents = start.latents
        for index, timestep in enumerate(timesteps):
            inputs = latents if family.flow else scheduler.scale_model_input(latents, timestep)
            predicted = _predict(family, inputs, timestep, texts, first)
            latents = step(scheduler, predicted, timestep, latents, generators)
            latents = start.keep(latents, scheduler, timesteps[index + 1 : index + 2])
            tell((index + 1) / len(timesteps))
        check_finite(latents, requests, "latents")
        pixels = decode(family, latents)
        check_finite(pixels, requests, "decoded pixels")
        return start.paste(canvas.to_images(pixels))


def check_channels(family: Family) -> None:
    """Refuse a denoiser that wants something else than noise and text, or a mask and a masked picture besides.

    Raises:
        ModelError: With how many channels it takes.
    """
    denoiser: Any = family.denoiser
    if mask_channels.sees_masks(family):
        return
    if family.flow is None and denoiser.config.in_channels != family.latent_channels:
        message = (
            f"model: its denoiser takes {denoiser.config.in_channels} channels but a picture has "
            f"{family.latent_channels}; it wants a map or a picture besides. Use a model for text to image, or for "
            f"inpainting."
        )
        raise ModelError(message)


def scheduler_of(family: Family, request: Request) -> Any:
    """Return a new scheduler of the request's sampler, with the family's noise schedule."""
    from brushwork import canvas

    sampler = samplers.resolve(request.sampler)
    if family.flow is None:
        return samplers.build(sampler, family.scheduler_config)
    return flow.build(sampler, family, canvas.latent_size(family, request), request.steps)


@contextlib.contextmanager
def undisturbed(family: Family) -> Iterator[None]:
    """Put every module into evaluation mode, without gradients, and everything back as it was afterwards."""
    import torch

    parts = (family.denoiser, family.vae, *family.text_encoders.values())
    training = [module for part in parts for module in part.modules() if module.training]
    try:
        for module in training:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def set_timesteps(scheduler: Any, request: Request, family: Family, *, begun: bool = False) -> Tensor:
    """Set the scheduler to the request's steps; from a picture, only to the last ``strength`` of them.

    Args:
        scheduler: From ``scheduler_of``.
        request: With ``init`` it starts from a picture.
        family: The model.
        begun: It starts from a picture though it has no ``init``: the second pass of another.
    """
    limit = int(scheduler.config.num_train_timesteps)
    if request.steps > limit:
        message = f"steps: {request.steps} is more than the {limit} that the base was trained with"
        raise ConfigError(message)
    from brushwork import canvas

    size = canvas.latent_size(family, request)
    more = flow.timing(scheduler, family.flow, size, request.steps) if family.flow else {}
    try:
        scheduler.set_timesteps(request.steps, device=next(family.denoiser.parameters()).device, **more)
    except (ValueError, IndexError, RuntimeError) as error:
        message = f"sampler: {request.sampler} cannot take {request.steps} steps: {error}"
        raise ConfigError(message) from error
    timesteps: Tensor = scheduler.timesteps
    if request.init is None and not begun:
        return timesteps
    skipped = (request.steps - int(request.steps * request.strength)) * scheduler.order
    if skipped >= len(timesteps):
        message = f"strength: {request.strength} of {request.steps} steps is less than one step; raise either"
        raise ConfigError(message)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    return timesteps[skipped:]


def conditioning(family: Family, requests: Sequence[Request]) -> Conditioning:
    """Encode the texts; with guidance the negative prompts come first."""
    import torch

    parameter = next(family.denoiser.parameters())
    encoded = family.encode_text([each.prompt for each in requests])
    if guided(family, requests[0]):
        encode = getattr(family, "encode_negative", family.encode_text)
        encoded = encoded.concatenate([encode([each.negative_prompt for each in requests]), encoded])
    if family.guidance == "embedded":
        encoded = encoded.told(guidance=torch.full((len(requests),), requests[0].guidance_scale))
    return encoded.to(parameter.device, parameter.dtype)


def guided(family: Family, request: Request) -> bool:
    """Return whether every step takes a second prediction, without the prompt."""
    return family.guidance != "embedded" and request.guidance_scale not in (0, 1)


def _predict(family: Family, latents: Tensor, timestep: Tensor, texts: Conditioning, request: Request) -> Tensor:
    """Return the prediction with guidance (arXiv:2207.12598, equation 6), in float32."""
    import torch

    inputs = torch.cat([latents, latents]) if guided(family, request) else latents
    dtype = next(family.denoiser.parameters()).dtype
    predicted = family.predict(inputs.to(dtype), timestep.expand(len(inputs)), texts).float()
    return combine(family, predicted, request)


def combine(family: Family, predicted: Tensor, request: Request) -> Tensor:
    """Return what is followed of predictions without and with the prompt, (2 B, C, H, W); unguided: as they are."""
    if not guided(family, request):
        return predicted
    without, within = predicted.chunk(2)
    followed = without + request.guidance_scale * (within - without)
    if family.guidance == "renormed" and family.flow is not None:
        return followed * (_token_norms(within, family.flow.patch) / _token_norms(followed, family.flow.patch))
    return followed


def _token_norms(predicted: Tensor, patch: int) -> Tensor:
    """Return each token's length at its latents, (B, 1, H, W)."""
    from torch.nn.functional import avg_pool2d, interpolate

    squares = avg_pool2d(predicted.square().sum(1, keepdim=True), patch) * patch**2
    return interpolate(squares.sqrt(), scale_factor=patch, mode="nearest")


def step(scheduler: Any, predicted: Tensor, timestep: Tensor, latents: Tensor, generators: list[Generator]) -> Tensor:
    """Take one step; samplers that draw noise draw it from each picture's own generator."""
    draws = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": generators} if draws else {}
    stepped: Tensor = scheduler.step(predicted, timestep, latents, **extra, return_dict=False)[0]
    return stepped


def decode(family: Family, latents: Tensor) -> Tensor:
    """Return the pixels of scaled latents, (B, 3, H, W) about [-1, 1], a few at a time."""
    import torch

    pixels = latents.shape[2] * latents.shape[3] * family.pixels_per_latent**2
    dtype = next(family.vae.parameters()).dtype
    parts = torch.split(latents, max(1, DECODED_AT_ONCE // pixels))
    return torch.cat([family.decode_latents(part.to(dtype)).float() for part in parts])


def check_finite(values: Tensor, requests: Sequence[Request], what: str) -> None:
    """Stop rather than show a black picture.

    Raises:
        RunFailed: A value is NaN or infinite.
    """
    for row, request in zip(values, requests, strict=True):
        if not bool(row.isfinite().all()):
            message = (
                f"drawing {request.prompt!r} (seed {request.seed}): the {what} became NaN or infinite.\n"
                f"Try precision no or bf16, a lower cfg, another sampler, or an adapter weight nearer to 0."
            )
            raise RunFailed(message)
