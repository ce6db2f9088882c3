"""What did the fine-tune change? Draws base and tuned at identical seeds and settings, and measures the difference.

    results = evaluate("runs/2026-11-21-lora-1a2b")
    results = evaluate("mini+my-lora.safetensors@0.8", prompts="old-books", out=Path("proof"))

Below ``out`` (for a run: its own folder) it leaves ``evaluation/base`` and ``evaluation/tuned`` (the same file names; a
few-step model also ``evaluation/usual``, the base as it is usually drawn), the features that the numbers were
computed from, ``evaluation/evaluation.json`` (prompts, settings, judge) and ``metrics.json``. What is already there and
was drawn by the same weights with the same settings is used again.

A CLIP model that the training loss optimised measures too, and whatever it says is marked with ``metrics.OPTIMISED``.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from brushwork import processes, registry
from brushwork.errors import ModelError
from brushwork.evaluate import predicted, subjects
from brushwork.measuring import check_asked, load_judges, measure
from brushwork.metrics import Result
from brushwork.pairs import USUAL, check_pairs, draw_side, plan, seconds_per_picture
from brushwork.runs import RunFolder, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from brushwork.encoders import Clip
    from brushwork.evaluate.subjects import Subject
    from brushwork.measuring import Judges
    from brushwork.metrics import Metric
    from brushwork.pairs import Plan
    from brushwork.processes import World


ABOUT_TRAINING = ("memorisation",)
"""Metrics that mean the training pictures themselves; with references and no run they say nothing."""
SETS = ("target", "content", "control")


@dataclass(frozen=True)
class _Told:
    """What evaluation.json says besides the numbers' own facts."""

    judges: Judges
    problems: Sequence[str]
    seconds: float


def evaluate(
    model: RunFolder | str,
    metrics: Sequence[str] = (),
    *,
    against: str | None = None,
    prompts: str | None = None,
    references: str | None = None,
    overrides: Sequence[str] = (),
    extractors: Sequence[str] = (),
    out: Path | None = None,
    world: World | None = None,
) -> list[Result]:
    """Draw, encode, measure and write ``metrics.json``; all metrics when none is named.

    Args:
        model: A run whose training is done, or any MODEL.
        metrics: Names of metrics; what the others said of the same pictures before is kept.
        against: What it is held against; default: what it was tuned from.
        prompts: A file of prompts or of sets of them, or an embedded name; default: the run's own.
        references: Pictures that it is to resemble; default: what the run was trained on.
        overrides: ``validation.key=value`` or ``data.resolution=512``.
        extractors: Networks that measure beside those of the configuration, ``KIND:WHICH``.
        out: Where everything is written.
        world: Processes that share the drawing and all call this; default: this one alone.

    Raises:
        UserError: The run has no weights yet, a metric is unknown, a judge asked for by name cannot be used, or nobody
            says what to draw or to compare with.
    """
    text = str(model.path) if isinstance(model, RunFolder) else model
    asked = {"against": against, "prompts": prompts, "references": references, "overrides": overrides}
    return evaluate_subject(subjects.find(text, out=out, **asked), metrics, extractors=extractors, world=world)  # type: ignore[arg-type]


def evaluate_subject(
    subject: Subject, metrics: Sequence[str] = (), *, extractors: Sequence[str] = (), world: World | None = None
) -> list[Result]:
    """Do the same for a subject."""
    world = world or processes.World()
    chosen = [(name, registry.load("metrics", name)) for name in metrics or registry.names("metrics")]
    _refuse_unfinished(subject)
    folder, began = subject.path / "evaluation", time.monotonic()
    judges, problems = load_judges(subject, [module for _, module in chosen], extractors)
    automatic = subject.config.validation.judge == "auto"
    check_asked(metrics, [each for each in chosen if each[1].NEEDS != predicted.NEEDS], judges, automatic=automatic)
    planned = plan(subject.config, subject.drawn_with)
    anew = draw(subject, planned, folder, world)
    if not world.is_main:
        world.exchange()  # what is measured is measured by the main process
        return []
    kept = [] if anew else [each for each in _measured(subject) if each.name not in _names(chosen)]
    results, facts = _measure(subject, planned, folder, chosen, judges)
    results.sort(key=_place)
    write_json(subject.path / "metrics.json", [result.to_dict() for result in sorted([*results, *kept], key=_place)])
    told = _Told(judges, problems, time.monotonic() - began)
    write_json(folder / "evaluation.json", _describe(subject, planned, told) | facts)
    subject.write()
    known = subject.record.get("warnings", [])
    new = [problem for problem in problems if problem not in known]
    subject.update(warnings=[*known, *new], seconds={**subject.record.get("seconds", {}), "evaluate": told.seconds})
    world.exchange()
    return results


def _names(chosen: Sequence[tuple[str, Metric]]) -> set[str]:
    """Return the names of the numbers that metrics give."""
    return {kind.name for _, metric in chosen for kind in getattr(metric, "KINDS", (metric.KIND,))}


def _place(result: Result) -> tuple[int, str]:
    return SETS.index(result.prompt_set), result.name


def _refuse_unfinished(subject: Subject) -> None:
    if subject.is_own_run and not subject.weights.is_dir():
        message = (
            f"{subject.path}: there are no weights yet. Finish it first: brushwork train --resume --out {subject.path}"
        )
        raise ModelError(message)


def draw(subject: Subject, planned: Plan, folder: Path, world: World | None = None) -> bool:
    """Draw base, and as usual if that is another way, then tuned; return whether anything was drawn."""
    device = world.device(subject.device) if world is not None and world.size > 1 else None

    def base() -> Any:
        return subject.open_base(device)

    def tuned() -> Any:
        return subject.open_tuned(device)

    anew = draw_side(folder / "base", planned, base, key=subject.base_key, world=world)
    if planned.usual:
        usually = replace(planned, requests=planned.usual)
        anew |= draw_side(folder / USUAL, usually, base, key=subject.base_key, world=world)
    return anew | draw_side(folder / "tuned", planned, tuned, key=subject.tuned_key, world=world)


def _measured(subject: Subject) -> list[Result]:
    return [Result.from_dict(each) for each in subject.metrics]


def _measure(
    subject: Subject, planned: Plan, folder: Path, chosen: Sequence[tuple[str, Metric]], judges: Judges
) -> tuple[list[Result], dict[str, Any]]:
    """Measure features of pictures, then what needs the models themselves."""
    check_pairs(folder)
    of_pictures = [(name, metric) for name, metric in chosen if metric.NEEDS != predicted.NEEDS]
    of_models = [metric for _, metric in chosen if metric.NEEDS == predicted.NEEDS]
    own = [each for each in of_pictures if _of_training(subject, each)]
    results, facts = measure(subject, planned, folder, [each for each in of_pictures if each not in own], judges)
    if own and subject.run is not None:
        results += measure(subject.run, planned, folder, own, judges)[0]
    for drawn in predicted.sets(subject, planned, folder) if of_models else []:
        results += [result for metric in of_models for result in metric.measure(drawn)]
    return results, facts


def _of_training(subject: Subject, metric: tuple[str, Metric]) -> bool:
    """Return whether a metric is about the training pictures, where others were named as references."""
    return subject.asked.references is not None and metric[0] in ABOUT_TRAINING


def _describe(subject: Subject, planned: Plan, told: _Told) -> dict[str, Any]:
    """Return what evaluation.json says about how it was measured."""
    first, folder = planned.requests[0], subject.path / "evaluation"
    kept = ("negative_prompt", "steps", "guidance_scale", "width", "height", "sampler")
    named = [_name(judge) | {"caveat": told.judges.caveat(judge)} for judge in told.judges.every]
    return {
        "model": subject.asked.model,
        "against": subject.against or subject.config.base,
        "target": list(planned.target),
        "content": list(planned.plain),
        "content_of": list(planned.content),
        "control": list(planned.control),
        "images_per_prompt": planned.seeds,
        "first_seed": first.seed,
        "settings": {key: getattr(first, key) for key in kept},
        "judge": named[0] if named else None,
        "own_judge": next((each for each in named if each["caveat"]), None),
        "no_judge": " ".join(told.problems) or None if not named else None,
        "seconds": told.seconds,
        "usual": asdict(subject.config.base_sampling) if planned.usual else None,
        "seconds_per_picture": {side: seconds_per_picture(folder / side) for side in planned.sides},
    }


def _name(judge: Clip) -> dict[str, Any]:
    return {key: getattr(judge, key) for key in ("name", "revision", "preprocessing")}
