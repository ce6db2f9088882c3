"""Write the page that shows and proves what a run changed."""

from __future__ import annotations

from pathlib import Path

import click

from brushwork.cli import json_option, print_json


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: report.html in the run folder.")
@json_option
def command(run: Path, out: Path | None, as_json: bool) -> None:
    """Write the report of RUN: one self-contained HTML page. What was not done yet is said, not made up.

    RUN may also be the folder of an evaluation of another model.
    """
    from brushwork.evaluate import subjects
    from brushwork.report import write_report
    from brushwork.runs import RunFolder

    path = write_report(subjects.reopen(run) if (run / subjects.FILE).is_file() else RunFolder(run), out)
    if as_json:
        print_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        click.echo(str(path))
