"""What draws one side of a comparison: a model with a family, or any diffusers pipeline.

    drawer = open_drawer("mini+my-lora@0.8")
    for picture in drawer.draw(requests): ...

Both take the same ``generate.Request``. A pipeline of an architecture without a family is for looking only: it draws
with its own scheduler, and its noise is its own, so its pictures are paired by prompt and not by seed.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from brushwork import families, generate, infotext, models, registry
from brushwork.adapters import digest
from brushwork.devices import resolve_device, resolve_dtype
from brushwork.errors import ConfigError, ModelError
from brushwork.pairs import hash_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brushwork.generate import Picture, Request
    from brushwork.models import LoadedModel
    from brushwork.settings import Sampling


class Drawer(Protocol):
    """Draws pictures from requests."""

    @property
    def noise(self) -> str | None:
        """The kind of the noise that a seed gives, such as ``4x8``; None: not comparable with any other."""

    @property
    def sampling(self) -> Sampling | None:
        """How it was made to be drawn."""

    @property
    def facts(self) -> dict[str, Any]:
        """What is said of the model beside its pictures."""

    def draw(self, requests: Sequence[Request]) -> Iterator[Picture]:
        """Yield the pictures in order."""


class FamilyDrawer:
    """A model that one of brushwork's families knows."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    @property
    def noise(self) -> str:
        """Latent channels and the pixels that one latent covers."""
        family = self.model.family
        return f"{getattr(family.denoiser.config, 'in_channels', '?')}x{family.pixels_per_latent}"

    @property
    def sampling(self) -> Sampling | None:
        """As the model says."""
        return self.model.sampling

    @property
    def facts(self) -> dict[str, Any]:
        """Family and size."""
        family = self.model.family
        modules = [family.denoiser, family.vae, *family.text_encoders.values()]
        return {
            "architecture": family.name,
            "parameters": sum(each.numel() for module in modules for each in module.parameters()),
            "adapters": [
                {"name": each.name, "weight": each.weight, "layers": each.layers, "hash": each.hash, "kind": each.kind}
                for each in self.model.adapters
            ],
        }

    def draw(self, requests: Sequence[Request]) -> Iterator[Picture]:
        """Draw as ``brushwork generate`` does."""
        model = self.model
        return generate.draw(model.family, requests, label=model.name, model_hash=model.hash, adapters=model.adapters)


class PipelineDrawer:
    """Any text-to-image pipeline of diffusers."""

    noise = None
    sampling = None

    def __init__(self, pipeline: Any, name: str) -> None:
        self.pipeline, self.name = pipeline, name
        self.takes = set(inspect.signature(pipeline.__call__).parameters)
        if "prompt" not in self.takes:
            message = f"model: {name!r} is a {type(pipeline).__name__}, which draws nothing from a text."
            raise ModelError(message)

    @property
    def facts(self) -> dict[str, Any]:
        """The pipeline's class and size."""
        modules = [each for each in self.pipeline.components.values() if hasattr(each, "parameters")]
        count = sum(parameter.numel() for module in modules for parameter in module.parameters())
        return {"architecture": type(self.pipeline).__name__, "parameters": count, "adapters": []}

    def draw(self, requests: Sequence[Request]) -> Iterator[Picture]:
        """Draw one after the other, each with a generator of its own on the CPU.

        Raises:
            ConfigError: A negative prompt that this pipeline has no use for.
        """
        import torch

        self.pipeline.set_progress_bar_config(disable=True)
        for request in requests:
            wanted = {
                "prompt": request.prompt,
                "negative_prompt": request.negative_prompt or None,
                "num_inference_steps": request.steps,
                "guidance_scale": request.guidance_scale,
                "width": request.width,
                "height": request.height,
            }
            given = {key: value for key, value in wanted.items() if value is not None and key in self.takes}
            if request.negative_prompt and "negative_prompt" not in given:
                message = (
                    f"negative: {self.name!r} is a {type(self.pipeline).__name__}, which takes no negative prompt."
                )
                raise ConfigError(message)
            noise = torch.Generator("cpu").manual_seed(request.seed)
            image = self.pipeline(**given, generator=noise).images[0]
            yield self._picture(image, request)

    def _picture(self, image: Any, request: Request) -> Picture:
        kind, scheduler = type(self.pipeline).__name__, type(self.pipeline.scheduler).__name__
        fields = {
            "Steps": request.steps,
            "Sampler": scheduler,
            "CFG scale": request.guidance_scale,
            "Seed": request.seed,
            "Size": f"{image.width}x{image.height}",
            "Model": self.name,
            "Pipeline": kind,
        }
        asked = {"prompt": request.prompt, "negative_prompt": request.negative_prompt, "seed": request.seed}
        about = {"model": self.name, "pipeline": kind, "scheduler": scheduler, "request": asked}
        text = infotext.write(request.prompt, request.negative_prompt, fields)
        return generate.Picture(image, request, text, about)


def open_drawer(text: str, *, device: str = "auto", precision: str = "no") -> Drawer:
    """Open a MODEL, with a family if one knows it, else as a diffusers pipeline.

    Raises:
        ModelError: It is not there, or is neither.
    """
    place = resolve_device(device)
    dtype = resolve_dtype(precision, place)  # type: ignore[arg-type]  # the command line has checked it
    folder = unknown_pipeline(text)
    if folder is None:
        return FamilyDrawer(models.open_model(text, dtype=dtype, device=place))
    return PipelineDrawer(_pipeline(folder, text, dtype).to(place), _name(text))


def unknown_pipeline(text: str) -> Path | None:
    """Return the folder of a pipeline that no family knows; None for everything that goes the usual way.

    Raises:
        ModelError: An adapter was asked for on top of it, or there is no such model.
    """
    spec = models.parse(text)
    if models.as_run(spec.base) is not None:
        return None
    described = families.describe(spec.base)
    known = any(registry.load("families", name).recognises(described) for name in registry.names("families"))
    if known or described.is_file:
        return None
    if spec.adapters:
        kind = described.index.get("_class_name", "of an unknown kind")
        message = f"model: {spec.base!r} is {kind}, which no family knows, so adapters cannot be put on it."
        raise ModelError(message)
    return described.path


def _pipeline(folder: Path, text: str, dtype: Any) -> Any:
    """Load a pipeline from safetensors and known classes only."""
    from diffusers import DiffusionPipeline

    try:
        return DiffusionPipeline.from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, AttributeError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        message = f"model: no family knows {text!r}, and diffusers cannot open it as a pipeline: {reason}"
        raise ModelError(message) from error


def _name(text: str) -> str:
    path = Path(text).expanduser()
    return path.resolve().name if path.is_dir() else text


def identity(text: str) -> str:
    """Return a hash of all weights that a MODEL's text stands for, with their strengths; nothing is loaded.

    Raises:
        ModelError: A part of it is not there.
    """
    return "+".join(f"{_of_files(path)}@{weight!r}" for path, weight in models.parts(text))


def _of_files(path: Path) -> str:
    """Hash a folder or a file; the time of its newest file is what tells a change within one process."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return _hashed(path, len(files), max((each.stat().st_mtime_ns for each in files), default=0))


@functools.lru_cache(maxsize=64)
def _hashed(path: Path, files: int, newest: int) -> str:  # noqa: ARG001  (they are what the cache looks at)
    if path.is_dir():
        return hash_files(path)
    with path.open("rb") as file:
        return digest(file)[:32]
