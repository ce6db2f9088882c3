"""Complete training states on disk: safetensors and JSON, never pickle, written in one step.

    save(run.path / "checkpoints" / "100", state)
    state = load(latest(run.path / "checkpoints"))

A state is a tree of dicts and lists whose leaves are tensors or JSON values; it comes back exactly as it was.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from brushwork.errors import ModelError
from brushwork.runs import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

TENSORS, TREE = "state.safetensors", "state.json"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write a state to a folder; a kill at any moment leaves either the whole folder or none."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    tree = _split(state, "", tensors)
    with replacing(folder) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / TENSORS)
        (temporary / TREE).write_text(json.dumps(tree), "utf-8")


def load(folder: Path) -> dict[str, Any]:
    """Read a state back.

    Raises:
        ModelError: The folder is not a checkpoint or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tree = json.loads((folder / TREE).read_text("utf-8"))
        tensors = load_file(folder / TENSORS)
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        message = f"{folder} is not a readable checkpoint ({error}). Remove it to resume from the one before."
        raise ModelError(message) from error
    state: dict[str, Any] = _join(tree, tensors)
    return state


def steps(folder: Path) -> list[int]:
    """Return the steps that have a checkpoint in a run's ``checkpoints`` folder, in order."""
    return sorted(int(each.name) for each in folder.glob("*") if each.name.isdigit() and (each / TREE).is_file())


def latest(folder: Path) -> Path | None:
    """Return the newest checkpoint, or None."""
    every = steps(folder)
    return folder / str(every[-1]) if every else None


def keep(folder: Path, limit: int | None) -> None:
    """Remove the oldest checkpoints above ``limit``; None keeps all."""
    for step in steps(folder)[: -limit if limit else 0]:
        # Renamed first: a kill half-way through the removal must not leave a folder that looks whole.
        doomed = folder / f".{step}-removed"
        (folder / str(step)).rename(doomed)
        shutil.rmtree(doomed)


def clean(folder: Path) -> None:
    """Remove what a kill in the middle of ``save`` or ``keep`` left behind."""
    for each in folder.glob(".*"):
        shutil.rmtree(each)


def add_to_header(path: Path, more: Mapping[str, str]) -> None:
    """Add to a safetensors file's metadata; it stays in alphabetical order."""
    sort_header(path, more)


def sort_header(path: Path, more: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file's metadata in alphabetical order: the same weights then are the same bytes.

    The library keeps metadata in a hash map and writes it in an order that changes from file to file. Layout: eight
    bytes with the length of the header, the header in JSON, the tensors.
    """
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    metadata = dict(sorted({**header.pop("__metadata__", {}), **(more or {})}.items()))
    text = json.dumps({"__metadata__": metadata} | header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary:
        temporary.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def _split(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Replace tensors by their names; keys of dicts keep their type through a tag."""
    import torch

    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"tensor": path}
    if isinstance(value, dict):
        items = [[key, _split(each, f"{path}/{key}", tensors)] for key, each in value.items()]
        return {"dict": items}
    if isinstance(value, (list, tuple)):
        return {"list": [_split(each, f"{path}/{index}", tensors) for index, each in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    message = f"{path}: a {type(value).__name__} cannot be part of a checkpoint"
    raise TypeError(message)


def _join(tree: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    if "tensor" in tree:
        return tensors[tree["tensor"]]
    if "dict" in tree:
        return {key: _join(each, tensors) for key, each in tree["dict"]}
    if "list" in tree:
        return [_join(each, tensors) for each in tree["list"]]
    return tree["value"]
