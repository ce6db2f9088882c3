"""A training command as people paste it, taken apart into its script and its flags.

    command = read('! accelerate launch train_dreambooth.py --instance_prompt="a sks dog" ...')
    command.script, command.given["instance_prompt"]

Notebooks' exclamation marks, lines joined by backslashes, ``export NAME=value`` before it, and the spaces that a PDF
leaves in place of underscores are all understood, and what was repaired is said.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork.commands.scripts import LAUNCHER, REQUIRED, SCRIPTS
from brushwork.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from brushwork.commands.scripts import Flag

_EXPORT = re.compile(r"^[ \t]*(?:[!%$][ \t]*)?(?:export|env|set)[ \t]+(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_SCRIPT = re.compile(r"[\w./~-]*\b[\w -]*?\w\.py\b")
_CONVERSIONS = {"int": int, "float": float, "str": str}


@dataclass(frozen=True)
class Command:
    """A script, the flags that were given with their values, the launcher's, and what was repaired or is unknown."""

    script: str
    given: dict[str, Any]
    launcher: dict[str, Any] = field(default_factory=dict)
    repaired: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    """Shell variables whose value is not in the text."""

    def value(self, flag: str) -> Any:
        """Return what the script would have: what was given, else its own default."""
        return self.given.get(flag, SCRIPTS[self.script][flag][1])

    def has(self, flag: str) -> bool:
        """Return whether the script knows a flag."""
        return flag in SCRIPTS[self.script]


def read(text: str, variables: Mapping[str, str] | None = None) -> Command:
    """Take a command apart.

    Args:
        text: The command, with whatever stands around it in a notebook.
        variables: Values of shell variables, over those that the text exports.

    Raises:
        ConfigError: It runs none of the five scripts, or has flags that its script does not know.
    """
    known = {name: _unquoted(value) for name, value in _EXPORT.findall(text)} | dict(variables or {})
    line = _one_line(_EXPORT.sub("", text))
    script, before, after = _split(line)
    after, repaired = _with_underscores(after, SCRIPTS[script])
    launcher = _flags(_words(before), LAUNCHER, "accelerate launch", strict=False)
    given = _flags(_words(after), SCRIPTS[script], script, strict=True)
    missing = [f"--{name}" for name in REQUIRED[script] if name not in given]
    if missing:
        message = f"from-command: {script} cannot do without {' and '.join(missing)}. Add what was left out."
        raise ConfigError(message)
    unset: list[str] = []
    values = {name: _expanded(value, known, unset) for name, value in given.items()}
    return Command(script, values, launcher, tuple(repaired), tuple(dict.fromkeys(unset)))


def _one_line(text: str) -> str:
    text = re.sub(r"^\s*```\w*\s*$", " ", text, flags=re.MULTILINE)
    text = re.sub(r"\\[ \t]*(?:\n|$)", " ", text)
    return re.sub(r"\n\s*(?=-)", " ", text).strip()


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _split(line: str) -> tuple[str, str, str]:
    """Return the script's name, what stands before it and what after."""
    names = {name.removesuffix(".py").replace("_", " "): name for name in SCRIPTS}
    for match in re.finditer(r"([\w./~ -]*)\.py\b", line):
        words = re.sub(r"[_\s]+", " ", match[1].rsplit("/", 1)[-1]).strip()
        # The longest name that the words end with: "train text to image lora", after "accelerate launch".
        found = [name for spelled, name in names.items() if words == spelled or words.endswith(f" {spelled}")]
        if found:
            script = max(found, key=len)
            start = match.end(1) - len(script.removesuffix(".py"))
            return script, line[: max(start, 0)], line[match.end() :]
        asked = f"{words.split()[-1] if words else ''}.py" if "_" not in match[1] else match[1].split()[-1] + ".py"
        message = (
            f"from-command: {asked} is none of diffusers' scripts that are known here.{nearest(asked, SCRIPTS)}\n"
            f"Known: {', '.join(SCRIPTS)}."
        )
        raise ConfigError(message)
    message = f"from-command: there is no training script in this. Known: {', '.join(SCRIPTS)}."
    raise ConfigError(message)


def _with_underscores(text: str, flags: Mapping[str, Flag]) -> tuple[str, list[str]]:
    """Put back the underscores and dashes of flags that a PDF lost: ``num class images=5``."""
    repaired = []
    for name in sorted((each for each in flags if "_" in each), key=len, reverse=True):
        pattern = rf"(?<![\w-])(?:--[ \t]*)?{name.replace('_', '[ _]')}(?=[ \t]*=)"
        for found in set(re.findall(pattern, text)):
            if found != f"--{name}":
                repaired.append(f"{found.strip()} read as --{name}")
                text = re.sub(rf"(?<![\w-]){re.escape(found)}(?=[ \t]*=)", f"--{name}", text)
    return re.sub(r"(--\w+)[ \t]+=[ \t]*", r"\1=", text), sorted(repaired)


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text.strip().lstrip("!%$ "))
    except ValueError as error:
        message = f"from-command: the command cannot be read as a shell would: {error}. Is a quotation mark missing?"
        raise ConfigError(message) from error
    return [re.sub(r"\s*\n\s*", "", word) for word in words if word.strip("\\")]


def _flags(words: Iterable[str], known: Mapping[str, Flag], whose: str, *, strict: bool) -> dict[str, Any]:
    """Return flags and their values as argparse would, abbreviations among them."""
    given: dict[str, Any] = {}
    wrong: list[str] = []
    waiting: str | None = None
    for word in words:
        if word.startswith("--") and len(word) > 2:  # noqa: PLR2004  (more than the dashes)
            name, has_value, value = word[2:].partition("=")
            flag = _full(name, known)
            waiting = None
            if flag is None:
                wrong += [f"--{name}: {whose} has no such flag.{_hint(name, known)}"] if strict else []
            elif known[flag][0] == "flag":
                given[flag] = True
                wrong += [f"--{name}: it is a switch and takes no value, not {value!r}."] if has_value else []
            elif has_value:
                given[flag] = _converted(flag, value, known, wrong)
                waiting = flag if known[flag][0] == "list" else None
            else:
                waiting, given[flag] = flag, [] if known[flag][0] == "list" else None
        elif waiting is not None:
            given[waiting] = _joined(given[waiting], _converted(waiting, word, known, wrong))
            waiting = waiting if known[waiting][0] == "list" else None
        elif strict:
            wrong.append(f"{word!r}: it belongs to no flag.")
    wrong += [f"--{name}: its value is missing." for name, value in given.items() if value in (None, [])]
    if wrong and strict:
        raise ConfigError("\n".join(f"from-command: {each}" for each in wrong))
    return {name: value for name, value in given.items() if value is not None}


def _joined(before: Any, value: Any) -> Any:
    return [*before, *value] if isinstance(before, list) else value


def _full(name: str, known: Mapping[str, Flag]) -> str | None:
    """Return the flag that a name or its unambiguous beginning means."""
    if name in known:
        return name
    starting = [flag for flag in known if flag.startswith(name)]
    return starting[0] if len(starting) == 1 and name else None


def _hint(name: str, known: Mapping[str, Flag]) -> str:
    others = [script for script, flags in SCRIPTS.items() if name in flags]
    return f" {' and '.join(others)} has." if others else nearest(name, known).partition(" Known:")[0]


def _converted(flag: str, text: str, known: Mapping[str, Flag], wrong: list[str]) -> Any:
    kind = known[flag][0]
    if kind == "list":
        return [text]
    if _VARIABLE.fullmatch(text):
        return text
    try:
        return _CONVERSIONS[kind](text)
    except ValueError:
        wrong.append(f"--{flag}: {text!r} is no {'whole number' if kind == 'int' else 'number'}.")
        return text


def _expanded(value: Any, known: Mapping[str, str], unset: list[str]) -> Any:
    """Put in the values of shell variables; those that nobody gave stay as they are."""
    if isinstance(value, list):
        return [_expanded(each, known, unset) for each in value]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in known:
            unset.append(name)
        return known.get(name, match[0])

    return _VARIABLE.sub(replaced, value)
