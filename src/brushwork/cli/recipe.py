"""Make a recipe out of a training command of diffusers' scripts."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from brushwork.cli import json_option, print_json

HEADINGS = {
    "repaired": "repaired",
    "ignored_there": "no effect there",
    "missing_here": "none here",
    "differs": "differs here",
    "to_fill_in": "to fill in",
}


@click.group()
def command() -> None:
    """Make a recipe out of something else."""


@command.command("from-command")
@click.argument("text", metavar="COMMAND")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the recipe here, not to stdout.")
@click.option("--set", "variables", multiple=True, metavar="NAME=VALUE", help="A shell variable in it; repeatable.")
@json_option
def from_command(text: str, out: Path | None, variables: tuple[str, ...], as_json: bool) -> None:
    """Turn COMMAND, in quotes, into a recipe; - reads it from stdin.

    Known are diffusers' train_text_to_image(_lora).py, train_dreambooth(_lora).py and textual_inversion.py. What became
    of flags that are not in the recipe is said: without effect in the script itself, or none here.
    """
    from brushwork.commands.translate import translate
    from brushwork.errors import ConfigError
    from brushwork.runs import replacing

    pairs = [each.partition("=") for each in variables]
    if not all(name and equals for name, equals, _ in pairs):
        message = "--set: write NAME=VALUE, for example --set MODEL_NAME=CompVis/stable-diffusion-v1-4"
        raise ConfigError(message)
    found = translate(sys.stdin.read() if text == "-" else text, {name: value for name, _, value in pairs})
    if out is not None:
        with replacing(out) as temporary:
            temporary.write_text(found.text(str(out)), "utf-8")
    for name, heading in HEADINGS.items():
        for line in getattr(found, name):
            click.echo(f"{heading}: {line}", err=True)
    if as_json:
        print_json(found.as_json())
    elif out is None:
        click.echo(found.yaml, nl=False)
    else:
        click.echo(out)
