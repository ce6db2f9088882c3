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
@click.option("--keep-gb", type=click.FloatRange(0.001), default=20, show_default=True, metavar="GB",
    help="Room for drawn and sent pictures; beyond it the oldest jobs are forgotten.",
)  # fmt: skip
@click.option("--keep-images", type=click.IntRange(1), metavar="N", help="Keep the newest N drawn pictures only.")
@click.option("--keep-uploads", type=click.FloatRange(0, min_open=True), default=24, show_default=True, metavar="HOURS",
    help="Remove pictures that were sent and that no job used.",
)  # fmt: skip
@click.option("--keep-datasets", type=click.FloatRange(0, min_open=True), metavar="DAYS",
    help="Remove data sets that were made in the studio, left untouched and never trained on; default: never.",
)  # fmt: skip
@json_option
def command(
    host: str, port: int, token: str | None, models: tuple[Path, ...], controlnet: tuple[Path, ...], runs: Path,
    data: Path, datasets: Path, allow_host: tuple[str, ...], device: str, queue: int, keep_gb: float,
    keep_images: int | None, keep_uploads: float, keep_datasets: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Serve the studio page and the HTTP APIs: native, A1111's and OpenAI's.

    Without --models there are mini and the finished runs. A job draws in a process of its own; the history outlives the
    server. Elsewhere than on this machine it refuses to start without a token.
    """
    from brushwork.serve import surroundings

    surroundings.be_quiet()
    from brushwork.serve.listen import listen
    from brushwork.serve.settings import Keep, Limits, ServeConfig

    made = secrets.token_urlsafe(24) if token == "auto" else token  # noqa: S105  (the word for making one)
    kept = {"uploads_hours": keep_uploads, "datasets_days": keep_datasets}
    try:
        config = ServeConfig(
            host=host, port=port, token=made, models=models, controlnet=controlnet, runs=runs, data=data,
            datasets=datasets, allowed_hosts=allow_host, device=device, limits=Limits(queued=queue),
            keep=Keep(pictures=keep_images, bytes=round(keep_gb * 1e9), **kept),
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
