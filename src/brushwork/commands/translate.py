"""The flags of diffusers' training scripts as a recipe, and what became of each.

    found = translate("accelerate launch train_dreambooth.py ...")
    print(found.yaml)

Every flag ends in one of four places: the recipe; ``ignored_there``, when the script itself does nothing with it;
``missing_here``, when it has no counterpart that would change a number; ``differs``, when the result will not be the
script's. The script's own defaults are written out, as brushwork's are others.
"""

from __future__ import annotations

import shlex
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from brushwork import config as configs
from brushwork.commands import rules
from brushwork.commands.reading import read
from brushwork.commands.scripts import SCRIPTS
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brushwork.commands.reading import Command

WIDTH = 110
METHODS = {
    "train_text_to_image.py": "full",
    "train_text_to_image_lora.py": "lora",
    "train_dreambooth.py": "dreambooth",
    "train_dreambooth_lora.py": "dreambooth-lora",
    "textual_inversion.py": "textual-inversion",
}


@dataclass
class Translation:
    """A recipe, where its run goes, and a line for every flag that is not in it."""

    script: str
    recipe: dict[str, Any]
    out: str
    ignored_there: list[str] = field(default_factory=list)
    missing_here: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    to_fill_in: list[str] = field(default_factory=list)

    @property
    def yaml(self) -> str:
        """The recipe's file; its first line is the command that runs it."""
        return self.text("RECIPE.yaml")

    def text(self, path: str) -> str:
        """The recipe's file as it lies at a path."""
        head = [f"# brushwork train {shlex.quote(path)} --out {shlex.quote(self.out)}", "#"]
        told = [f"From a command of diffusers' {self.script}."]
        told += [f"To fill in: {each}" for each in self.to_fill_in] + [f"Differs: {each}" for each in self.differs]
        for each in told:
            head += textwrap.wrap(each, WIDTH, initial_indent="# ", subsequent_indent="#   ")
        return "\n".join(head) + "\n\n" + yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True, width=WIDTH)

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {**vars(self), "yaml": self.yaml}


def translate(text: str, variables: Mapping[str, str] | None = None) -> Translation:
    """Turn a training command into a recipe that validates.

    Raises:
        ConfigError: It is no such command, has unknown flags, or says something that no recipe can.
    """
    command = read(text, variables)
    found = Translation(command.script, {}, command.value("output_dir"), repaired=list(command.repaired))
    found.to_fill_in = [
        f"${name} is a shell variable that the command does not give; add --set {name}=VALUE" for name in command.unset
    ]
    tree: dict[str, Any] = {"base": "", "method": {"preset": METHODS[command.script]}, "data": {}}
    tree |= {"objective": {}, "optimizer": {}, "train": {}, "validation": {}, "seed": 0}
    ignored = _ignored(command)
    for flag in SCRIPTS[command.script]:
        given, value = flag in command.given, command.value(flag)
        if flag in ignored:
            found.ignored_there += [f"--{flag}: {ignored[flag]}"] if given else []
        elif flag in rules.KEYS:
            if value is not None:
                _put(tree, rules.KEYS[flag], value)
        elif flag in rules.MISSING and given and value != SCRIPTS[command.script][flag][1]:
            found.missing_here.append(f"--{flag}: {rules.MISSING[flag]}")
        elif flag in rules.DIFFERS and given and value != SCRIPTS[command.script][flag][1]:
            found.differs.append(f"--{flag}: {rules.DIFFERS[flag]}")
    rules.finish(command, tree, found)
    found.recipe = {key: part for key, part in tree.items() if part not in ({}, None)}
    try:
        configs.load(found.recipe)
    except ConfigError as error:
        message = f"from-command: the command says something that no recipe can:\n{error}"
        raise ConfigError(message) from error
    return found


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parts, last = key.split(".")
    for part in parts:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _ignored(command: Command) -> dict[str, str]:
    """Return the flags that the script does nothing with, as the others are, and why."""
    return {flag: why for flag, (needs, why) in rules.NEEDS.items() if command.has(flag) and not needs(command)}
