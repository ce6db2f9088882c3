"""What did the fine-tune change? Draws base and tuned at identical seeds and settings, and measures the difference.

    results = evaluate(RunFolder("runs/2026-11-21-lora-1a2b"))

In the run folder it leaves ``evaluation/base`` and ``evaluation/tuned`` (the same file names; a few-step model also
``evaluation/usual``, the base as it is usually drawn), the features that the numbers were computed from,
``evaluation/evaluation.json`` (prompts, settings, judge) and ``metrics.json``. What is already there and was drawn by
the same weights with the same settings is used again.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork import contact, registry
from brushwork.devices import resolve_device
from brushwork.encoders import Clip, Colour, load_clip, resolve_judge, without_judge
from brushwork.errors import DataError, ModelError
from brushwork.features import FeatureStore
from brushwork.metrics import Drawn
from brushwork.pairs import USUAL, check_pairs, draw_run, plan, seconds_per_picture
from brushwork.progress import bar, note
from brushwork.runs import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from brushwork.config import Config
    from brushwork.encoders import Encoder, Features
    from brushwork.metrics import Metric, Result
    from brushwork.pairs import Plan
    from brushwork.progress import Advance
    from brushwork.runs import RunFolder

REFERENCES = 256
"""At most so many training pictures are looked at as references."""


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
    judge, problem = _judge(config, [module for _, module in chosen])
    planned = plan(config)
    draw_run(run, planned, folder / "evaluation")
    results, facts = _measure(run, planned, folder / "evaluation", chosen, judge)
    write_json(folder / "metrics.json", [result.to_dict() for result in results])
    seconds = time.monotonic() - began
    drawn = {side: seconds_per_picture(folder / "evaluation" / side) for side in planned.sides}
    usual = asdict(config.base_sampling) if planned.usual else None
    described = _describe(planned, judge, problem) | facts | {"seconds": seconds}
    described |= {"usual": usual, "seconds_per_picture": drawn}
    write_json(folder / "evaluation" / "evaluation.json", described)
    if out is None:
        known = run.record.get("warnings", [])
        new = [problem] if problem and problem not in known else []
        run.update(warnings=[*known, *new], seconds={**run.record.get("seconds", {}), "evaluate": seconds})
    return results


def _judge(config: Config, metrics: Sequence[Metric]) -> tuple[Clip | None, str | None]:
    """Load the judge if a metric needs it; the automatic one may be missing, then the second value says so."""
    if not any(metric.NEEDS == "clip" for metric in metrics):
        return None, None
    name = resolve_judge(config.validation.judge, config.base)
    try:
        return load_clip(name, device=resolve_device(config.train.device)), None
    except ModelError as error:
        if config.validation.judge != "auto":
            raise
        note(f"warning: {error}")
        return None, without_judge(str(error))


def _measure(
    run: RunFolder, planned: Plan, folder: Path, chosen: Sequence[tuple[str, Metric]], judge: Clip | None
) -> tuple[list[Result], dict[str, Any]]:
    """Encode with each encoder that is needed, then compute; the features stay in ``folder/features``."""
    check_pairs(folder)
    results: list[Result] = []
    facts: dict[str, Any] = {"features": [], "texts_cut": []}
    encoders: dict[str, Encoder | None] = {"clip": judge, "colour": Colour()}
    for needed in dict.fromkeys(metric.NEEDS for _, metric in chosen):
        encoder = encoders[needed]
        if encoder is None:
            continue
        sets, cut = encode(folder, planned, encoder, run.config)
        facts["texts_cut"] += cut
        facts["features"].append(encoder.name)
        results += [
            result
            for _, metric in chosen
            if needed == metric.NEEDS
            for drawn in sets
            for result in metric.measure(drawn)
        ]
    return results, facts


def encode(folder: Path, planned: Plan, encoder: Encoder, config: Config) -> tuple[list[Drawn], list[str]]:
    """Return the features of each prompt set, and the prompts that are longer than the encoder reads.

    What the numbers are computed from is saved: for each set the hashes of its pictures, (prompts, seeds), and its
    texts' features, beside the features by hash.
    """
    store = FeatureStore(folder / "features", encoder)
    texts, cut = _texts(planned, encoder)
    saved: dict[str, NDArray[Any]] = {}
    references, saved["references"] = _references(store, config)
    sets = []
    with bar(f"measuring by {encoder.name}", len(planned.sides) * len(planned.requests)) as advance:
        for prompt_set, shown, names in planned.prompt_sets:
            shape = len(shown), planned.seeds
            sides = {}
            for side in planned.sides:
                flat, hashes = store.of(_open(folder / side, names, advance))
                sides[side] = flat.reshape(*shape, -1)
                saved[f"{prompt_set}_{side}"] = np.array(hashes).reshape(shape)
            reads = np.stack([texts[text] for text in shown]) if texts else None
            if reads is not None:
                saved[f"{prompt_set}_texts"] = reads
            about = (encoder.name, encoder.revision, config.validation.seed)
            drawn = Drawn(shown, prompt_set, sides["base"], sides["tuned"], reads, references, *about)
            sets.append(drawn)
            if planned.usual:
                sets.append(replace(drawn, base=sides[USUAL], against="usual"))
    store.save(**saved)
    return sets, cut


def _texts(planned: Plan, encoder: Encoder) -> tuple[dict[str, Features], list[str]]:
    """Return the features of every prompt, empty for an encoder that does not read, and the prompts cut off."""
    if not isinstance(encoder, Clip):
        return {}, []
    every = [*planned.target, *planned.control]
    vectors, cut = encoder.encode_texts(every)
    return dict(zip(every, vectors, strict=True)), cut


def _open(folder: Path, names: Sequence[str], advance: Advance) -> Iterator[Image]:
    from PIL import Image

    for name in names:
        with Image.open(folder / name) as image:
            yield image.convert("RGB")
        advance()


def _references(store: FeatureStore, config: Config) -> tuple[Features | None, NDArray[Any]]:
    """Return the features and hashes of the training pictures; None when the data is not where it was."""
    try:
        features, hashes = store.of(image for _, image in contact.pictures(config.data, REFERENCES))
    except DataError as error:
        note(f"warning: the training pictures are not measured beside the drawn ones: {error}")
        return None, np.array([], dtype="<U64")
    return features, np.array(hashes)


def _describe(planned: Plan, judge: Clip | None, problem: str | None) -> dict[str, Any]:
    """Return what evaluation.json says about how it was measured."""
    first = planned.requests[0]
    kept = ("negative_prompt", "steps", "guidance_scale", "width", "height", "sampler")
    settings = {key: getattr(first, key) for key in kept}
    named = None if judge is None else {key: getattr(judge, key) for key in ("name", "revision", "preprocessing")}
    return {
        "target": list(planned.target),
        "control": list(planned.control),
        "images_per_prompt": planned.seeds,
        "first_seed": first.seed,
        "settings": settings,
        "judge": named,
        "no_judge": problem,
    }
