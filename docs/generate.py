"""Writes the pages that follow from the code: ``docs/configuration.md`` and ``docs/cli.md``.

python docs/generate.py             # write them
python docs/generate.py --check     # exit with 1 if they are not up to date
"""

from __future__ import annotations

import sys
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic_core import PydanticUndefined

from brushwork import cli, config, registry
from brushwork.curate.build.settings import BuildConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

DOCS = Path(__file__).parent
AXES: dict[str, registry.Axis] = {"method": "methods", "data": "sources", "objective": "objectives"}
PLUGINS = {"method": "`lora`", "data": "required", "objective": "`denoising`"}
WIDTH = 100
NOTE = "<!-- Written by docs/generate.py from the code; change the code instead. -->"


def pages() -> dict[Path, str]:
    """Return the text of every generated page."""
    return {DOCS / "configuration.md": configuration(), DOCS / "cli.md": command_line()}


def configuration() -> str:
    """Return the page on every setting and plug-in."""
    lines = [
        "# Configuration",
        NOTE,
        "",
        "A run is determined by one tree of settings. The same keys work in a recipe (YAML), as `key.path=value` on",
        "the command line, and in Python. Unknown keys are errors. What is laid over what:",
        "",
        "1. the defaults below,",
        "2. the preset that `--method` (or `method:` in the recipe) names,",
        "3. the recipe,",
        "4. options such as `--base` and `--steps`,",
        "5. `key.path=value`.",
        "",
        "The run folder's `config.yaml` holds the result, every default written out, and reproduces the run:",
        "`brushwork train runs/NAME/config.yaml`.",
        "",
        f"Presets: {', '.join(f'`{name}`' for name in config.presets())}.",
        "",
        "## Top level",
        "",
        *table(config.Config, ""),
    ]
    parts = {
        "optimizer": config.OptimizerConfig,
        "train": config.TrainConfig,
        "validation": config.ValidationConfig,
        "preserve": config.PreserveConfig,
    }
    for key, axis in AXES.items():
        for name in registry.names(axis):
            settings = registry.load(axis, name).Config
            lines += ["", f"## `{key}: {{type: {name}}}`", "", first_line(settings), "", *table(settings, key)]
    for key, settings in parts.items():
        lines += ["", f"## `{key}`", "", first_line(settings), "", *table(settings, key)]
    build = {"": BuildConfig, **{key: type(field.default) for key, field in nested(BuildConfig)}}
    lines += ["", "## `brushwork data build`", "", "The keys of its recipe, which are none of a run's."]
    for key, settings in build.items():
        heading = ["", f"### `{key}`", "", first_line(settings)] if key else []
        lines += [*heading, "", *table(settings, key)]
    return "\n".join(lines) + "\n"


def nested(settings: type[config.Settings]) -> list[tuple[str, FieldInfo]]:
    """Return the fields that are settings themselves."""
    return [(key, field) for key, field in settings.model_fields.items() if isinstance(field.default, config.Settings)]


def first_line(thing: object) -> str:
    """Return the first line of a docstring."""
    return (thing.__doc__ or "").partition("\n")[0]


def table(settings: type[config.Settings], key: str) -> Iterator[str]:
    """Yield a table with a row for each setting."""
    yield "| key | values | default | |"
    yield "|---|---|---|---|"
    for name, field in settings.model_fields.items():
        if name == "type" and key in AXES:
            continue
        full = f"{key}.{name}" if key else name
        yield f"| `{full}` | {kinds(field)} | {default(name, field)} | {field.description} |"


def kinds(field: FieldInfo) -> str:
    """Say in words which values a field takes."""
    text = describe(field.annotation)
    bounds = [
        f"{sign} {getattr(each, name)}"
        for each in field.metadata
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        if getattr(each, name, None) is not None
    ]
    return f"{text} {', '.join(bounds)}".strip().replace("|", "\\|")


def describe(annotation: Any) -> str:
    """Return a type in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        return f"list of {describe(inner[0])}"
    if origin is typing.Annotated:
        return describe(inner[0])
    if inner and origin is not dict:
        return " or ".join(describe(each) for each in inner)
    if isinstance(annotation, type) and issubclass(annotation, config.Settings):
        return "see below"
    words = {
        dict: "mapping",
        int: "whole number",
        float: "number",
        bool: "`true`, `false`",
        str: "text",
        type(None): "null",
    }
    return words[origin or annotation]


def default(name: str, field: FieldInfo) -> str:
    """Return a field's default as YAML would write it."""
    if field.annotation is config.PluginSettings:
        return PLUGINS[name]
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, config.Settings):
        return ""
    if value == {}:
        return "`{}`"
    if isinstance(value, (tuple, list)):
        return f"`[{', '.join(map(str, value))}]`"
    words = {None: "null", True: "true", False: "false", "": '""'}
    return f"`{words.get(value, value) if isinstance(value, (str, bool, type(None))) else value}`"


def command_line() -> str:
    """Return the page on every command."""
    lines = ["# Command line", NOTE, "", *(cli.__doc__ or "").partition("Conventions")[2].splitlines()]
    lines[3] = f"Conventions{lines[3]}"
    context = cli.cli.make_context("brushwork", [], resilient_parsing=True, terminal_width=WIDTH)
    for name in cli.cli.list_commands(context):
        command = cli.cli.get_command(context, name)
        if command is not None:
            lines += help_of(command, name, context)
    return "\n".join(lines).rstrip() + "\n"


def help_of(command: click.Command, name: str, parent: click.Context) -> list[str]:
    """Return the help of a command and of the commands below it."""
    context = click.Context(command, info_name=name, parent=parent, max_content_width=WIDTH, terminal_width=WIDTH)
    lines = ["", f"## `{context.command_path}`", "", "```text", command.get_help(context), "```"]
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            if below is not None:
                lines += help_of(below, each, context)
    return lines


def main() -> None:
    """Write the pages, or with ``--check`` only compare them."""
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        sys.exit(f"not up to date: {', '.join(map(str, stale))}; run `make docs`" if stale else 0)
    for path in stale:
        path.write_text(pages()[path], "utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
