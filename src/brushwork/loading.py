"""Pretrained networks from a folder or the hub, read whole or not at all, and what identifies them.

    kind = model_type("some/model", "some/model", "validation.judge")
    processing = CLIPImageProcessorPil.from_pretrained
    model, processor, tokenizer = load_parts(place, name, "validation.judge", CLIPModel, processing, device="cpu")

transformers fills weights that a file lacks with random numbers and goes on; here that is an error.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import hub
from brushwork.errors import ModelError, UserError, listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def model_type(place: str, name: str, key: str) -> str:
    """Return the ``model_type`` that the config.json of a folder or hub id states.

    Args:
        place: Where it is.
        name: What the user called it, for messages.
        key: The setting that names it, for messages.

    Raises:
        ModelError: It is not there.
    """
    from transformers import AutoConfig

    expanded = Path(place).expanduser()
    if is_path(place) and not (expanded / "config.json").is_file():
        message = f"{key}: {name!r} is not a model folder (no config.json in {str(expanded)!r})."
        raise ModelError(message)
    with explained(name, key, place):
        kind: str = AutoConfig.from_pretrained(str(expanded) if is_path(place) else place).model_type
    return kind


def load_parts(
    place: str,
    name: str,
    key: str,
    kind: Any,
    processor: Callable[[str], Any],
    *,
    device: str,
    tokenizer: bool = True,
    **settings: Any,
) -> tuple[Any, Any, Any]:
    """Return a model in evaluation mode, its image processor, and its tokenizer (None when not wanted).

    Args:
        place: A folder or hub id.
        name: What the user called it, for messages.
        key: The setting that names it, for messages.
        kind: The transformers class of the model.
        processor: Makes its image processor from the same place.
        device: Where it computes.
        tokenizer: Whether it has one.
        settings: For the model's ``from_pretrained``.

    Raises:
        ModelError: Something is missing or broken.
    """
    from transformers import AutoTokenizer

    where = str(Path(place).expanduser()) if is_path(place) else place
    with explained(name, key, place):
        model, lacking = pretrained(kind, where, **settings)
        prepare = processor(where)
        words = AutoTokenizer.from_pretrained(where) if tokenizer else None
    if lacking:
        message = f"{key}: {name!r} lacks weights: {listing(lacking)}."
        raise ModelError(message)
    return model.eval().requires_grad_(requires_grad=False).to(device), prepare, words


@contextmanager
def explained(name: str, key: str, place: str) -> Iterator[None]:
    """Within this context, what transformers says of a model that cannot be read becomes an error of two lines.

    What is at no path is looked for in the hub; see ``brushwork.hub.access``.

    Raises:
        ModelError: It cannot be read.
    """
    from safetensors import SafetensorError

    lacking: str | None = None
    try:
        with nullcontext() if is_path(place) else hub.access() as lacking:
            yield
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, UserError):
            raise
        reason = lacking or str(error).strip().splitlines()[0]
        message = (
            f"{key}: {name!r} cannot be loaded: {reason}\n"
            f"Name a folder with the model, or mini-clip (mini-captioner for captions), which needs no network."
        )
        raise ModelError(message) from error


def pretrained(kind: Any, place: str, **settings: Any) -> tuple[Any, list[str]]:
    """Return a transformers model and the names of weights that were not there (transformers leaves them random)."""
    loaded: Any = kind.from_pretrained(place, output_loading_info=True, **settings)
    model, loading = loaded
    return model, sorted(loading["missing_keys"])


def is_path(name: str) -> bool:
    """Return whether a model's name is a path and not a hub id."""
    return name.startswith((".", "/", "~")) or Path(name).is_dir()


def hash_weights(model: Any) -> str:
    """Return a hash of all weights of a torch module."""
    import torch

    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_json(value: dict[str, Any]) -> str:
    """Return a hash of a value that JSON can hold; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
