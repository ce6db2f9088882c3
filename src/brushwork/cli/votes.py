"""Count the votes of people, or make them data to train on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brushwork.cli import json_option, print_json

if TYPE_CHECKING:
    from brushwork.voting.answers import Answer
    from brushwork.voting.ballot import BallotFolder


@click.group()
def command() -> None:
    """Count the votes of people, or make them data to train on."""


@command.command()
@click.argument("ballot", type=click.Path(path_type=Path))
@click.argument("answers", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--detect", default=0.6, type=float, help="The share of a preference that the vote should show.", show_default=True
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: the ballot's folder.")
@json_option
def tally(ballot: Path, answers: tuple[Path, ...], detect: float, out: Path | None, as_json: bool) -> None:
    """Count the votes on BALLOT and write results.html and results.json.

    ANSWERS are the files, or folders of them, that raters of a bundle sent; those of the served page lie in BALLOT
    already. Answers to another ballot, and those that were changed, are refused.
    """
    from brushwork.runs import write_json
    from brushwork.voting import counting, results

    folder, given = _opened(ballot, answers)
    told = counting.count(folder, given, detect=detect)
    place = out or folder.path
    write_json(place / "results.json", told)
    page = results.write(folder, given, told, place / "results.html")
    if as_json:
        print_json({"report": str(page), **told})
        return
    click.echo(str(page))
    for question in told["questions"]:
        click.echo(question["text"], err=True)
        for meeting in question["meetings"]:
            click.echo(f"  {meeting['sentence']}", err=True)


@command.command()
@click.argument("ballot", type=click.Path(path_type=Path))
@click.argument("answers", nargs=-1, type=click.Path(path_type=Path))
@click.option("--question", default="overall", help="Whose answers decide.", show_default=True)
@click.option("--margin", default=1, type=click.IntRange(1), help="Least majority, in votes.", show_default=True)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The new folder.")
@json_option
def pairs(ballot: Path, answers: tuple[Path, ...], question: str, margin: int, out: Path, as_json: bool) -> None:
    """Write the votes on BALLOT as preference pairs: data for `brushwork train --method dpo --data OUT`.

    Each pair of pictures is one row: the one that more raters preferred, and the other. Ties are left out.
    """
    from brushwork.voting import preferring

    folder, given = _opened(ballot, answers)
    told: dict[str, Any] = preferring.write(folder, given, out, question=question, margin=margin)
    if as_json:
        print_json({"path": str(out), **told})
        return
    click.echo(str(out))
    click.echo(
        f"{told['pairs']} pairs from {told['votes']} votes; {told['ties']} without a majority left out.", err=True
    )


def _opened(ballot: Path, answers: tuple[Path, ...]) -> tuple[BallotFolder, list[Answer]]:
    from brushwork.voting import answers as files
    from brushwork.voting import ballot as ballots

    folder = ballots.read(ballot)
    return folder, files.load(folder, answers)
