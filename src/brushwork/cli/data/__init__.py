"""Make data sets, look at them, and bring them into order.

A subcommand is a module in this folder with a click command named ``command``, as in ``brushwork.cli``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from brushwork.cli import Commands

if TYPE_CHECKING:
    from collections.abc import Callable

LAYOUTS = ("txt", "jsonl", "csv", "parquet", "webdataset", "hf")


def source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where in a data set pictures and captions are."""
    for option in (
        click.option("--split", "split_name", default="train", help="Of a data set with splits.", show_default=True),
        click.option("--caption-column", metavar="NAME", help="Where it is not found by its name."),
        click.option("--image-column", metavar="NAME", help="Where it is not found by its name."),
        click.option("--captions", type=click.Choice(["auto", "metadata", "txt", "caption"]), default="auto",
                     help="Which captions of a folder, should it have several kinds.", show_default=True),
    ):  # fmt: skip
        function = option(function)
    return function


@click.group(cls=Commands, package=__name__)
def command() -> None:
    """Make data sets, look at them, and bring them into order."""
