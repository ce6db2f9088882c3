"""Styles: named pieces of prompts in a CSV file, as A1111 keeps them.

    styles = Styles(Path("served/styles.csv"))      # columns name, prompt, negative_prompt
    styles.apply("a dog", "", ["ink"])              # ("a dog, old ink engraving", "")

A style's ``{prompt}`` stands for the prompt; without it the style is put behind the prompt.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, NamedTuple

from brushwork.errors import ConfigError, nearest
from brushwork.runs import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLUMNS = ("name", "prompt", "negative_prompt")
LONGEST_NAME = 80


class Style(NamedTuple):
    """A named piece of a prompt."""

    name: str
    prompt: str
    negative_prompt: str


class Styles:
    """What is in the file, read anew each time; no file means no styles."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> dict[str, Style]:
        """Return the styles by name.

        Raises:
            ConfigError: The file lacks a column.
        """
        if not self.path.is_file():
            return {}
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [each for each in COLUMNS[:2] if each not in (reader.fieldnames or ())]
            if missing:
                message = f"{self.path.name}: the column {missing[0]} is missing; it has {reader.fieldnames}"
                raise ConfigError(message)
            rows = [Style(*((row.get(each) or "").strip() for each in COLUMNS)) for row in reader]
        return {each.name: each for each in rows if each.name}

    def put(self, style: Style) -> None:
        """Add a style, or change the one of its name.

        Raises:
            ConfigError: It has no name, or one that is too long.
        """
        if not style.name.strip() or len(style.name) > LONGEST_NAME:
            message = f"name: a style's name has 1 to {LONGEST_NAME} characters"
            raise ConfigError(message)
        self._write({**self.all(), style.name: style})

    def remove(self, name: str) -> None:
        """Take a style out.

        Raises:
            ConfigError: With the nearest name.
        """
        known = self.all()
        if name not in known:
            message = f"styles: there is no {name[:80]!r}.{nearest(name, known)}"
            raise ConfigError(message)
        self._write({each: style for each, style in known.items() if each != name})

    def _write(self, styles: dict[str, Style]) -> None:
        with (
            replacing(self.path) as temporary,
            temporary.open("w", encoding="utf-8", errors="replace", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(styles.values())

    def apply(self, prompt: str, negative: str, names: Sequence[str]) -> tuple[str, str]:
        """Return prompt and negative prompt with styles.

        Raises:
            ConfigError: With the nearest name.
        """
        known = self.all() if names else {}
        for name in names:
            if name not in known:
                hint = nearest(name, known) if known else " There are none here."
                message = f"styles: there is no {name!r}.{hint}"
                raise ConfigError(message)
            prompt, negative = _put(prompt, known[name].prompt), _put(negative, known[name].negative_prompt)
        return prompt, negative


def _put(text: str, style: str) -> str:
    if "{prompt}" in style:
        return style.replace("{prompt}", text)
    return ", ".join(each for each in (text.strip(), style) if each)
