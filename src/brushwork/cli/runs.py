"""List runs, or show what one run was and how it went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brushwork.cli import json_option, print_json

if TYPE_CHECKING:
    from brushwork.runs import RunFolder

COLUMNS = ("run", "status", "method", "base", "data", "steps", "loss")


@click.group()
def command() -> None:
    """List runs, or show what one run was and how it went."""


@command.command("list")
@click.argument("folder", default="runs", type=click.Path(file_okay=False, path_type=Path))
@json_option
def list_runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER (default: runs), oldest first."""
    from brushwork import runs

    rows = [_row(run) for run in runs.find(folder)]
    if as_json:
        print_json(rows)
    elif rows:
        click.echo(_table(rows))
    else:
        click.echo(f"There is no run in {str(folder)!r} yet. Make one: brushwork demo", err=True)


@command.command("show")
@click.argument("run", type=click.Path(path_type=Path))
@json_option
def show_run(run: Path, as_json: bool) -> None:
    """Show the record, the metrics and the configuration of RUN: a folder, or its name below runs."""
    from brushwork import runs
    from brushwork.config import to_yaml

    opened = runs.RunFolder(run if run.exists() else _below_runs(run, runs.RUNS))
    if as_json:
        config = opened.config.model_dump(mode="json")
        print_json(_row(opened) | {"record": opened.record, "metrics": opened.metrics, "config": config})
        return
    facts = _row(opened) | {key: value for key, value in opened.record.items() if not isinstance(value, (dict, list))}
    click.echo("\n".join(f"{name:<24}{_text(value)}" for name, value in facts.items()))
    click.echo(f"\n{to_yaml(opened.config).rstrip()}")


def _below_runs(run: Path, folder: Path) -> Path:
    """Return where a bare name lies; anything else stays as it was given, for the message."""
    return folder / run if (folder / run).is_dir() else run


def _row(run: RunFolder) -> dict[str, Any]:
    """Return a run in one line: what was trained, on what, how far, and the last loss."""
    config, steps = run.config, run.steps()
    return {
        "run": str(run.path),
        "status": run.record.get("status"),
        "method": config.method.type,
        "base": config.base,
        "data": getattr(config.data, "path", None),
        "steps": steps[-1]["index"] if steps else 0,
        "loss": steps[-1].get("loss") if steps else None,
    }


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def _table(rows: list[dict[str, Any]]) -> str:
    """Align the columns; the last column is not padded."""
    cells = [list(COLUMNS), *([_text(row[name]) for name in COLUMNS] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)
