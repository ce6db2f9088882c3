"""What draws one side of a comparison, and what is said of it beside its pictures.

    opener = Opener()
    drawer = opener("mini+my-lora@0.8")
    for picture in drawer.draw(requests): ...

A pipeline of an architecture that brushwork only draws with has noise of its own, so its pictures are paired with
others by prompt and not by seed.
"""

from __future__ import annotations

import functools
import gc
from typing import TYPE_CHECKING, Any

from brushwork import generate, mask_channels, models
from brushwork.devices import resolve_device, resolve_dtype
from brushwork.filehash import sha256
from brushwork.pairs import hash_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from brushwork.generate import Picture, Request
    from brushwork.models import LoadedModel
    from brushwork.settings import Sampling

LARGE = 100e6
"""Parameters."""


class Drawer:
    """An opened model."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    def noise(self, request: Request) -> str | None:
        """Return the shape of the noise that a request starts from, such as ``4x8x8``.

        None where a pipeline makes its own.
        """
        family: Any = self.model.family
        if hasattr(family, "draw"):
            return None
        sides = (side or family.resolution for side in (request.height, request.width))
        latents = "x".join(str(side // family.pixels_per_latent) for side in sides)
        return f"{getattr(mask_channels.plain(family).config, 'in_channels', '?')}x{latents}"

    @property
    def sampling(self) -> Sampling | None:
        """How it was made to be drawn."""
        return self.model.sampling

    @property
    def facts(self) -> dict[str, Any]:
        """Architecture, size and adapters."""
        family: Any = self.model.family
        modules = {id(each): each for each in (family.denoiser, family.vae, *family.text_encoders.values())}
        return {
            "architecture": getattr(family, "kind", family.name),
            "parameters": sum(each.numel() for module in modules.values() for each in module.parameters()),
            "adapters": [
                {"name": each.name, "weight": each.weight, "layers": each.layers, "hash": each.hash, "kind": each.kind}
                for each in self.model.adapters
            ],
        }

    def draw(self, requests: Sequence[Request]) -> Iterator[Picture]:
        """Draw as ``brushwork generate`` does."""
        model = self.model
        return generate.draw(model.family, requests, label=model.name, model_hash=model.hash, adapters=model.adapters)


class Opener:
    """Opens models, and keeps the last one: neighbouring cells of a sweep often have the same."""

    def __init__(self, device: str = "auto", precision: str = "no") -> None:
        self.device, self.precision = device, precision
        self._text: str | None = None
        self._drawer: Drawer | None = None

    def __call__(self, text: str) -> Drawer:
        """Return what draws a MODEL."""
        if self._text != text or self._drawer is None:
            self.forget()  # two models at once may be more than the device holds
            place = resolve_device(self.device)
            dtype = resolve_dtype(self.precision, place)  # type: ignore[arg-type]  # one of the three words
            self._drawer = Drawer(models.open_model(text, dtype=dtype, device=place))
            self._text = text
        return self._drawer

    def forget(self) -> None:
        """Let the last model go."""
        large = self._drawer is not None and self._drawer.facts["parameters"] > LARGE
        self._text = self._drawer = None
        if large:  # looking for cycles takes longer than a small one is worth
            gc.collect()


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
    return hash_files(path) if path.is_dir() else sha256(path)[:32]
