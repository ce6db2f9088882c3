"""Draw pictures from prompts with a base, a run, or a base with adapters."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brushwork.cli import json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    import PIL.Image

    from brushwork.controlnet import Control
    from brushwork.generate import Request
    from brushwork.models import LoadedModel


MODULES, MODES = ("none", "canny", "invert"), ("balanced", "guess", "prompt", "control")
DRAWN_WITH = {"steps": "steps", "cfg": "guidance_scale", "sampler": "sampler"}
"""Options, and the fields of a request that they fill; a model may have its own idea of them."""
STEERING = ("module", "weight", "start", "end", "mode", "union")
"""What ``--control-...`` says of every ControlNet."""


@click.command()
@click.argument("model")
@click.argument("prompts", metavar="PROMPT...", nargs=-1, required=True)
@click.option("--negative", default="", metavar="TEXT", help="What to steer away from.")
@click.option("--n", "number", default=1, type=click.IntRange(1), help="Pictures a prompt, at seed, seed + 1 ...")
@click.option("--seed", default=0, type=click.IntRange(0), help="The seed of the first picture.", show_default=True)
@click.option("--steps", type=click.IntRange(1), help="Denoising steps; default: 20, or what the model was made for.")
@click.option("--cfg", type=float, help="Guidance: how strongly to follow the prompt; 1: none; default: 7, likewise.")
@click.option("--size", metavar="WxH", help="In pixels; default: the base's own.")
@click.option("--sampler", metavar="NAME", help="An A1111 name; default: DPM++ 2M, likewise.")
@click.option("--lora", "loras", multiple=True, metavar="NAME:W", help="Another adapter with its weight; repeatable.")
@click.option("--init", type=click.Path(path_type=Path), help="Start from this picture (img2img).")
@click.option("--mask", type=click.Path(path_type=Path), help="With --init: draw where this is white (inpainting).")
@click.option("--strength", default=0.75, help="With --init: how much of it to replace, to 1.", show_default=True)
@click.option(
    "--mask-strength", type=click.FloatRange(0, 1), default=1.0, show_default=True,
    help="Bases for inpainting: how wholly what is under the mask is hidden from them.",
)  # fmt: skip
@click.option(
    "--controlnet", "control_nets", multiple=True, metavar="NAME_OR_PATH",
    help="Steer by a ControlNet: a folder, a .safetensors file, or a name in controlnet/; repeatable.",
)  # fmt: skip
@click.option(
    "--control-image", "control_images", multiple=True, type=click.Path(path_type=Path),
    help="What its map is made of; one for each --controlnet.",
)  # fmt: skip
@click.option("--control-module", type=click.Choice(MODULES), default="none", help="How the map is made of the image.")
@click.option("--control-weight", type=click.FloatRange(0, 2), default=1.0, show_default=True, help="0: no ControlNet.")
@click.option("--control-start", type=click.FloatRange(0, 1), default=0.0, help="From which part of the steps on.")
@click.option("--control-end", type=click.FloatRange(0, 1), default=1.0, help="Up to which part of the steps.")
@click.option(
    "--control-mode", type=click.Choice(MODES), default="balanced", show_default=True,
    help="guess, control: only the prediction with the prompt is steered; prompt, control: softly.",
)  # fmt: skip
@click.option(
    "--control-union", type=click.IntRange(0), metavar="N",
    help="Of a ControlNet for several sorts of maps: which one, as its maker numbers them.",
)  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: a new folder in pictures/.")
@click.option("--captions", is_flag=True, help="Write each prompt beside its picture (.txt), as data to train on.")
@click.option("--batch-size", default=8, type=click.IntRange(1), help="Pictures drawn at once.", show_default=True)
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps.", show_default=True)
@click.option(
    "--precision", default="no", type=click.Choice(["no", "bf16", "fp16"]), help="no: float32.", show_default=True
)
@json_option
def command(
    model: str,
    prompts: tuple[str, ...],
    number: int,
    seed: int,
    loras: tuple[str, ...],
    out: Path | None,
    captions: bool,
    control_nets: tuple[str, ...],
    control_images: tuple[Path, ...],
    batch_size: int,
    device: str,
    precision: Any,
    as_json: bool,
    **settings: Any,
) -> None:
    """Draw each PROMPT with MODEL and write OUT/<index>-<seed>.png.

    MODEL is mini, a run, a diffusers folder, a .safetensors file, a hub id, or BASE+ADAPTER@0.8. A PROMPT of the form
    @FILE stands for the lines of a text file.
    """
    from brushwork import models
    from brushwork.controlnet import networks
    from brushwork.devices import resolve_device, resolve_dtype

    if len(control_nets) != len(control_images):
        message = f"--control-image: {len(control_images)} for {len(control_nets)} --controlnet; give one for each"
        raise click.UsageError(message)
    steering = {name: settings.pop(f"control_{name}") for name in STEERING}
    requests = _requests(spelled_out(prompts), range(seed, seed + number), **settings)
    paths = [networks.find(each) for each in control_nets]
    spec = models.parse("+".join([model, *(_at(each) for each in loras)]))
    place = resolve_device(device)
    opened = models.open_model(spec, dtype=resolve_dtype(precision, place), device=place)
    requests = _as_made_for(opened, requests, {name: settings[option] for option, name in DRAWN_WITH.items()})
    controls = _controls(opened, paths, control_images, steering)
    requests = [dataclasses.replace(each, controls=controls) for each in requests]
    written = _draw(opened, requests, out or Path("pictures") / time.strftime("%Y-%m-%d-%H%M%S"), batch_size, as_json)
    for each in written if captions else []:
        Path(each["path"]).with_suffix(".txt").write_text(each["request"]["prompt"], "utf-8")
    if as_json:
        print_json(written)


def _requests(prompts: Sequence[str], seeds: range, **settings: Any) -> list[Request]:
    from brushwork.generate import Request

    width, height = parse_size(settings["size"])
    said = {name: settings[option] for option, name in DRAWN_WITH.items() if settings[option] is not None}
    common = said | {
        "negative_prompt": settings["negative"],
        "strength": settings["strength"],
        "mask_strength": settings["mask_strength"],
        "width": width,
        "height": height,
        "init": _picture(settings["init"]),
        "mask": _picture(settings["mask"]),
    }
    return [Request(prompt=prompt, seed=seed, **common) for prompt in prompts for seed in seeds]


def _controls(
    model: LoadedModel, paths: list[Path], images: tuple[Path, ...], steering: dict[str, Any]
) -> tuple[Control, ...]:
    """Load the ControlNets and read their pictures."""
    from brushwork.controlnet import Control, networks
    from brushwork.controlnet.maps import Module

    opened = [networks.load(each, model.family) for each in paths]
    read = [_picture(each) for each in images]
    said = steering | {"module": Module(steering["module"])}
    return tuple(Control(net, image, **said) for net, image in zip(opened, read, strict=True) if image is not None)


def _as_made_for(model: LoadedModel, requests: list[Request], settings: dict[str, Any]) -> list[Request]:
    """Fill in what the user left open with what the model was made for."""
    from brushwork import progress, sampling

    said = [name for name, value in settings.items() if value is not None]
    if len(said) == len(settings):
        return requests
    changes = sampling.unsaid(model.sampling, said)
    if changes:
        progress.note(f"drawing as the model was made for: {model.sampling}")
    return [dataclasses.replace(each, **changes) for each in requests]


def _draw(model: LoadedModel, requests: list[Request], out: Path, batch_size: int, quiet: bool) -> list[dict[str, Any]]:
    from brushwork import generate, infotext, progress

    written: list[dict[str, Any]] = []
    with progress.bar("drawing", total=sum(each.steps for each in requests)) as advance:
        before = 0

        def on_step(done: int, total: int) -> None:
            nonlocal before
            advance(done - before, f"{len(written)}/{len(requests)} pictures" if total else "")
            before = done

        pictures = generate.draw(
            model.family,
            requests,
            batch_size=batch_size,
            label=model.name,
            model_hash=model.hash,
            adapters=model.adapters,
            on_step=on_step,
        )
        for index, picture in enumerate(pictures):
            path = infotext.save_png(picture, out / f"{index:05}-{picture.request.seed}.png")
            written.append({"path": str(path), "infotext": picture.infotext, **picture.provenance})
            if not quiet:
                click.echo(path)
    return written


def spelled_out(prompts: Sequence[str]) -> list[str]:
    """Replace ``@file.txt`` by the lines of the file."""
    from brushwork.prompts import resolve

    return [
        line
        for prompt in prompts
        for line in (resolve(prompt[1:], key="PROMPT") if prompt.startswith("@") else [prompt])
    ]


def parse_size(text: str | None) -> tuple[int | None, int | None]:
    """Read ``512x512`` as width and height; None stays unsaid.

    Raises:
        UsageError: It is no size.
    """
    if text is None:
        return None, None
    found = re.fullmatch(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*", text)  # noqa: RUF001  (people write it so)
    if found is None:
        message = f"--size: {text!r} is not a size. Write WxH in pixels, for example 512x512"
        raise click.UsageError(message)
    return int(found[1]), int(found[2])


def _at(text: str) -> str:
    """Write NAME:W as the model grammar's NAME@W."""
    from brushwork.models import parse_adapter

    spec = parse_adapter(text, ":")
    return f"{spec.text}@{spec.weight!r}"


def _picture(path: Path | None) -> PIL.Image.Image | None:
    """Read a picture: upright, transparency on white."""
    from brushwork import images
    from brushwork.errors import UserError

    if path is None:
        return None
    if not path.is_file():
        message = f"There is no picture {str(path)!r}."
        raise UserError(message)
    return images.decode(path.read_bytes(), name=str(path))
