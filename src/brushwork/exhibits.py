"""What a report shows: pictures, tables and charts, read from a run folder. What is not there is None or empty.

    prompt_set(run, "target", results, evaluation, Sides(256, 512))

Pictures become data URIs here, so their sizes decide how large the page is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork import contact, wording
from brushwork.charts import Series, dumbbell, line_chart, smooth
from brushwork.errors import UserError
from brushwork.metrics import find
from brushwork.thumbnails import data_uri

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from markupsafe import Markup

    from brushwork.metrics import PromptSet, Result
    from brushwork.runs import RunFolder

MOST_PROMPTS = {"target": 24, "content": 12, "control": 12}
MOST_SEEDS, MOST_HEROES = 4, 12
MOST_SAMPLE_STEPS, MOST_SAMPLE_PROMPTS = 7, 6
MOST_TRAINING_PICTURES = 48
MOST_COPIES = 6
CONTACT_SIDE = 160

HELD_OUT = "validation_"
"""What the names of numbers over the held-out samples begin with."""

NOTICEABLE = 1.03
"""A validation loss this many times its lowest is called risen; less may be chance."""


@dataclass(frozen=True)
class Sides:
    """How large pictures are in the page, in pixels: those in grids, and those to look at closely."""

    small: int
    large: int


def stored(path: Path) -> Any:
    """Return the JSON in a file, None without the file."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def heroes(run: RunFolder, sides: Sides, prompts: Sequence[str]) -> list[dict[str, Any]]:
    """Return the first seed of each prompt, large; nothing is selected."""
    drawn = _drawn(run, prompts[:MOST_HEROES])
    return [{"prompt": text, **_pair(run, drawn[text][0], sides.large)} for text in drawn]


def prompt_set(
    run: RunFolder, name: PromptSet, results: Sequence[Result], prompts: Sequence[str], sides: Sides
) -> dict[str, Any] | None:
    """Return one set of prompts: its pictures in pairs, its numbers by prompt and overall, its sentences."""
    if not prompts:
        return None
    change = find(results, "clip", "difference", name)
    rows = _with_dumbbells(change.details["prompts"]) if change else []
    by_prompt = {row["prompt"]: row for row in rows}
    drawn = _drawn(run, prompts[: MOST_PROMPTS[name]])
    grid = [
        {
            "prompt": text,
            "scores": by_prompt.get(text),
            "pairs": [_pair(run, each, sides.small) for each in pictures[:MOST_SEEDS]],
        }
        for text, pictures in drawn.items()
    ]
    return {
        "name": name,
        "grid": grid,
        "left_out": len(prompts) - len(grid),
        "rows": rows,
        "base": find(results, "clip", "base", name),
        "tuned": find(results, "clip", "tuned", name),
        "difference": change,
        "sentences": wording.similarity_sentences(results, name),
        "optimised": wording.optimised_sentence(results, name),
        "saturation": wording.saturation_sentence(results, name),
        "change": wording.change_sentence(results, name),
    }


def _with_dumbbells(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    ends = [row[side] for row in rows for side in ("base", "tuned")]
    low, high = min(ends), max(ends)
    if low == high:
        low, high = low - 0.01, high + 0.01
    return [{**row, "dumbbell": dumbbell(row["base"], row["tuned"], low, high)} for row in rows]


def copies(run: RunFolder, results: Sequence[Result], sides: Sides) -> list[dict[str, Any]]:
    """Return the tuned pictures that lie nearest to training pictures, beside those; empty when they are not there."""
    found = []
    for name in ("target", "control"):
        tuned = find(results, "memorisation", "tuned", name)
        if tuned is None:
            continue
        closest, details = tuned.details["closest"], tuned.details
        drawn = _drawn(run, [each["prompt"] for each in closest])
        places = [each["training"] for each in closest]
        try:
            training = contact.references(run.config.data, places, details["training_pictures"])
        except UserError:
            continue
        for each, image in zip(closest, training, strict=bool(training)):
            pictures = drawn.get(each["prompt"], [])[each["seed"] : each["seed"] + 1]
            found += [
                {**each, "seed": one["seed"], "drawn": _pair(run, one, sides.small)["tuned"], "trained": image}
                for one in pictures
            ]
    found.sort(key=lambda each: -each["similarity"])
    return [{**each, "trained": data_uri(each["trained"], sides.small)} for each in found[:MOST_COPIES]]


def _drawn(run: RunFolder, prompts: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the pairs that both sides really have, by prompt, in the prompts' order."""
    folder = run.path / "evaluation"
    listed = stored(folder / "tuned" / "pictures.json") or {"pictures": []}
    both = [
        each
        for each in listed["pictures"]
        if all((folder / side / each["file"]).is_file() for side in ("base", "tuned"))
    ]
    by_prompt = {text: [each for each in both if each["prompt"] == text] for text in prompts}
    return {text: pictures for text, pictures in by_prompt.items() if pictures}


def _pair(run: RunFolder, picture: dict[str, Any], side: int) -> dict[str, Any]:
    """Return both pictures; as ``usual`` also what the base draws with its own settings, None where it is the same."""
    folder, file = run.path / "evaluation", picture["file"]
    uris = {name: picture_uri(folder / name / file, side) for name in ("base", "tuned")}
    usual = folder / "usual" / file
    return {"seed": picture["seed"], **uris, "usual": picture_uri(usual, side) if usual.is_file() else None}


def picture_uri(path: Path, side: int) -> str:
    """Return a picture as a data URI, at most ``side`` pixels large."""
    from PIL import Image

    with Image.open(path) as image:
        return data_uri(image, side)


def charts(steps: Sequence[dict[str, Any]], record: dict[str, Any]) -> list[Markup]:
    """Return the curves of the training; empty before the first step."""
    before = record.get("base_validation_loss")
    at_start = [] if before is None else [(0.0, float(before))]
    validation = [*at_start, *_points(steps, "validation_loss")]
    loss = _points(steps, "loss")
    norm = _points(steps, "grad_norm")
    numbers = dict.fromkeys(name for step in steps for name in step.get("numbers", {}) if not name.startswith(HELD_OUT))
    memory = [(index, value / 1e9) for index, value in _points(steps, "memory_bytes")]
    curves = [
        line_chart(
            "Loss",
            [
                Series("each step", loss, "faint"),
                Series("running mean", smooth(loss)),
                Series("held out", validation, "dots"),
            ],
            x="optimizer step",
            y="loss",
        ),
        line_chart(
            "Gradient norm before clipping",
            [Series("each step", norm, "faint"), Series("running mean", smooth(norm))],
            x="optimizer step",
            y="gradient norm",
        ),
        line_chart(
            "Learning rate", [Series("learning rate", _points(steps, "lr"))], x="optimizer step", y="learning rate"
        ),
        line_chart("Memory", [Series("memory", memory)], x="optimizer step", y="memory in use, GB", from_zero=True),
        *(_number_chart(steps, name) for name in numbers),
    ]
    return [curve for curve in curves if curve]


def _number_chart(steps: Sequence[dict[str, Any]], name: str) -> Markup:
    """Draw what an objective measured beside its loss."""
    each = [(step["index"], step["numbers"]) for step in steps if "numbers" in step]
    seen, held_out = (
        [(index, numbers[key]) for index, numbers in each if numbers.get(key) is not None]
        for key in (name, f"{HELD_OUT}{name}")
    )
    words = name.replace("_", " ")
    series = [Series("each step", seen, "faint"), Series("running mean", smooth(seen))]
    return line_chart(words.capitalize(), [*series, Series("held out", held_out, "dots")], x="optimizer step", y=words)


def _points(steps: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(step["index"], step[key]) for step in steps if step.get(key) is not None]


def validation_sentence(steps: Sequence[dict[str, Any]], record: dict[str, Any]) -> str:
    """Say how the loss on held-out pictures went, or why there is none."""
    points = _points(steps, "validation_loss")
    if not points:
        held_out = record.get("data", {}).get("held_out")
        return (
            "No pictures were held out, so there is no validation loss and overfitting cannot be seen here."
            if held_out == 0
            else "No validation loss was recorded."
        )
    before = record.get("base_validation_loss")
    errors, best = _points(steps, "validation_error"), record.get("best")
    place, lowest = min(points, key=lambda point: point[1])
    began = f"was {wording.number(before, 4)} before training and " if before is not None else ""
    ended = f"{wording.number(points[-1][1], 4)} at step {points[-1][0]}"
    ended += f" (standard error {wording.number(errors[-1][1], 4)} over the pictures)" if errors else ""
    told = f"The loss on held-out pictures {began}is {ended}"
    if place == points[-1][0]:
        return f"{told}, its lowest."
    told += f"; it was lowest, {wording.number(lowest, 4)}, at step {place}."
    watched = best if best and "told" in best else None  # what the training itself watched
    told += f" {watched['told']}" if watched else ""
    if not (watched["taken"] if watched else points[-1][1] >= NOTICEABLE * lowest):
        return told
    return f"{told} A loss that rises again on pictures never trained on is the sign of learning the others by heart."


def agreement_sentence(steps: Sequence[dict[str, Any]], record: dict[str, Any]) -> str:
    """Say how the loss of a distillation went, whose target moves along: it cannot be read as one falls or rises."""
    points = _points(steps, "validation_loss")
    if not points:
        return "No validation loss was recorded."
    before = record.get("base_validation_loss")
    began = f"was {wording.number(before, 4)} before training and " if before is not None else ""
    return (
        f"The loss on held-out pictures {began}is {wording.number(points[-1][1], 4)} at step {points[-1][0]}. It is "
        f"how far apart the model's answers at neighbouring points of the base's own paths are, and its target moves "
        f"with the model: it tells whether training is stable, the pictures tell whether it is good."
    )


def samples(run: RunFolder, sides: Sides) -> dict[str, Any] | None:
    """Return the pictures drawn while training: a row for each step, a column for each prompt."""
    folder = run.path / "samples"
    prompts = stored(folder / "prompts.json")
    if not prompts:
        return None
    every = sorted((each for each in folder.iterdir() if each.name.isdigit()), key=lambda each: int(each.name))
    last = len(every) - 1
    most = min(MOST_SAMPLE_STEPS, len(every))
    chosen = [every[round(place * last / max(1, most - 1))] for place in range(most)]
    columns = prompts[:MOST_SAMPLE_PROMPTS]
    rows = [
        {"step": int(step.name), "pictures": [_sample(step, place, sides.small) for place in range(len(columns))]}
        for step in chosen
    ]
    return {"prompts": columns, "rows": rows, "left_out": len(every) - len(chosen)} if rows else None


def _sample(step: Path, place: int, side: int) -> str | None:
    path = next(iter(sorted(step.glob(f"{place:05}-*.png"))), None)
    return picture_uri(path, side) if path else None


def training_pictures(run: RunFolder) -> list[dict[str, str]] | None:
    """Return the contact sheet; None when the data is not where it was."""
    try:
        return [
            {"caption": caption, "uri": data_uri(image, CONTACT_SIDE)}
            for caption, image in contact.pictures(run.config.data, MOST_TRAINING_PICTURES)
        ]
    except UserError:
        return None


def costs(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return what the run cost: label, value, remark; only what is known."""
    seconds, artefact = record.get("seconds", {}), record.get("artefact") or {}
    trained, total = record.get("trainable_parameters"), record.get("total_parameters")
    share = (
        f"{100 * trained / total:.2g}\N{NARROW NO-BREAK SPACE}% of {wording.grouped(total)}"
        if trained and total
        else ""
    )
    rate = record.get("images_per_second")
    rows = [
        ("Preparation", seconds.get("prepare"), wording.duration, "loading, checking, encoding pictures and texts"),
        ("Training", seconds.get("train"), wording.duration, "with samples, validation and checkpoints"),
        ("Evaluation", seconds.get("evaluate"), wording.duration, "drawing and measuring"),
        ("Speed", rate, lambda value: f"{value:.1f} images/s", "median over the steps"),
        ("Peak memory", record.get("peak_memory_bytes"), wording.size, _where(record)),
        ("Trainable parameters", trained, wording.grouped, share),
        ("Artefact", artefact.get("bytes"), wording.size, artefact.get("path", "")),
    ]
    return [(label, write(value), remark) for label, value, write, remark in rows if value is not None]


def _where(record: dict[str, Any]) -> str:
    device = record.get("device") or {}
    kind = device.get("type", "") if isinstance(device, dict) else str(device)
    if not kind:
        return ""
    return "of the accelerator" if kind.startswith(("cuda", "mps")) else "of the process"
