"""Write a model or its adapter as a file for another program, read back before it is called done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from brushwork.cli import json_option, print_json


@click.command()
@click.argument("model")
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Choice(["diffusers", "kohya", "comfyui", "single-file"]),
    help="Who is to read it. kohya: sd-scripts, A1111, Forge.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="A .safetensors file; a folder for a pipeline."
)
@click.option("--merge", is_flag=True, help="Put the adapters, with their weights, into the base.")
@click.option(
    "--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), help="The type of the numbers; default: as they are."
)
@click.option("--no-metadata", is_flag=True, help="Say nothing in the file's header about how it was made.")
@click.option("--device", default="auto", help="Where the proof is drawn: auto, cpu, cuda ...", show_default=True)
@json_option
def command(
    model: str,
    target: Any,
    out: Path,
    merge: bool,
    dtype: Any,
    no_metadata: bool,
    device: str,
    as_json: bool,
) -> None:
    """Write MODEL (a run, BASE+ADAPTER@0.8, a base) for another program.

    An adapter is written as an adapter, a learnt word as a word. With --merge they go into the base, which is written
    as a single file or a diffusers folder. What is written is read back: the weights and one picture have to be the
    same.
    """
    from brushwork import exports
    from brushwork.exports.orders import Order

    order = Order(target, out, metadata=not no_metadata, dtype=dtype, device=device)
    done = []
    for written in exports.export(model, order, merge=merge):
        done.append(written.as_json())
        if not as_json:
            click.echo(written.said)
    if as_json:
        print_json(done)
