"""Preference pairs from a metric: draw several pictures of each prompt, rank them, write who was preferred to whom.

    ranking = Ranking("saturation", prefer="lower")
    make(models.open_model("mini"), [[Request("a cat", seed=0), Request("a cat", seed=1)]], ranking, Path("pairs"))

The folder is what the source ``pairs`` reads: pictures, ``metadata.jsonl`` with a line for each pair, and
``pairs.json``, which says how they came about. It appears whole or not at all.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from brushwork import generate, infotext, registry
from brushwork.encoders import Clip, Colour, load_clip, resolve_judge
from brushwork.errors import ConfigError, RunFailed
from brushwork.progress import bar
from brushwork.runs import check_free, replacing, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from brushwork.encoders import Encoder
    from brushwork.generate import Picture, Request
    from brushwork.models import LoadedModel

Wish = Literal["higher", "lower"]
WISHES: dict[str, Wish] = {"higher": "higher", "lower": "lower"}


@dataclass(frozen=True)
class Ranking:
    """What is preferred.

    Args:
        metric: The name of a metric that says something about single pictures.
        prefer: Its higher or its lower values; default: the metric's own direction.
        margin: Two pictures whose values differ by no more are a tie.
        judge: The CLIP model of metrics that need one: as ``validation.judge``.
    """

    metric: str
    prefer: Wish | None = None
    margin: float = 0.0
    judge: str = "auto"


def make(model: LoadedModel, requests: Sequence[Sequence[Request]], ranking: Ranking, out: Path) -> dict[str, Any]:
    """Draw, rank and write.

    Args:
        model: What draws.
        requests: The candidates, two or more of one prompt in each sequence.
        ranking: What is preferred.
        out: The folder; must be free.

    Returns:
        What ``pairs.json`` holds.

    Raises:
        ConfigError: The metric cannot rank pictures, or has no direction and none was given.
        RunFailed: All candidates of all prompts are ties.
    """
    check_free(out)
    metric = registry.load("metrics", ranking.metric)
    wish = _wish(ranking, metric)
    encoder = _encoder(metric.NEEDS, ranking.judge, model)
    prompts = [candidates[0].prompt for candidates in requests]
    texts = encoder.encode_texts(prompts)[0] if isinstance(encoder, Clip) else None
    lines: list[dict[str, Any]] = []
    with replacing(out) as temporary:
        temporary.mkdir()
        for place, pictures in enumerate(_drawn(model, requests)):
            features = encoder.encode_images([each.image for each in pictures])[None]
            text = None if texts is None else texts[place : place + 1]
            values = np.asarray(metric.scores(features, text), np.float64)[0]
            for chosen, rejected in split(values, wish, ranking.margin):
                names = [_save(pictures[each], temporary, place) for each in (chosen, rejected)]
                scores = {"chosen_score": float(values[chosen]), "rejected_score": float(values[rejected])}
                lines.append({"chosen": names[0], "rejected": names[1], "text": prompts[place], **scores})
        if not lines:
            message = (
                f"{len(requests)} prompts gave no pair: no two pictures of one differ by more than {ranking.margin:g} "
                f"in {ranking.metric}. Lower the margin, or draw more candidates."
            )
            raise RunFailed(message)
        written = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
        (temporary / "metadata.jsonl").write_text(written, "utf-8")
        told = _describe(model, requests, ranking, wish, encoder, lines)
        write_json(temporary / "pairs.json", told)
    return told


def split(values: NDArray[np.float64], wish: Wish, margin: float) -> list[tuple[int, int]]:
    """Return (chosen, rejected) places: the better half against the other half in order, without ties.

    Each picture is in one pair at most, so none counts twice; of an odd number the middle one is left out.

    >>> split(np.array([0.1, 0.9, 0.5, 0.4]), "higher", 0.0)
    [(1, 3), (2, 0)]
    """
    order = np.argsort(-values if wish == "higher" else values, kind="stable").tolist()
    half = len(order) // 2
    return [
        (better, worse)
        for better, worse in zip(order[:half], order[len(order) - half :], strict=True)
        if abs(values[better] - values[worse]) > margin
    ]


def _wish(ranking: Ranking, metric: Any) -> Wish:
    if not hasattr(metric, "scores"):
        every = [name for name in registry.names("metrics") if hasattr(registry.load("metrics", name), "scores")]
        message = f"metric: {ranking.metric} says nothing about a single picture. These do: {', '.join(every)}."
        raise ConfigError(message)
    wish = WISHES.get(ranking.prefer or metric.KIND.direction)
    if wish is not None:
        return wish
    message = (
        f"metric: neither high nor low {ranking.metric} is better as such. "
        f"Say which is meant: --prefer higher, or --prefer lower."
    )
    raise ConfigError(message)


def _encoder(needed: str, judge: str, model: LoadedModel) -> Encoder:
    device = str(next(model.family.denoiser.parameters()).device)
    return load_clip(resolve_judge(judge, model.name), device=device) if needed == "clip" else Colour()


def _drawn(model: LoadedModel, requests: Sequence[Sequence[Request]]) -> Iterator[list[Picture]]:
    """Yield the candidates of one prompt after the other."""
    flat = list(itertools.chain.from_iterable(requests))
    every = generate.draw(model.family, flat, label=model.name, model_hash=model.hash, adapters=model.adapters)
    with bar("drawing candidates", len(flat)) as advance:
        for candidates in requests:
            yield list(itertools.islice(every, len(candidates)))
            advance(len(candidates))


def _save(picture: Picture, folder: Path, place: int) -> str:
    return infotext.save_png(picture, folder / f"{place:05}-{picture.request.seed}.png").name


def _describe(
    model: LoadedModel, requests: Sequence[Sequence[Request]], ranking: Ranking, wish: Wish, encoder: Encoder,
    lines: Sequence[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Return what the pairs came from."""
    possible = sum(len(candidates) // 2 for candidates in requests)
    means = {key: float(np.mean([line[key] for line in lines])) for key in ("chosen_score", "rejected_score")}
    kept, side = ("negative_prompt", "steps", "guidance_scale", "width", "height", "sampler"), model.family.resolution
    return {
        "model": model.spec.text,
        "model_hash": model.hash,
        "settings": {key: side if (value := getattr(requests[0][0], key)) is None else value for key in kept},
        "ranking": {
            **asdict(ranking),
            "prefer": wish,
            "version": registry.load("metrics", ranking.metric).KIND.version,
        },
        "encoder": {"name": encoder.name, "revision": encoder.revision, "preprocessing": encoder.preprocessing},
        "prompts": len(requests),
        "candidates": sum(map(len, requests)),
        "pairs": len(lines),
        "ties": possible - len(lines),
        **means,
    }
