"""Lists of prompts: written in the configuration, in a text file, or embedded.

    resolve("target")                # the embedded list assets/prompts/target.txt
    resolve("my-prompts.txt")        # one prompt a line; empty lines and lines that begin with # are skipped
    resolve(("a dog", "a cat"))

An embedded name goes before a file of the same name; write ``./target`` for the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from brushwork.errors import ConfigError, listing, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

EMBEDDED = Path(__file__).parent / "assets" / "prompts"


def embedded() -> list[str]:
    """Return the names of the embedded lists."""
    return sorted(path.stem for path in EMBEDDED.glob("*.txt"))


def resolve(value: str | Sequence[str], fallback: Sequence[str] = (), *, key: str = "validation.prompts") -> list[str]:
    """Return the prompts that a setting stands for.

    Args:
        value: Prompts, the name of an embedded list, or a text file.
        fallback: Taken when ``value`` is empty.
        key: The setting's name, for messages.

    Raises:
        ConfigError: There is no such list or file, it holds nothing, or a prompt occurs twice (each would count as
            evidence of its own).
    """
    if not value:
        return list(fallback)
    prompts = _read(value, key) if isinstance(value, str) else [text.strip() for text in value]
    where = f"{key}: {value!r}" if isinstance(value, str) else key
    if not all(prompts) or not prompts:
        message = f"{where} holds no prompts." if not prompts else f"{where}: a prompt is empty."
        raise ConfigError(message)
    twice = sorted({text for text in prompts if prompts.count(text) > 1})
    if twice:
        message = f"{where}: each prompt may occur once, but these are there again: {listing(map(repr, twice))}."
        raise ConfigError(message)
    return prompts


def _read(value: str, key: str) -> list[str]:
    path = EMBEDDED / f"{value}.txt" if value in embedded() else Path(value).expanduser()
    if not path.is_file():
        message = (
            f"{key}: {value!r} is neither a text file nor an embedded list.{nearest(value, embedded())}\n"
            f'A single prompt is a list of one: {key}=["{value}"]'
        )
        raise ConfigError(message)
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        message = f"{key}: {value!r} is not UTF-8 text (byte {error.start}). Save it as UTF-8, one prompt a line."
        raise ConfigError(message) from error
    return [line for line in lines if line and not line.startswith("#")]
