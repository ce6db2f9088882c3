"""Drawing: prompts and seeds in, pictures out.

    for picture in draw(family, [Request("a cat", seed=1), Request("a dog", seed=2)]):
        picture.image.show()

A picture depends on its own request only. Its noise comes from one float32 generator on the CPU, seeded with its own
seed, for the initial noise and for every step that draws more; so the batch it was drawn in does not matter (beyond
the last bits of a matrix product), nor does the device that drew it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from brushwork import (
    __version__,
    controlnet,
    denoise,
    hires,
    infotext,
    inpaint,
    mask_channels,
    progress,
    provenance,
    samplers,
    tiling,
    wordings,
)
from brushwork.controlnet import networks
from brushwork.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import PIL.Image

    from brushwork.adapters import Adapter
    from brushwork.hires import Hires
    from brushwork.vaes import Used
    from brushwork.values import Family

SEEDS = 1 << 63
LATER = (
    "variation_seed", "variation_strength", "seed_resize", "noise_multiplier", "mask_blur", "masked_content",
    "only_masked_padding", "mask_strength", "tiling", "hires", "controls",
)  # fmt: skip
"""Of these the provenance says only what is not as usual, so that a picture without them is the same file as before."""
MOST_NOISE = 1.5
"""The largest noise multiplier."""
OURS = ("variation_strength", "seed_resize", "tiling", "hires", "controls")
"""What only our own drawing can do from text alone."""
MOST_BLUR = 64
"""The largest deviation of a mask's blur, in pixels."""


@dataclass(frozen=True)
class Request:
    """One picture to draw.

    Args:
        prompt: What to draw.
        negative_prompt: What to steer away from.
        seed: Of the picture's own noise.
        steps: Denoising steps.
        guidance_scale: How strongly to follow the prompt (CFG); 0 or 1: no guidance, half the work.
        width: In pixels; default: the base's own size.
        height: In pixels; default: the base's own size.
        sampler: An A1111 name, see ``brushwork.samplers``.
        init: A picture to start from, filled to the size (cropped at the longer side).
        mask: With ``init``: white is drawn anew, black is kept.
        strength: With ``init``: how much of it is noised away, above 0 to 1.
        grammar: Whether brackets, BREAK and the like in the prompts mean what they mean to A1111.
        clip_skip: The prompt's encoding ends at this layer of the text encoder, counted from the last; 1: all are used.
        variation_seed: Of other noise, towards which the seed's own is turned.
        variation_strength: How far it is turned, 0 (not at all) to 1 (the other noise).
        seed_resize: Width and height of another size: the seed's noise at that size is in the middle of this picture's,
            so that what it draws there is drawn here, too.
        noise_multiplier: With ``init``: the initial noise is multiplied by this; less leaves a smoother picture.
        mask_blur: With ``mask``: the deviation in pixels of the blur that softens its edge.
        masked_content: With ``mask``: what is under it at first: ``original``, ``fill`` (the colours about it),
            ``latent noise`` or ``latent nothing``.
        only_masked_padding: With ``mask``: the box about it, padded by so many pixels, is drawn at the size that is
            asked for and put back; None: the whole picture is drawn.
        mask_strength: Of the conditioning mask, for bases for inpainting: how wholly the picture under the mask (all of
            it without one) is hidden from them, from 0 to 1. A second pass starts from a picture, too.
        tiling: Whether the picture shall repeat without a seam.
        hires: A second, larger pass.
        controls: ControlNets that steer it, in both passes.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    steps: int = 20
    guidance_scale: float = 7.0
    width: int | None = None
    height: int | None = None
    sampler: str = "DPM++ 2M"
    init: PIL.Image.Image | None = dataclasses.field(default=None, repr=False)
    mask: PIL.Image.Image | None = dataclasses.field(default=None, repr=False)
    strength: float = 0.75
    grammar: bool = False
    clip_skip: int = 1
    variation_seed: int = 0
    variation_strength: float = 0.0
    seed_resize: tuple[int, int] | None = None
    noise_multiplier: float = 1.0
    mask_blur: float = 0.0
    masked_content: inpaint.Content = "original"
    only_masked_padding: int | None = None
    mask_strength: float = 1.0
    tiling: bool = False
    hires: Hires | None = None
    controls: tuple[controlnet.Control, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no model could draw."""
        samplers.resolve(self.sampler)
        _require(self.steps >= 1, f"steps: {self.steps} is too few; at least 1")
        _require(0 <= self.guidance_scale < float("inf"), f"cfg: {self.guidance_scale} is not a number from 0 up")
        guided = self.guidance_scale not in (0, 1)
        _require(
            guided or not self.negative_prompt,
            f"negative: cfg {self.guidance_scale:g} is no guidance, so there is nothing to steer away with; raise cfg "
            f"or leave the negative prompt out",
        )
        _require(0 <= self.seed < SEEDS, f"seed: {self.seed} is not a whole number from 0 to {SEEDS - 1}")
        _require(0 < self.strength <= 1, f"strength: {self.strength} is not above 0 and at most 1")
        _require(self.mask is None or self.init is not None, "mask: a mask needs the picture that it masks (init)")
        if self.mask is not None and self.init is not None:
            mask, init = ("x".join(map(str, picture.size)) for picture in (self.mask, self.init))
            _require(mask == init, f"mask: it is {mask} but the picture is {init}; they must be of one size")
        self._check_noise()
        self._check_mask()

    def _check_noise(self) -> None:
        seed, strength, times = self.variation_seed, self.variation_strength, self.noise_multiplier
        _require(0 <= seed < SEEDS, f"variation_seed: {seed} is not a whole number from 0 to {SEEDS - 1}")
        resize = self.seed_resize
        _require(resize is None or min(resize) >= 1, f"seed_resize: {resize} is no width and height in pixels")
        _require(0 <= strength <= 1, f"variation_strength: {strength} is not from 0 to 1")
        _require(0 <= times <= MOST_NOISE, f"noise_multiplier: {times} is not from 0 to {MOST_NOISE}")
        _require(times == 1 or self.init is not None, "noise_multiplier: it needs a picture to start from (init)")
        _require(self.hires is None or self.init is None, "hires: its first pass is from text alone; leave init out")

    def _check_mask(self) -> None:
        known, padding = inpaint.CONTENTS, self.only_masked_padding
        hint = nearest(self.masked_content, known)
        _require(self.masked_content in known, f"masked_content: there is no {self.masked_content!r}.{hint}")
        _require(0 <= self.mask_blur <= MOST_BLUR, f"mask_blur: {self.mask_blur} is not from 0 to {MOST_BLUR}")
        _require(0 <= self.mask_strength <= 1, f"mask_strength: {self.mask_strength} is not from 0 to 1")
        _require(padding is None or padding >= 0, f"only_masked_padding: {padding} is not a number from 0 up")
        for name in ("mask_blur", "masked_content", "only_masked_padding"):
            usual = getattr(self, name) == getattr(type(self), name)
            _require(usual or self.mask is not None, f"{name}: it needs a mask")


@dataclass(frozen=True)
class Picture:
    """A picture with what it was made from. The request has its size filled in."""

    image: PIL.Image.Image
    request: Request
    infotext: str
    provenance: dict[str, Any]


class OnStep(Protocol):
    """Called after each denoising step."""

    def __call__(self, done: int, total: int) -> None:
        """Say how far drawing is; both numbers count steps of single pictures."""


def draw(
    family: Family,
    requests: Iterable[Request],
    *,
    batch_size: int = 8,
    label: str = "",
    model_hash: str = "",
    adapters: Sequence[Adapter] = (),
    on_step: OnStep | None = None,
) -> Iterator[Picture]:
    """Draw pictures in the order of their requests; those with equal settings are drawn together.

    Args:
        family: The model.
        requests: What to draw.
        batch_size: At most so many pictures at once.
        label: The model's name, for the infotext.
        model_hash: The model's hash, for the infotext.
        adapters: What was applied to it, for the infotext.
        on_step: Told after each step.

    Raises:
        ConfigError: A size, sampler or number of steps does not fit the model.
        RunFailed: The numbers became NaN or infinite.
    """
    asked = [fitted(family, each) for each in requests]
    _warn_of_unread(family, asked)
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, request in enumerate(asked):
        groups[_settings(request)].append(place)
    batches = [group[at : at + batch_size] for group in groups.values() for at in range(0, len(group), batch_size)]
    total, finished = sum(request.steps for request in asked), 0
    facts = facts_of(family, label, model_hash, adapters)
    waiting: dict[int, PIL.Image.Image] = {}
    following = 0
    for batch in sorted(batches):
        members = [asked[place] for place in batch]

        def tell(fraction: float, before: int = finished, steps: int = sum(each.steps for each in members)) -> None:
            if on_step is not None:
                on_step(before + round(fraction * steps), total)

        waiting.update(zip(batch, denoise.pictures(family, members, tell), strict=True))
        finished += sum(each.steps for each in members)
        while following in waiting:
            yield describe(waiting.pop(following), asked[following], facts)
            following += 1


def _require(holds: bool, message: str) -> None:  # noqa: FBT001  (reads as an assertion)
    if not holds:
        raise ConfigError(message)


def fitted(family: Family, request: Request) -> Request:
    """Fill in the size.

    Raises:
        ConfigError: It is no multiple of what one latent covers, or more than the denoiser has places for.
    """
    unit, limit = family.size_multiple, getattr(family, "size_limit", None)
    width = family.resolution if request.width is None else request.width
    height = family.resolution if request.height is None else request.height
    for side, pixels in (("width", width), ("height", height)):
        near = max(1, round(pixels / unit)) * unit
        _require(pixels == near, f"size: {side} {pixels} is not a multiple of {unit}; nearest: {near}")
        _require(limit is None or pixels <= limit, f"size: {side} {pixels} is more than this base can take: {limit}")
    _require(
        family.guidance != "embedded" or not request.negative_prompt,
        f"negative: this base ({family.name}) is told the guidance as a number and makes no second prediction, so "
        f"there is nothing to steer away with; leave the negative prompt out",
    )
    larger = None if request.hires is None else hires.fitted(request.hires, width, height, unit)
    _check_family(family, request)
    return dataclasses.replace(request, width=width, height=height, hires=larger)


def _check_family(family: Family, request: Request) -> None:
    """Refuse what a family cannot do."""
    noises = request.masked_content in ("latent noise", "latent nothing")
    _require(
        not noises or family.flow is None,
        f"masked_content: {request.masked_content} is for models of noise schedules, but this base is a flow model "
        f"({family.name}); use original or fill",
    )
    mask_channels.check(family, request)
    if getattr(family, "draw", None) is not None:
        for name in OURS:
            usual = getattr(request, name) == getattr(Request, name)
            _require(
                usual, f"{name}: this base ({family.name}) is drawn by its own pipeline, which has none; leave it out"
            )
        if request.grammar or request.clip_skip != 1:
            wordings.check_plain(family, request)
        return
    if request.tiling:
        tiling.check(family)
    for each in request.controls:
        networks.check_control(each, family)


def _settings(request: Request) -> tuple[Any, ...]:
    """Return what must be equal for two pictures to be drawn together."""
    return (
        request.width,
        request.height,
        request.steps,
        request.guidance_scale,
        samplers.resolve(request.sampler).name,
        samplers.resolve(request.sampler).schedule,
        request.grammar,
        request.clip_skip,
        request.init is None,
        request.mask is None,
        request.strength if request.init is not None else None,
        request.tiling,
        request.hires is None,
        bool(request.controls),
    )


def _warn_of_unread(family: Family, requests: Sequence[Request]) -> None:
    for text in dict.fromkeys(text for each in requests for text in (each.prompt, each.negative_prompt)):
        unread = family.unread(text)
        if unread:
            progress.note(f"warning: the prompt {text[:40]!r}... is too long for this model; not read: {unread!r}")


def facts_of(
    family: Family, label: str, model_hash: str, adapters: Sequence[Adapter], vae: Used | None = None
) -> dict[str, Any]:
    """Return what the pictures of one call have in common."""
    parameter = next(family.denoiser.parameters())
    return {
        "brushwork": __version__,
        "versions": provenance.versions(),
        "device": str(parameter.device),
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "model": label,
        "model_hash": model_hash,
        "family": family.name,
        "base_fingerprint": family.fingerprint,
        **({"sees_masks": True} if mask_channels.sees_masks(family) else {}),
        **({"vae": vae.name, "vae_hash": vae.hash} if vae is not None else {}),
        "adapters": [
            {"name": each.name, "weight": each.weight, "hash": each.hash, "kind": each.kind} for each in adapters
        ],
    }


def describe(image: PIL.Image.Image, request: Request, facts: dict[str, Any]) -> Picture:
    """Return a drawn picture with its infotext and provenance; ``facts`` from ``facts_of``."""
    sampler = samplers.resolve(request.sampler)
    asked = {each.name: getattr(request, each.name) for each in dataclasses.fields(request)}
    asked |= {"sampler": sampler.name, "schedule": sampler.schedule, "scheduler": sampler.scheduler}
    for name in ("init", "mask"):
        asked[name] = None if asked[name] is None else _pixel_hash(asked[name])
    asked["hires"] = None if request.hires is None else dataclasses.asdict(request.hires)
    asked["controls"] = tuple(each.described(_pixel_hash(each.image)) for each in request.controls)
    if request.init is None:
        del asked["init"], asked["mask"], asked["strength"]
    for name in LATER:
        if asked[name] == getattr(Request, name):
            del asked[name]
    return Picture(image, request, _infotext(request, sampler, facts), facts | {"request": asked})


def _infotext(request: Request, sampler: samplers.Sampler, facts: dict[str, Any]) -> str:
    """Write A1111's fields in its order; the weights of adapters, which it has in the prompt, beside their hashes."""
    adapters = [each for each in facts["adapters"] if each["kind"] == "lora"]
    words = [each for each in facts["adapters"] if each["kind"] == "embedding"]
    fields = {
        "Steps": request.steps,
        "Sampler": sampler.name,
        "Schedule type": sampler.schedule,
        "CFG scale": request.guidance_scale,
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": facts["model_hash"],
        "Model": facts["model"],
        "VAE hash": facts.get("vae_hash", ""),
        "VAE": facts.get("vae", ""),
        **_extras(request, sees_masks="sees_masks" in facts),
        "Clip skip": "" if request.clip_skip == 1 else request.clip_skip,
        "RNG": "CPU",
        "Lora hashes": ", ".join(f"{each['name']}: {each['hash']}" for each in adapters),
        "Lora weights": ", ".join(f"{each['name']}: {each['weight']:g}" for each in adapters),
        "TI hashes": ", ".join(f"{each['name']}: {each['hash']}" for each in words),
        "Version": f"brushwork {facts['brushwork']}",
    }
    given = {name: value for name, value in fields.items() if value != ""}
    return infotext.write(request.prompt, request.negative_prompt, given)


def _extras(request: Request, *, sees_masks: bool) -> dict[str, object]:
    """Return A1111's fields of what was asked for beyond the usual."""
    fields: dict[str, object] = {}
    if request.variation_strength:
        fields |= {"Variation seed": request.variation_seed, "Variation seed strength": request.variation_strength}
    if request.seed_resize is not None:
        fields["Seed resize from"] = "x".join(map(str, request.seed_resize))
    if request.init is not None or request.hires is not None:
        fields["Denoising strength"] = request.strength if request.hires is None else request.hires.strength
        fields |= {"Conditional mask weight": request.mask_strength} if sees_masks else {}
    if request.noise_multiplier != 1:
        fields["Noise multiplier"] = request.noise_multiplier
    if request.mask is not None:
        fields |= {"Mask blur": request.mask_blur or "", "Masked content": request.masked_content}
        if request.only_masked_padding is not None:
            fields |= {"Inpaint area": "Only masked", "Masked area padding": request.only_masked_padding}
    if request.tiling:
        fields["Tiling"] = True
    return fields | hires.infotext(request.hires) | controlnet.infotext(request.controls)


def _pixel_hash(image: PIL.Image.Image) -> str:
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()
