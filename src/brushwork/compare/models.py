"""Any number of models, drawn and measured alike, swept if asked.

found = compare_models(Request(models=("mini", "mini+my-lora@0.8"), sweep=("cfg=3,7",)), folder)
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt, ValidationError

from brushwork import config as configs
from brushwork import models, prompts
from brushwork.compare import output, proof, sweeps
from brushwork.compare.drawers import Opener
from brushwork.compare.judging import Judging, chosen_metrics
from brushwork.compare.sides import Side, Wanted, draw, prove
from brushwork.compare.steps import at_step, check, run_of, with_weight
from brushwork.encoders import available, resolve_judge
from brushwork.errors import ConfigError, nearest
from brushwork.explain import explain
from brushwork.progress import note
from brushwork.settings import Settings, ValidationConfig
from brushwork.sources.captioned import Config as Pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from brushwork.compare.output import Comparison
    from brushwork.compare.sides import DrawnSide
    from brushwork.compare.sweeps import Cell
    from brushwork.config import PluginSettings

USUAL_PROMPTS = "content"
SAID = {"num_inference_steps": "steps", "guidance_scale": "guidance_scale", "sampler": "sampler"}
"""Settings of ``validation`` that a model may have its own idea of, and the fields of a request that they fill."""


class Request(Settings):
    """What is compared, and how; saved as compare.yaml."""

    models: tuple[str, ...] = Field(min_length=1, description="MODELs as `brushwork generate` takes them.")
    sweep: tuple[str, ...] = Field((), description="Axes such as weight=0,0.5,1.")
    against: str | None = Field(None, description="The model that the others are held against.")
    metrics: tuple[str, ...] = Field((), description="Names of metrics; none: all.")
    references: str | None = Field(None, description="Pictures to be like: a folder, a hub id or an embedded data set.")
    size: tuple[PositiveInt, PositiveInt] | None = Field(None, description="Width and height; null: each model's own.")
    validation: ValidationConfig = Field(ValidationConfig(), description="Prompts, seeds, sampler, judge.")
    device: str = Field("auto", description="auto, cpu, cuda ...")
    precision: str = Field("no", description="no (float32), bf16 or fp16.")


def requested(tree: Mapping[str, Any], overrides: Sequence[str] = ()) -> Request:
    """Read a request.

    Raises:
        ConfigError: With every wrong key and value at once.
    """
    tree = {key: value for key, value in tree.items() if value is not None}
    for part in map(configs.parse_override, overrides):
        if set(part) != {"validation"}:
            message = (
                f"{next(iter(part))}: models are compared as they are, so only keys of validation apply, such as "
                f"validation.num_inference_steps=20. What trains methods needs --methods."
            )
            raise ConfigError(message)
        tree = configs.merge(tree, part)
    try:
        return Request.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, Request, "compare"))) from None


def compare_models(request: Request, opened: Callable[[], Path]) -> Comparison:
    """Draw every model (and cell), measure, and write the page into the folder that ``opened`` makes.

    Raises:
        UserError: Something in the request does not fit; nothing has been drawn.
    """
    chosen_metrics(request.metrics)
    axes = [sweeps.parse(each) for each in request.sweep]
    cells = sweeps.cells(axes, len(request.models))
    for text in _labels(request.models):
        models.parts(text)  # is it there?
        for cell in cells:
            check(text, cell.values.get("checkpoint"), cell.values.get("weight"))
    wanted = _wanted(request)
    sweeps.check_words(axes, wanted.prompts)
    judge, said = _judge(request)
    folder = opened()
    sides, reference = _sides(request, cells, folder)
    opener = Opener(request.device, request.precision)
    drawn = [draw(side, wanted, folder / "pictures" / side.key, opener) for side in sides]
    standing = next(side for side in drawn if side.side.key == reference)
    proofs, warnings = _proofs(drawn, wanted, folder, opener)
    judging = Judging(
        wanted, folder / "features", judge=judge, metrics=request.metrics, references=_references(request, standing)
    )
    lines = judging.lines(drawn, standing)
    found = output.Findings(
        kind="sweep" if axes else "models",
        title=_title(request, axes),
        lead=_lead(wanted, drawn, standing),
        wanted=wanted,
        drawn=drawn,
        reference=standing.side.line,
        lines=lines,
        facts=judging.facts,
        request=request.model_dump(mode="json"),
        proofs=proofs,
        warnings=[*warnings, *said],
    )
    return output.finish(found, folder)


def _wanted(request: Request) -> Wanted:
    """Return the prompts: those asked for, else the first run's own, else common things."""
    validation = request.validation
    runs = [run for text in request.models if (run := models.as_run(models.parse(text).base))]
    own = runs[0].config.validation if runs else None
    fallback = prompts.resolve(own.prompts if own and own.prompts else USUAL_PROMPTS)
    target = prompts.resolve(validation.prompts, fallback)
    asked: Any = validation.control_prompts
    if not asked and not validation.prompts and own:
        asked = own.control_prompts
    control = prompts.resolve(asked, key="validation.control_prompts")
    both = sorted(set(target) & set(control))
    if both:
        message = f"validation: {both[0]!r} is in prompts and in control_prompts; take it out of one of them."
        raise ConfigError(message)
    said = frozenset(SAID[name] for name in validation.model_fields_set & set(SAID))
    size = request.size or (None, None)
    return Wanted(tuple(target), tuple(control), validation.images_per_prompt, validation, size, said=said)


def base_of(text: str) -> str | None:
    """Return the base that a MODEL's text builds on, where that is a model of its own; None for a base itself."""
    spec = models.parse(text)
    run = models.as_run(spec.base)
    if run is not None:
        config = run.config
        return None if config.revision or config.base_config else config.base
    return spec.base if spec.adapters else None


def _sides(request: Request, cells: list[Cell], folder: Path) -> tuple[list[Side], str]:
    """Return all sides, and the key of the one that the others are held against."""
    labels = _labels(request.models)
    sides: list[Side] = []
    for (text, label), cell in itertools.product(labels.items(), cells):
        at = ({"model": label} if len(labels) > 1 else {}) | cell.at if request.sweep else {}
        model = _at_cell(text, cell, folder)
        named = ", ".join(f"{axis} {value}" for axis, value in cell.at.items())
        full = ": ".join(each for each in (label if len(labels) > 1 or not named else "", named) if each)
        changes = {
            field: cell.values[kind]
            for kind, field in {"steps": "steps", "cfg": "guidance_scale", "sampler": "sampler"}.items()
            if kind in cell.values
        }
        optimised = _optimised(text)
        sides.append(
            Side(full, model, f"{len(sides):03}", changes=changes, swaps=cell.swaps, at=at, optimised=optimised)
        )
    if request.against is not None:
        return _against(request, sides)
    bases = {base_of(text) for text in request.models}
    common = next(iter(bases - {None}), None) if len(bases - {None}) == 1 else None
    if common in request.models:
        return sides, sides[list(labels).index(common) * len(cells)].key
    everyone = common is not None and None not in bases
    if everyone and not request.sweep and common is not None:
        base = Side(_free(Path(common).name, labels), common, "base")
        return [base, *sides], base.key
    return sides, sides[0].key


def _against(request: Request, sides: list[Side]) -> tuple[list[Side], str]:
    asked = request.against
    assert asked is not None
    same = [side for side in sides if asked in (side.model, side.label)]
    if same:
        return sides, same[0].key
    if request.sweep:
        labels = [side.label for side in sides]
        message = f"--against: {asked!r} is no cell of the sweep.{nearest(asked, labels)}"
        raise ConfigError(message)
    models.parts(asked)
    base = Side(_free(Path(asked).name, {side.label: side.label for side in sides}), asked, "base")
    return [base, *sides], base.key


def _labels(texts: tuple[str, ...]) -> dict[str, str]:
    """Return a short name for each MODEL, all different.

    Raises:
        ConfigError: A model is given twice.
    """
    if len(set(texts)) < len(texts):
        twice = next(each for each in texts if texts.count(each) > 1)
        message = f"{twice!r} is given twice. A model is compared with others, or swept: --sweep cfg=3,7"
        raise ConfigError(message)
    short = {text: "+".join(Path(part).name or part for part in text.split("+")) for text in texts}
    unique = len(set(short.values())) == len(short)
    return short if unique else {text: text for text in texts}


def _free(name: str, labels: dict[str, str]) -> str:
    return f"base ({name})" if name in labels.values() else name


def _at_cell(text: str, cell: Cell, folder: Path) -> str:
    """Return the MODEL of a cell: another strength, another checkpoint."""
    step, weight = cell.values.get("checkpoint"), cell.values.get("weight")
    if step is not None:
        run = run_of(text)
        text = str(at_step(run, step, folder / "checkpoints" / f"{run.path.name}-{step}"))
    return text if weight is None else with_weight(text, weight)


def _optimised(text: str) -> str | None:
    run = models.as_run(models.parse(text).base)
    revision: str | None = run.record.get("optimised_judge", {}).get("revision") if run else None
    return revision


def _proofs(
    drawn: list[DrawnSide], wanted: Wanted, folder: Path, opener: Opener
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Show of every model with adapters that they are active; return what to say, and what is amiss."""
    told, amiss = [], []
    plain = {side.side.model: side for side in drawn if not side.side.changes and not side.side.swaps}
    seen: set[str] = set()
    for side in drawn:
        base = base_of(side.side.model)
        if base is None or side.side.model in seen:
            continue
        seen.add(side.side.model)

        def alone(side: DrawnSide = side, base: str = base) -> DrawnSide:
            without = replace(side.side, label=f"{side.side.label} without", model=base, optimised=None)
            first = replace(wanted, target=wanted.target[:1], control=())
            return draw(without, first, folder / "without" / side.side.key, opener)

        beside = plain.get(base) if side.side.model in plain else None
        text, dead = proof.sentence(side.side.label, prove(side, opener, beside, alone))
        told.append(text)
        if dead:
            note(f"warning: {text}")
            amiss.append(text)
    return told, amiss


def _judge(request: Request) -> tuple[str | None, list[str]]:
    """Return the CLIP model that judges; None, and why, when the automatic one is not there.

    Raises:
        ConfigError: One that was asked for by name cannot be used.
    """
    own = [base_of(text) or text for text in request.models]
    judge = resolve_judge(request.validation.judge, "mini" if set(own) == {"mini"} else "other")
    reason = available(judge)
    if reason is None:
        return judge, []
    if request.validation.judge != "auto":
        raise ConfigError(reason)
    said = f"CLIP similarity is not measured: {reason.splitlines()[0]}"
    note(f"warning: {said}")
    return None, [said]


def _references(request: Request, standing: DrawnSide) -> PluginSettings | None:
    """Return the pictures to be like: those asked for, else the data of all runs when it is the same."""
    if request.references is not None:
        first = standing.record["requests"][0]
        with_size = request.size[0] if request.size else first["width"]
        return Pictures(path=request.references, resolution=with_size or 512)
    runs = [run for text in request.models if (run := models.as_run(models.parse(text).base))]
    data: list[Any] = [run.config.data for run in runs]
    paths = {getattr(each, "path", None) for each in data}
    return data[0] if len(paths) == 1 and None not in paths else None


def _title(request: Request, axes: list[Any]) -> str:
    count = len(request.models)
    if axes:
        return f"{_labels(request.models)[request.models[0]] if count == 1 else f'{count} models'} by " + " and ".join(
            axis.title for axis in axes
        )
    return " against ".join(_labels(request.models).values()) if count <= 3 else f"{count} models"  # noqa: PLR2004


def _lead(wanted: Wanted, drawn: list[DrawnSide], standing: DrawnSide) -> str:
    count = len(wanted.prompts) * wanted.seeds
    return (
        f"{len(drawn)} sides drew the same {count} pictures: {len(wanted.prompts)} prompts, {wanted.seeds} seeds each. "
        f"Differences are from {standing.side.label}."
    )
