"""Split a data set into training and validation pictures, what looks alike on one side."""

from __future__ import annotations

from pathlib import Path

import click

from brushwork.cli import json_option, print_json
from brushwork.cli.data import LAYOUTS, source_options


@click.command()
@click.argument("data", metavar="DIR|DATASET")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The new folder.")
@click.option("--validation", default=0.1, type=click.FloatRange(0, 1), help="The share held out.", show_default=True)
@click.option("--seed", default=0, type=click.IntRange(0), help="Decides what is held out.", show_default=True)
@click.option("--to", "layout", type=click.Choice(LAYOUTS), default="jsonl", help="The layout.", show_default=True)
@source_options
@json_option
def command(
    data: str, out: Path, validation: float, seed: int, layout: str, as_json: bool, **columns: str | None
) -> None:
    """Write the pictures of DATA to OUT/train and OUT/validation; DATA stays as it is.

    Copies, resized, recompressed and mirrored ones too, are kept on one side. The same seed holds out the same
    pictures; adding some moves none of the others but those that look like them. Broken pictures are left out.
    """
    from brushwork.curate import inventory, layouts, sorting
    from brushwork.runs import check_free, replacing

    check_free(out)
    rows, home = inventory.open_rows(data, **columns)
    seen = sorting.look_at(rows)
    sides = dict(zip(("train", "validation"), sorting.split(seen, validation, seed), strict=True))
    with replacing(out) as temporary:
        for side, places in sides.items():
            layouts.write(layouts.entries(rows, places, home), temporary / side, layout)  # type: ignore[arg-type]
    counts = {side: len(places) for side, places in sides.items()}
    broken = [look.name for look in seen if look.error]
    if as_json:
        print_json({"path": str(out), **counts, "seed": seed, "broken": broken})
    else:
        click.echo(str(out))
        left = f"; {len(broken)} broken ones are left out" if broken else ""
        click.echo(f"{counts['train']} to train on, {counts['validation']} held out{left}", err=True)
