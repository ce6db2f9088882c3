"""Write a data set anew in another layout; its pictures stay byte for byte what they are."""

from __future__ import annotations

from pathlib import Path

import click

from brushwork.cli import json_option, print_json
from brushwork.cli.data import LAYOUTS, source_options


@click.command()
@click.argument("data", metavar="DIR|DATASET")
@click.option("--to", "layout", type=click.Choice(LAYOUTS), required=True, help="The layout.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The new folder.")
@click.option("--shard", default=1000, type=click.IntRange(1), help="Samples in a tar shard.", show_default=True)
@source_options
@json_option
def command(data: str, layout: str, out: Path, shard: int, as_json: bool, **columns: str | None) -> None:
    """Write DATA (a folder, tar shards, a saved data set, a hub id) to the folder OUT.

    txt: a text file beside each picture. jsonl, csv, parquet: one table. webdataset: tar shards. hf: what
    datasets.load_from_disk opens. All of them are data for `brushwork train` again.
    """
    from brushwork.curate import inventory, layouts
    from brushwork.runs import check_free

    check_free(out)
    rows, home = inventory.open_rows(data, **columns)
    count = layouts.write(layouts.entries(rows, home=home), out, layout, shard=shard)  # type: ignore[arg-type]
    if as_json:
        print_json({"path": str(out), "layout": layout, "pictures": count})
    else:
        click.echo(str(out))
        click.echo(f"{count} pictures as {layout}", err=True)
