"""Let a model write the captions of pictures: all, or those that are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from brushwork.cli import json_option, print_json
from brushwork.cli.data import LAYOUTS, source_options


@click.command()
@click.argument("data", metavar="DIR|DATASET")
@click.option("--model", default="Salesforce/blip-image-captioning-base", show_default=True,
              help="A captioning model: a hub id, a folder, or mini-captioner, which needs no network.")  # fmt: skip
@click.option("--existing", type=click.Choice(["keep", "replace", "add"]), default="keep", show_default=True,
              help="Keep what is there and write what is missing; replace it; or add a second caption.")  # fmt: skip
@click.option("--prefix", default="", help='Put before what the model says: "a photo of ".')
@click.option("--suffix", default="", help='Put behind it: ", old book engraving".')
@click.option("--trigger", default="", metavar="WORD", help="A word that stands first in every new caption.")
@click.option("--batch", default=16, type=click.IntRange(1), help="Pictures at a time.", show_default=True)
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps.", show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="A new folder; default: in DATA.")
@click.option("--to", "layout", type=click.Choice(LAYOUTS), default="jsonl", help="OUT's layout.", show_default=True)
@source_options
@json_option
def command(
    data: str, model: str, existing: str, prefix: str, suffix: str, trigger: str, batch: int, device: str,
    out: Path | None, layout: str, as_json: bool, **columns: str | None,
) -> None:  # fmt: skip
    """Describe the pictures of DATA by a model.

    Without --out captions go where those of the folder are: to a .txt beside each picture, or into its table; what is
    replaced is kept as .bak. Killed, the same command goes on where it stood.
    """
    from brushwork.captioners import load_captioner
    from brushwork.curate import captioning, inventory
    from brushwork.devices import resolve_device
    from brushwork.runs import check_free

    if out is not None:
        check_free(out)
    inventory.open_rows(data, **columns)  # a wrong request is refused before a model is fetched
    mode = {"keep": "missing", "replace": "replace", "add": "add"}[existing]
    wish = captioning.Wish(mode, prefix, suffix, trigger)  # type: ignore[arg-type]
    captioner = replace(load_captioner(model, device=resolve_device(device)), batch_size=batch)
    told = captioning.caption(data, captioner, wish, out=out, layout=layout, batch=batch, **columns)  # type: ignore[arg-type]
    if as_json:
        print_json({"path": str(out or data), "model": model, **told})
    else:
        click.echo(str(out or data))
        click.echo(captioning.summary(told), err=True)
