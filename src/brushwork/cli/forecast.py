"""What training a published base would take, before its weights are fetched."""

from __future__ import annotations

from pathlib import Path

import click

from brushwork.cli import json_option, print_json
from brushwork.errors import ConfigError

GIGA = 1e9


@click.command()
@click.argument("base")
@click.argument("overrides", nargs=-1, metavar="[key.path=value ...]")
@click.option("--method", help="What to train: a preset such as full or lora (the default).")
@click.option("--resolution", type=click.IntRange(min=64), help="Pixels a side; default: the base's.")
@click.option("--memory", type=float, help="What the accelerator has, in GB (10^9 bytes): says whether it fits.")
@json_option
def command(
    base: str,
    overrides: tuple[str, ...],
    method: str | None,
    resolution: int | None,
    memory: float | None,
    as_json: bool,
) -> None:
    """Say what training a published base takes, before its weights are fetched.

    BASE is sd1.5, sdxl, sd3-medium, sd3.5-medium, flux.1-dev or flux.2-klein-base-4b: their real architectures are gone
    through without numbers. Batch 1 and bf16 unless key.path=value says otherwise. Or it is a recipe for one of them.
    What is here already, `brushwork train --dry-run` says exactly.

    \b
    brushwork forecast recipes/sdxl-lora.yaml
    brushwork forecast sdxl --memory 24
    brushwork forecast flux.1-dev --memory 48 train.gradient_checkpointing=true method.rank=32
    """  # noqa: D301  (click wants a backspace, not a backslash)
    from brushwork.forecast import known

    budget = int((memory or 0) * GIGA)
    if base.endswith((".yaml", ".yml")):
        if method or resolution:
            message = f"{base}: a recipe says its method and resolution itself. Write data.resolution=N instead."
            raise ConfigError(message)
        said = known.of_recipe(Path(base), overrides, budget)
    else:
        said = known.rehearse(base, method=method or "lora", resolution=resolution, overrides=overrides, budget=budget)
    if as_json:
        print_json({**said.to_json(), "available_bytes": int(memory * GIGA) if memory else None})
        return
    for line in said.lines() if memory else said.lines()[1:]:
        click.echo(line)
