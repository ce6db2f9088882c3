"""Write a data set anew without its broken pictures and without those that repeat others."""

from __future__ import annotations

import json
from pathlib import Path

import click

from brushwork.cli import json_option, print_json
from brushwork.cli.data import LAYOUTS, source_options


@click.command()
@click.argument("data", metavar="DIR|DATASET")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The new folder.")
@click.option("--threshold", default=6, type=click.IntRange(0, 11), help="Of 64 bits, may differ.", show_default=True)
@click.option("--exact", is_flag=True, help="Only what is the same byte for byte.")
@click.option("--not-mirrored", is_flag=True, help="A mirror image is another picture.")
@click.option("--to", "layout", type=click.Choice(LAYOUTS), default="jsonl", help="The layout.", show_default=True)
@source_options
@json_option
def command(
    data: str, out: Path, threshold: int, exact: bool, not_mirrored: bool, layout: str, as_json: bool,
    **columns: str | None,
) -> None:  # fmt: skip
    """Write the pictures of DATA to OUT, of each that is there several times one; DATA stays as it is.

    Of the same bytes the first is kept, of what looks alike the largest, but one with a caption before one without.
    OUT/removed.jsonl says of every picture that is not there why, and which one it repeats.
    """
    from brushwork.curate import inventory, layouts, sorting
    from brushwork.runs import check_free, replacing

    check_free(out)
    rows, home = inventory.open_rows(data, **columns)
    seen = sorting.look_at(rows)
    captioned = [bool(text) for text in rows.captions()]
    found = sorting.dedupe(seen, threshold, captioned=captioned, mirrored=not not_mirrored, near=not exact)
    removed = [
        {"name": seen[place].name, "reason": reason, "repeats": None if first < 0 else seen[first].name}
        for place, first, reason in found.removed
    ]
    with replacing(out) as temporary:
        layouts.write(layouts.entries(rows, found.kept, home), temporary, layout)  # type: ignore[arg-type]
        lines = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in removed)
        (temporary / "removed.jsonl").write_text(lines, "utf-8")
    if as_json:
        print_json({"path": str(out), "kept": len(found.kept), "removed": removed})
    else:
        click.echo(str(out))
        click.echo(f"{len(found.kept)} of {len(seen)} pictures are kept; removed.jsonl has the others", err=True)
