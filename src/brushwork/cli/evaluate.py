"""Measure what a run changed: base against tuned, at identical seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from brushwork.cli import json_option, print_json

if TYPE_CHECKING:
    from brushwork.metrics import Result


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--metrics", metavar="A,B", help="Names, separated by commas; default: all.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="For pictures and numbers; default: the run folder."
)
@click.option(
    "--extractor",
    "extractors",
    metavar="KIND:WHICH",
    multiple=True,
    help="A further network that measures, such as dinov2:facebook/dinov2-base; may be repeated.",
)
@json_option
def command(run: Path, metrics: str | None, out: Path | None, extractors: tuple[str, ...], as_json: bool) -> None:
    """Draw the prompts of RUN with its base and its tuned model, and measure the difference.

    Pictures that are there already, drawn by the same weights with the same settings, are used again. The prompts and
    settings are those in the run's config.yaml, under validation.
    """
    from brushwork.evaluate import evaluate
    from brushwork.runs import RunFolder

    names = [name.strip() for name in (metrics or "").split(",") if name.strip()]
    results = evaluate(RunFolder(run), names, out=out, extractors=extractors)
    if as_json:
        print_json([result.to_dict() for result in results])
    else:
        click.echo("\n".join(_line(result) for result in results))


def _line(result: Result) -> str:
    """Return one number with its interval, its n and, for a difference, its p."""
    between = f"[{result.interval[0]:+.4f}, {result.interval[1]:+.4f}]" if result.interval else ""
    p = "" if result.p is None else f"p={result.p:.3g} (smallest reachable {result.smallest_p:.2g})"
    of = result.of if result.against == "base" else f"{result.of} ({result.against})"
    words = (result.name, result.prompt_set, of, f"{result.value:+.4f}", between, f"n={result.n}", p)
    widths = (20, 9, 18, 9, 20, 7, 0)
    line = " ".join(word.ljust(width) for word, width in zip(words, widths, strict=True)).rstrip()
    return f"{line}  ({result.encoder}: {result.remark})" if result.remark else line
