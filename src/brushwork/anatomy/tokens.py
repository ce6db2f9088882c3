"""How a prompt becomes tokens: pieces, their numbers, the words they make up, and where the prompt is cut.

for read in tokenize(family, "a photograph of an astronaut"):
    read.encoder, [(piece.text, piece.id, piece.word) for piece in read.pieces], read.unread
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork.embeddings import expand

if TYPE_CHECKING:
    from collections.abc import Collection

    from brushwork.values import Family

END_OF_WORD = "</w>"
BEGIN_OF_WORD = ("\N{LOWER ONE EIGHTH BLOCK}", "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}")
"""How SentencePiece (T5) and byte-level tokenizers (GPT-2, Qwen) mark the first piece of a word."""


@dataclass(frozen=True)
class Piece:
    """One token; ``word`` is the place of its word among ``Read.words``, None for start, end and padding."""

    place: int
    id: int
    text: str
    word: int | None


@dataclass(frozen=True)
class Read:
    """What one text encoder reads: ``length`` tokens, of which ``pieces`` are not padding."""

    encoder: str
    length: int
    pieces: tuple[Piece, ...]
    words: tuple[str, ...]
    vocabulary: int
    unread: str

    def places(self, word: int) -> list[int]:
        """Return the places of a word's tokens."""
        return [piece.place for piece in self.pieces if piece.word == word]


def tokenize(family: Family, prompt: str) -> list[Read]:
    """Return what each text encoder of a family reads, in their order."""
    return [_read(name, tokenizer, family, prompt) for name, tokenizer in family.tokenizers.items()]


def _read(name: str, tokenizer: Any, family: Family, prompt: str) -> Read:
    length = int(tokenizer.model_max_length)
    text = expand(prompt, tokenizer)
    ids: list[int] = tokenizer(text, truncation=True, max_length=length).input_ids
    raw: list[str] = tokenizer.convert_ids_to_tokens(ids)
    special = set(tokenizer.all_special_ids)
    # The start and the end are special; padding is often the end once more and is not in ``ids``.
    inner = [place for place, number in enumerate(ids) if number not in special]
    owner, words = _words([raw[place] for place in inner], tokenizer.get_added_vocab())
    belongs = dict(zip(inner, owner, strict=True))
    pieces = tuple(Piece(place, number, _readable(raw[place]), belongs.get(place)) for place, number in enumerate(ids))
    return Read(name, length, pieces, tuple(words), len(tokenizer), family.unread(prompt))


def _words(pieces: list[str], added: Collection[str] = ()) -> tuple[list[int], list[str]]:
    """Return each piece's word, and the words; pieces carry the mark of their tokenizer, ``added`` ones stand alone.

    >>> _words(["a</w>", "astro", "naut</w>"])
    ([0, 1, 1], ['a', 'astronaut'])
    """
    owner: list[int] = []
    words: list[str] = []
    begins = True
    for piece in pieces:
        if begins or piece in added or piece.startswith(BEGIN_OF_WORD):
            words.append("")
        words[-1] += _readable(piece)
        owner.append(len(words) - 1)
        # CLIP marks the last piece of a word, the others the first: with them a word goes on until the next mark.
        begins = piece in added or piece.endswith(END_OF_WORD)
    return owner, words


def _readable(piece: str) -> str:
    piece = piece.removesuffix(END_OF_WORD)
    return piece[1:] if piece.startswith(BEGIN_OF_WORD) else piece
