"""What training a published base would take, before its weights are fetched."""

from __future__ import annotations

import click

from brushwork.cli import json_option, print_json

GIGA = 1e9


@click.command()
@click.argument("base")
@click.argument("overrides", nargs=-1, metavar="[key.path=value ...]")
@click.option("--method", default="lora", show_default=True, help="What to train: a preset such as full or lora.")
@click.option("--resolution", type=click.IntRange(min=64), help="Pixels a side; default: the base's.")
@click.option("--memory", type=float, help="What the accelerator has, in GB (10^9 bytes): says whether it fits.")
@json_option
def command(
    base: str, overrides: tuple[str, ...], method: str, resolution: int | None, memory: float | None, as_json: bool
) -> None:
    """Say what training a published base takes, before its weights are fetched.

    BASE is sd1.5, sdxl, sd3-medium or flux.1-dev: their real architectures are gone through without numbers. Batch 1
    and bf16 unless key.path=value says otherwise. What is known already, `brushwork train --dry-run` says exactly.

    \b
    brushwork forecast sdxl --memory 24
    brushwork forecast flux.1-dev --memory 48 train.gradient_checkpointing=true method.rank=32
    """  # noqa: D301  (click wants a backspace, not a backslash)
    from brushwork.forecast import known

    said = known.rehearse(
        base, method=method, resolution=resolution, overrides=overrides, budget=int((memory or 0) * GIGA)
    )
    if as_json:
        print_json({**said.to_json(), "available_bytes": int(memory * GIGA) if memory else None})
        return
    for line in said.lines() if memory else said.lines()[1:]:
        click.echo(line)
