"""Sentences about captions, whole sets, likeness and technical checks, and what was not measured, for the report.

told = sentences(results, "target")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.metrics import find
from brushwork.wording import MINUS, NARROW, counted, grouped, number, p_text, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.metrics import PromptSet, Result

SETS = {"fid": "FID", "fd": "Fréchet distance", "kid": "KID", "clip_mmd": "CMMD"}


def sentences(results: Sequence[Result], prompt_set: PromptSet) -> list[str]:
    """Return what is worth a sentence on a prompt set; what was not measured is left out."""
    told = [caption_sentence(results, prompt_set), likeness_sentence(results, prompt_set)]
    told += [sets_sentence(results, prompt_set), checks(results, prompt_set)]
    return [each for each in told if each]


def caption_sentence(results: Sequence[Result], prompt_set: PromptSet) -> str | None:
    """Say how often a captioner names the style."""
    base, tuned, change = (find(results, "caption_hits", of, prompt_set) for of in ("base", "tuned", "difference"))
    if base is None or tuned is None or change is None:
        return None
    words = ", ".join(tuned.details["words"][:6])
    return (
        f"Asked what it sees, {tuned.encoder} names the style ({words}) in {round(tuned.value * tuned.n)} of "
        f"{counted(tuned.n, 'picture')} of the tuned model and in {round(base.value * base.n)} of the base's "
        f"(McNemar's p {p_text(change.p)}, over these pictures)."
    )


def likeness_sentence(results: Sequence[Result], prompt_set: PromptSet) -> str | None:
    """Say how like the training pictures the drawn ones became, below the ceiling."""
    name = "dino_i" if find(results, "dino_i", "tuned", prompt_set) else "clip_i"
    base, tuned, change = (find(results, name, of, prompt_set) for of in ("base", "tuned", "difference"))
    ceiling = find(results, name, "data", prompt_set)
    if base is None or tuned is None or change is None:
        return None
    most = f"; the training pictures have {number(ceiling.value)} among themselves" if ceiling else ""
    return (
        f"Likeness to the training pictures ({name.upper().replace('_', '-')}, {tuned.encoder}): "
        f"{number(base.value)} for the base, {number(tuned.value)} for the tuned model{most}. "
        f"The paired difference is {signed(change.value)} (p {p_text(change.p)}). A copy would be the best likeness."
    )


def sets_sentence(results: Sequence[Result], prompt_set: PromptSet) -> str | None:
    """Say how far whole sets lie from the training pictures, or from the base's, with N and the noise floors."""
    measured = [(name, find(results, name, "pairs", prompt_set) or find(results, name, "tuned", prompt_set))
                for name in SETS]  # fmt: skip
    shown = [(name, result) for name, result in measured if result is not None]
    if not shown:
        return None
    first = shown[0][1]
    of = "from the base's set" if first.of == "pairs" else "from the training pictures"
    small = any("not comparable" in result.remark for _, result in shown)
    warning = "; at this size not comparable with published numbers" if small else ""
    told = "; ".join(_set(results, name, result) for name, result in shown)
    whole = f"The tuned model's {grouped(first.n)} pictures as a whole, {of}"
    return f"{whole} (N{NARROW}={NARROW}{first.n}{warning}): {told}."


def _set(results: Sequence[Result], name: str, shown: Result) -> str:
    base, floor = find(results, name, "base", shown.prompt_set), shown.details["floor"]
    before = f"{base.value:.3g} \N{RIGHTWARDS ARROW} " if base is not None and shown.of == "tuned" else ""
    span = f"{floor['mean']:.2g}, {floor['low']:.2g} to {floor['high']:.2g}".replace("-", MINUS)
    return f"{SETS[name]} by {shown.encoder} {before}{shown.value:.3g} (noise floor {span})"


def checks(results: Sequence[Result], prompt_set: PromptSet) -> str | None:
    """Say when something is wrong with the tuned model's pictures; nothing when all is well."""
    blank, clipped = (find(results, name, "tuned", prompt_set) for name in ("blank", "clipped"))
    before = find(results, "clipped", "base", prompt_set)
    told = []
    if blank is not None and blank.value:
        told.append(
            f"{counted(round(blank.value * blank.n), 'picture')} of {blank.n} of the tuned model are of one flat "
            f"colour: drawing failed, or training did."
        )
    if clipped is not None and before is not None and clipped.value > max(2 * before.value, MANY):
        told.append(
            f"{100 * clipped.value:.0f} % of the tuned model's pixels are clipped (a channel at 0 or 255), "
            f"{100 * before.value:.0f} % of the base's."
        )
    return " ".join(told) or None


MANY = 0.2
"""The share of clipped pixels from which it is worth a sentence."""


def not_measured(evaluation: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return each metric that could not be measured, with the reason."""
    return sorted((evaluation or {}).get("not_measured", {}).items())
