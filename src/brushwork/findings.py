"""What a report says beyond pictures and means: forgetting, the two by two of a style, several tests, checkpoints.

forgetting(results), square(results), adjusted(results), over_checkpoints(run, sides)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork import wording
from brushwork.charts import Series, line_chart
from brushwork.exhibits import picture_uri, stored
from brushwork.metrics import find
from brushwork.statistics import holm
from brushwork.wording import CONFIDENCE, NARROW, counted, number, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from brushwork.exhibits import Sides
    from brushwork.metrics import PromptSet, Result
    from brushwork.runs import RunFolder

SHOWN_PROMPTS = 4
MOST_CHECKPOINTS = 8


def found(results: Sequence[Result]) -> dict[str, Any]:
    """Return everything that follows from the results alone, by the names that the page has for it."""
    return {
        "square": square(results),
        "forgetting": forgetting(results),
        "adjusted": adjusted(results),
        "holm": holm_sentence(results),
    }


def forgetting(results: Sequence[Result]) -> dict[str, Any]:
    """Return the sentences and tables about what a model forgot; empty parts where nothing was measured."""
    kept = find(results, "retention", "tuned", "control")
    moved = find(results, "noise_drift", "ratio", "control")
    spoken = [_retention(kept), _noise(results), *(_leak(results, each) for each in ("content", "control"))]
    return {
        "sentences": [sentence for sentence in spoken if sentence],
        "worst": kept.details["worst"] if kept else [],
        "of": _held_out(results),
        "bins": _bins(moved.details["bins"]) if moved else None,
    }


def _held_out(results: Sequence[Result]) -> int:
    change = find(results, "clip", "difference", "control")
    return len(change.details["prompts"]) if change else 0


def _between(result: Result) -> str:
    if result.interval is None:
        return ""
    low, high = result.interval
    return f" ({CONFIDENCE} interval {number(low)} to {number(high)})"


def _retention(kept: Result | None) -> str | None:
    if kept is None:
        return None
    floor, above = kept.details["others"], kept.details["above_floor"]
    told = (
        f"Retention: the pictures of held-out prompts keep {number(kept.value)} of the base's "
        f"likeness to their prompts{_between(kept)}."
    )
    if above is not None:
        told += (
            f" A picture of something else has a likeness of {number(floor)} too; above that floor {number(above)} is "
            f"kept."
        )
    return told + (f" By {kept.encoder}, {kept.caveat}." if kept.caveat else "")


def _noise(results: Sequence[Result]) -> str | None:
    """Say how far the predictions moved, which needs no judge."""
    moved = find(results, "noise_drift", "ratio", "control")
    if moved is None:
        return None
    if moved.value == 0:
        return (
            "Noise-prediction drift: exactly 0. On held-out prompts the tuned model predicts what the base does, to "
            "the last bit."
        )
    return (
        f"Noise-prediction drift: shown the same noisy latents of held-out prompts, the tuned model's "
        f"predictions differ from the base's by {_small(moved.value)} of their mean square{_small_between(moved)}. "
        f"No judge is asked. Much noise decides what a picture shows, little noise how it is drawn."
    )


def _small(value: float) -> str:
    return f"{100 * value:.2g}{NARROW}%"


def _small_between(result: Result) -> str:
    if result.interval is None:
        return ""
    low, high = result.interval
    return f" ({CONFIDENCE} interval {_small(low)} to {_small(high)})"


def _leak(results: Sequence[Result], prompt_set: PromptSet) -> str | None:
    change = find(results, "uptake", "difference", prompt_set)
    if change is None:
        return None
    which = {
        "content": "the content prompts (those without the words of the style or the token)",
        "control": "the held-out prompts",
    }[prompt_set]
    asked = find(results, "uptake", "difference", "target")
    beside = f" On the prompts that ask for it the difference is {signed(asked.value)}." if asked else ""
    return (
        f"Leakage into {which}: the likeness to the training pictures changed by {signed(change.value)}"
        f"{' (' + CONFIDENCE + ' interval ' + wording.span(change.interval) + ')' if change.interval else ''}, "
        f"p{NARROW}={NARROW}{wording.p_text(change.p)} (smallest reachable {wording.p_text(change.smallest_p)}); 0 is "
        f"no leak.{beside}"
    )


def _bins(bins: Sequence[float | None]) -> list[dict[str, str]]:
    """Return the drift by stretch of timesteps, from little noise to much."""
    size = 100 / len(bins)
    return [
        {
            "range": f"{round(place * size)} to {round((place + 1) * size)}{NARROW}%",
            "drift": "\N{EN DASH}" if value is None else _small(value) if value else "0",
        }
        for place, value in enumerate(bins)
    ]


def square(results: Sequence[Result]) -> dict[str, Any] | None:
    """Return the two by two of a style or token: drawn with and without its words, scored with and without them."""
    cells: dict[str, dict[str, Any]] = {}
    sets: tuple[tuple[str, PromptSet], ...] = (("styled", "target"), ("plain", "content"))
    scores = (("content", "clip"), ("styled", "clip_styled"))
    for drawn, prompt_set in sets:
        for scored, name in scores:
            base, tuned = find(results, name, "base", prompt_set), find(results, name, "tuned", prompt_set)
            change = find(results, name, "difference", prompt_set)
            if base is None or tuned is None or change is None:
                return None
            cells[f"{drawn}_{scored}"] = {"base": base, "tuned": tuned, "difference": change}
    plain, styled = cells["plain_styled"]["tuned"].value, cells["styled_styled"]["tuned"].value
    content = cells["styled_content"]["tuned"].value
    told = (
        f"Headline: {number(content)}, the pictures asked for in the style, held against the content alone. Held "
        f"against the text with its words they reach {number(styled)}, and pictures that were not asked for it "
        f"{number(plain)}: words in the judge's text move the number whatever the picture shows, so compare within a "
        f"column only."
    )
    return {**cells, "told": told}


def adjusted(results: Sequence[Result]) -> list[float | None]:
    """Return the p of each result after Holm's correction over all tests of the table; None where there is no test."""
    tested = [place for place, result in enumerate(results) if result.p is not None]
    found: list[float | None] = [None] * len(results)
    corrected: Sequence[float] = holm([results[place].p or 0.0 for place in tested]).tolist() if tested else []
    for place, value in zip(tested, corrected, strict=True):
        found[place] = value
    return found


def holm_sentence(results: Sequence[Result]) -> str | None:
    """Say how many of the table's tests stay significant when there are so many."""
    values = [value for value in adjusted(results) if value is not None]
    if not values:
        return None
    below = sum(result.p is not None and result.p <= wording.LEVEL for result in results)
    return (
        f"The table holds {counted(len(values), 'test')}. At {wording.LEVEL} {below} of them are significant one by "
        f"one, and {sum(value <= wording.LEVEL for value in values)} after Holm's correction for so many."
    )


def over_checkpoints(run: RunFolder, sides: Sides) -> dict[str, Any] | None:
    """Return the curves over a run's checkpoints, what was decided by which rule, and some pictures."""
    told = stored(run.path / "checkpoints.json")
    if told is None:
        return None
    points = told["points"]
    return {
        "told": told["told"],
        "rule": told["rule"],
        "charts": _curves(points, told["best"]),
        "rows": [_row(point, told) for point in points],
        "pictures": _pictures(run, [point["step"] for point in points], sides),
    }


def _curves(points: Sequence[dict[str, Any]], best: int) -> list[Markup]:
    def of(key: str) -> list[tuple[float, float]]:
        return [(point["step"], point[key]) for point in points if point.get(key) is not None]

    base = [(point["step"], point["copied_by_base"]) for point in points if point.get("copied_by_base") is not None]
    drawn = (
        ("Fit: likeness to the training pictures", [Series("tuned", of("fit"), "dots")], "mean cosine"),
        ("Content: likeness to the prompt", [Series("tuned", of("clip"), "dots")], "mean cosine"),
        ("Drift on held-out prompts", [Series("tuned", of("drift"), "dots")], "in units of another seed"),
        (
            "Copies of training pictures",
            [Series("base", base, "faint"), Series("tuned", of("copied"), "dots")],
            "share",
        ),
        ("Held-out loss", [Series("tuned", of("loss"), "dots")], "loss"),
    )
    charts = [
        line_chart(title, series, x="optimizer step", y=f"{title}: {y}", mark=best, from_zero=y == "share")
        for title, series, y in drawn
    ]
    return [chart for chart in charts if chart]


def _row(point: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    step = point["step"]
    words = [
        word
        for word, holds in (
            ("best", step == told["best"]),
            ("overfits", told["overfits_from"] is not None and step >= told["overfits_from"]),
            ("copies", told["copies_from"] is not None and step >= told["copies_from"]),
        )
        if holds
    ]
    return {**point, "words": ", ".join(words)}


def _pictures(run: RunFolder, steps: Sequence[int], sides: Sides) -> dict[str, Any] | None:
    """Return the first seed of the first prompts, as the base and as some of the checkpoints draw them."""
    folder = run.path / "evaluation"
    listed = (stored(folder / "base" / "pictures.json") or {"pictures": []})["pictures"]
    first = list({each["prompt"]: each for each in reversed(listed)}.values())[::-1][:SHOWN_PROMPTS]
    last = len(steps) - 1
    most = min(MOST_CHECKPOINTS, len(steps))
    chosen = [steps[round(place * last / max(1, most - 1))] for place in range(most)]
    homes = {"base": folder / "base"} | {str(step): folder / "checkpoints" / str(step) / "tuned" for step in chosen}
    if not first or not all((home / each["file"]).is_file() for home in homes.values() for each in first):
        return None
    rows = [
        {"step": name, "pictures": [picture_uri(home / each["file"], sides.small) for each in first]}
        for name, home in homes.items()
    ]
    return {"prompts": [each["prompt"] for each in first], "rows": rows, "left_out": len(steps) - len(chosen)}
