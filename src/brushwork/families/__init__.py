"""Families: one file for each base architecture; the file name is the registered name.

    family = load("mini")                       # or a hub id, a diffusers folder, a .safetensors file

A family's module has ``recognises(described) -> bool`` and ``load(described, ...) -> Family``. Nothing is ever executed
from a model folder: components are loaded by their known classes from JSON configs and safetensors weights only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import hub, registry
from brushwork.errors import ModelError, listing, nearest

if TYPE_CHECKING:
    import torch

    from brushwork.values import Family

ASSETS = Path(__file__).parent.parent / "assets"
EMBEDDED = ("mini",)


@dataclass(frozen=True)
class Described:
    """A base as it lies on disk: a pipeline folder with its index, or a single file with its keys."""

    asked: str
    path: Path
    index: dict[str, Any] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    config: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether this is a single-file checkpoint."""
        return self.path.is_file()


def load(
    base: str,
    *,
    revision: str | None = None,
    config: str | None = None,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> Family:
    """Load a base model.

    Args:
        base: ``mini``, a diffusers folder, a ``.safetensors`` file, or a hub id.
        revision: The hub revision.
        config: For a single file: the folder or hub id that its configs and tokenizer come from.
        dtype: The weights' type in memory; float32 when not given.
        device: Where to put it.

    Raises:
        ModelError: It does not exist, cannot be fetched, is unsafe, or no family recognises it.
    """
    described = describe(base, revision=revision, config=config)
    modules = [registry.load("families", name) for name in registry.names("families")]
    # One that takes any pipeline comes last.
    for module in sorted(modules, key=lambda each: getattr(each, "TAKES_ANY", False)):
        if module.recognises(described):
            family: Family = module.load(described, dtype=dtype, device=device)
            return family
    kind = described.index.get("_class_name", "its keys match no known architecture")
    message = f"No family recognises {base!r} ({kind}). Families: {', '.join(registry.names('families'))}."
    raise ModelError(message)


def describe(base: str, *, revision: str | None = None, config: str | None = None) -> Described:
    """Find a base on disk, fetching it from the hub when it is a hub id, and read its index or keys."""
    path = ASSETS / base if base in EMBEDDED else Path(base).expanduser()
    if path.is_dir():
        return _describe_folder(base, path)
    if path.is_file():
        return _describe_file(base, path, config)
    if _looks_like_a_path(base):
        siblings = [str(each) for each in path.parent.iterdir()] if path.parent.is_dir() else []
        message = f"base: there is no folder or file {base!r}.{nearest(base, [*siblings, *EMBEDDED])}"
        raise ModelError(message)
    return _describe_folder(base, _fetch(base, revision))


def _looks_like_a_path(base: str) -> bool:
    return base.startswith((".", "/", "~")) or base.count("/") != 1 or base.endswith((".safetensors", ".ckpt"))


def _describe_folder(base: str, path: Path) -> Described:
    index = path / "model_index.json"
    if not index.is_file():
        message = (
            f"base: {base!r} has no model_index.json, so it is not a diffusers pipeline folder. "
            f"It holds: {listing(sorted(each.name for each in path.iterdir()), 5) or 'nothing'}."
        )
        raise ModelError(message)
    return Described(base, path, index=json.loads(index.read_text("utf-8")))


def _describe_file(base: str, path: Path, config: str | None) -> Described:
    if path.suffix != ".safetensors":
        message = (
            f"base: {base!r} is not a .safetensors file. Pickled checkpoints can run code when they are opened, so "
            f"they are not loaded. Take the tensors out of it: brushwork convert-ckpt {base} "
            f"--out {path.with_suffix('.safetensors')}"
        )
        raise ModelError(message)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return Described(base, path, keys=frozenset(file.keys()), config=config)
    except SafetensorError as error:
        message = f"base: {base!r} is not a readable .safetensors file ({error}). Download it again."
        raise ModelError(message) from error


def _fetch(base: str, revision: str | None) -> Path:
    """Download a hub repository: configs, tokenizers and safetensors weights, never pickles or code."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.txt", "*.safetensors", "*.model"]
    unwanted = [
        "*.bin",
        "*.ckpt",
        "*.pt",
        "*.py",
        "*.msgpack",
        "*.onnx*",
        "safety_checker/*",
        "*.fp16.safetensors",
        "v1-*.safetensors",
        "v2-*.safetensors",
    ]
    lacking: str | None = None
    try:
        with hub.access() as lacking:
            return Path(snapshot_download(base, revision=revision, allow_patterns=wanted, ignore_patterns=unwanted))
    except (LocalEntryNotFoundError, ConnectionError, OSError, HfHubHTTPError, HFValidationError) as error:
        reason = lacking or str(error).strip().splitlines()[0]
        message = (
            f"base: {base!r} is neither a folder here nor in the hub's cache, and fetching it failed: {reason}\n"
            "Check the spelling and the network, set HF_TOKEN for a gated model, or use base=mini, which needs none."
        )
        raise ModelError(message) from error
