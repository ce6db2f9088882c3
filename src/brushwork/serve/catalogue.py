"""Models, adapters and embeddings by name. A client never names a path and never learns one.

    catalogue = Catalogue(ServeConfig(models=(Path("models"),)))
    catalogue.find("model", "mini").path            # what brushwork.models opens

There are ``mini``, the finished runs, and in the folders of models every diffusers folder and ``.safetensors`` file. Of
a file only the header is read; what is in it is untrusted text.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from brushwork import mask_channels, models, runs
from brushwork.controlnet import CLASSES
from brushwork.errors import BrushworkError, ModelError, nearest
from brushwork.filehash import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brushwork.serve.settings import ServeConfig

Kind = Literal["model", "adapter", "embedding", "vae", "controlnet"]
HEADER = 100 << 20
"""Bytes; a longer header is none."""
ABOUT = 100_000
"""Characters of a header's entry that are kept."""
SHORT = 10
ENCODERS = 2
CONFIG = 1 << 20
"""Bytes; a longer config.json is of something else."""
SUFFIX = ".safetensors"
_VAE = ("first_stage_model.", "encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_CONTROL = (
    "controlnet_cond_embedding.conv_in.weight",
    "input_hint_block.0.weight",
    "controlnet_blocks.0.weight",
    "control_layers.0.after_proj.weight",
)
_LORA = (".lora_", "lora_A", "lora_B", "lora_up", "lora_down", "hada_", "lokr_", "oft_")
_WHOLE = ("model.diffusion_model.", "first_stage_model.", "double_blocks.", "joint_blocks.")


@dataclass(frozen=True)
class Entry:
    """Something that can be named in a request."""

    name: str
    kind: Kind
    path: str
    """What ``brushwork.models`` opens; never shown."""
    detail: str = ""
    about: dict[str, str] = field(default_factory=dict)
    """Of a file: what its header says."""
    sha256: str | None = None
    inpainting: bool = False
    """Whether it is a model whose UNet sees masks."""

    @property
    def file(self) -> bool:
        """Whether it is one file, which has a hash; a folder has none."""
        return self.path.endswith(SUFFIX)

    @property
    def title(self) -> str:
        """The name with the start of the hash, as A1111 shows it."""
        return f"{self.name} [{self.sha256[:SHORT]}]" if self.sha256 else self.name


class Catalogue:
    """What is there, looked for anew by ``refresh``."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self._known: dict[Kind, dict[str, Entry]] = {}
        self._hashes: dict[tuple[str, int, int], str] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look again."""
        known: dict[Kind, dict[str, Entry]] = {kind: {} for kind in get_args(Kind)}
        for entry in self._look():
            there = known[entry.kind]
            name = entry.name if entry.name not in there else f"{entry.name} ({len(there)})"
            there[name] = replace(entry, name=name)
        self._known = known

    def all(self, kind: Kind) -> list[Entry]:
        """Return what there is of a kind, the embedded model first."""
        return list(self._known[kind].values())

    def find(self, kind: Kind, name: str) -> Entry:
        """Return what a name or a title means; a weight of adapters may follow: ``mini+ink@0.8`` is not a name.

        Raises:
            ModelError: With the nearest name.
        """
        there = self._known[kind]
        for entry in there.values():
            if name in (entry.name, entry.title) or name == (entry.sha256 or "")[:SHORT] != "":
                return entry
        hint = nearest(name, there) if there else f" There are no {kind}s."
        message = f"{kind}: there is no {name!r}.{hint}"
        raise ModelError(message)

    def hash(self, entry: Entry) -> Entry:
        """Return the entry with its SHA-256, which takes reading the file once; folders have none."""
        from pathlib import Path

        path = Path(entry.path)
        if entry.sha256 or not path.is_file():
            return entry
        stat = path.stat()
        key = (entry.path, stat.st_size, stat.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = sha256(path)
        hashed = replace(entry, sha256=self._hashes[key])
        self._known[entry.kind][entry.name] = hashed
        return hashed

    def _look(self) -> Iterator[Entry]:
        yield Entry("mini", "model", "mini", "embedded")
        for run in runs.find(self.config.runs):
            with contextlib.suppress(BrushworkError, OSError, ValueError, TypeError, AttributeError, RecursionError):
                yield from _of_run(run)  # a folder that somebody broke is no model
        for folder in self.config.models:
            if not folder.is_dir():
                message = f"models: there is no folder {str(folder)!r}"
                raise ModelError(message)
            yield from _of_folder(folder)
        yield from self._controlnets()

    def _controlnets(self) -> Iterator[Entry]:
        beside = self.config.runs.absolute().parent / "controlnet"
        for path in (*self.config.controlnet, *([beside] if beside.is_dir() else [])):
            if not path.exists():
                message = f"controlnet: there is no {str(path)!r}"
                raise ModelError(message)
            found = _of_folder(path) if path.is_dir() else filter(None, [_of_file(path)])
            yield from (each for each in found if each.kind == "controlnet")


def _of_run(run: runs.RunFolder) -> Iterator[Entry]:
    if run.record.get("status") != "done" or not run.weights.is_dir():
        return
    config = run.config
    detail = f"{config.method.type} on {_shown(config.base)}"
    yield Entry(run.path.name, "model", str(run.path), detail)
    if not (run.weights / "model_index.json").is_file():
        yield Entry(run.path.name, "adapter", str(run.path), detail)


def _shown(base: str) -> str:
    """Return a base without the folders it lies in."""
    return base.rstrip("/").rsplit("/", 1)[-1] if base.startswith(("/", ".", "~")) else base


def _of_folder(folder: Path) -> Iterator[Entry]:
    root = folder.resolve()
    for path in sorted(root.rglob("*")):
        if not path.resolve().is_relative_to(root):
            continue  # a link that leads out of the folder
        if path.name == "model_index.json":
            inpainting = _sees_masks(path.parent / "unet" / "config.json")
            yield Entry(path.parent.name, "model", str(path.parent), "diffusers folder", inpainting=inpainting)
        elif path.name == "config.json" and _kind_of(path) is not None and not _inside_pipeline(path, root):
            yield Entry(path.parent.name, _kind_of(path) or "vae", str(path.parent), "diffusers folder")
        elif path.suffix == SUFFIX and path.is_file() and not _inside_pipeline(path, root):
            entry = _of_file(path)
            if entry is not None:
                yield entry


def _kind_of(config: Path) -> Kind | None:
    """Return what a diffusers folder of one part is, by its config; None for what cannot be named in a request."""
    kinds: dict[str, Kind] = {"AutoencoderKL": "vae", **dict.fromkeys(CLASSES, "controlnet")}
    return kinds.get(str(_read_config(config).get("_class_name")))


def _sees_masks(config: Path) -> bool:
    """Return whether a UNet's config is of one for inpainting."""
    return _read_config(config).get("in_channels") == mask_channels.NINE


def _read_config(config: Path) -> dict[str, Any]:
    """Return what a ``config.json`` holds; nothing where it is none."""
    if not config.is_file() or config.stat().st_size > CONFIG:
        return {}
    try:
        read = json.loads(config.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _inside_pipeline(path: Path, root: Path) -> bool:
    return any((each / "model_index.json").is_file() for each in path.parents if each.is_relative_to(root))


def _of_file(path: Path) -> Entry | None:
    """Return what a file's header says that it is; None when it says nothing that is known."""
    header = read_header(path)
    beside = path.parent / "config.json"
    if header is None or _kind_of(beside) is not None:
        return None
    said = header.pop("__metadata__", {})
    about = {str(key)[:ABOUT]: str(value)[:ABOUT] for key, value in said.items()} if isinstance(said, dict) else {}
    keys = list(header)
    if any(key.endswith(_CONTROL) for key in keys):
        return Entry(path.stem, "controlnet", str(path), "single file", about)
    if any(mark in key for key in keys for mark in _LORA):
        return Entry(path.stem, "adapter", str(path), "adapter", about)
    if any(key.endswith("decoder.conv_in.weight") for key in keys) and all(key.startswith(_VAE) for key in keys):
        return Entry(path.stem, "vae", str(path), "single file", about)
    if any(key.startswith(_WHOLE) for key in keys):
        first = header.get(mask_channels.FIRST)
        shape = first.get("shape") if isinstance(first, dict) else None
        inpainting = isinstance(shape, list) and shape[1:2] == [mask_channels.NINE]
        return Entry(path.stem, "model", str(path), "single file", about, inpainting=inpainting)
    return Entry(path.stem, "embedding", str(path), "embedding", about) if _is_embedding(header) else None


def _is_embedding(header: dict[str, Any]) -> bool:
    """Return whether a header is of vectors for one or two text encoders."""
    shapes = [value.get("shape") for value in header.values() if isinstance(value, dict)]
    return 1 <= len(header) <= ENCODERS and all(isinstance(each, list) and len(each) in (1, 2) for each in shapes)


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the JSON header of a ``.safetensors`` file; None when it has none of sensible length."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(HEADER, path.stat().st_size):
            return None
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return None
    return header if isinstance(header, dict) else None


def spec(model: Entry, adapters: list[tuple[Entry, float]]) -> models.ModelSpec:
    """Return what ``brushwork.models.open_model`` reads."""
    specs = tuple(models.AdapterSpec(entry.path, weight) for entry, weight in adapters)
    return models.ModelSpec(model.name, model.path, specs)
