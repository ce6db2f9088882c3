"""Build a data set from tables of addresses and captions, such as LAION's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from brushwork.cli import json_option, print_json


@click.command()
@click.argument("metadata", metavar="[RECIPE.yaml | METADATA...] [key.path=value ...]", nargs=-1)
@click.option("--preset", "presets", multiple=True, metavar="NAME[=VALUE]", help="A criterion by its name, or laion.")
@click.option("--where", multiple=True, metavar="EXPR", help="An SQL expression over the columns that must be true.")
@click.option("--format", "form", type=click.Choice(["folder", "webdataset"]), help="Default: folder.")
@click.option("--size", type=click.IntRange(1), help="The shorter side of the pictures; default: 512.")
@click.option(
    "--crop", type=click.Choice(["centre", "smart"]), help="Cut squares: from the middle, or where detail is."
)
@click.option("--engine", type=click.Choice(["local", "ray"]), help="Default: local, processes of this machine.")
@click.option("--workers", type=click.IntRange(0), help="Processes that decode; default: one for each core.")
@click.option("--allow-private", is_flag=True, help="Fetch from private, loopback and link-local addresses too.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new folder.")
@click.option("--resume", "resuming", is_flag=True, help="Go on with the build in --out, from its own settings.")
@json_option
def command(
    metadata: tuple[str, ...],
    presets: tuple[str, ...],
    out: Path,
    resuming: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Filter METADATA (Parquet or CSV with addresses and captions), fetch the pictures, and write a data set.

    Presets are resolution, aspect, language, similarity, watermark, unsafe, aesthetic, caption-length, domain,
    keywords and dedupe, each with a value of its own (`--preset resolution=768`), and laion for several of them.
    Every row's fate is in OUT/manifest.parquet. A build that was stopped goes on with --resume.

    \b
    brushwork data build 'laion/*.parquet' --preset laion --where "caption NOT ILIKE '%logo%'" --out cats
    brushwork data build recipe.yaml fetch.delay=1 --format webdataset --out shards
    """  # noqa: D301  (click wants a backspace, not a backslash)
    from brushwork.curate import build as builder
    from brushwork.curate.build import settings
    from brushwork.errors import UserError

    top = _keys(**options)
    if resuming:
        if metadata or presets or top:
            message = "--resume goes on from the build's own settings; leave the metadata and the other options out."
            raise UserError(message)
        summary = builder.resume(out)
    else:
        recipe, tables, overrides = _split(metadata)
        config = settings.load(
            recipe, presets=presets, overrides=overrides, **top, **({"metadata": tables} if tables else {})
        )
        summary = builder.build(config, out)
    if as_json:
        print_json({"path": str(out), **summary})
    else:
        click.echo(str(out))
        for fate, rows in summary["fates"].items():
            click.echo(f"{rows:>9}  {fate}", err=True)


def _keys(
    *,
    where: tuple[str, ...],
    form: str | None,
    size: int | None,
    crop: str | None,
    engine: str | None,
    workers: int | None,
    allow_private: bool,
) -> dict[str, dict[str, Any]]:
    """Return the keys of the settings that options stand for."""
    every: dict[str, dict[str, Any]] = {
        "filter": {"where": list(where) or None},
        "output": {"format": form},
        "image": {"size": size, "mode": crop},
        "engine": {"type": engine, "workers": workers},
        "fetch": {"allow_private": allow_private or None},
    }
    given = {part: {key: value for key, value in keys.items() if value is not None} for part, keys in every.items()}
    return {part: keys for part, keys in given.items() if keys}


def _split(arguments: tuple[str, ...]) -> tuple[str | None, list[str], list[str]]:
    """Tell a recipe, tables and ``key.path=value`` apart; a file that is there is a file whatever its name."""
    from brushwork.errors import UserError

    overrides = [each for each in arguments if re.match(r"[\w.]+=", each) and not Path(each).exists()]
    files = [each for each in arguments if each not in overrides]
    recipes = [each for each in files if each.endswith((".yaml", ".yml"))]
    if len(recipes) > 1:
        message = f"One recipe at a time: {' and '.join(recipes)} were given."
        raise UserError(message)
    return (recipes[0] if recipes else None), [each for each in files if each not in recipes], overrides
