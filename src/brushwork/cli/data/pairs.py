"""Write preference pairs: draw several pictures of each prompt and rank them by a metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from brushwork.cli import json_option, print_json


@click.command()
@click.argument("model")
@click.argument("prompts", metavar="PROMPT...", nargs=-1, required=True)
@click.option("--metric", default="clip", help="By what pictures are ranked.", show_default=True)
@click.option("--prefer", type=click.Choice(["higher", "lower"]), help="Default: what the metric itself calls better.")
@click.option("--margin", default=0.0, type=click.FloatRange(0), help="Pictures this near each other are a tie.")
@click.option("--judge", default="auto", help="The CLIP model, if the metric needs one.", show_default=True)
@click.option("--candidates", default=4, type=click.IntRange(2), help="Pictures a prompt.", show_default=True)
@click.option("--seed", default=0, type=click.IntRange(0), help="The seed of the first picture.", show_default=True)
@click.option("--steps", default=20, type=click.IntRange(1), help="Denoising steps.", show_default=True)
@click.option("--cfg", default=7.0, help="Guidance: how strongly to follow the prompt; 1: none.", show_default=True)
@click.option("--size", metavar="WxH", help="In pixels; default: the base's own.")
@click.option("--sampler", default="DPM++ 2M", metavar="NAME", help="An A1111 name.", show_default=True)
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps.", show_default=True)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The new folder.")
@json_option
def command(
    model: str,
    prompts: tuple[str, ...],
    candidates: int,
    seed: int,
    device: str,
    out: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Draw CANDIDATES pictures of each PROMPT with MODEL, rank them by a metric, and write preference pairs.

    The better half of a prompt's pictures is preferred to the other half. OUT is then data for `brushwork train
    --method dpo`. A PROMPT of the form @FILE stands for the lines of a text file or of an embedded list.
    """
    from brushwork import models, preferences
    from brushwork.cli.generate import parse_size, spelled_out
    from brushwork.devices import resolve_device
    from brushwork.generate import Request
    from brushwork.prompts import resolve
    from brushwork.runs import check_free

    check_free(out)
    width, height = parse_size(settings["size"])
    drawing = {"steps": settings["steps"], "guidance_scale": settings["cfg"], "sampler": settings["sampler"]}
    # Every picture has a seed of its own: pictures of two prompts that shared their noise would be kin.
    requests = [
        [
            Request(text, seed=seed + place * candidates + number, width=width, height=height, **drawing)
            for number in range(candidates)
        ]
        for place, text in enumerate(resolve(spelled_out(prompts), key="PROMPT"))
    ]
    ranking = preferences.Ranking(**{key: settings[key] for key in ("metric", "prefer", "margin", "judge")})
    told = preferences.make(models.open_model(model, device=resolve_device(device)), requests, ranking, out)
    if as_json:
        print_json({"path": str(out), **told})
    else:
        click.echo(str(out))
        click.echo(
            f"{told['pairs']} pairs, {told['ties']} ties left out; {settings['metric']} is {told['chosen_score']:.4g} "
            f"where preferred and {told['rejected_score']:.4g} where not.",
            err=True,
        )
