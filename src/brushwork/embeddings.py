"""Words of one's own: rows behind the table of a text encoder, and the tokens that find them.

    rows = extend(family, "text_encoder", "<mascot>", values)      # values (n, width); returns the trainable rows
    name, values = read(Path("learned_embeds.safetensors"))
    adapter = attach(family, path, "mascot")

A word of n vectors is n tokens, ``<mascot> <mascot>_1 ...``, as in diffusers; whoever writes ``<mascot>`` gets all of
them (``expand``). The table itself is never touched, so texts without the word are encoded as before, to the last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.adapters import Adapter, weights_hash
from brushwork.errors import ModelError, listing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from brushwork.values import Family

WEIGHT_NAME = "learned_embeds.safetensors"
UNNAMED = ("emb_params", "*")
"""Keys that kohya's and A1111's files have instead of the word; the file's name is the word then."""
KEYS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
"""The keys of a word where a base has several text encoders, one for each that is CLIP's (both of Stable Diffusion XL,
the first of FLUX.1). The file's name is the word, unless its header says it (``HEADER``)."""
HEADER = "token"
CLIP = "clip_text"
"""How the type of a text encoder begins that reads words: T5 and language models spell them out."""


def tokens(word: str, vectors: int) -> list[str]:
    """Return the tokens of a word.

    >>> tokens("<mascot>", 3)
    ['<mascot>', '<mascot>_1', '<mascot>_2']
    """
    return [word, *(f"{word}_{number}" for number in range(1, vectors))]


def expand(text: str, tokenizer: Any) -> str:
    """Write all tokens of each word of several vectors, as diffusers' ``maybe_convert_prompt`` does."""
    added = tokenizer.added_tokens_encoder
    for word in added:
        if f"{word}_1" in added and word in text:
            vectors = 1
            while f"{word}_{vectors}" in added:
                vectors += 1
            text = text.replace(word, " ".join(tokens(word, vectors)))
    return text


def readers(family: Family) -> list[str]:
    """Return the text encoders that learn and read words of one's own."""
    encoders: dict[str, Any] = family.text_encoders
    return [name for name, each in encoders.items() if str(each.config.model_type).startswith(CLIP)]


def extend(family: Family, part: str, word: str, values: Tensor) -> nn.Parameter:
    """Give a word to a text encoder and its tokenizer; return its rows, float32, which start as ``values`` (n, width).

    Raises:
        ModelError: The word exists already, cannot be read as one, or its width is not the encoder's.
    """
    import torch

    encoder: Any = family.text_encoders[part]
    tokenizer = family.tokenizers[part]
    table = encoder.get_input_embeddings()
    held = next(table.parameters())
    here = held.shape[1]
    if values.shape[1] != here:
        message = (
            f"{word}: its vectors have {values.shape[1]} numbers, but the {part} of this base has {here}.\n"
            f"It was made for another base (768: Stable Diffusion 1, 1024: 2); use it with that one."
        )
        raise ModelError(message)
    every = tokens(word, len(values))
    known = sorted(set(every) & set(tokenizer.get_vocab()))
    if known:
        message = f"{listing(known)}: this base has such a word already. Choose another token, such as <{word}-1>."
        raise ModelError(message)
    tokenizer.add_tokens(every)
    read = [piece for each in every for piece in tokenizer.tokenize(each)]
    if [piece.lower() for piece in read] != [each.lower() for each in every]:
        message = f"{word}: this base's tokenizer reads it as {listing(read)}. Choose one without blanks."
        raise ModelError(message)
    rows = torch.nn.Parameter(values.detach().to(held.device, torch.float32).clone())
    encoder.set_input_embeddings(_extended(table, rows, tokenizer.convert_tokens_to_ids(word)))
    return rows


def _extended(table: nn.Module, rows: nn.Parameter, first: int) -> nn.Module:
    """Return a table that answers tokens from ``first`` on with ``rows`` and all others as ``table`` does."""
    import torch

    class Extended(torch.nn.Module):
        """A frozen table with rows of its own behind it; ids (B, tokens) in, (B, tokens, width) out."""

        def __init__(self) -> None:
            super().__init__()
            self.table, self.rows = table, rows

        def forward(self, ids: Tensor) -> Tensor:
            old: Tensor = self.table(ids.clamp(max=first - 1))
            new = torch.nn.functional.embedding((ids - first).clamp(min=0), self.rows)
            return torch.where((ids >= first)[..., None], new.to(old.dtype), old)

    return Extended()


def recognises(path: Path) -> bool:
    """Return whether a file holds a single tensor of rows, or one for each of several text encoders: a word."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            held = list(file.keys())
            if held and set(held) <= set(KEYS):
                return True
            return len(held) == 1 and "lora" not in held[0] and len(file.get_slice(held[0]).get_shape()) in (1, 2)
    except (SafetensorError, OSError):
        return False


def keys(path: Path) -> list[str]:
    """Return the text encoders that a word's file names, as ``KEYS`` has them; none where it is the word's only one."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        held = set(file.keys())
    return [key for key in KEYS if key in held]


def write(path: Path, word: str, rows: Mapping[str, Tensor], *, alone: bool) -> None:
    """Write a word's rows (n, width), by text encoder; ``alone``: the base has no other, and the word is the key."""
    from safetensors.torch import save_file

    plain = {part: values.detach().cpu().contiguous() for part, values in rows.items()}
    if alone:
        (values,) = plain.values()
        save_file({word: values}, path, metadata={"format": "pt"})
        return
    tensors = {key: plain[part] for key, part in KEYS.items() if part in plain}
    save_file(tensors, path, metadata={"format": "pt", HEADER: word})


def read(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the word and its rows (n, width), by text encoder where the file names them, else by "".

    Read are diffusers' file, kohya's ``emb_params``, ``clip_l`` and ``clip_g``, A1111's, and a bare tensor.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        said = (file.metadata() or {}).get(HEADER)
        every = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is no mapping)
    # A single row may lack its axis.
    held = {key: values if values.ndim == 2 else values[None] for key, values in every.items()}  # noqa: PLR2004
    if set(held) <= set(KEYS):
        return said or path.stem, {KEYS[key]: values for key, values in held.items()}
    ((key, values),) = held.items()
    word = path.stem if key in UNNAMED or key.startswith("string_to_param") else key
    return word, {"": values}


def attach(family: Family, path: Path, name: str, weight: float = 1.0) -> Adapter:
    """Give the base the word in a file.

    Raises:
        ModelError: It was given a weight, or does not fit this base.
    """
    if weight != 1:
        message = f"adapter: {name!r} is an embedding, which has no weight. Leave the {weight:g} out."
        raise ModelError(message)
    word, rows = read(path)
    wanted = readers(family)
    if "" in rows and len(wanted) == len(family.text_encoders) == 1:
        rows = {wanted[0]: rows[""]}
    if set(rows) != set(wanted):
        message = (
            f"adapter: {name!r} has rows for {len(rows)} text encoder(s); this base has {len(wanted)} that read"
            f"{'s' * (len(wanted) == 1)} words{_named(wanted)}."
        )
        raise ModelError(message)
    for part, values in rows.items():
        extend(family, part, word, values).requires_grad_(False)  # noqa: FBT003  (torch's own)
    return Adapter(word, path, weight, len(rows), weights_hash(path), kind="embedding")


def _named(parts: list[str]) -> str:
    """Return the keys that a file for these text encoders has, where it has any."""
    named = [key for key, part in KEYS.items() if part in parts]
    return f" (keys {listing(named)})" if named and len(parts) > 1 else ""
