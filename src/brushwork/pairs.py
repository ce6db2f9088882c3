"""Pictures of base and tuned in pairs: the same prompt, seed, sampler, steps and size, so only training differs.

    planned = plan(run.config)
    draw_run(run, planned, folder)       # folder/base/<prompt>-<seed>.png and folder/tuned/<prompt>-<seed>.png
    check_pairs(folder)                  # refuses what cannot be compared

A model that was made to be drawn in another way than its base (few steps) is drawn in that way, and so is the base
beside it. What the base draws as usual, with the settings of ``validation``, at the same seeds, is a third side.

Each side has a ``pictures.json`` beside its pictures that says which weights drew them with which settings; what is
already there and agrees with it is not drawn again.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from brushwork import contact, families, generate, infotext, models, prompts
from brushwork.devices import resolve_device
from brushwork.errors import ConfigError, UserError
from brushwork.models import LoadedModel
from brushwork.progress import bar, note
from brushwork.runs import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from brushwork.config import Config
    from brushwork.metrics import PromptSet
    from brushwork.runs import RunFolder

SIDES = ("base", "tuned")
USUAL = "usual"
"""The base once more, drawn as usual."""
SPEED = "speed.json"

FALLBACK_PROMPTS = 8
"""So many captions are drawn when the configuration names no prompts."""


@dataclass(frozen=True)
class Plan:
    """Which pictures to draw: ``seeds`` for each prompt, target prompts first; ``requests`` in that order.

    ``usual`` are the same for the base as it is usually drawn; empty when that is how tuned is drawn too.
    """

    target: tuple[str, ...]
    control: tuple[str, ...]
    seeds: int
    requests: tuple[generate.Request, ...]
    usual: tuple[generate.Request, ...] = ()

    @property
    def sides(self) -> tuple[str, ...]:
        """The folders of pictures."""
        return (*SIDES, USUAL) if self.usual else SIDES

    @property
    def names(self) -> list[str]:
        """The file names, ``<prompt>-<seed>.png``, the same for base and tuned."""
        return [f"{place // self.seeds:05}-{request.seed}.png" for place, request in enumerate(self.requests)]

    @property
    def prompt_sets(self) -> Iterator[tuple[PromptSet, tuple[str, ...], list[str]]]:
        """Each set with its prompts and file names; without control prompts there is one set."""
        split = len(self.target) * self.seeds
        yield "target", self.target, self.names[:split]
        if self.control:
            yield "control", self.control, self.names[split:]


def plan(config: Config) -> Plan:
    """Return what a run's configuration asks to draw.

    Every picture has a seed of its own: prompts that shared their noise would not be independent evidence.

    Raises:
        ConfigError: A list of prompts cannot be read, or a prompt is both target and control.
    """
    settings = config.validation
    captions = [] if settings.prompts else [text for text, _ in contact.pictures(config.data, FALLBACK_PROMPTS) if text]
    target = prompts.resolve(settings.prompts, list(dict.fromkeys(captions)))
    control = prompts.resolve(settings.control_prompts, key="validation.control_prompts")
    both = sorted(set(target) & set(control))
    if both:
        message = f"validation: {both[0]!r} is in prompts and in control_prompts; take it out of one of them."
        raise ConfigError(message)
    if not target:
        message = "validation.prompts: there is nothing to draw: no prompts are given and the data has no captions."
        raise ConfigError(message)
    seeds = settings.images_per_prompt
    resolution = config.data.resolution  # type: ignore[attr-defined]  # every source of images has one
    requests = tuple(
        generate.Request(
            prompt=text,
            negative_prompt=settings.negative_prompt,
            seed=settings.seed + place * seeds + number,
            **asdict(config.sampling),
            width=resolution,
            height=resolution,
        )
        for place, text in enumerate([*target, *control])
        for number in range(seeds)
    )
    usual = [replace(each, **asdict(config.base_sampling)) for each in requests]
    return Plan(tuple(target), tuple(control), seeds, requests, () if usual == list(requests) else tuple(usual))


def draw_run(run: RunFolder, planned: Plan, folder: Path) -> None:
    """Draw base, and as usual if that is another way, release it, then draw tuned."""
    config, base = run.config, run.record.get("base", {}).get("hash")
    tuned = f"{base}+{hash_files(run.weights)}" if base else None
    draw_side(folder / "base", planned, functools.partial(_open_base, config), key=base)
    if planned.usual:
        usually = replace(planned, requests=planned.usual)
        draw_side(folder / USUAL, usually, functools.partial(_open_base, config), key=base)
    draw_side(folder / "tuned", planned, functools.partial(_open_tuned, run), key=tuned)


def _open_base(config: Config) -> LoadedModel:
    base, revision, configured = config.base, config.revision, config.base_config
    device = resolve_device(config.train.device)
    family = families.load(base, revision=revision, config=configured, device=device)
    path = families.describe(base, revision=revision, config=configured).path
    return LoadedModel(models.ModelSpec(base, base), base, family, path, ())


def _open_tuned(run: RunFolder) -> LoadedModel:
    return models.open_model(str(run.path), device=run.config.train.device)


def draw_side(folder: Path, planned: Plan, open_model: Callable[[], LoadedModel], *, key: str | None) -> None:
    """Draw all pictures of one side into ``folder``, leaving out what is there from the same weights and settings.

    Args:
        folder: Gets the pictures, ``pictures.json``, which says what drew them, and ``speed.json``, how fast.
        planned: What to draw.
        open_model: Called only when something has to be drawn.
        key: A hash of the weights; None when it is not known, then everything is drawn anew.
    """
    asked = {"model": key, "pictures": _listed(planned)}
    there = _stored(folder / "pictures.json") == asked and key is not None
    todo = {
        request: name
        for request, name in zip(planned.requests, planned.names, strict=True)
        if not (there and (folder / name).is_file())
    }
    if not todo:
        note(f"{folder.name}: all {len(planned.requests)} pictures are there already, drawn by the same weights")
        return
    for old in [] if there else folder.glob("*.png"):
        old.unlink()
    write_json(folder / "pictures.json", asked)
    _draw(folder, todo, open_model())
    gc.collect()  # two models at once may be more than the device holds


def _draw(folder: Path, todo: dict[generate.Request, str], model: LoadedModel) -> None:
    family, asked = model.family, list(todo)
    drawn = generate.draw(family, asked, label=model.name, model_hash=model.hash, adapters=model.adapters)
    began = time.monotonic()
    with bar(f"drawing {folder.name}", len(todo)) as advance:
        for picture in drawn:
            infotext.save_png(picture, folder / todo[picture.request])
            advance()
    write_json(folder / SPEED, {"pictures": len(todo), "seconds": time.monotonic() - began})


def seconds_per_picture(folder: Path) -> float | None:
    """Return how long one side's pictures took each when they were last drawn; None when that is not known."""
    speed = _stored(folder / SPEED)
    return speed["seconds"] / speed["pictures"] if speed else None


def _listed(planned: Plan) -> list[dict[str, Any]]:
    pairs = zip(planned.names, planned.requests, strict=True)
    return [{"file": name, **json.loads(json.dumps(asdict(request)))} for name, request in pairs]


def _stored(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def check_pairs(folder: Path) -> None:
    """Refuse to compare pictures that were drawn with different settings.

    Raises:
        UserError: With the first difference.
    """
    base, tuned = (_stored(folder / side / "pictures.json") for side in SIDES)
    if not base or not tuned:
        message = f"{folder}: the pictures of base and tuned are not both there."
        raise UserError(message)
    if len(base["pictures"]) != len(tuned["pictures"]):
        message = f"{folder}: {len(base['pictures'])} pictures of base cannot be paired with {len(tuned['pictures'])}."
        raise UserError(message)
    for one, other in zip(base["pictures"], tuned["pictures"], strict=True):
        different = [key for key in one if one[key] != other.get(key)]
        if different:
            key = different[0]
            message = (
                f"{folder}: {one['file']} cannot be paired: {key} is {one[key]!r} for base and {other.get(key)!r} for "
                f"tuned. Only pictures of the same prompt, seed and settings say what training changed."
            )
            raise UserError(message)


def hash_files(folder: Path) -> str:
    """Return a hash of every file in a folder, by relative name."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
