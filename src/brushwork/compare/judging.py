"""Pictures of all sides to numbers: every metric, each side against the reference side.

    lines, facts = judge(drawn, reference, wanted, folder, ...)
    lines["lora"][0].value, lines["lora"][0].interval, lines["lora"][0].difference

Sides with the same noise are paired by prompt and seed; others by prompt only, and what needs the same noise is left
out for them. Training runs of one method at several seeds are one line: the mean over runs, with an interval from
resampling runs and prompts together (Owen 2007, the pigeonhole bootstrap), rather too wide than too narrow.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork import contact, registry
from brushwork.compare.sides import text_of
from brushwork.devices import resolve_device
from brushwork.encoders import Clip, Colour, Luminance, Pixels, load_clip
from brushwork.errors import ConfigError, DataError, nearest
from brushwork.features import FeatureStore
from brushwork.metrics import OPTIMISED, Drawn
from brushwork.progress import bar, note
from brushwork.statistics import holm, sign_flip_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from PIL.Image import Image

    from brushwork.compare.sides import DrawnSide, Wanted
    from brushwork.config import PluginSettings
    from brushwork.encoders import Encoder, Features
    from brushwork.metrics import Array, Metric, PromptSet, Result
    from brushwork.progress import Advance

DRAWS = 10_000
NEED_SAME_NOISE = ("pairs", "ratio")


@dataclass(frozen=True)
class Number:
    """One metric of one line of the table, with its difference from the reference where there is one."""

    metric: str
    prompt_set: PromptSet
    value: float
    interval: tuple[float, float] | None
    n: int
    direction: str
    encoder: str
    revision: str
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    p: float | None = None
    smallest_p: float | None = None
    p_holm: float | None = None
    """Holm's adjustment over all lines that were compared in this metric."""
    paired: str = "seed"
    """``seed``: the same noise on both sides; ``prompt``: only the same prompts."""
    caveat: str | None = None
    runs: tuple[float, ...] = ()
    """The value of each training run, where there are several."""
    by_prompt: tuple[float, ...] = ()
    """The value of each prompt, where the metric has one."""

    def to_dict(self) -> dict[str, Any]:
        """Return what compare.json holds."""
        return asdict(self)


@dataclass
class Facts:
    """What is said about how it was measured."""

    encoders: list[dict[str, str]] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    data: dict[str, float] = field(default_factory=dict)
    """Numbers of the training pictures themselves, by metric."""
    notes: list[str] = field(default_factory=list)


def chosen_metrics(names: Sequence[str]) -> list[tuple[str, Metric]]:
    """Return the modules of metrics by name, all when none is named.

    Raises:
        ConfigError: There is no such metric.
    """
    known = registry.names("metrics")
    wrong = [name for name in names if name not in known]
    if wrong:
        message = f"--metrics: there is no {wrong[0]!r}.{nearest(wrong[0], known)}"
        raise ConfigError(message)
    every = dict.fromkeys(names or known)
    return [(name, registry.load("metrics", name)) for name in every]


class Judging:
    """Everything that is needed to turn drawn sides into numbers; features stay in ``folder``."""

    def __init__(
        self,
        wanted: Wanted,
        folder: Path,
        *,
        judge: str | None,
        metrics: Sequence[str] = (),
        references: PluginSettings | None = None,
    ) -> None:
        self.wanted, self.folder, self.references = wanted, folder, references
        self.metrics = chosen_metrics(metrics)
        self.judge = judge
        self.named = bool(metrics)
        self.facts = Facts()

    def lines(self, drawn: Sequence[DrawnSide], reference: DrawnSide) -> dict[str, list[Number]]:
        """Measure every side against the reference; return the numbers of each line, Holm's p filled in."""
        results: dict[str, list[list[Result]]] = defaultdict(list)
        pairing: dict[str, str] = {}
        for encoder in self._encoders():
            features = self._features(encoder, drawn)
            for side in drawn:
                alike = side.noise is not None and side.noise == reference.noise
                pairing[side.side.line] = "seed" if alike else "prompt"
                if not alike and isinstance(encoder, Luminance):
                    continue
                found = self._measured(encoder, features, side, reference, alike=alike)
                results[side.side.line].append(found)
        alone = reference.side.line
        told = {
            line: _numbers(_by_run(found, drawn, line), pairing[line], is_reference=line == alone)
            for line, found in results.items()
        }
        return _with_holm(told)

    def _encoders(self) -> Iterator[Encoder]:
        made: dict[str, Callable[[], Encoder]] = {
            "clip": self._clip, "colour": Colour, "luminance": Luminance, "pixels": Pixels
        }  # fmt: skip
        needs = dict.fromkeys(metric.NEEDS for _, metric in self.metrics)
        for need in needs:
            if need in made and (need != "clip" or self.judge):
                yield made[need]()
            elif self.named:
                names = [name for name, metric in self.metrics if need == metric.NEEDS]
                message = f"--metrics: {', '.join(names)} needs {need}, which `compare` cannot give it."
                raise ConfigError(message)

    def _clip(self) -> Clip:
        assert self.judge is not None
        return load_clip(self.judge, device=resolve_device("auto"))

    def _features(self, encoder: Encoder, drawn: Sequence[DrawnSide]) -> dict[str, Any]:
        """Return features by side, (P, N, ...), those of the training pictures, and texts by side (P, D)."""
        store = FeatureStore(self.folder, encoder)
        by_side: dict[str, Any] = {}
        shape = (len(self.wanted.prompts), self.wanted.seeds)
        with bar(f"measuring by {encoder.name}", sum(len(side.names) for side in drawn)) as advance:
            for side in drawn:
                if isinstance(encoder, Luminance) and side.noise is None:
                    continue
                flat, _ = store.of(_open(side, advance))
                by_side[side.side.key] = flat.reshape(*shape, *flat.shape[1:])
        references = self._references(store)
        texts = {side.side.key: self._texts(encoder, side) for side in drawn}
        store.save()
        about = {"name": encoder.name, "revision": encoder.revision, "preprocessing": encoder.preprocessing}
        self.facts.encoders.append(about)
        return {"sides": by_side, "references": references, "texts": texts}

    def _texts(self, encoder: Encoder, side: DrawnSide) -> Features | None:
        if not isinstance(encoder, Clip):
            return None
        vectors, cut = encoder.encode_texts([text_of(side.side, text, self.wanted) for text in self.wanted.prompts])
        self.facts.cut += [text for text in cut if text not in self.facts.cut]
        return vectors

    def _references(self, store: FeatureStore) -> Features | None:
        if self.references is None or isinstance(store.encoder, Luminance):
            return None
        try:
            return store.of(image for _, image in contact.pictures(self.references, contact.REFERENCES))[0]
        except DataError as error:
            said = f"The training pictures are not measured beside the drawn ones: {error}"
            if said not in self.facts.notes:
                note(f"warning: {said}")
                self.facts.notes.append(said)
            return None

    def _measured(
        self, encoder: Encoder, features: dict[str, Any], side: DrawnSide, reference: DrawnSide, *, alike: bool
    ) -> list[Result]:
        """Return the results of one side against the reference."""
        base, tuned = (features["sides"][each.side.key] for each in (reference, side))
        texts = features["texts"][side.side.key]
        caveat = OPTIMISED if side.side.optimised == encoder.revision else None
        results: list[Result] = []
        for prompt_set, places in self.wanted.prompt_sets:
            at = list(places)
            drawn = Drawn(
                prompts=tuple(self.wanted.prompts[place] for place in at),
                prompt_set=prompt_set,
                base=base[at],
                tuned=tuned[at],
                texts=None if texts is None else texts[at],
                references=features["references"],
                encoder=encoder.name,
                revision=encoder.revision,
                seed=self.wanted.validation.seed,
                caveat=caveat,
            )
            for _, metric in self.metrics:
                if _need(encoder) == metric.NEEDS:
                    results += metric.measure(drawn)
        for each in results:
            if each.of == "data":
                self.facts.data[each.name] = each.value
        return [each for each in results if each.of != "data" and (alike or each.of not in NEED_SAME_NOISE)]


def _need(encoder: Encoder) -> str:
    return "clip" if isinstance(encoder, Clip) else encoder.name


def _open(side: DrawnSide, advance: Advance) -> Iterator[Image]:
    from PIL import Image

    for name in side.names:
        with Image.open(side.folder / name) as image:
            yield image.convert("RGB")
        advance()


def _by_run(found: Sequence[list[Result]], drawn: Sequence[DrawnSide], line: str) -> list[list[Result]]:
    """Sort the results of a line, which come by encoder and then by side, by training run."""
    count = sum(side.side.line == line for side in drawn)
    return [[result for part in found[run::count] for result in part] for run in range(count)]


def _numbers(runs: Sequence[Sequence[Result]], paired: str, *, is_reference: bool) -> list[Number]:
    """Return the numbers of one line from the results of its training runs."""
    values = [each for each in runs[0] if each.of in ("tuned", *NEED_SAME_NOISE)]
    made = []
    for value in values:
        same = [_find(run, value, value.of) for run in runs]
        changes = [_find(run, value, "difference") for run in runs]
        if any(each is None for each in same):
            continue
        every = [each for each in same if each is not None]
        differences = [each for each in changes if each is not None]
        numbers = _one(every, differences) if len(runs) > 1 else _plain(value, differences)
        if is_reference:
            numbers = replace(numbers, difference=None, difference_interval=None, p=None, smallest_p=None)
            if value.of in NEED_SAME_NOISE:
                continue
        made.append(replace(numbers, paired=paired))
    return made


def _find(run: Sequence[Result], like: Result, of: str) -> Result | None:
    wanted = (like.name, like.prompt_set, of, like.revision)
    return next((each for each in run if (each.name, each.prompt_set, each.of, each.revision) == wanted), None)


def _plain(value: Result, differences: Sequence[Result]) -> Number:
    number = Number(
        metric=value.name,
        prompt_set=value.prompt_set,
        value=value.value,
        interval=value.interval,
        n=value.n,
        direction=value.direction,
        encoder=value.encoder,
        revision=value.revision,
        caveat=value.caveat,
    )
    if not differences:
        return number
    change = differences[0]
    return replace(
        number,
        difference=change.value,
        difference_interval=change.interval,
        p=change.p,
        smallest_p=change.smallest_p,
        by_prompt=tuple(row["tuned"] for row in change.details.get("prompts", [])),
    )


def _one(values: Sequence[Result], differences: Sequence[Result]) -> Number:
    """Combine training runs: means over runs, intervals over runs and prompts, p over prompts of the runs' mean."""
    first = values[0]
    number = replace(
        _plain(first, []),
        value=float(np.mean([each.value for each in values])),
        interval=None,
        n=sum(each.n for each in values),
        runs=tuple(each.value for each in values),
    )
    rows = [change.details.get("prompts", []) for change in differences]
    if len(differences) == len(values) and all(rows):
        tuned, change = (np.array([[row[key] for row in run] for run in rows]) for key in ("tuned", "difference"))
        test = sign_flip_test(change.mean(axis=0))
        return replace(
            number,
            interval=over_runs(tuned),
            difference=float(change.mean()),
            difference_interval=over_runs(change),
            p=test.p,
            smallest_p=test.smallest_p,
            by_prompt=tuple(tuned.mean(axis=0).tolist()),
        )
    of_prompts = [[row.get(first.name) for row in each.details.get("prompts", [])] for each in values]
    if all(row and None not in row for row in of_prompts):
        return replace(number, interval=over_runs(np.array(of_prompts, np.float64)))
    return number


def over_runs(values: Array, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean of values (runs, prompts), resampling runs and prompts independently."""
    runs, prompts = values.shape
    rng = np.random.default_rng(seed)
    of_runs, of_prompts = (rng.multinomial(count, np.full(count, 1 / count), DRAWS) for count in (runs, prompts))
    means = ((of_runs @ values) * of_prompts).sum(axis=1) / (runs * prompts)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _with_holm(lines: dict[str, list[Number]]) -> dict[str, list[Number]]:
    """Fill in Holm's p over the lines, for each metric and prompt set."""
    tested: dict[tuple[str, str, str], list[tuple[str, int, float]]] = defaultdict(list)
    for line, numbers in lines.items():
        for place, each in enumerate(numbers):
            if each.p is not None:
                tested[each.metric, each.prompt_set, each.revision].append((line, place, each.p))
    for places in tested.values():
        adjusted = holm([p for _, _, p in places])
        for (line, place, _), p in zip(places, adjusted, strict=True):
            lines[line][place] = replace(lines[line][place], p_holm=float(p))
    return lines
