"""What did the fine-tune change? Draws base and tuned at identical seeds and settings, and measures the difference.

    results = evaluate(RunFolder("runs/2026-11-21-lora-1a2b"))

In the run folder it leaves ``evaluation/base`` and ``evaluation/tuned`` (the same file names; a few-step model also
``evaluation/usual``, the base as it is usually drawn), the features that the numbers were computed from,
``evaluation/evaluation.json`` (prompts, settings, judge) and ``metrics.json``. What is already there and was drawn by
the same weights with the same settings is used again.

A CLIP model that the training loss optimised measures too, and whatever it says is marked with ``metrics.OPTIMISED``.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from brushwork import registry
from brushwork.errors import ModelError
from brushwork.measuring import load_judges, measure
from brushwork.pairs import draw_run, plan, seconds_per_picture
from brushwork.runs import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from brushwork.encoders import Clip
    from brushwork.measuring import Judges
    from brushwork.metrics import Result
    from brushwork.pairs import Plan
    from brushwork.runs import RunFolder


def evaluate(run: RunFolder, metrics: Sequence[str] = (), *, out: Path | None = None) -> list[Result]:
    """Draw, encode, measure and write ``metrics.json``; all metrics when none is named.

    Args:
        run: A run whose training is done.
        metrics: Names of metrics.
        out: Another folder than the run's for everything that is written.

    Raises:
        UserError: The run has no weights yet, a metric is unknown, or a judge asked for by name cannot be used.
    """
    chosen = [(name, registry.load("metrics", name)) for name in metrics or registry.names("metrics")]
    if not run.weights.is_dir():
        message = f"{run.path}: there are no weights yet. Finish it first: brushwork train --resume --out {run.path}"
        raise ModelError(message)
    config, folder, began = run.config, out or run.path, time.monotonic()
    judges, problems = load_judges(run, [module for _, module in chosen])
    planned = plan(config)
    draw_run(run, planned, folder / "evaluation")
    results, facts = measure(run, planned, folder / "evaluation", chosen, judges)
    write_json(folder / "metrics.json", [result.to_dict() for result in results])
    seconds = time.monotonic() - began
    drawn = {side: seconds_per_picture(folder / "evaluation" / side) for side in planned.sides}
    usual = asdict(config.base_sampling) if planned.usual else None
    described = _describe(planned, judges, problems) | facts | {"seconds": seconds}
    described |= {"usual": usual, "seconds_per_picture": drawn}
    write_json(folder / "evaluation" / "evaluation.json", described)
    if out is None:
        known = run.record.get("warnings", [])
        new = [problem for problem in problems if problem not in known]
        run.update(warnings=[*known, *new], seconds={**run.record.get("seconds", {}), "evaluate": seconds})
    return results


def _describe(planned: Plan, judges: Judges, problems: Sequence[str]) -> dict[str, Any]:
    """Return what evaluation.json says about how it was measured."""
    first = planned.requests[0]
    kept = ("negative_prompt", "steps", "guidance_scale", "width", "height", "sampler")
    settings = {key: getattr(first, key) for key in kept}
    named = [_name(judge) | {"caveat": judges.caveat(judge)} for judge in judges.every]
    return {
        "target": list(planned.target),
        "control": list(planned.control),
        "images_per_prompt": planned.seeds,
        "first_seed": first.seed,
        "settings": settings,
        "judge": named[0] if named else None,
        "own_judge": next((each for each in named if each["caveat"]), None),
        "no_judge": " ".join(problems) or None if not named else None,
    }


def _name(judge: Clip) -> dict[str, Any]:
    return {key: getattr(judge, key) for key in ("name", "revision", "preprocessing")}
