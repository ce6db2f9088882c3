"""Make data sets, look at them, and bring them into order.

A subcommand is a module in this folder with a click command named ``command``, as in ``brushwork.cli``.
"""

from __future__ import annotations

import click

from brushwork.cli import Commands


@click.group(cls=Commands, package=__name__)
def command() -> None:
    """Make data sets, look at them, and bring them into order."""
