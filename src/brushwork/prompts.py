"""Prompts: written in the configuration, in a text file, in a file of sets, or embedded.

    resolve("target")                # the embedded list assets/prompts/target.txt
    resolve("my-prompts.txt")        # one prompt a line; empty lines and lines that begin with # are skipped
    resolve(("a dog", "a cat"))
    read_sets("sketch-scene")        # PromptSets(target=..., content=..., held_out=...)

There are three sets. *Target* prompts ask for what was learnt. *Content* prompts say the same, place by place, without
the words of the style or the token: what a picture is held against, and what must stay as it was when it is drawn.
*Held-out* prompts have nothing to do with the data. A file of sets is a mapping of these names in YAML.

An embedded name goes before a file of the same name; write ``./target`` for the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from brushwork import progress
from brushwork.errors import ConfigError, listing, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

EMBEDDED = Path(__file__).parent / "assets" / "prompts"
FORMS = (".txt", ".yaml")
SETS = (".yaml", ".yml")
PARTS = ("target", "content", "held_out")

Part = Literal["target", "content", "held_out"]
PART_OF: dict[str, Part] = {"content_prompts": "content", "control_prompts": "held_out"}
"""Which set a setting takes from a file of sets, by the last word of its key; any other setting takes the target."""


@dataclass(frozen=True)
class PromptSets:
    """Three sets of prompts; ``content`` is empty or as long as ``target``, in the same order."""

    target: tuple[str, ...]
    content: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()


def embedded() -> list[str]:
    """Return the names of the embedded lists and files of sets."""
    return sorted(path.stem for path in EMBEDDED.iterdir() if path.suffix in FORMS)


def resolve(value: str | Sequence[str], fallback: Sequence[str] = (), *, key: str = "validation.prompts") -> list[str]:
    """Return the prompts that a setting stands for.

    Args:
        value: Prompts, the name of an embedded list or file of sets, or such a file.
        fallback: Taken when ``value`` is empty.
        key: The setting's name, for messages; of a file of sets, ``..._prompts`` takes the set of that name.

    Raises:
        ConfigError: There is no such list or file, it holds nothing, or a prompt occurs twice (each would count as
            evidence of its own).
    """
    if not value:
        return list(fallback)
    prompts = _read(value, key) if isinstance(value, str) else [text.strip() for text in value]
    _check(prompts, f"{key}: {value!r}" if isinstance(value, str) else key)
    return prompts


def _check(prompts: Sequence[str], where: str) -> None:
    if not all(prompts) or not prompts:
        message = f"{where} holds no prompts." if not prompts else f"{where}: a prompt is empty."
        raise ConfigError(message)
    twice = sorted({text for text in prompts if prompts.count(text) > 1})
    if twice:
        message = f"{where}: each prompt may occur once, but these are there again: {listing(map(repr, twice))}."
        raise ConfigError(message)


def read_sets(value: str, key: str = "--prompts") -> PromptSets:
    """Return the sets in a YAML file, or the embedded ones of a name; a plain list is a target set.

    Raises:
        ConfigError: It is not there or holds something else, or the sets do not fit one another.
    """
    path = _find(value, key)
    if path.suffix not in SETS:
        return PromptSets(tuple(resolve(value, key=key)))
    sets = _sets(path, f"{key}: {value!r}")
    if "target" not in sets:
        message = f"{key}: {value!r} has no target prompts, which are the ones that ask for what was learnt."
        raise ConfigError(message)
    found = PromptSets(*(tuple(sets.get(part, ())) for part in PARTS))
    check_sets(found.target, found.content, found.held_out, where=f"{key}: {value!r}")
    return found


def check_sets(
    target: Sequence[str], content: Sequence[str], held_out: Sequence[str], *, where: str = "validation"
) -> None:
    """Refuse sets that do not fit one another.

    Raises:
        ConfigError: Content does not stand beside target one by one, or a prompt has two parts to play.
    """
    if content and len(content) != len(target):
        message = (
            f"{where}: there are {len(target)} target prompts but {len(content)} content prompts. Each target prompt "
            f"has its own content prompt, at the same place: the same without the words of the style or the token."
        )
        raise ConfigError(message)
    plain = (
        {text for text, styled in zip(content, target, strict=bool(content)) if text != styled} if content else set()
    )
    names = {"target": set(target), "content": plain, "held-out (control)": set(held_out)}
    for one, other in (("target", "held-out (control)"), ("target", "content"), ("content", "held-out (control)")):
        both = sorted(names[one] & names[other])
        if both:
            message = f"{where}: {both[0]!r} is both a {one} and a {other} prompt; take it out of one of them."
            raise ConfigError(message)


def check_word(prompts: Sequence[str], *parts: Any) -> None:
    """Remark that no prompt says the word that a method or a source has: no picture would show what is learnt."""
    words = {getattr(part, "token", None) or getattr(part, "instance_token", None) or "" for part in parts}
    for word in sorted(words - {""}):
        if not any(word.lower() in text.lower() for text in prompts):
            progress.note(
                f"validation.prompts: none of the {len(prompts)} has the word {word!r} in it, so pictures and numbers "
                f"will show what happens to other prompts only."
            )


def _find(value: str, key: str) -> Path:
    """Return the file that a name stands for.

    Raises:
        ConfigError: There is none.
    """
    own = [EMBEDDED / f"{value}{form}" for form in FORMS if value in embedded()]
    path = next((each for each in own if each.is_file()), Path(value).expanduser())
    if not path.is_file():
        single = "" if key.startswith("--") else f'\nA single prompt is a list of one: {key}=["{value}"]'
        message = f"{key}: {value!r} is neither a file nor an embedded list.{nearest(value, embedded())}{single}"
        raise ConfigError(message)
    return path


def _read(value: str, key: str) -> list[str]:
    path = _find(value, key)
    if path.suffix in SETS:
        part = PART_OF.get(key.rpartition(".")[2], "target")
        return _sets(path, f"{key}: {value!r}").get(part, [])
    lines = [line.strip() for line in _text(path, f"{key}: {value!r}").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _text(path: Path, where: str) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{where} is not UTF-8 text (byte {error.start}). Save it as UTF-8, one prompt a line."
        raise ConfigError(message) from error


def _sets(path: Path, where: str) -> dict[str, list[str]]:
    """Read a file of sets; the prompts of a set are a list, or the name of a text file beside it."""
    try:
        tree: Any = yaml.safe_load(_text(path, where))
    except yaml.YAMLError as error:
        message = f"{where} cannot be read as YAML: {str(error).splitlines()[0]}"
        raise ConfigError(message) from error
    if not isinstance(tree, dict) or not tree:
        message = (
            f"{where} is no mapping of sets: write `target:`, and if you like `content:` and `held_out:`, with lists."
        )
        raise ConfigError(message)
    found: dict[str, list[str]] = {}
    for name, prompts in tree.items():
        if name not in PARTS:
            message = f"{where}: {name!r} is no set of prompts.{nearest(str(name), PARTS)}"
            raise ConfigError(message)
        if isinstance(prompts, str):
            beside = path.parent / prompts
            prompts = _read(str(beside) if beside.is_file() else prompts, f"{where}: {name}")  # noqa: PLW2901  (spelled out)
        if not isinstance(prompts, list) or not all(isinstance(text, str) for text in prompts):
            message = f"{where}: {name} must be a list of texts, or the name of a text file."
            raise ConfigError(message)
        found[name] = [text.strip() for text in prompts]
        _check(found[name], f"{where}: {name}")
    return found
