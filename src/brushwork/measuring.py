"""The measuring half of `evaluate`: which judges there are, and pictures on disk to numbers.

A CLIP model that the training loss optimised measures too, and whatever it says is marked with ``metrics.OPTIMISED``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork import contact
from brushwork.devices import resolve_device
from brushwork.encoders import (
    Clip,
    Colour,
    Luminance,
    Pixels,
    judge_of,
    load_clip,
    not_independent,
    own_judge_of,
    without_judge,
)
from brushwork.errors import DataError, ModelError
from brushwork.features import FeatureStore
from brushwork.metrics import OPTIMISED, Drawn
from brushwork.pairs import USUAL, check_pairs
from brushwork.progress import bar, note

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


@dataclass(frozen=True)
class Judges:
    """The CLIP models that measure a run: the one of ``validation.judge``, and the one that the loss optimised.

    Both may be one and the same; then there is no ``independent`` one.
    """

    independent: Clip | None = None
    optimised: Clip | None = None

    @property
    def every(self) -> list[Clip]:
        """Those that there are, the independent one first."""
        return [each for each in (self.independent, self.optimised) if each is not None]

    def caveat(self, encoder: Encoder) -> str | None:
        """Return what must be said of an encoder's numbers."""
        return OPTIMISED if encoder is self.optimised else None


def load_judges(run: RunFolder, metrics: Sequence[Metric]) -> tuple[Judges, list[str]]:
    """Load the judges if a metric needs one, and say what is amiss; the automatic one may be missing."""
    if not any(metric.NEEDS == "clip" for metric in metrics):
        return Judges(), []
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


def measure(
    run: RunFolder, planned: Plan, folder: Path, chosen: Sequence[tuple[str, Metric]], judges: Judges
) -> tuple[list[Result], dict[str, Any]]:
    """Encode with each encoder that is needed, then compute; the features stay in ``folder/features``."""
    check_pairs(folder)
    results: list[Result] = []
    facts: dict[str, Any] = {"features": [], "texts_cut": []}
    encoders: dict[str, Sequence[Encoder]] = {
        "clip": judges.every,
        "colour": [Colour()],
        "luminance": [Luminance()],
        "pixels": [Pixels()],
    }
    needs = dict.fromkeys(metric.NEEDS for _, metric in chosen)
    for needed, encoder in [(each, encoder) for each in needs for encoder in encoders[each]]:
        sets, cut = encode(folder, planned, encoder, run.config, judges.caveat(encoder))
        facts["texts_cut"] += [text for text in cut if text not in facts["texts_cut"]]
        facts["features"].append(encoder.name)
        results += [
            result
            for _, metric in chosen
            if needed == metric.NEEDS
            for drawn in sets
            for result in metric.measure(drawn)
        ]
    return results, facts


def encode(
    folder: Path, planned: Plan, encoder: Encoder, config: Config, caveat: str | None = None
) -> tuple[list[Drawn], list[str]]:
    """Return the features of each prompt set, and the prompts that are longer than the encoder reads.

    What the numbers are computed from is saved: for each set the hashes of its pictures, (prompts, seeds), and its
    texts' features, beside the features by hash.
    """
    store = FeatureStore(folder / "features", encoder)
    texts, cut = _texts(planned, encoder)
    saved: dict[str, NDArray[Any]] = {}
    references, saved["references"] = _references(store, config)
    flipped = isinstance(encoder, Clip) and references is not None and getattr(config.data, "random_flip", False)
    mirrored = _references(store, config, mirrored=True)[0] if flipped else None
    sets = []
    with bar(f"measuring by {encoder.name}", len(planned.sides) * len(planned.requests)) as advance:
        for prompt_set, shown, names in planned.prompt_sets:
            shape = len(shown), planned.seeds
            sides = {}
            for side in planned.sides:
                flat, hashes = store.of(_open(folder / side, names, advance))
                sides[side] = flat.reshape(*shape, *flat.shape[1:])
                saved[f"{prompt_set}_{side}"] = np.array(hashes).reshape(shape)
            reads = np.stack([texts[planned.scored_by(text)] for text in shown]) if texts else None
            with_style = planned.content and prompt_set != "control" and texts
            whole = np.stack([texts[planned.styled_by(text)] for text in shown]) if with_style else None
            if reads is not None:
                saved[f"{prompt_set}_texts"] = reads
            about = (encoder.name, encoder.revision, config.validation.seed)
            pictures = (shown, prompt_set, sides["base"], sides["tuned"], reads, references)
            drawn = Drawn(*pictures, *about, mirrored=mirrored, caveat=caveat, whole_texts=whole)
            sets.append(drawn)
            if planned.usual:
                sets.append(replace(drawn, base=sides[USUAL], against="usual"))
    store.save(**saved)
    return sets, cut


def _texts(planned: Plan, encoder: Encoder) -> tuple[dict[str, Features], list[str]]:
    """Return the features of every prompt, empty for an encoder that does not read, and the prompts cut off."""
    if not isinstance(encoder, Clip):
        return {}, []
    every = planned.texts
    vectors, cut = encoder.encode_texts(every)
    return dict(zip(every, vectors, strict=True)), cut


def _open(folder: Path, names: Sequence[str], advance: Advance) -> Iterator[Image]:
    from PIL import Image

    for name in names:
        with Image.open(folder / name) as image:
            yield image.convert("RGB")
        advance()


def _references(store: FeatureStore, config: Config, *, mirrored: bool = False) -> tuple[Features | None, NDArray[Any]]:
    """Return the features and hashes of the training pictures; None when the data is not where it was.

    None as well for an encoder whose features are pictures: those are compared in pairs only.
    """
    from PIL import ImageOps

    if isinstance(store.encoder, Luminance):
        return None, np.array([], dtype="<U64")
    try:
        shown = (image for _, image in contact.pictures(config.data, contact.REFERENCES))
        features, hashes = store.of(map(ImageOps.mirror, shown) if mirrored else shown)
    except DataError as error:
        note(f"warning: the training pictures are not measured beside the drawn ones: {error}")
        return None, np.array([], dtype="<U64")
    return features, np.array(hashes)
