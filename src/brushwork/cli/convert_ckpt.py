"""Take the tensors out of a pickled checkpoint without running anything in it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from brushwork.cli import json_option, print_json


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="A .safetensors file, or a pipeline folder."
)
@click.option("--config", help="For a folder: where configs and tokenizer come from, a folder or hub id.")
@json_option
def command(file: Path, out: Path, config: str | None, as_json: bool) -> None:
    """Write the tensors of FILE (.ckpt, .pt, .bin, .pth) as safetensors, or as a diffusers folder.

    A pickle is a program. None of it is run: a process without torch or network reads which tensors it would have made.
    What else is in the file is dropped, and listed.
    """
    from brushwork import families, progress
    from brushwork.errors import UserError
    from brushwork.formats.pickles.parent import convert

    if out.exists():
        message = f"--out: {str(out)!r} exists already. Choose another, or remove it."
        raise UserError(message)
    if out.suffix == ".safetensors":
        report = convert(file, out)
    else:
        with tempfile.TemporaryDirectory() as folder:
            single = Path(folder) / "model.safetensors"
            report = convert(file, single)
            family = families.load(str(single), config=config)
            family.save(out)
    for what in report.dropped:
        progress.note(f"dropped: {what}")
    if report.called:
        progress.note(f"not run, though the file asks for it: {', '.join(report.called)}")
    if as_json:
        print_json({"path": str(out), **report.as_json()})
    else:
        click.echo(f"{out}: {report.tensors} tensors, {report.bytes / 1e6:.1f} MB, from a {report.format} file")
