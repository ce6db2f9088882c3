"""Show on one page how a model makes a picture of a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from brushwork.cli import json_option, print_json


@click.command()
@click.argument("model")
@click.argument("prompt")
@click.option("--negative", default="", metavar="TEXT", help="What to steer away from.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of the picture's noise.", show_default=True)
@click.option("--steps", type=click.IntRange(1), help="Denoising steps; default: 20, or what the model was made for.")
@click.option("--cfg", type=float, help="Guidance; default: 7, likewise.")
@click.option("--size", metavar="WxH", help="In pixels; default: the base's own.")
@click.option("--sampler", metavar="NAME", help="An A1111 name; default: DPM++ 2M, likewise.")
@click.option(
    "--image", "images", multiple=True, type=click.Path(path_type=Path),
    help="A picture for the VAE's round trip and the similarity matrix; repeatable.",
)  # fmt: skip
@click.option(
    "--caption", "captions", multiple=True, metavar="TEXT", help="Of each --image, in their order; default: its .txt."
)
@click.option("--skimage", is_flag=True, help="The eight pictures of scikit-image that CLIP was introduced with.")
@click.option("--judge", default="auto", help="The CLIP model of the similarity matrix.", show_default=True)
@click.option(
    "--out", default="explained.html", type=click.Path(dir_okay=False, path_type=Path), help="The page.",
    show_default=True,
)  # fmt: skip
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps.", show_default=True)
@click.option(
    "--precision", default="no", type=click.Choice(["no", "bf16", "fp16"]), help="no: float32.", show_default=True
)
@json_option
def command(
    model: str,
    prompt: str,
    images: tuple[Path, ...],
    captions: tuple[str, ...],
    skimage: bool,
    judge: str,
    out: Path,
    device: str,
    precision: Any,
    as_json: bool,
    **settings: Any,
) -> None:
    """Draw PROMPT with MODEL and show on one page what happened.

    Its tokens and where it is cut, the shapes on the way, the picture coming out of the noise, where each word acts,
    what the VAE alone costs, and how well CLIP tells given pictures apart.
    """
    from brushwork import models
    from brushwork.anatomy import gallery, overview, page
    from brushwork.devices import resolve_device, resolve_dtype
    from brushwork.errors import ConfigError

    if skimage and images:
        message = "--skimage and --image: give one of them."
        raise ConfigError(message)
    if captions and not images:
        message = "--caption: it belongs to an --image, and there is none."
        raise ConfigError(message)
    pictures = gallery.from_skimage() if skimage else gallery.from_files(images, captions)
    place = resolve_device(device)
    opened = models.open_model(model, dtype=resolve_dtype(precision, place), device=place)
    found = overview.explain(opened, _request(opened, prompt, settings), pictures=pictures, judge=judge)
    page.write(found, out)
    if as_json:
        print_json({"page": str(out), **found.to_dict()})
    else:
        click.echo(str(out))
        for reason in found.missing.values():
            click.echo(reason, err=True)


def _request(model: Any, prompt: str, settings: dict[str, Any]) -> Any:
    from brushwork import sampling
    from brushwork.cli.generate import DRAWN_WITH, parse_size
    from brushwork.generate import Request

    width, height = parse_size(settings["size"])
    said = {name: settings[option] for option, name in DRAWN_WITH.items() if settings[option] is not None}
    made_for = sampling.unsaid(model.sampling, said)
    return Request(prompt, settings["negative"], settings["seed"], width=width, height=height, **{**made_for, **said})
