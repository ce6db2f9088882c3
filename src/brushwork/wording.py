"""What the numbers say, in sentences that can be quoted: every claim with its n, its interval and its p.

similarity_sentences(results, "target")
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from brushwork.metrics import find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.config import Config
    from brushwork.metrics import PromptSet, Result, Subject

MINUS, TIMES, NARROW = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{NARROW NO-BREAK SPACE}"
CONFIDENCE = f"95{NARROW}%"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LEVEL = 0.05
LEAST_DECIMAL = 0.001
"""Below, a p-value is written as a power of ten."""


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with a real minus sign; a dash for what is not a number."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def signed(value: float | None, digits: int = 3) -> str:
    """Write a difference: always with its sign, except zero."""
    text = number(value, digits)
    positive = value is not None and value > 0 and text.strip("0.") != ""
    return f"+{text}" if positive else text


def span(interval: Sequence[float] | None, digits: int = 3) -> str:
    """Write an interval of differences."""
    return "\N{EN DASH}" if interval is None else f"{signed(interval[0], digits)} to {signed(interval[1], digits)}"


def p_text(p: float | None) -> str:
    """Write a p-value: two digits that count, a power of ten when it is very small."""
    if p is None:
        return "\N{EN DASH}"
    if p >= LEAST_DECIMAL:
        # The smallest p are powers of two: 0.0625 must not become 0.062, as rounding to even would have it.
        return f"{p + 1e-9:.{max(2, 1 - math.floor(math.log10(p)))}f}"
    digit, _, power = f"{p:.0e}".partition("e")
    return f"{digit}{NARROW}{TIMES}{NARROW}10{str(int(power)).translate(SUPERSCRIPT)}"


def counted(count: int, noun: str) -> str:
    """Write ``1 prompt``, ``2 prompts``, thousands in groups."""
    return f"{grouped(count)} {noun}" if count == 1 else f"{grouped(count)} {noun}s"


def grouped(count: float) -> str:
    """Write a whole number with its thousands apart."""
    return f"{count:,.0f}".replace(",", NARROW)


def duration(seconds: float | None) -> str:
    """Write seconds for people.

    >>> duration(161.4)
    '2 min 41 s'
    """
    if seconds is None:
        return "\N{EN DASH}"
    if seconds < 10:  # noqa: PLR2004  (a tenth matters below)
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(count: float | None) -> str:
    """Write bytes in decimal units.

    >>> size(1_850_000)
    '1.9 MB'
    """
    if count is None:
        return "\N{EN DASH}"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}" if count >= 99.5 * factor else f"{count / factor:.1f} {unit}"
    return f"{count:.0f} bytes"


def curly(text: str) -> str:
    """Write apostrophes as a book does."""
    return text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")


METHODS = {
    "lora": "LoRA",
    "full": "full fine-tuning",
    "textual_inversion": "Textual Inversion",
    "pivotal": "pivotal tuning",
}
KINDS = {"lora": "LoRA", "loha": "LoHa", "lokr": "LoKr", "oft": "OFT"}
OBJECTIVES = {"consistency": "latent consistency distillation", "dpo": "preferences (DPO)"}
"""What is worth a word beside the method."""


def method_name(config: Config) -> str:
    """Return what was trained, by the name that it has in the field.

    >>> from brushwork import config
    >>> method_name(config.load({"data": "engravings"}, method="lokr"))
    'LoKr'
    """
    method: Any = config.method
    name = METHODS.get(method.type, method.type)
    if method.type == "lora":
        name = "DoRA" if method.use_dora else KINDS[method.kind]
    objective = OBJECTIVES.get(config.objective.type)
    return f"{name} by {objective}" if objective else name


def similarity_sentences(results: Sequence[Result], prompt_set: PromptSet) -> list[str]:
    """Say how CLIP similarity changed on a prompt set, and what that shows; nothing when it was not measured."""
    base, tuned = find(results, "clip", "base", prompt_set), find(results, "clip", "tuned", prompt_set)
    change = find(results, "clip", "difference", prompt_set)
    if base is None or tuned is None or change is None:
        return []
    prompts = len(change.details["prompts"])
    noun = "control prompt" if prompt_set == "control" else "prompt"
    told = (
        f"Over {counted(prompts, noun)} with {counted(change.n // prompts, 'seed')} each "
        f"({counted(change.n, 'pair')} at identical seeds and settings), the cosine similarity of picture and prompt "
        f"{_moved(base, tuned, change)}, a paired difference of {signed(change.value)}{_interval(change)}. "
        f"{_test(change, prompts)}"
    )
    return [told, similarity_verdict(change)]


def optimised_sentence(results: Sequence[Result], prompt_set: PromptSet) -> str | None:
    """Say what the loss's own judge believes, where another one was heard first; None where there is no such pair."""
    own = [each for each in results if each.caveat]
    base, tuned, change = (find(own, "clip", of, prompt_set) for of in ("base", "tuned", "difference"))
    heard = find(results, "clip", "difference", prompt_set)
    if base is None or tuned is None or change is None or heard is None or heard.caveat:
        return None
    return (
        f"To {change.encoder}, {change.caveat}, it {_moved(base, tuned, change)}, a paired difference of "
        f"{signed(change.value)}{_interval(change)}. Where the two disagree, believe the other."
    )


def _moved(base: Result, tuned: Result, change: Result) -> str:
    if number(base.value) == number(tuned.value):
        return f"stayed at {number(base.value)}"
    verb = "rose" if change.value > 0 else "fell"
    return f"{verb} from {number(base.value)} to {number(tuned.value)}"


def _interval(result: Result) -> str:
    if result.interval is None:
        return " (no interval: a single prompt)"
    return f" ({CONFIDENCE} interval {span(result.interval)}, cluster bootstrap over prompts)"


def _test(result: Result, prompts: int) -> str:
    kind = "An exact" if result.details.get("exact", True) else "A Monte Carlo"
    return (
        f"{kind} sign-flip test over prompts gives {_p(result)}; the smallest p that {counted(prompts, 'prompt')} can "
        f"reach is {p_text(result.smallest_p)}."
    )


def _p(result: Result) -> str:
    return f"p{NARROW}={NARROW}{p_text(result.p)}"


def similarity_verdict(change: Result) -> str:
    """Say what a difference in similarity shows, and what it does not."""
    p, smallest = change.p or 1.0, change.smallest_p or 1.0
    if change.caveat:
        return (
            f"{change.encoder} is {change.caveat}. Training was paid for this number: a rise would show that the loss "
            f"was lowered, not that the pictures are closer to their prompts. Look at them."
        )
    if change.value == 0:
        return "The tuned model scores exactly as the base does."
    if smallest > LEVEL:
        return (
            f"With so few prompts no difference whatever could be significant at {LEVEL}: read this as an indication, "
            f"not as evidence."
        )
    if p > LEVEL:
        return "This does not show a difference, and it does not show that there is none."
    way = "closer to" if change.value > 0 else "further from"
    return f"To this judge, the tuned model's pictures are {way} their prompts, on prompts like these."


def usual_sentences(results: Sequence[Result], evaluation: dict[str, Any]) -> list[str]:
    """Say how a model that is drawn in its own way stands beside its base as that is usually drawn; else nothing."""
    usual, settings = evaluation.get("usual"), evaluation["settings"]
    if not usual:
        return []
    took = evaluation.get("seconds_per_picture") or {}
    fast, slow = took.get("tuned"), took.get("usual")
    speed = (
        f" A picture took the tuned model {fast:.2g} s, the base as usual {slow:.2g} s, {number(slow / fast, 1)} times "
        f"as long, as measured while drawing these."
        if fast and slow
        else ""
    )
    ways = (
        f"Base and tuned model are drawn with {drawn_with(settings)}; the base as usual, in the row above them, with "
        f"{drawn_with(usual)}.{speed}"
    )
    told = [ways]
    of: tuple[Subject, ...] = ("base", "tuned", "difference")
    base, tuned, change = (find(results, "clip", each, against="usual") for each in of)
    if base and tuned and change:
        prompts = len(change.details["prompts"])
        told.append(
            f"From the base as usual to the tuned model, at the same prompts and seeds but not the same settings, the "
            f"cosine similarity of picture and prompt {_moved(base, tuned, change)}, a paired difference of "
            f"{signed(change.value)}{_interval(change)}. {_test(change, prompts)}"
        )
    drift = find(results, "drift", "ratio", "control", against="usual")
    if drift:
        told.append(
            f"On control prompts the tuned model's picture differs from the base's usual one by "
            f"{number(drift.value, 2)} of what another seed would change; some of that is the sampler's own noise."
        )
    return told


def drawn_with(settings: dict[str, Any]) -> str:
    """Say how pictures were drawn."""
    return f"{settings['sampler']}, {counted(settings['steps'], 'step')}, guidance {settings['guidance_scale']:g}"


def saturation_sentence(results: Sequence[Result], prompt_set: PromptSet = "target") -> str | None:
    """Say how colourful the pictures became, beside the training pictures."""
    base, tuned = find(results, "saturation", "base", prompt_set), find(results, "saturation", "tuned", prompt_set)
    change, data = (
        find(results, "saturation", "difference", prompt_set),
        find(results, "saturation", "data", prompt_set),
    )
    if base is None or tuned is None or change is None:
        return None
    ratio = change.details.get("ratio")
    share = f", {100 * ratio:.0f}{NARROW}% of what it was" if ratio is not None and change.value else ""
    between = f", {CONFIDENCE} interval {span(change.interval)}" if change.interval else ""
    told = (
        f"The mean HSV saturation of the pictures {_moved(base, tuned, change)}{share} (paired difference "
        f"{signed(change.value)}{between}, {_p(change)})."
    )
    return f"{told} The training pictures have {number(data.value)}." if data else told


def change_sentence(results: Sequence[Result], prompt_set: PromptSet) -> str | None:
    """Say how far the pictures are from the base's, pixel by pixel."""
    change = find(results, "change", "ratio", prompt_set)
    if change is None:
        return None
    low, high = (number(end, 2) for end in change.interval or (None, None))
    between = f" ({CONFIDENCE} interval {low} to {high})" if change.interval else ""
    return (
        f"Pixel by pixel, the tuned model's pictures are {number(change.value, 2)} times as far from the base's at the "
        f"same seed as two of the base's own at different seeds are from each other{between}. No judge is asked."
    )


def drift_sentence(results: Sequence[Result]) -> str | None:
    """Say how much unrelated prompts changed, in units of what another seed changes."""
    drift = find(results, "drift", "ratio", "control")
    if drift is None:
        return None
    low, high = (number(end, 2) for end in drift.interval or (None, None))
    between = f" ({CONFIDENCE} interval {low} to {high}, cluster bootstrap over prompts)" if drift.interval else ""
    return (
        f"On {counted(len(drift.details['prompts']), 'control prompt')} that have nothing to do with the data, the "
        f"tuned model's picture differs from the base's at the same seed by {number(drift.value, 2)} of what another "
        f"seed would change{between}. 0 is unchanged; 1 is as different as another seed."
        + (f" By {drift.encoder}, {drift.caveat}." if drift.caveat else "")
    )


def memorisation_sentence(results: Sequence[Result], prompt_set: PromptSet = "target") -> str | None:
    """Say how many pictures may be copies of training pictures, beside the base's share and what chance gives."""
    base, tuned = find(results, "memorisation", "base", prompt_set), find(results, "memorisation", "tuned", prompt_set)
    change = find(results, "memorisation", "difference", prompt_set)
    if base is None or tuned is None or change is None:
        return None
    of = "control prompts" if prompt_set == "control" else "target prompts"
    return (
        f"On the {of}, {round(tuned.value * tuned.n)} of {counted(tuned.n, 'picture')} of the tuned model lie nearer "
        f"to a training picture than 95{NARROW}% of the {grouped(tuned.details['training_pictures'])} training "
        f"pictures lie to one another; of the base's it is {round(base.value * base.n)} ({_p(change)}). About one in "
        f"twenty is that near without being a copy."
    )


def method_sentences(evaluation: dict[str, Any]) -> list[str]:
    """Say how it was measured, for the methods section of a thesis."""
    settings, seeds = evaluation["settings"], evaluation["images_per_prompt"]
    target, control = len(evaluation["target"]), len(evaluation["control"])
    content = evaluation.get("content") or []
    plain = f", {counted(len(content), 'content prompt')} at the seeds of their target prompts" if content else ""
    pairs = seeds * (target + control + len(content))
    negative = f", negative prompt {settings['negative_prompt']!r}" if settings["negative_prompt"] else ""
    drawn = (
        f"Base and tuned model drew {counted(target, 'target prompt')} and {counted(control, 'control prompt')}, each "
        f"at {counted(seeds, 'seed')} of its own{plain} (N{NARROW}={NARROW}{pairs} pairs; seeds from "
        f"{evaluation['first_seed']}), with {drawn_with(settings)}, {settings['width']}{TIMES}{settings['height']} "
        f"pixels{negative}. No picture was selected or drawn again."
    )
    usual = evaluation.get("usual")
    if usual:
        drawn += f" The base drew the same prompts and seeds once more as usual, with {drawn_with(usual)}."
    statistics = (
        f"The unit is the prompt: seeds of one prompt are averaged, intervals are {CONFIDENCE} percentile intervals of "
        f"{grouped(10_000)} bootstrap draws of whole prompts, and tests flip the signs of whole prompts (two-sided; "
        f"exact up to 20 prompts)."
    )
    held_against = (
        "A target prompt's pictures are held against its content prompt, the same without the words of the style or "
        "the token: whether the style is there is not asked of a text that names it."
    )
    scored = [held_against] if evaluation.get("content_of") else []
    return [drawn, *scored, *_judge_sentences(evaluation), statistics]


def _judge_sentences(evaluation: dict[str, Any]) -> list[str]:
    judge, cut = evaluation["judge"], evaluation.get("texts_cut") or []
    if judge is None:
        return [evaluation["no_judge"]] if evaluation.get("no_judge") else []
    about = (
        f"Similarity is the raw cosine of image and text features of the CLIP model {judge['name']} (weights "
        f"{judge['revision']}, preprocessing {judge['preprocessing']}). Numbers of different judges cannot be "
        f"compared, and a CLIP model reads colour and style beside the thing itself: a style that it has seldom seen "
        f"can lower the similarity of a well drawn thing."
    )
    kin = (
        "mini-clip was trained on the same rendered scenes as the base model mini, so it is not an independent judge "
        "of it: it can say whether a picture still shows what its prompt names, not how good it is."
    )
    own = evaluation.get("own_judge")
    optimised = f"{own['name']} (weights {own['revision']}) is {own['caveat']}." if own else ""
    longer = f"Prompts longer than the judge reads, cut off at the end: {len(cut)}."
    holds = {about: True, kin: judge["name"] == "mini-clip", optimised: own is not None, longer: bool(cut)}
    return [sentence for sentence, true in holds.items() if true]
