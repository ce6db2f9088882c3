"""Any other text-to-image pipeline of diffusers: to draw with and to compare with, not to train.

The pipeline's own code draws, with its own scheduler, or another that its own is exchangeable with. Nothing from the
model's folder is run: every part must be a class of diffusers or transformers, with safetensors weights.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import samplers
from brushwork.components import fingerprint, no_bars
from brushwork.errors import ConfigError, ModelError
from brushwork.settings import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import PIL.Image
    import torch

    from brushwork.families import Described
    from brushwork.generate import Request

TAKES_ANY = True
"""``families.load`` asks this one last."""
DRAWS_AS = {"VersatileDiffusionPipeline": "VersatileDiffusionTextToImagePipeline"}
"""Pipelines whose text-to-image part is a class of its own."""
OWN = {"FlowMatchEulerDiscreteScheduler": "Euler"}
DENOISERS = ("transformer", "unet", "image_unet", "prior", "decoder", "denoiser")
UNIT = 8
"""Sides are multiples of so many pixels; what a pipeline cannot draw it says itself."""


def recognises(described: Described) -> bool:
    """Return whether diffusers has the pipeline that the index names."""
    import diffusers

    kind = described.index.get("_class_name")
    return isinstance(kind, str) and kind.endswith("Pipeline") and hasattr(diffusers, kind)


def load(described: Described, *, dtype: torch.dtype | None = None, device: str = "cpu") -> AnyPipeline:
    """Load a pipeline by its own class.

    Raises:
        ModelError: A part is of no class of diffusers or transformers, or has no safetensors weights.
    """
    import diffusers
    import torch

    kind = described.index["_class_name"]
    for name, part in described.index.items():
        library = part[0] if isinstance(part, list) and part else None
        if library is not None and not _known(library):
            message = f"base: {described.asked!r}: its part {name} comes from {library!r}; code of others is not run."
            raise ModelError(message)
    try:
        with no_bars():
            whole = getattr(diffusers, DRAWS_AS.get(kind, kind)).from_pretrained(
                described.path, use_safetensors=True, local_files_only=True
            )
    except (OSError, ValueError, ImportError, AttributeError, TypeError) as error:
        message = f"base: {described.asked!r} could not be loaded as a {kind}: {str(error).splitlines()[0]}"
        raise ModelError(message) from error
    # Not by an argument: its name differs between versions of diffusers.
    return AnyPipeline(whole.to(device, dtype or torch.float32), kind)


def _known(library: str) -> bool:
    """Return whether a part's library is diffusers, transformers or a module of diffusers' pipelines."""
    from diffusers import pipelines

    return library in ("diffusers", "transformers") or (
        library.isidentifier() and (Path(str(pipelines.__file__)).parent / library).is_dir()
    )


class AnyPipeline:
    """A diffusers pipeline with as much of a family as drawing needs."""

    name = "any_pipeline"
    flow = None
    guidance = "free"
    reads_geometry = False
    size_multiple = pixels_per_latent = UNIT

    def __init__(self, whole: Any, kind: str) -> None:
        whole.set_progress_bar_config(disable=True)
        self.whole, self.kind = whole, kind
        modules = {name: part for name, part in whole.components.items() if hasattr(part, "parameters")}
        first = next((name for name in DENOISERS if name in modules), next(iter(modules), ""))
        if not first:
            message = f"base: a {kind} without any module cannot be drawn with."
            raise ModelError(message)
        self.denoiser_name, self.denoiser = first, modules[first]
        self.vae = modules.get("vae", self.denoiser)
        self.text_encoders = {name: part for name, part in modules.items() if name.startswith("text_encoder")}
        self.fingerprint = fingerprint(*modules.values())
        self.inference_only = f"brushwork has no family for a {kind}, only for drawing with it"
        self.accepted = inspect.signature(type(whole).__call__).parameters
        self.scheduler_config = dict(whole.scheduler.config) if hasattr(whole, "scheduler") else {}
        self.sampler = self._own_sampler()
        self.sampling = Sampling(
            self.sampler, self._default("num_inference_steps", 20), float(self._default("guidance_scale", 1.0))
        )
        self.resolution = self._resolution()

    def _default(self, name: str, otherwise: Any) -> Any:
        found = self.accepted.get(name)
        return otherwise if found is None or found.default in (None, inspect.Parameter.empty) else found.default

    def _resolution(self) -> int:
        """Return the side that the pipeline draws when nobody says one."""
        size = getattr(self.denoiser.config, "sample_size", None)
        scale = getattr(self.whole, "vae_scale_factor", UNIT)
        if isinstance(size, int):
            return size * scale
        return int(getattr(self.whole, "default_sample_size", 1024 // scale)) * scale

    def _own_sampler(self) -> str:
        """Return A1111's name of the scheduler that the pipeline has."""
        kind = type(getattr(self.whole, "scheduler", None)).__name__
        return OWN.get(kind) or next(
            (each for each in samplers.names() if samplers.resolve(each).scheduler == kind), "Euler"
        )

    def unread(self, caption: str) -> str:  # noqa: ARG002  (only the pipeline knows)
        """Return "": pipelines say it themselves."""
        return ""

    def pipeline(self) -> Any:
        """Return the pipeline."""
        return self.whole

    def draw(self, requests: Sequence[Request], tell: Callable[[float], None]) -> list[PIL.Image.Image]:
        """Draw requests one after the other with the pipeline's own code.

        Raises:
            ConfigError: A request asks for what the pipeline cannot do.
        """
        import torch

        self._take(requests[0])
        pictures = []
        for place, request in enumerate(requests):
            generator = torch.Generator().manual_seed(request.seed)
            made = self.whole(**self._arguments(request), generator=generator)
            pictures.append(made.images[0])
            tell((place + 1) / len(requests))
        return pictures

    def _arguments(self, request: Request) -> dict[str, Any]:
        if request.init is not None:
            message = f"init: a {self.kind} draws from text alone here. Leave the picture out."
            raise ConfigError(message)
        wanted = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt or None,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "height": request.height,
            "width": request.width,
        }
        lacking = [name for name, value in wanted.items() if value is not None and name not in self.accepted]
        refused = [name for name in lacking if name != "guidance_scale" or request.guidance_scale != 1]
        if refused:
            message = f"{refused[0]}: a {self.kind} takes none. Leave it out (guidance: --cfg 1)."
            raise ConfigError(message)
        return {name: value for name, value in wanted.items() if name in self.accepted and value is not None}

    def _take(self, request: Request) -> None:
        """Put the request's sampler into the pipeline, where it may be exchanged."""
        if samplers.resolve(request.sampler).name == self.sampler:
            return
        sampler = samplers.resolve(request.sampler)
        exchangeable = {each.__name__ for each in getattr(self.whole.scheduler, "compatibles", ())}
        if sampler.scheduler not in exchangeable or self.scheduler_config.get("prediction_type") not in (
            "epsilon",
            "v_prediction",
        ):
            message = f"sampler: a {self.kind} is drawn with {self.sampler} only. Use --sampler {self.sampler!r}."
            raise ConfigError(message)
        self.whole.scheduler = samplers.build(sampler, self.scheduler_config)
        self.sampler = sampler.name
