"""Say what is in a data set and what is wrong with it, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from brushwork.cli import json_option, print_json
from brushwork.cli.data import source_options


@click.command()
@click.argument("data", metavar="DIR|DATASET")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The page; default: data-report.html.")
@click.option("--resolution", default=512, type=click.IntRange(8), help="What you train at.", show_default=True)
@click.option("--buckets", is_flag=True, help="You train with data.buckets=true.")
@click.option("--against", metavar="VALIDATION", help="Validation data that must not be among these.")
@click.option("--token", metavar="WORD", help="The word that every caption is to mention.")
@click.option("--base", metavar="BASE", help="Count tokens by this base's tokenizer, and say what is cut.")
@source_options
@json_option
def command(data: str, out: Path | None, as_json: bool, **options: Any) -> None:
    """Look at every picture and caption of DIR, of tar shards, or of a data set, and write a page.

    Found are: broken, repeated, empty and small pictures, missing, repeated and overlong captions, validation pictures
    among the training pictures, what cropping would lose, and what lies there without a use. Each finding has a level;
    `brushwork train` refuses data with errors.
    """
    from brushwork import families
    from brushwork.curate import page, report
    from brushwork.sources import captioned

    columns = {key: options[key] for key in ("captions", "image_column", "caption_column")}
    columns["split"] = options["split_name"]
    against = options["against"]
    told = report.examine(
        captioned.Config(path=data, **columns),
        resolution=options["resolution"],
        bucketed=options["buckets"],
        against=captioned.Config(path=against) if against else None,
        token=options["token"],
        unread=families.load(options["base"]).unread if options["base"] else None,
    )
    path = page.write(told, out or Path("data-report.html"))
    if as_json:
        print_json({"report": str(path), **told.summary})
        return
    for finding in told.findings:
        click.echo(finding.line(), err=True)
    click.echo(str(path))
