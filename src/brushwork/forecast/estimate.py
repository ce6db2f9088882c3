"""The forecast of a run: memory in each phase, disk, time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork import execution, memory
from brushwork.forecast import disk, optimizers
from brushwork.forecast.tracking import rehearsal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from brushwork.train import Trainer
    from brushwork.values import Conditioning, Family

DECODED_AT_ONCE = 1 << 20
"""Pixels that ``brushwork.denoise`` decodes together."""
DRAWN_AT_ONCE = 8
"""Pictures that ``brushwork.generate`` draws together."""
WORKSPACE = {False: (0.45, 40_000_000), True: (0.1, 40_000_000)}
"""On a CPU: what kernels and the allocator take besides, for each byte of activations and at all; where large blocks
are given back (``memory.give_back_large_blocks``) there are no holes. Found on the configurations in
``benchmarks/memory.py`` that are marked so; the others check it."""
KERNELS = "kernels' workspace"
LOADING = "loading the base"
"""What has been by the time of the forecast, and so is measured: a file of floats beside its copy in halves."""
FLOAT = 4
UNIT = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Phase:
    """A part of a run with what lies in memory then, in bytes."""

    name: str
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Forecast:
    """What a run will take. Bytes, seconds."""

    device: str
    phases: tuple[Phase, ...]
    disk: Mapping[str, int]
    available: int
    unknown: str = ""
    """Why a part could not be rehearsed, and so is not in it; "": nothing is missing."""
    seconds_per_step: float | None = None
    steps: int = 0
    advice: tuple[str, ...] = field(default=())
    """Settings that would make it fit, the least costly first; empty when it fits."""

    @property
    def peak(self) -> Phase:
        """The phase that takes most."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def fits(self) -> bool:
        """Whether what is still to come is within what is there."""
        return all(phase.total <= self.available for phase in self.phases if phase.name != LOADING)

    def lines(self) -> list[str]:
        """Return sentences for people."""
        room = f"of {size(self.available)} there are" if self.fits else f"but there are only {size(self.available)}"
        said = [f"memory ({self.device}): {size(self.peak.total)} at most, while {self.peak.name}; {room}"]
        said += [
            f"  {phase.name}: {size(phase.total)} = "
            + " + ".join(f"{name} {size(count)}" for name, count in phase.parts.items() if count)
            for phase in self.phases
        ]
        if self.unknown:
            said.append(f"  not counted: {self.unknown}")
        said.append("disk: " + ", ".join(f"{name} {size(count)}" for name, count in self.disk.items() if count))
        if self.seconds_per_step is not None:
            whole = self.seconds_per_step * self.steps
            said.append(f"time: {self.seconds_per_step:.3g} s a step, {duration(whole)} for {self.steps:,} steps")
        if self.advice:
            said.append("it will not fit; what would help, the least costly first:")
            said += [f"  {each}" for each in self.advice]
        return said

    def to_json(self) -> dict[str, Any]:
        """Return the numbers."""
        return {
            "device": self.device,
            "peak_bytes": self.peak.total,
            "peak_phase": self.peak.name,
            "available_bytes": self.available,
            "fits": self.fits,
            "phases": {phase.name: dict(phase.parts) for phase in self.phases},
            "disk": dict(self.disk),
            "not_counted": self.unknown or None,
            "seconds_per_step": self.seconds_per_step,
            "seconds": None if self.seconds_per_step is None else self.seconds_per_step * self.steps,
            "advice": list(self.advice),
        }


def size(count: float) -> str:
    """Write bytes for people.

    >>> size(3_250_000_000)
    '3.25 GB'
    """
    place = 0
    while count >= 1000 and place < len(UNIT) - 1:  # noqa: PLR2004  (decimal units)
        count, place = count / 1000, place + 1
    return f"{count:.3g} {UNIT[place]}"


def duration(seconds: float) -> str:
    """Write seconds for people.

    >>> duration(5000)
    '1 h 23 min'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def of(trainer: Trainer, *, seconds_per_step: float | None = None) -> Forecast:
    """Return the forecast of a run that is prepared but has not begun."""
    from brushwork.forecast.advice import alternatives

    config = trainer.config
    phases, unknown = _phases(trainer, config.train.batch, checkpointing=config.train.gradient_checkpointing)
    forecast = Forecast(
        device=trainer.device,
        phases=phases,
        disk=disk.of(trainer),
        available=available(trainer.device),
        unknown=unknown,
        seconds_per_step=seconds_per_step,
        steps=trainer.total_steps,
    )
    if forecast.fits:
        return forecast
    from dataclasses import replace

    return replace(forecast, advice=alternatives(trainer, forecast))


def available(device: str) -> int:
    """Return the bytes that this process has or could have."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + int(torch.cuda.memory_reserved(device))
    import psutil

    return int(psutil.virtual_memory().available) + memory.used(device)


def _phases(trainer: Trainer, batch: int, *, checkpointing: bool) -> tuple[tuple[Phase, ...], str]:
    """Return what lies in memory while encoding, training and drawing."""
    weights, held, config = standing(trainer), kept(trainer), trainer.config.train
    # What else is known to be there by now: the average and the base's copy are made before the first step.
    there = sum(weights.values()) + held["average"] + held["the base's copy"]
    process = max(0, memory.used(trainer.device) - there) if trainer.device == "cpu" else 0
    before = {"python and libraries": process, **weights}
    try:
        encoding, step, drawing, unknown = encode_peak(trainer), 0, 0, "activations, for the base is quantised"
        if config.base_quantization in ("none", "fp8"):  # of the others' kernels torch knows no shapes
            step, drawing = step_peak(trainer, batch, checkpointing=checkpointing), draw_peak(trainer)
            unknown = _beside(trainer)
    except dynamic() as error:
        reason = f"activations, for this base's denoiser decides by numbers what it computes ({type(error).__name__})"
        encoding, step, drawing = 0, 0, 0
        unknown = reason
    gradients, activations = split(trainer, step)
    during = {**before, **held, "gradients": gradients, "activations": activations}
    if trainer.device == "cpu":
        during[KERNELS] = workspace(activations, mapped=memory.gives_back())
    phases = [Phase("encoding", {**before, "activations": encoding}), Phase("training", during)]
    if drawing:
        phases.append(Phase("drawing samples", {**before, **held, "activations": drawing}))
    if trainer.device == "cpu":  # elsewhere both lie in main memory, beside the model's
        phases.insert(0, Phase(LOADING, {"at most, as measured": memory.peak(trainer.device)}))
        phases.append(Phase("writing a checkpoint", {**before, **held, "the checkpoint": disk.checkpoint(trainer)}))
    return tuple(phases), unknown


def workspace(activations: int, *, mapped: bool) -> int:
    """Return what a CPU's kernels and the allocator take besides activations."""
    share, fixed = WORKSPACE[mapped]
    return round(share * activations) + fixed


def split(trainer: Trainer, step: int) -> tuple[int, int]:
    """Return what of a step's peak are gradients, and what activations; of gradients freed on the way, the largest."""
    sizes = [each.numel() * each.element_size() for each in trainer.named.values()]
    if trainer.config.train.fused_backward:
        return max(sizes), step
    return sum(sizes), max(0, step - sum(sizes))


def _beside(trainer: Trainer) -> str:
    """Say what an objective takes besides the denoiser's own step."""
    kind = trainer.config.objective.type
    return "" if kind == "denoising" else f"what the objective {kind} does besides the denoiser's own step"


def dynamic() -> tuple[type[Exception], ...]:
    """Return the errors of arithmetic whose shapes depend on numbers, which a rehearsal has not."""
    from torch._subclasses import fake_tensor as fake

    return (fake.DataDependentOutputException, fake.DynamicOutputShapeException)


def standing(trainer: Trainer) -> dict[str, int]:
    """Return the bytes of all modules' weights on the device, adapters apart; freed and swapped ones take none."""
    family, here = trainer.family, trainer.device.split(":")[0]
    own = {id(each) for each in trainer.named.values()} if not trainer.method.updates_base else set()
    parts = {family.denoiser_name: family.denoiser, "vae": family.vae, **family.text_encoders}
    found = {
        name: sum(
            each.numel() * each.element_size()
            for each in (*module.parameters(), *module.buffers())
            if each.device.type == here and id(each) not in own
        )
        for name, module in parts.items()
    }
    adapter = sum(each.numel() * each.element_size() for each in trainer.named.values() if id(each) in own)
    return {**found, "adapter": adapter}


def kept(trainer: Trainer) -> dict[str, int]:
    """Return what is kept from the first step on."""
    config, trained = trainer.config, list(trainer.named.values())
    whole = sum(each.numel() * 4 for each in trained)
    average = whole if config.train.use_ema and config.train.ema_device in (None, trainer.device) else 0
    copy = whole if getattr(config.method, "keep_base", False) else 0
    return {
        "optimizer": optimizers.state(config.optimizer.type, trained),
        "average": average,
        "the base's copy": copy if trainer.device == "cpu" else 0,
    }


def step_peak(trainer: Trainer, batch: int, *, checkpointing: bool) -> int:
    """Return the bytes that a forward and backward pass takes at its peak, with the gradients that last."""
    import torch

    family, config = trainer.family, trainer.config
    pairs = 2 if trainer.data.rejected else 1
    count, mixed = batch * pairs, config.train.mixed_precision != "no"
    trained = list(trainer.named.values())
    if trainer.config.train.fused_backward:  # gradients go as they come: what leads to the small ones is all that lasts
        trained = [each for each in trained if each.ndim < 2] or trained  # noqa: PLR2004  (vectors)
    interval = config.train.gradient_checkpointing_interval
    with _checkpointed(family, interval, wanted=checkpointing), quiet(), rehearsal() as watch, torch.enable_grad():
        text = _conditioning(family, count, grad=bool(trainer.method.trains & {"text_encoder", "embeddings"}))
        if family.reads_geometry:
            text = text.told(geometry=torch.zeros(count, 6, dtype=torch.long, device=trainer.device))
        latents = _latents(family, count, trainer)
        watch.peak = watch.now
        with torch.autocast(trainer.device.split(":")[0], dtype=trainer.dtype, enabled=mixed):
            told = text.to(trainer.device, trainer.dtype)
            said = family.predict(latents, torch.zeros(count, device=trainer.device), told)
            loss = (said.float() - latents).square().mean()
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        del gradients, loss, said, told, text, latents
    return watch.peak


def encode_peak(trainer: Trainer) -> int:
    """Return the bytes that encoding one picture, or one caption, takes at its peak."""
    with quiet(), rehearsal() as watch:
        _conditioning(trainer.family, 1, grad=False)
    return max(watch.peak, image_peak(trainer))


def image_peak(trainer: Trainer) -> int:
    """Return the bytes that encoding one picture takes at its peak."""
    import torch

    family, side = trainer.family, trainer.config.data.resolution  # type: ignore[attr-defined]  # every source has one
    dtype = next(family.vae.parameters()).dtype
    with quiet(), torch.no_grad(), rehearsal() as watch:
        family.encode_images(torch.zeros(1, 3, side, side, device=trainer.device, dtype=dtype))
    return watch.peak


def draw_peak(trainer: Trainer) -> int:
    """Return the bytes that drawing the samples takes at its peak: 0 when none are drawn."""
    import torch

    family, validation = trainer.family, trainer.config.validation
    side = trainer.config.data.resolution  # type: ignore[attr-defined]  # every source has one
    drawn = min(validation.samples_during_training, DRAWN_AT_ONCE, max(1, len(validation.prompts)))
    if not validation.samples_during_training:
        return 0
    twice = 1 if family.guidance == "embedded" or validation.guidance_scale in (0, 1) else 2
    peaks = []
    with quiet(), torch.no_grad():
        with rehearsal() as watch:
            latents = _latents(family, drawn * twice, trainer)
            text = _conditioning(family, drawn * twice, grad=False)
            dtype = next(family.denoiser.parameters()).dtype
            text = text.to(trainer.device, dtype)
            family.predict(latents.to(dtype), torch.zeros(len(latents), device=trainer.device), text)
        peaks.append(watch.peak)
        with rehearsal() as watch:
            together = min(drawn, max(1, DECODED_AT_ONCE // side**2))
            latents = _latents(family, together, trainer)
            family.decode_latents(latents.to(next(family.vae.parameters()).dtype))
        peaks.append(watch.peak)
    return max(peaks)


def _latents(family: Family, count: int, trainer: Trainer) -> Any:
    import torch

    side = trainer.config.data.resolution // family.pixels_per_latent  # type: ignore[attr-defined]
    return torch.zeros(count, family.latent_channels, side, side, device=trainer.device)


def _conditioning(family: Family, count: int, *, grad: bool) -> Conditioning:
    import torch

    with torch.set_grad_enabled(grad):
        return family.encode_text([""] * count)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave torch's random numbers as they are."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


@contextlib.contextmanager
def _checkpointed(family: Family, interval: int, *, wanted: bool) -> Iterator[None]:
    """Within this context the denoiser's blocks are checkpointed or not, whatever they were."""
    denoiser: Any = family.denoiser
    if not getattr(denoiser, "_supports_gradient_checkpointing", False):
        yield
        return
    was = denoiser.is_gradient_checkpointing
    if wanted:
        execution.checkpoint(denoiser, interval)
    else:
        denoiser.disable_gradient_checkpointing()
    try:
        yield
    finally:
        denoiser.disable_gradient_checkpointing()
        if was:
            execution.checkpoint(denoiser, interval)
