"""Measure what a fine-tune changed and forgot: base against tuned, at identical seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from brushwork.cli import json_option, print_json

if TYPE_CHECKING:
    from brushwork.evaluate.subjects import Subject
    from brushwork.metrics import Result


@click.command()
@click.argument("model")
@click.argument("overrides", metavar="[validation.key=value ...]", nargs=-1)
@click.option("--against", metavar="BASE", help="What MODEL is held against; default: what it says it was tuned from.")
@click.option("--prompts", metavar="FILE", help="Prompts, or sets of them in YAML, or an embedded name.")
@click.option("--references", metavar="DIR", help="Pictures that it should resemble; default: the run's training data.")
@click.option("--metrics", metavar="A,B", help="Names, separated by commas; default: all.")
@click.option("--checkpoints", is_flag=True, help="Measure every checkpoint of a run, and decide which is best.")
@click.option("--processes", type=click.IntRange(min=1), help="Draw with so many processes on this machine.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="For pictures, numbers and report; default: the run's folder, else one below evaluations/.",
)
@click.option(
    "--extractor",
    "extractors",
    metavar="KIND:WHICH",
    multiple=True,
    help="A further network that measures, such as dinov2:facebook/dinov2-base; may be repeated.",
)
@json_option
@click.pass_obj
def command(
    arguments: list[str],
    model: str,
    overrides: tuple[str, ...],
    against: str | None,
    prompts: str | None,
    references: str | None,
    metrics: str | None,
    checkpoints: bool,
    processes: int | None,
    out: Path | None,
    extractors: tuple[str, ...],
    as_json: bool,
) -> None:
    """Draw prompts with MODEL and with what it was tuned from, at the same seeds, measure the difference, and report.

    MODEL is a run, a step of one (RUN@300), a base, or BASE+ADAPTER@0.8. A run brings its prompts and settings along;
    any other needs --prompts. Pictures that are there already, drawn by the same weights and settings, are used again.

    \b
    brushwork evaluate runs/2026-11-21-lora-1a2b --checkpoints
    brushwork evaluate mini+my-lora.safetensors@0.8 --prompts target validation.images_per_prompt=2
    """  # noqa: D301  (click wants a backspace, not a backslash)
    from brushwork.evaluate import subjects
    from brushwork.launch import launched

    subject = subjects.find(
        model, against=against, prompts=prompts, references=references, overrides=overrides, out=out
    )
    if checkpoints:
        _refuse_other_models(subject, out)
    names = [name.strip() for name in (metrics or "").split(",") if name.strip()]
    with launched(processes, arguments):
        _carry_out(subject, names, extractors, checkpoints=checkpoints, as_json=as_json)


def _refuse_other_models(subject: Subject, out: Path | None) -> None:
    from brushwork.errors import UserError

    if not subject.is_own_run or out is not None:
        message = (
            "--checkpoints is for a run as it is, and what it finds is written there. Leave out --against, --prompts, "
            "--references, --out and settings."
        )
        raise UserError(message)


def _carry_out(
    subject: Subject, names: list[str], extractors: tuple[str, ...], *, checkpoints: bool, as_json: bool
) -> None:
    from brushwork import curves, processes
    from brushwork.evaluate import evaluate_subject
    from brushwork.report import write_report

    world = processes.join()
    with world.telling():
        results = evaluate_subject(subject, names, extractors=extractors, world=world)
        told = curves.measure(subject, world=world) if checkpoints else None
        if not world.is_main:
            return
        report = write_report(subject)
    if as_json:
        found = {
            "model": subject.asked.model, "against": subject.against or subject.config.base, "out": str(subject.path),
            "report": str(report), "metrics": [result.to_dict() for result in results],
        }  # fmt: skip
        print_json({**found, "checkpoints": told} if told is not None else found)
        return
    click.echo("\n".join(_line(result) for result in results))
    if told is not None:
        click.echo(told["told"])
    click.echo(str(report), err=True)


def _line(result: Result) -> str:
    """Return one number with its interval, its n and, for a difference, its p."""
    between = f"[{result.interval[0]:+.4f}, {result.interval[1]:+.4f}]" if result.interval else ""
    p = "" if result.p is None else f"p={result.p:.3g} (smallest reachable {result.smallest_p:.2g})"
    of = result.of if result.against == "base" else f"{result.of} ({result.against})"
    words = (result.name, result.prompt_set, of, f"{result.value:+.4f}", between, f"n={result.n}", p)
    widths = (20, 9, 18, 9, 20, 7, 0)
    line = " ".join(word.ljust(width) for word, width in zip(words, widths, strict=True)).rstrip()
    return f"{line}  ({result.encoder}: {result.remark})" if result.remark else line
