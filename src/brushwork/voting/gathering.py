"""The pictures that are to be compared: drawn by models, those of a run, or lying in folders already.

    items, cells = of_run(RunFolder("runs/first"))                   # base and tuned, as `brushwork evaluate` has them
    items, cells = of_models(("mini", "runs/first"), drawing, out)    # the same prompts and seeds for each
    items, cells = of_folders((Path("one"), Path("other")))           # the same file names

Cells come seed by seed with the prompts inside, so that a ballot cut short keeps all prompts as long as it can.
"""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork import infotext
from brushwork.errors import UserError, listing
from brushwork.voting.ballot import Cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from PIL.Image import Image

    from brushwork.pairs import Plan
    from brushwork.runs import RunFolder

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
EXAMPLES = 6
"""So many pictures of the training data stand beside the question about style or subject."""


@dataclass(frozen=True)
class Drawing:
    """What each model draws; what ``settings`` leaves open is as the model was made for, or the usual.

    Args:
        prompts: What to draw.
        number: Pictures a prompt.
        seed: Of the first picture; each has a seed of its own, the same for every model.
        settings: Further fields of a ``generate.Request``.
        device: ``auto``, ``cpu``, ``cuda`` ...
    """

    prompts: tuple[str, ...]
    number: int
    seed: int
    settings: Mapping[str, Any]
    device: str = "auto"


def of_run(run: RunFolder) -> tuple[tuple[str, ...], list[Cell]]:
    """Return base and tuned with the target prompts of a run, drawn where they are not there already.

    Raises:
        UserError: The run is not finished.
    """
    from brushwork import evaluate
    from brushwork.errors import ModelError
    from brushwork.evaluate import subjects
    from brushwork.pairs import SIDES, plan

    if not run.weights.is_dir():
        message = f"{run.path}: there are no weights yet. Finish it first: brushwork train --resume --out {run.path}"
        raise ModelError(message)
    subject, folder = subjects.find(str(run.path)), run.path / "evaluation"
    planned = plan(subject.config, subject.drawn_with)
    evaluate.draw(subject, planned, folder)
    return SIDES, _cells([folder / side for side in SIDES], planned, len(planned.target))


def of_models(names: Sequence[str], drawing: Drawing, out: Path) -> tuple[tuple[str, ...], list[Cell]]:
    """Let every model draw the same prompts and seeds into ``out``; what is there from the same weights stays.

    Raises:
        UserError: A model cannot be opened, two are one, or the models draw in different sizes.
    """
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        message = f"{twice[0]!r} is named twice; a model cannot be compared with itself."
        raise UserError(message)
    folders, planned = [out / str(place) for place in range(len(names))], None
    for name, folder in zip(names, folders, strict=True):
        planned = _draw(name, drawing, folder)
        gc.collect()  # the next one may need the room
    assert planned is not None, "there are two models at least"
    cells = _cells(folders, planned, len(drawing.prompts))
    _check_sizes(names, cells[0])
    return tuple(names), cells


def _check_sizes(names: Sequence[str], cell: Cell) -> None:
    from PIL import Image

    sizes = []
    for path in cell.paths:
        with Image.open(path) as picture:
            sizes.append("x".join(map(str, picture.size)))
    if len(set(sizes)) > 1:
        drawn = ", ".join(f"{name} {size}" for name, size in zip(names, sizes, strict=True))
        message = f"The models draw in different sizes, which tells them apart: {drawn}. Give one for all: --size WxH"
        raise UserError(message)


def _draw(name: str, drawing: Drawing, folder: Path) -> Plan:
    from brushwork import models, sampling
    from brushwork.devices import resolve_device
    from brushwork.generate import Request
    from brushwork.pairs import Plan, draw_side

    model = models.open_model(name, device=resolve_device(drawing.device))
    settings = {**drawing.settings, **sampling.unsaid(model.sampling, drawing.settings)}
    requests = tuple(
        Request(prompt=text, seed=drawing.seed + place * drawing.number + turn, **settings)
        for place, text in enumerate(drawing.prompts)
        for turn in range(drawing.number)
    )
    planned = Plan(drawing.prompts, (), drawing.number, requests)
    key = "+".join([model.hash, *(f"{each.hash}@{each.weight}" for each in model.adapters)])
    draw_side(folder, planned, lambda: model, key=key)
    return planned


def _cells(folders: Sequence[Path], planned: Plan, prompts: int) -> list[Cell]:
    names = planned.names
    places = [prompt * planned.seeds + turn for turn in range(planned.seeds) for prompt in range(prompts)]
    return [
        Cell(planned.requests[place].prompt, names[place], tuple(folder / names[place] for folder in folders))
        for place in places
    ]


def is_pictures(folder: Path) -> bool:
    """Return whether a folder holds pictures, and no model or run."""
    model = any((folder / name).is_file() for name in ("model_index.json", "config.yaml"))
    return folder.is_dir() and not model and any(_pictures(folder))


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES)


def of_folders(folders: Sequence[Path], *, need_prompts: bool = True) -> tuple[tuple[str, ...], list[Cell]]:
    """Pair pictures of the same file name (without its ending).

    A picture's prompt is what brushwork or A1111 wrote into the PNG, else what is in a ``.txt`` beside it.

    Raises:
        UserError: A folder lacks a picture that another one has, prompts or seeds differ, or a prompt is not known.
    """
    found = [{path.stem: path for path in _pictures(folder)} for folder in folders]
    every = sorted({name for each in found for name in each})
    for folder, held in zip(folders, found, strict=True):
        lacking = [name for name in every if name not in held]
        if lacking:
            message = (
                f"{folder} lacks {len(lacking)} of the {len(every)} pictures: {listing(lacking)}.\n"
                f"Pictures are paired by their file names, so each folder must have the same."
            )
            raise UserError(message)
    cells = [_cell(name, tuple(held[name] for held in found), need_prompts=need_prompts) for name in every]
    labels = [folder.resolve().name for folder in folders]
    return tuple(labels if len(set(labels)) == len(labels) else map(str, folders)), list(_turned(cells))


def _cell(name: str, paths: tuple[Path, ...], *, need_prompts: bool) -> Cell:
    told = [_made_from(path) for path in paths]
    for key in ("prompt", "seed"):
        values = {each[key] for each in told if each[key]}
        if len(values) > 1:
            one, other = sorted(values)[:2]
            message = (
                f"{name}: the pictures cannot be paired: {key} is {one!r} in one folder and {other!r} in another.\n"
                f"Only pictures of the same prompt and seed say which model is better."
            )
            raise UserError(message)
    prompt = next((each["prompt"] for each in told if each["prompt"]), "")
    if need_prompts and not prompt:
        message = (
            f"{paths[0]}: its prompt is not known. Write it into {paths[0].with_suffix('.txt').name} beside it, or "
            f"leave out the question about it: --questions style,overall"
        )
        raise UserError(message)
    return Cell(prompt, name, paths)


def _made_from(path: Path) -> dict[str, str]:
    """Return prompt and seed of a picture, each "" where it is not known."""
    told = infotext.read_png(path) if path.suffix.lower() == ".png" else infotext.Infotext()
    beside = path.with_suffix(".txt")
    written = beside.read_text("utf-8").strip() if beside.is_file() else ""
    return {"prompt": told.prompt or written, "seed": told.fields.get("Seed", "")}


def _turned(cells: Iterable[Cell]) -> Iterator[Cell]:
    """Yield the first picture of each prompt, then the second of each ..."""
    by_prompt: dict[str, list[Cell]] = {}
    for cell in cells:
        by_prompt.setdefault(cell.prompt, []).append(cell)
    for turn in range(max(map(len, by_prompt.values()))):
        yield from (each[turn] for each in by_prompt.values() if turn < len(each))


def examples(run: RunFolder) -> list[Image]:
    """Return a few pictures that a run was trained on; none when they cannot be read any more."""
    from brushwork import contact
    from brushwork.errors import DataError

    try:
        return [picture for _, picture in contact.pictures(run.config.data, EXAMPLES)]
    except DataError:
        return []


def examples_in(folder: Path) -> list[Image]:
    """Return a few pictures of a folder, spread evenly over it.

    Raises:
        UserError: It holds none.
    """
    from brushwork import contact, images

    paths = list(_pictures(folder)) if folder.is_dir() else []
    if not paths:
        message = f"--references: {str(folder)!r} is no folder with pictures."
        raise UserError(message)
    chosen = [paths[place] for place in contact.spread(len(paths), EXAMPLES)]
    return [images.decode(path.read_bytes(), name=str(path)) for path in chosen]


def settings_of(folder: Path) -> dict[str, Any]:
    """Return what drew the pictures of a side, as ``pictures.json`` beside them says; empty without one."""
    path = folder / "pictures.json"
    told = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    first = (told.get("pictures") or [{}])[0]
    kept = ("sampler", "steps", "guidance_scale", "width", "height", "negative_prompt")
    return {"model": told.get("model")} | {key: first[key] for key in kept if key in first} if told else {}
