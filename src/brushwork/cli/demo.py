"""Teach the embedded model a style from the embedded data, start to report, in minutes on a CPU."""

from __future__ import annotations

from pathlib import Path

import click

from brushwork.cli import json_option
from brushwork.cli.train import _finish

RECIPE = Path(__file__).parent.parent / "assets" / "demo.yaml"


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The run folder; default: below runs/.")
@json_option
def command(out: Path | None, as_json: bool) -> None:
    """Teach the embedded model a style from the embedded data, start to report, in minutes on a CPU.

    It needs no network. What it makes is an ordinary run folder; the path of its report is printed last.
    """
    from brushwork import api, config

    _finish(api.train(config.load(RECIPE), out=out), as_json=as_json)
