"""Train on a data set, then measure and report."""

from __future__ import annotations

from pathlib import Path

import click

from brushwork.cli import json_option, print_json


@click.command()
@click.argument("recipe_and_overrides", nargs=-1, metavar="[RECIPE.yaml] [key.path=value ...]")
@click.option("--method", help="What to train: a preset such as full or lora.")
@click.option("--base", help="The model to start from: mini, a folder, a .safetensors file or a hub id.")
@click.option("--data", help="A folder of pictures with captions, a hub id, or an embedded data set.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps; default: by rule, from data and method.")
@click.option("--seed", type=click.IntRange(min=0), help="The seed of everything random.")
@click.option("--preserve", is_flag=True, help="Train on pictures of the base's own drawing too: it forgets less.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The run folder; default: below runs/.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, from its own configuration.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Train with so many processes on this machine, a GPU or some cores each.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, print the resolved configuration and the plan, stop.")
@click.option("--calibrate", is_flag=True, help="With --dry-run: time a few steps too, after filling the cache.")
@json_option
@click.pass_obj
def command(
    arguments: list[str],
    recipe_and_overrides: tuple[str, ...],
    method: str | None,
    base: str | None,
    data: str | None,
    steps: int | None,
    seed: int | None,
    preserve: bool,
    out: Path | None,
    resume: bool,
    processes: int | None,
    dry_run: bool,
    calibrate: bool,
    as_json: bool,
) -> None:
    """Train on a data set, then measure and report.

    A recipe is a YAML file; key.path=value changes single keys. Steps, rate and rank are chosen by rule unless given.

    \b
    brushwork train --base mini --data engravings --steps 300
    brushwork train recipes/pokemon-lora.yaml seed=7 optimizer.learning_rate=2e-4
    brushwork train --resume --out runs/2026-11-21-lora-1a2b
    """  # noqa: D301  (click wants a backspace, not a backslash)
    from brushwork import api, config
    from brushwork.launch import launched
    from brushwork.runs import check_free

    if resume:
        _refuse_others(recipe_and_overrides, method, base, data, steps, seed, preserve or None, out)
        with launched(processes, arguments):
            _finish(api.resume(str(out)), as_json=as_json)
        return
    _check_calibrate(calibrate, dry_run)
    recipe, overrides = _split(recipe_and_overrides)
    resolved = config.load(
        recipe, method=method, overrides=overrides, base=base, data=data, seed=seed,
        preserve={} if preserve else None,
        train=None if steps is None else {"max_train_steps": steps},
    )  # fmt: skip
    if out is not None:
        check_free(out)
    with launched(processes, arguments):
        if dry_run:
            _plan(resolved, calibrate=calibrate, as_json=as_json)
        else:
            _finish(api.train(resolved, out=out), as_json=as_json)


def _split(recipe_and_overrides: tuple[str, ...]) -> tuple[str | None, list[str]]:
    from brushwork.errors import UserError

    recipes = [each for each in recipe_and_overrides if "=" not in each]
    if len(recipes) > 1:
        message = f"One recipe at a time: {' and '.join(recipes)} were given. Other keys are written key.path=value."
        raise UserError(message)
    return recipes[0] if recipes else None, [each for each in recipe_and_overrides if "=" in each]


def _check_calibrate(calibrate: bool, dry_run: bool) -> None:
    from brushwork.errors import UserError

    if calibrate and not dry_run:
        message = "--calibrate belongs to --dry-run; a run itself says after three steps how long it will take."
        raise UserError(message)


def _refuse_others(*given: object) -> None:
    from brushwork.errors import UserError

    *others, out = given
    if out is None:
        message = "--resume needs --out RUN: the run folder to go on with. `brushwork runs list` shows them."
        raise UserError(message)
    if any(each not in (None, ()) for each in others):
        message = "--resume goes on from the run's own configuration; leave the recipe and the other options out."
        raise UserError(message)


def _plan(resolved: object, *, calibrate: bool, as_json: bool) -> None:
    from brushwork import api, config, processes

    plan = api.plan(resolved, calibrate=calibrate)  # type: ignore[arg-type]
    if processes.rank():
        return
    if as_json:
        chosen = [vars(choice) for choice in plan.chosen]
        said = {"config": plan.config.model_dump(mode="json"), "plan": plan.facts, "chosen": chosen}
        print_json({**said, "forecast": plan.forecast.to_json()})
        return
    click.echo(config.to_yaml(plan.config).rstrip())
    for name, value in plan.facts.items():
        click.echo(f"{name.replace('_', ' '):<24}{value}", err=True)
    for place, choice in enumerate(plan.chosen):
        click.echo(f"{'' if place else 'chosen by rule':<24}{choice.reason}", err=True)
    for line in plan.forecast.lines():
        click.echo(line, err=True)


def _finish(run: object, *, as_json: bool) -> None:
    from brushwork import processes
    from brushwork.runs import RunFolder

    assert isinstance(run, RunFolder)
    if processes.rank():
        return
    report = run.path / "report.html"
    if as_json:
        print_json({"run": str(run.path), "report": str(report), "record": run.record, "metrics": run.metrics})
    else:
        click.echo(str(report))
