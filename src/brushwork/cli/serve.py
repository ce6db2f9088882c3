"""Serve models to people and programs."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

import click
from pydantic import ValidationError

from brushwork.cli import json_option
from brushwork.errors import ConfigError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0: any that is free.")
@click.option("--token", envvar="BRUSHWORK_TOKEN", help="Whoever asks must know it; auto: make one and print it.")
@click.option(
    "--models", multiple=True, type=click.Path(file_okay=False, path_type=Path), help="A folder of models and adapters."
)
@click.option(
    "--controlnet", multiple=True, type=click.Path(path_type=Path),
    help="A ControlNet or a folder of them; besides, those in controlnet/ beside the runs.",
)  # fmt: skip
@click.option(
    "--runs", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"), show_default=True,
    help="Where training runs lie.",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), default=Path("served"), show_default=True,
    help="Where pictures and the history are kept.",
)  # fmt: skip
@click.option(
    "--datasets", type=click.Path(file_okay=False, path_type=Path), default=Path("datasets"), show_default=True,
    help="Where the data sets lie that are made in the studio.",
)  # fmt: skip
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another name by which this server is asked for.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda ...")
@click.option("--queue", type=click.IntRange(1), default=256, show_default=True, help="Jobs that may wait.")
@json_option
def command(
    host: str, port: int, token: str | None, models: tuple[Path, ...], controlnet: tuple[Path, ...], runs: Path,
    data: Path, datasets: Path, allow_host: tuple[str, ...], device: str, queue: int, as_json: bool,
) -> None:  # fmt: skip
    """Serve the studio page and the HTTP APIs: native, A1111's and OpenAI's.

    Without --models there are mini and the finished runs. A job draws in a process of its own; the history outlives the
    server. Elsewhere than on this machine it refuses to start without a token.
    """
    from brushwork.serve import surroundings

    surroundings.be_quiet()
    from brushwork.serve.listen import listen
    from brushwork.serve.settings import Limits, ServeConfig

    made = secrets.token_urlsafe(24) if token == "auto" else token  # noqa: S105  (the word for making one)
    try:
        config = ServeConfig(
            host=host, port=port, token=made, models=models, controlnet=controlnet, runs=runs, data=data,
            datasets=datasets, allowed_hosts=allow_host, device=device, limits=Limits(queued=queue),
        )  # fmt: skip
    except ValidationError as error:
        raise ConfigError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    os.environ["BRUSHWORK_TOKEN"] = ""  # not for the processes that are started

    def started(url: str) -> None:
        url += f"?token={made}" if token == "auto" else ""  # noqa: S105  (nobody else knows it; one that was given stays untold)
        if as_json:  # in one line, for it is read while the server runs
            click.echo(json.dumps({"url": url}))
        else:
            click.echo(f"brushwork studio: {url}", err=True)

    listen(config, started)
