"""Everything that `brushwork explain` finds out about a model and a prompt, as values.

found = explain(open_model("mini"), Request("a red cat", seed=1), pictures=from_files(...))
found.drawn.frames, found.words, found.trips, found.similarity
found.to_dict()
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from brushwork.anatomy import attention, emergence, gallery, round_trip, tokens
from brushwork.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from brushwork.anatomy.emergence import Drawn
    from brushwork.anatomy.gallery import Captioned
    from brushwork.anatomy.round_trip import Trip
    from brushwork.anatomy.tokens import Read
    from brushwork.generate import Request
    from brushwork.models import LoadedModel

DRAWN = "the drawn picture"


@dataclass(frozen=True)
class Word:
    """A word of the prompt and where it acts; ``share`` is its part of all attention, ``map`` (height, width)."""

    text: str
    share: float
    map: Tensor

    @property
    def peak(self) -> tuple[float, float]:
        """Where it acts most: from the left and from the top, both from 0 to 1."""
        height, width = self.map.shape
        row, column = divmod(int(self.map.argmax()), width)
        return (column + 0.5) / width, (row + 0.5) / height


@dataclass(frozen=True)
class Similarity:
    """Cosines of pictures (rows) and captions (columns), by a CLIP model."""

    judge: str
    pictures: tuple[Captioned, ...]
    matrix: NDArray[Any]
    summary: dict[str, float]


@dataclass(frozen=True)
class Explained:
    """What was found; what a family cannot show is None, with the reason in ``missing``."""

    model: str
    family: str
    request: Request
    reads: tuple[Read, ...]
    states: dict[str, tuple[int, ...]]
    drawn: Drawn
    words: tuple[Word, ...] | None
    rest: float
    trips: tuple[Trip, ...]
    similarity: Similarity | None
    missing: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return it without its pictures."""
        drawn, asked = self.drawn, self.request
        kept = ("prompt", "negative_prompt", "seed", "steps", "guidance_scale", "width", "height", "sampler")
        return {
            "model": self.model,
            "family": self.family,
            "request": {name: getattr(asked, name) for name in kept},
            "tokens": [{**asdict(each), "read": len(each.pieces)} for each in self.reads],
            "conditioning": {name: list(shape) for name, shape in self.states.items()},
            "shapes": [asdict(row) for row in drawn.shapes] + [asdict(row) for row in self.trips[0].shapes],
            "calls": drawn.calls,
            "frames": [
                {"number": each.number, "timestep": each.timestep, "noise": each.noise} for each in drawn.frames
            ],
            "attention": None
            if self.words is None
            else {
                "words": [{"word": each.text, "share": each.share, "peak": each.peak} for each in self.words],
                "start_end_and_padding": self.rest,
                "layers": list(drawn.attention_layers),
            },
            "round_trips": [
                {"name": e.name, "psnr": e.psnr, "ssim": e.ssim, "pixels": e.pixels, "latents": e.latents}
                for e in self.trips
            ],
            "similarity": None
            if self.similarity is None
            else {
                "judge": self.similarity.judge,
                "captions": [each.caption for each in self.similarity.pictures],
                "names": [each.name for each in self.similarity.pictures],
                "matrix": self.similarity.matrix.tolist(),
                **self.similarity.summary,
            },
            "missing": self.missing,
        }


def explain(
    model: LoadedModel, request: Request, *, pictures: Sequence[Captioned] = (), judge: str = "auto"
) -> Explained:
    """Draw one picture and look at everything on the way.

    Args:
        model: What draws.
        request: What it draws.
        pictures: For the VAE's round trip and the similarity matrix.
        judge: The CLIP model of the matrix: ``mini-clip``, a folder, a hub id, or ``auto``.

    Raises:
        UserError: As ``generate.draw``; or a judge that was asked for by name cannot be used.
    """
    import torch

    family = model.family
    reads = tuple(tokens.tokenize(family, request.prompt))
    with torch.no_grad():
        conditioning = family.encode_text([request.prompt])
    states = {name: tuple(value.shape[1:]) for name, value in conditioning.tensors.items()}
    drawn = emergence.draw(family, request)
    missing: dict[str, str] = {}
    words = _words(drawn, reads)
    if words is None:
        missing["attention"] = _no_attention(model, drawn)
    trips = [round_trip.go(family, drawn.image, DRAWN)]
    trips += [round_trip.go(family, round_trip.fitted(family, each.image), each.name) for each in pictures]
    similarity = _similarity(model, pictures, judge, missing) if len(pictures) > 1 else None
    return Explained(
        model.spec.text,
        family.name,
        drawn.request,
        reads,
        states,
        drawn,
        words,
        1 - sum(each.share for each in words or ()),
        tuple(trips),
        similarity,
        missing,
    )


def _words(drawn: Drawn, reads: Sequence[Read]) -> tuple[Word, ...] | None:
    """Add up the maps of each word's tokens; None where there are none, or not one for each token."""
    read = next((each for each in reads if drawn.attention is not None and len(drawn.attention) == each.length), None)
    if drawn.attention is None or read is None:
        return None
    found = []
    for place, word in enumerate(read.words):
        own = drawn.attention[read.places(place)].sum(dim=0)
        found.append(Word(word, float(own.mean()), own))
    return tuple(found)


def _no_attention(model: LoadedModel, drawn: Drawn) -> str:
    denoiser = type(model.family.denoiser).__name__
    if drawn.attention is not None:
        return (
            f"The cross-attention of {denoiser} reads {len(drawn.attention)} states, which are not one for each token "
            f"of one text encoder, so its maps cannot be given to words."
        )
    if attention.layers(model.family.denoiser):
        return f"The cross-attention of {denoiser} was not used for this picture."
    return (
        f"{denoiser} has no cross-attention from picture to text: both attend jointly in one sequence, so there are no "
        f"maps of single words to show."
    )


def _similarity(
    model: LoadedModel, pictures: Sequence[Captioned], judge: str, missing: dict[str, str]
) -> Similarity | None:
    from brushwork.encoders import load_clip, resolve_judge
    from brushwork.formulas.similarity import summarise_similarity

    name = resolve_judge(judge, model.name)
    try:
        clip = load_clip(name, key="--judge")
    except ModelError as error:
        if judge != "auto":
            raise
        missing["similarity"] = str(error).splitlines()[0]
        return None
    matrix = gallery.similarity(clip, pictures)
    return Similarity(name, tuple(pictures), matrix, summarise_similarity(matrix)._asdict())
