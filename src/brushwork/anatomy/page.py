"""The page of `brushwork explain`: one file with everything in it, light or dark, on a desk or a phone.

write(found, Path("explained.html"))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork import __version__, wording
from brushwork.runs import replacing
from brushwork.thumbnails import data_uri

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

    from brushwork.anatomy.overview import Explained
    from brushwork.anatomy.shapes import Row, Shape

ASSETS = Path(__file__).parent.parent / "assets"
SIDE = 384
"""Pixels of a picture on the page, at most."""
SMALL = 256
PIXELATED = 128
"""Pictures up to this side are shown pixel by pixel."""

HEAT = (
    (0.0, (18, 16, 40)),
    (0.35, (110, 34, 106)),
    (0.65, (214, 76, 66)),
    (0.85, (249, 157, 60)),
    (1.0, (252, 246, 186)),
)
"""Colours of a map, from nowhere to most."""


def write(found: Explained, path: Path) -> Path:
    """Write the page and return its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(ASSETS / "explain"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    names = ("number", "counted", "curly", "grouped")
    environment.filters |= {name: getattr(wording, name) for name in names} | {"shape": shape_text}
    text = environment.get_template("explain.html.jinja").render(**_context(found))
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")
    return path


def shape_text(shape: Shape | None) -> str:
    """Write a shape: 4 x 64 x 64."""
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape)) if shape else "\N{EN DASH}"


def _context(found: Explained) -> dict[str, Any]:
    drawn, trip = found.drawn, found.trips[0]
    every = (*drawn.shapes, *trip.shapes)
    pixels, latents = int(np.prod(trip.pixels)), int(np.prod(trip.latents))
    return {
        "style": (ASSETS / "report" / "report.css").read_text("utf-8")
        + (ASSETS / "explain" / "explain.css").read_text("utf-8"),
        "version": __version__,
        "found": found,
        "picture": data_uri(drawn.image, SIDE),
        "pixelated": max(drawn.image.size) <= PIXELATED,
        "frames": [
            {"frame": each, "xt": data_uri(each.xt, SMALL), "x0": data_uri(each.x0, SMALL)} for each in drawn.frames
        ],
        "words": [
            {"word": each.text, "share": each.share, "uri": data_uri(overlay(drawn.image, each.map), SMALL)}
            for each in found.words or ()
        ],
        "parts": _parts(every),
        "saving": pixels / latents,
        "trips": [
            {
                "trip": each,
                "uris": [data_uri(picture, SMALL) for picture in (each.original, each.back, each.difference)],
            }
            for each in found.trips
        ],
        "matrix": _matrix(found),
    }


def _parts(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Put the rows of each part together, in the order in which a picture passes through them."""
    names = list(dict.fromkeys(row.part for row in rows))
    text = [name for name in names if name.startswith("text")]
    order = [*text, *(name for name in names if name not in (*text, "decoder", "encoder")), "decoder", "encoder"]
    found = []
    for name in order:
        own = [row for row in rows if row.part == name]
        whole = next((row for row in own if row.depth == 0), None)
        if whole is not None:
            found.append({"name": name, "whole": whole, "blocks": _folded([row for row in own if row.depth])})
    return found


def _folded(rows: list[Row]) -> list[dict[str, Any]]:
    """Fold blocks that follow one another and are alike into one line, with how many they are."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        last = lines[-1] if lines else None
        if last and (last["kind"], last["inside"], last["outside"]) == (row.kind, row.inside, row.outside):
            last.update(until=row.name, count=last["count"] + 1, parameters=last["parameters"] + row.parameters)
        else:
            lines.append(
                {
                    "name": row.name,
                    "until": row.name,
                    "count": 1,
                    "kind": row.kind,
                    "inside": row.inside,
                    "outside": row.outside,
                    "parameters": row.parameters,
                }
            )
    return lines


def overlay(picture: Image, weights: Tensor) -> Image:
    """Return a picture with a map (height, width) laid over it, from its least to its most."""
    from PIL import Image as Images

    values: NDArray[np.float64] = weights.double().numpy()
    span = values.max() - values.min()
    levels = (values - values.min()) / span if span else np.zeros_like(values)
    width, height = picture.size
    scale = max(1, SMALL // max(width, height)) if max(width, height) <= PIXELATED else 1
    size = (scale * width, scale * height)
    grown = Images.fromarray((levels * 255).astype(np.uint8)).resize(size, Images.Resampling.BICUBIC)
    heat = _heat(np.asarray(grown, np.float64) / 255)
    grey = np.asarray(picture.convert("L").resize(size, Images.Resampling.NEAREST), np.float64)[..., None]
    return Images.fromarray((0.45 * grey + 0.55 * heat).clip(0, 255).astype(np.uint8))


def _heat(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    stops = [stop for stop, _ in HEAT]
    channels = [np.interp(levels, stops, [colour[channel] for _, colour in HEAT]) for channel in range(3)]
    return np.stack(channels, axis=-1)


def _matrix(found: Explained) -> dict[str, Any] | None:
    if found.similarity is None:
        return None
    values, pictures = found.similarity.matrix, found.similarity.pictures
    low, high = float(values.min()), float(values.max())
    # A column for each picture and a row for each caption, as it is usually shown.
    rows = [
        {
            "caption": each.caption,
            "cells": [
                {
                    "value": value,
                    "tint": round(100 * (value - low) / (high - low)) if high > low else 0,
                    "own": own == place,
                }
                for own, value in enumerate(values[:, place].tolist())
            ],
        }
        for place, each in enumerate(pictures)
    ]
    uris = [data_uri(each.image, 128) for each in pictures]
    return {"rows": rows, "uris": uris, "names": [each.name for each in pictures], **found.similarity.summary}
