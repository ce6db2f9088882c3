"""List the models that can be used here without a network."""

from __future__ import annotations

import click

from brushwork.cli import json_option, print_json


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List embedded bases, the runs in runs/, and the diffusers pipelines in the hub's cache."""
    from brushwork import models

    found = models.installed()
    if as_json:
        print_json(found)
        return
    for each in found:
        click.echo(f"{each['model']:<48} {each['kind']:<9} {each['detail']}".rstrip())
    if not found:
        click.echo("There is no model here yet. Fetch one: brushwork generate HUB-ID PROMPT", err=True)
