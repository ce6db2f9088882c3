"""The measuring half of `evaluate`: which networks look at the pictures, and pictures on disk to numbers.

A CLIP model that the training loss optimised measures too, and whatever it says is marked with ``metrics.OPTIMISED``.
What cannot be measured here is named with its reason, in ``facts["not_measured"]``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork import contact, styles
from brushwork.devices import resolve_device
from brushwork.encoders import (
    Clip,
    Colour,
    Luminance,
    Pixels,
    Reader,
    check_judge,
    judge_of,
    load_clip,
    not_independent,
    own_judge_of,
    without_judge,
)
from brushwork.errors import ConfigError, DataError, ModelError
from brushwork.extractors import load as load_extractor
from brushwork.extractors import split
from brushwork.extractors.captions import Captions, CaptionTexts
from brushwork.extractors.external import External
from brushwork.extractors.technical import Technical
from brushwork.features import FeatureStore
from brushwork.metrics import OPTIMISED, Drawn
from brushwork.pairs import USUAL, check_pairs
from brushwork.progress import bar, note
from brushwork.styles import Style

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from brushwork.config import Config
    from brushwork.encoders import Encoder, Features, Serves
    from brushwork.metrics import Array, Metric, PromptSet, Result
    from brushwork.pairs import Plan
    from brushwork.progress import Advance
    from brushwork.runs import RunFolder

BY_JUDGE: tuple[Serves, ...] = ("clip", "caption_text")
"""Needs that a CLIP model meets, or helps to meet."""
BY_CAPTIONER: tuple[Serves, ...] = ("captions", "caption_text")
WANTED: dict[Serves, str] = {
    "clip": "no judge could be loaded, and validation.extractors names no other network that would do",
    "dino": "name one, such as validation.extractors=[dinov2:facebook/dinov2-base]",
    "inception": "name it: validation.extractors=[inception:auto], which needs the extra inception",
    "classes": "name a classifier: validation.extractors=[inception:auto] or [classifier:...]",
    "captions": "name a captioner, such as validation.captioner=Salesforce/blip-image-captioning-base",
    "caption_text": "it takes a judge and a captioner (validation.captioner)",
    "pickscore": "name it: validation.extractors=[pickscore:yuvalkirstain/PickScore_v1]",
    "score": "name a program: validation.extractors=['external:COMMAND']",
    "lpips": "name it: validation.extractors=[lpips:alex], which needs the extra lpips",
}
"""Why nothing meets a need, or what would."""


def serves(encoder: Encoder, metric: Metric) -> bool:
    """Return whether a metric can be measured by an encoder."""
    return not {metric.NEEDS, *getattr(metric, "ALSO", ())}.isdisjoint(encoder.serves)


@dataclass(frozen=True)
class Judges:
    """The networks that measure a run.

    Of CLIP models the one of ``validation.judge`` and the one that the loss optimised; both may be one and the same,
    then there is no ``independent`` one. ``others`` are the captioner and ``validation.extractors``.
    """

    independent: Clip | None = None
    optimised: Clip | None = None
    others: tuple[Encoder, ...] = ()
    built_in: tuple[Encoder, ...] = field(default_factory=lambda: (Colour(), Luminance(), Pixels(), Technical()))

    @property
    def every(self) -> list[Clip]:
        """The CLIP models that there are, the independent one first."""
        return [each for each in (self.independent, self.optimised) if each is not None]

    def serving(self, metric: Metric) -> list[Encoder]:
        """Return what a metric can be measured by."""
        return [each for each in (*self.every, *self.others, *self.built_in) if serves(each, metric)]

    def caveat(self, encoder: Encoder) -> str | None:
        """Return what must be said of an encoder's numbers."""
        clip = encoder.clip if isinstance(encoder, CaptionTexts) else encoder
        optimised = self.optimised
        return OPTIMISED if optimised is not None and getattr(clip, "revision", None) == optimised.revision else None


def load_judges(run: RunFolder, metrics: Sequence[Metric], extractors: Sequence[str] = ()) -> tuple[Judges, list[str]]:
    """Load the networks that metrics need, and say what is amiss; the automatic ones may be missing.

    Args:
        run: Whose configuration names them.
        metrics: What is to be measured.
        extractors: Further ones, ``KIND:WHICH``.

    Raises:
        UserError: One that was asked for by name cannot be used.
    """
    needs: set[Serves] = {need for metric in metrics for need in (metric.NEEDS, *getattr(metric, "ALSO", ()))}
    judges, problems = _load_clips(run) if needs.intersection(BY_JUDGE) else (Judges(), [])
    return replace(judges, others=_load_others(run.config, needs, extractors, judges)), problems


def check(config: Config) -> list[str]:
    """Find out before training whether the networks that will measure can be used; return warnings.

    Raises:
        UserError: One that was asked for by name cannot be used.
    """
    settings = config.validation
    if settings.style_template is not None:
        styles.check(settings.style_template)
    for name in settings.extractors:
        split(name)
    for name in settings.extractors:
        for each in load_extractor(name, seconds=settings.extractor_seconds):
            if isinstance(each, External):
                each.close()
    if settings.captioner not in ("auto", "none"):
        Captions.load(settings.captioner)
    return check_judge(config)


def _load_clips(run: RunFolder) -> tuple[Judges, list[str]]:
    config, device = run.config, resolve_device(run.config.train.device)
    asked, amiss = None, []
    try:
        asked = load_clip(judge_of(config), device=device)
    except ModelError as error:
        if config.validation.judge != "auto":
            raise
        note(f"warning: {error}")
        amiss.append(without_judge(str(error)))
    own, changed = _own_judge(run, device)
    optimised = run.record.get("optimised_judge", {}).get("revision") or (own.revision if own else None)
    if asked is not None and asked.revision == optimised:
        return Judges(None, asked), [not_independent(asked.name)]
    if asked is None and own is not None:
        return Judges(None, own), [not_independent(own.name)]
    return Judges(asked, own), amiss + changed


def _own_judge(run: RunFolder, device: str) -> tuple[Clip | None, list[str]]:
    """Load the CLIP model that the loss optimised, if it did, and say when it is not there as it was then."""
    name, then = own_judge_of(run.config), run.record.get("optimised_judge", {}).get("revision")
    if name is None:
        return None, []
    try:
        own = load_clip(name, device=device, key="objective.clip")
    except ModelError as error:
        return None, [f"What the loss's own judge believes is not measured: {str(error).splitlines()[0]}"]
    if then not in (None, own.revision):
        return None, [
            f"What the loss's own judge believes is not measured: {name} changed ({then}, now {own.revision})."
        ]
    return own, []


def _load_others(config: Config, needs: set[Serves], extractors: Sequence[str], judges: Judges) -> tuple[Encoder, ...]:
    """Return the extractors that meet a need, the captioner, and what a judge reads in its captions."""
    settings, device = config.validation, resolve_device(config.train.device)
    names = list(dict.fromkeys([*settings.extractors, *extractors]))
    kinds = [split(name)[0] for name in names]  # every wrong name before any network is loaded
    if settings.style_template is not None:
        styles.check(settings.style_template)
    found: list[Encoder] = []
    for name in names:
        loaded = load_extractor(name, device=device, seconds=settings.extractor_seconds)
        found += [each for each in loaded if needs.intersection(each.serves) or "captions" in each.serves]
    if needs.intersection(BY_CAPTIONER) and not {"captioner", "blip"}.intersection(kinds):
        automatic = "mini-captioner" if config.base == "mini" else "none"
        captioner = automatic if settings.captioner == "auto" else settings.captioner
        if captioner != "none":
            found.append(Captions.load(captioner, device=device))
    clip = next(iter(judges.every), None)
    if clip is not None and "caption_text" in needs:
        found += [CaptionTexts.of(each, clip) for each in found if isinstance(each, Captions)]
    return tuple(found)


def measure(
    run: RunFolder, planned: Plan, folder: Path, chosen: Sequence[tuple[str, Metric]], judges: Judges
) -> tuple[list[Result], dict[str, Any]]:
    """Encode with each encoder that is needed, then compute; the features stay in ``folder/features``.

    Returns:
        The results, and the facts for evaluation.json: ``features`` (by which encoders), ``texts_cut``, the words of
        the style that were looked for, and ``not_measured``: why, by metric.
    """
    check_pairs(folder)
    style = Style.of(run.config)
    results: list[Result] = []
    facts: dict[str, Any] = {
        "features": [], "texts_cut": [], "style_template": style.template, "style_words": [], "not_measured": {},
    }  # fmt: skip
    # One pass for each encoder, however many metrics it serves.
    for encoder in {id(each): each for _, metric in chosen for each in judges.serving(metric)}.values():
        sets, cut = encode(folder, planned, encoder, run.config, judges.caveat(encoder), style)
        facts["texts_cut"] += [text for text in cut if text not in facts["texts_cut"]]
        facts["features"].append(encoder.name)
        facts["style_words"] += [word for each in sets[:1] for word in each.words]
        results += [
            result
            for _, metric in chosen
            if serves(encoder, metric)
            for drawn in sets
            for result in metric.measure(drawn)
        ]
    facts["not_measured"] = _not_measured(chosen, results, judges)
    if facts["not_measured"]:
        note(f"not measured here: {', '.join(facts['not_measured'])} (evaluation.json and the report say why)")
    return results, facts


def _not_measured(chosen: Sequence[tuple[str, Metric]], results: Sequence[Result], judges: Judges) -> dict[str, str]:
    """Return why each metric without a result has none."""
    there = {result.name for result in results}
    reasons = {}
    for name, metric in chosen:
        kinds = getattr(metric, "KINDS", (metric.KIND,))
        if there.isdisjoint(kind.name for kind in kinds):
            served = judges.serving(metric)
            reasons[name] = f"it needs {metric.ASKS}" if served else WANTED.get(metric.NEEDS, f"it needs {metric.ASKS}")
    return reasons


def check_asked(names: Sequence[str], chosen: Sequence[tuple[str, Metric]], judges: Judges, *, automatic: bool) -> None:
    """Refuse metrics that were asked for by name and that no network here can measure.

    Raises:
        ConfigError: With what to name.
    """
    for name, metric in chosen:
        if name in names and not judges.serving(metric) and not (automatic and metric.NEEDS in BY_JUDGE):
            message = f"metrics: {name} cannot be measured: {WANTED.get(metric.NEEDS, metric.ASKS)}."
            raise ConfigError(message)


def encode(
    folder: Path,
    planned: Plan,
    encoder: Encoder,
    config: Config,
    caveat: str | None = None,
    style: Style | None = None,
) -> tuple[list[Drawn], list[str]]:
    """Return the features of each prompt set, and the prompts that are longer than the encoder reads.

    What the numbers are computed from is saved: for each set the hashes of its pictures, (prompts, seeds), and its
    texts' features, beside the features by hash.
    """
    store, style = FeatureStore(folder / "features", encoder), style or Style.of(config)
    texts, cut = _texts(planned, encoder, style.template)
    saved: dict[str, NDArray[Any]] = {}
    references, saved["references"] = _references(store, config)
    flipped = "features" in encoder.serves and references is not None and getattr(config.data, "random_flip", False)
    mirrored = _references(store, config, mirrored=True)[0] if flipped else None
    common: dict[str, Any] = {
        "encoder": encoder.name, "revision": encoder.revision, "preprocessing": encoder.preprocessing,
        "references": references, "mirrored": mirrored, "caveat": caveat, "seed": config.validation.seed,
        "scale": getattr(encoder, "scale", 1.0), "words": _words(encoder, style, references),
    }  # fmt: skip
    sets = []
    with bar(f"measuring by {encoder.name}", len(planned.sides) * len(planned.requests)) as advance:
        for prompt_set, shown, names in planned.prompt_sets:
            sides = {}
            for side in planned.sides:
                pairs = [text for text in shown for _ in range(planned.seeds)] if _scores(encoder) else None
                flat, hashes = store.of(_open(folder / side, names, advance), pairs)
                sides[side] = flat.reshape(len(shown), planned.seeds, *flat.shape[1:])
                saved[f"{prompt_set}_{side}"] = np.array(hashes).reshape(len(shown), planned.seeds)
            read = {kind: np.stack([by[planned.scored_by(text)] for text in shown]) for kind, by in texts.items()}
            read |= _beside_content(planned, prompt_set, shown, texts)
            saved |= {f"{prompt_set}_{kind}": vectors for kind, vectors in read.items()}
            about: dict[str, Any] = {
                "texts": read.get("texts"),
                "plain_texts": read.get("plain"),
                "style_texts": read.get("styled"),
                "whole_texts": read.get("whole"),
            }
            drawn = Drawn(shown, prompt_set, sides["base"], sides["tuned"], **about, **common)
            sets.append(drawn)
            if planned.usual:
                sets.append(replace(drawn, base=sides[USUAL], against="usual"))
    store.save(**saved)
    return sets, cut


def _beside_content(
    planned: Plan, prompt_set: PromptSet, shown: Sequence[str], texts: dict[str, dict[str, Features]]
) -> dict[str, Any]:
    """Return the target texts of prompts that have content prompts, as ``whole``.

    Where each differs from its content, the two are also what a style's words change: ``plain`` and ``styled``.
    """
    if not planned.content or prompt_set == "control" or "texts" not in texts:
        return {}
    read, both = texts["texts"], [(planned.scored_by(text), planned.styled_by(text)) for text in shown]
    plain, whole = (np.stack([read[text] for text in side]) for side in zip(*both, strict=True))
    differ = "plain" in texts and not (plain == whole).all(axis=1).any()
    return {"whole": whole, **({"plain": plain, "styled": whole} if differ else {})}


def _scores(encoder: Encoder) -> bool:
    """Return whether an encoder is asked about a picture and its prompt together."""
    return hasattr(encoder, "encode_pairs") and "score" in encoder.serves


def _words(encoder: Encoder, style: Style, references: Array | None) -> tuple[str, ...]:
    """Return the words to look for in captions; none for an encoder that gives no captions."""
    if "captions" not in encoder.serves:
        return ()
    return style.words or styles.words_of(style.captions, [] if references is None else references.tolist())


def _texts(planned: Plan, encoder: Encoder, template: str | None) -> tuple[dict[str, dict[str, Features]], list[str]]:
    """Return the features of every prompt as ``texts``, and for a judge as ``plain`` and ``styled``; and those cut off.

    Empty for an encoder that does not read. A style whose words the encoder does not see is none.
    """
    if not isinstance(encoder, Reader):
        return {}, []
    every = planned.texts
    vectors, cut = encoder.encode_texts(every)
    read = {"texts": dict(zip(every, vectors, strict=True))}
    if template is not None and "clip" in encoder.serves:
        for kind, write in (("plain", styles.plain), ("styled", styles.styled)):
            versions = [write(text, template) for text in every]
            read[kind] = dict(zip(every, encoder.encode_texts(versions)[0], strict=True))
        if any(np.array_equal(read["plain"][text], read["styled"][text]) for text in every):
            del read["plain"], read["styled"]
    return read, cut


def _open(folder: Path, names: Sequence[str], advance: Advance) -> Iterator[Image]:
    from PIL import Image

    for name in names:
        with Image.open(folder / name) as image:
            yield image.convert("RGB")
        advance()


def _references(store: FeatureStore, config: Config, *, mirrored: bool = False) -> tuple[Any, NDArray[Any]]:
    """Return the features and hashes of the training pictures; None when the data is not where it was.

    None as well for an encoder that looks at no training pictures, such as one whose features are compared in pairs.
    """
    from PIL import ImageOps

    if not store.encoder.references:
        return None, np.array([], dtype="<U64")
    try:
        shown = (image for _, image in contact.pictures(config.data, store.encoder.references))
        features, hashes = store.of(map(ImageOps.mirror, shown) if mirrored else shown)
    except DataError as error:
        note(f"warning: the training pictures are not measured beside the drawn ones: {error}")
        return None, np.array([], dtype="<U64")
    return features, np.array(hashes)
