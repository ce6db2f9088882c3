"""Emphasis: round brackets raise the attention that words get, square ones lower it.

weigh("a (red:1.3) [dog]")
# (Piece("a ", 1.0), Piece("red", 1.3), Piece(" ", 1.0), Piece("dog", 0.909...))
"""

from __future__ import annotations

import re
from dataclasses import dataclass

UP = 1.1
DOWN = 1 / 1.1
BREAK = "BREAK"
_TOKENS = re.compile(
    r"\\(?P<literal>[\\()\[\]:|<>])"
    r"|(?P<open>[(\[])"
    r"|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)"
    r"|(?P<close>[)\]])"
    r"|(?P<word>[^\\()\[\]:]+|.)",
    re.DOTALL,
)
_BREAK = re.compile(rf"\s*\b{BREAK}\b\s*")


@dataclass(frozen=True)
class Piece:
    """Words with one weight; a ``text`` of None is a BREAK."""

    text: str | None
    weight: float = 1.0


def weigh(text: str) -> tuple[Piece, ...]:
    """Return the words with their weights, neighbours of equal weight together.

    Brackets may be nested; those that are never closed hold to the end. ``(x:1.3)`` sets the factor of its own.
    """
    pieces: list[Piece] = []
    opened: list[tuple[str, int]] = []
    for match in _TOKENS.finditer(text):
        kind, value = match.lastgroup, match[0]
        if kind == "open":
            opened.append((value, len(pieces)))
        elif kind == "weight" and opened and opened[-1][0] == "(":
            _multiply(pieces, opened.pop()[1], float(match["weight"]))
        elif kind == "close" and opened and opened[-1][0] == {")": "(", "]": "["}[value]:
            _multiply(pieces, opened.pop()[1], UP if value == ")" else DOWN)
        elif kind == "literal":
            pieces.append(Piece(match["literal"]))
        else:
            pieces += _broken(value)
    for bracket, place in reversed(opened):
        _multiply(pieces, place, UP if bracket == "(" else DOWN)
    return _joined(pieces) or (Piece("", 1.0),)


def _multiply(pieces: list[Piece], place: int, factor: float) -> None:
    pieces[place:] = [Piece(piece.text, piece.weight * factor) for piece in pieces[place:]]


def _broken(words: str) -> list[Piece]:
    """Split at BREAK."""
    parts: list[Piece] = []
    for number, part in enumerate(_BREAK.split(words)):
        if number:
            parts.append(Piece(None))
        if part:
            parts.append(Piece(part))
    return parts


def _joined(pieces: list[Piece]) -> tuple[Piece, ...]:
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if piece.text is None:
            joined.append(Piece(None))
        elif last is not None and last.text is not None and last.weight == piece.weight:
            joined[-1] = Piece(last.text + piece.text, piece.weight)
        else:
            joined.append(piece)
    return tuple(joined)
