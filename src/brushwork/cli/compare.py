"""Compare models, sweep their settings, or train several methods alike and compare those."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brushwork.cli import json_option, print_json

if TYPE_CHECKING:
    from brushwork.compare import Comparison

ONLY_MODELS = ("sweep", "against", "cfg", "sampler", "size")
ONLY_METHODS = ("base", "seconds", "concept", "means")


@click.command()
@click.argument("models_and_overrides", metavar="[MODEL ...] [RECIPE.yaml] [KEY=VALUE]...", nargs=-1)
@click.option("--methods", metavar="A,B", help="Train these, by preset, and compare them; see below.")
@click.option("--base", help="Methods: what they start from.")
@click.option("--data", help="Methods: what they are trained on. Models: pictures that they should be like.")
@click.option("--steps", type=click.IntRange(1), help="Methods: training steps of each. Models: denoising steps.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Methods: seconds of training of each.")
@click.option("--seeds", type=click.IntRange(1), help="Methods: training runs of each. Models: pictures a prompt.")
@click.option("--seed", type=click.IntRange(0), help="The first seed: of training, or of the pictures.")
@click.option("--prompts", metavar="FILE|NAME", help="A text file, one prompt a line, or an embedded list.")
@click.option("--control", metavar="FILE|NAME", help="Prompts that have nothing to do with the data.")
@click.option("--concept", metavar="WORDS", help="Methods: what is learnt, as prompts name it; see docs/compare.md.")
@click.option("--means", metavar="WORDS", help="Methods: what the judge reads, and the base draws, in its place.")
@click.option("--metrics", metavar="A,B", help="Names, separated by commas; default: all.")
@click.option(
    "--sweep", multiple=True, metavar="KIND=V,V", help="weight, checkpoint, steps, cfg, sampler, prompt:WORDS."
)
@click.option(
    "--against", metavar="MODEL", help="What the others are held against; default: the common base, or the first."
)
@click.option("--cfg", type=float, help="Models: guidance.")
@click.option("--sampler", metavar="NAME", help="Models: an A1111 name.")
@click.option("--size", metavar="WxH", help="Models: in pixels; default: each one's own.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: a new folder in comparisons/.")
@json_option
def command(models_and_overrides: tuple[str, ...], out: Path | None, as_json: bool, **options: Any) -> int:
    """Draw the same prompts at the same seeds with every MODEL, and measure them alike.

    MODEL is mini, a run, a diffusers folder of any architecture, a .safetensors file, a hub id, or BASE+ADAPTER@0.8.
    With --methods each method is trained on the same data with the same budget first. The same command with the same
    --out goes on where it was stopped.

    \b
    brushwork compare mini mini+runs/engraver@0.5 runs/engraver --prompts target
    brushwork compare runs/engraver --sweep weight=0,0.5,1 --sweep cfg=3,7
    brushwork compare --methods full,lora,dora=lora+method.use_dora=true --data engravings --steps 300 \\
        textual-inversion:data.templates=style --out comparisons/engravings
    """  # noqa: D301  (click wants a backspace, not a backslash)
    from brushwork.compare import compare

    given, overrides, recipe = _split(models_and_overrides)
    asked = {name: value for name, value in options.items() if value not in (None, ())}
    found = (
        _methods(recipe, overrides, asked, given, out)
        if recipe or "methods" in asked or "base" in asked
        else compare(*given, out=out, overrides=overrides, **_models(asked))
    )
    if as_json:
        print_json({"out": str(found.folder), "page": str(found.page), **found.record})
    else:
        click.echo(found)
        click.echo(found.page)
    return _ended(found)


def _split(arguments: tuple[str, ...]) -> tuple[list[str], list[str], str | None]:
    """Return models, overrides and the recipe."""
    from brushwork.errors import UserError

    overrides = [each for each in arguments if "=" in each and not Path(each).exists()]
    others = [each for each in arguments if each not in overrides]
    recipes = [each for each in others if each.endswith((".yaml", ".yml"))]
    if len(recipes) > 1:
        message = f"One recipe at a time: {' and '.join(recipes)} were given. Other keys are written key.path=value."
        raise UserError(message)
    return [each for each in others if each not in recipes], overrides, recipes[0] if recipes else None


def _models(asked: dict[str, Any]) -> dict[str, Any]:
    """Turn the options into fields of a request about models."""
    from brushwork.cli.generate import parse_size
    from brushwork.errors import UserError

    wrong = [name for name in ONLY_METHODS if name in asked]
    if wrong:
        message = f"--{wrong[0]} is for training. Add --methods, for example --methods full,lora."
        raise UserError(message)
    validation = {
        "prompts": asked.get("prompts"),
        "control_prompts": asked.get("control"),
        "images_per_prompt": asked.get("seeds"),
        "seed": asked.get("seed"),
        "num_inference_steps": asked.get("steps"),
        "guidance_scale": asked.get("cfg"),
        "sampler": asked.get("sampler"),
    }
    width, height = parse_size(asked.get("size"))
    return {
        "validation": {key: value for key, value in validation.items() if value is not None},
        "metrics": _listed(asked),
        "sweep": asked.get("sweep", ()),
        "against": asked.get("against"),
        "references": asked.get("data"),
        "size": None if width is None else (width, height),
    }


def _methods(
    recipe: str | None, overrides: list[str], asked: dict[str, Any], given: list[str], out: Path | None
) -> Comparison:
    """Train and compare methods, of a recipe or of the options."""
    from brushwork.compare import bakeoff, compare
    from brushwork.errors import UserError

    wrong = [name for name in ONLY_MODELS if name in asked]
    if wrong or given:
        what = f"--{wrong[0]}" if wrong else repr(given[0])
        message = (
            f"{what} is for comparing models, not for training methods. How methods are drawn: validation.KEY=VALUE."
        )
        raise UserError(message)
    tree: dict[str, Any] = bakeoff.read(recipe) if recipe else {}
    own = ("base", "data", "steps", "seconds", "seeds", "seed", "concept", "means")
    tree |= {name: asked[name] for name in own if name in asked}
    if "steps" in asked or "seconds" in asked:  # the one that is given replaces the recipe's
        tree = {key: value for key, value in tree.items() if key not in ("steps", "seconds") or key in asked}
    if "methods" in asked:
        tree["methods"] = bakeoff.listed(asked["methods"])
    for option, key in (("prompts", "prompts"), ("control", "control_prompts")):
        if option in asked:
            tree["validation"] = {**tree.get("validation", {}), key: asked[option]}
    if "metrics" in asked:
        tree["metrics"] = _listed(asked)
    return compare(out=out, overrides=overrides, **{"base": "mini", **tree})


def _listed(asked: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name.strip() for name in asked.get("metrics", "").split(",") if name.strip())


def _ended(found: Comparison) -> int:
    """Return the exit code: 1 when a method could not be trained to its end."""
    for label, reason in found.failed.items():
        click.echo(f"error: {label} failed: {reason}", err=True)
    return 1 if found.failed else 0
