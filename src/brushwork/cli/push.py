"""Upload a run to the Hugging Face hub: card, weights, samples."""

from __future__ import annotations

from pathlib import Path

import click

from brushwork.cli import json_option, print_json


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="If the repository is new, nobody else may see it.")
@click.option("--dry-run", is_flag=True, help="List what would be uploaded, and the card; no network.")
@json_option
def command(run: Path, repo: str, private: bool, dry_run: bool, as_json: bool) -> None:
    """Upload RUN to OWNER/NAME on the hub, in one commit. Nothing is ever uploaded without this command.

    The token comes from HF_TOKEN or `hf auth login`. The card is the run's, with its numbers; folders of this machine
    are left out of it.
    """
    from brushwork import runs
    from brushwork.exports import hub

    folder = runs.RunFolder(run if run.exists() else runs.RUNS / run)
    bundle = hub.pack(folder, repo)
    for name, size in bundle.sizes:
        click.echo(f"{size / 1e6:10.3f} MB  {name}", err=True)
    url = None if dry_run else hub.push(bundle, private=private)
    if as_json:
        files = [{"path": name, "bytes": size} for name, size in bundle.sizes]
        print_json({"repo": repo, "url": url, "files": files, "uploaded": not dry_run})
    elif dry_run:
        card = bundle.files["README.md"]
        click.echo(card.decode() if isinstance(card, bytes) else "")
    else:
        click.echo(url)
