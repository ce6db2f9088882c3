"""Pictures of base and tuned in pairs: the same prompt, seed, sampler, steps and size, so only training differs.

    planned = plan(run.config)
    draw_side(folder / "base", planned, open_base, key=hash_of_the_base)          # folder/base/<prompt>-<seed>.png
    draw_side(folder / "tuned", planned, open_tuned, key=hash_of_both)            # the same names
    check_pairs(folder)                                                           # refuses what cannot be compared

Three sets of prompts are drawn (``brushwork.prompts``): target, content where it differs from target, held-out
("control"). A content prompt has its target prompt's seeds, so that words are all that differs between the two.

A model that was made to be drawn in another way than its base (few steps) is drawn in that way, and so is the base
beside it. What the base draws as usual, with the settings of ``validation``, at the same seeds, is a third side.

Each side has a ``pictures.json`` beside its pictures that says which weights drew them with which settings; what is
already there and agrees with it is not drawn again.
"""

from __future__ import annotations

import gc
import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from brushwork import contact, generate, infotext, processes, prompts
from brushwork.errors import ConfigError, UserError
from brushwork.progress import bar, note
from brushwork.runs import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from brushwork.config import Config
    from brushwork.metrics import PromptSet
    from brushwork.models import LoadedModel
    from brushwork.processes import World
    from brushwork.settings import Sampling

SIDES = ("base", "tuned")
USUAL = "usual"
"""The base once more, drawn as usual."""
SPEED = "speed.json"

FALLBACK_PROMPTS = 8
"""So many captions are drawn when the configuration names no prompts."""


BATCH = 8
"""Pictures drawn together; several processes share whole batches, so that who drew a picture does not show."""


@dataclass(frozen=True)
class Plan:
    """Which pictures to draw: ``seeds`` for each prompt; ``requests`` in the order of target, plain, control.

    ``usual`` are the same for the base as it is usually drawn; empty when that is how tuned is drawn too.
    """

    target: tuple[str, ...]
    control: tuple[str, ...]
    seeds: int
    requests: tuple[generate.Request, ...]
    usual: tuple[generate.Request, ...] = ()
    content: tuple[str, ...] = ()
    """The content prompt of each target prompt, or nothing."""

    @property
    def plain(self) -> tuple[str, ...]:
        """The content prompts that are drawn: those that differ from their target prompt."""
        return tuple(text for text, styled in self._both if text != styled)

    @property
    def _both(self) -> list[tuple[str, str]]:
        return list(zip(self.content, self.target, strict=True)) if self.content else []

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
        """Each set that has prompts, with these and its file names."""
        sets: tuple[tuple[PromptSet, tuple[str, ...]], ...] = (
            ("target", self.target), ("content", self.plain), ("control", self.control),
        )  # fmt: skip
        names, first = self.names, 0
        for name, shown in sets:
            stop = first + len(shown) * self.seeds
            if shown:
                yield name, shown, names[first:stop]
            first = stop

    @property
    def texts(self) -> list[str]:
        """Every text that a picture is held against."""
        return list(dict.fromkeys([*self.target, *self.content, *self.control]))

    def scored_by(self, prompt: str) -> str:
        """Return the text that a prompt's pictures are held against: its content, where it has one."""
        return {styled: text for text, styled in self._both}.get(prompt, prompt)

    def styled_by(self, prompt: str) -> str:
        """Return the same with the words of the style or the token: the target prompt."""
        return dict(self._both).get(prompt, prompt)


def plan(config: Config, drawn_with: Sampling | None = None) -> Plan:
    """Return what a configuration asks to draw.

    Every picture has a seed of its own: prompts that shared their noise would not be independent evidence.

    Args:
        config: Its ``validation`` and the resolution of its data (None: the model's own) are read.
        drawn_with: How the tuned model was made to be drawn, where the configuration does not know it.

    Raises:
        ConfigError: A list of prompts cannot be read, or the sets do not fit one another.
    """
    settings = config.validation
    captions = [] if settings.prompts else [text for text, _ in contact.pictures(config.data, FALLBACK_PROMPTS) if text]
    target = prompts.resolve(settings.prompts, list(dict.fromkeys(captions)))
    content = prompts.resolve(settings.content_prompts, key="validation.content_prompts")
    control = prompts.resolve(settings.control_prompts, key="validation.control_prompts")
    if not target:
        message = "validation.prompts: there is nothing to draw: no prompts are given and the data has no captions."
        raise ConfigError(message)
    prompts.check_sets(target, content, control)
    places = [*enumerate(target), *((place, text) for place, text in enumerate(content) if text != target[place])]
    places += enumerate(control, len(target))
    requests = _requests(config, places, drawn_with or config.sampling)
    usual = tuple(replace(each, **asdict(config.base_sampling)) for each in requests)
    return Plan(
        tuple(target), tuple(control), settings.images_per_prompt, requests, () if usual == requests else usual,
        tuple(content),
    )  # fmt: skip


def _requests(config: Config, places: Sequence[tuple[int, str]], drawn_with: Sampling) -> tuple[generate.Request, ...]:
    """Return what is drawn of prompts; the place of each decides its seeds."""
    settings, seeds = config.validation, config.validation.images_per_prompt
    resolution = config.data.resolution  # type: ignore[attr-defined]  # every source of images has one
    return tuple(
        generate.Request(
            prompt=text,
            negative_prompt=settings.negative_prompt,
            seed=settings.seed + place * seeds + number,
            **asdict(drawn_with),
            width=resolution,
            height=resolution,
        )
        for place, text in places
        for number in range(seeds)
    )


def draw_side(
    folder: Path, planned: Plan, open_model: Callable[[], LoadedModel], *, key: str | None, world: World | None = None
) -> bool:
    """Draw all pictures of one side into ``folder``, leaving out what is there from the same weights and settings.

    Args:
        folder: Gets the pictures, ``pictures.json``, which says what drew them, and ``speed.json``, how fast.
        planned: What to draw.
        open_model: Called only when something has to be drawn.
        key: A hash of the weights; None when it is not known, then everything is drawn anew.
        world: Processes that share the drawing and all call this; default: this one alone.

    Returns:
        Whether something was drawn.
    """
    world = world or processes.World()
    todo: list[tuple[generate.Request, str]] = world.decide(_todo(folder, planned, key) if world.is_main else None)
    if not todo:
        note(f"{folder.name}: all {len(planned.requests)} pictures are there already, drawn by the same weights")
        return False
    batches = [todo[first : first + BATCH] for first in range(0, len(todo), BATCH)]
    own = dict(pair for batch in world.share(batches) for pair in batch)
    if own:
        _draw(folder, own, open_model(), is_main=world.is_main)
    gc.collect()  # two models at once may be more than the device holds
    world.exchange()
    return True


def _todo(folder: Path, planned: Plan, key: str | None) -> list[tuple[generate.Request, str]]:
    """Return what is not there yet; remove pictures that something else drew, and say what draws them now."""
    asked = {"model": key, "pictures": _listed(planned)}
    there = _stored(folder / "pictures.json") == asked and key is not None
    pairs = zip(planned.requests, planned.names, strict=True)
    todo = [(request, name) for request, name in pairs if not (there and (folder / name).is_file())]
    if todo:
        for old in [] if there else folder.glob("*.png"):
            old.unlink()
        write_json(folder / "pictures.json", asked)
    return todo


def _draw(folder: Path, todo: dict[generate.Request, str], model: LoadedModel, *, is_main: bool) -> None:
    family, asked = model.family, list(todo)
    drawn = generate.draw(
        family, asked, batch_size=BATCH, label=model.name, model_hash=model.hash, adapters=model.adapters
    )
    began = time.monotonic()
    with bar(f"drawing {folder.name}", len(todo)) as advance:
        for picture in drawn:
            infotext.save_png(picture, folder / todo[picture.request])
            advance()
    if is_main:
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


def check_pairs(folder: Path, sides: Sequence[str] = SIDES) -> None:
    """Refuse to compare pictures that were drawn with different settings, or are of different sizes.

    Args:
        folder: Holds the sides.
        sides: Names of two of them.

    Raises:
        UserError: With the first difference.
    """
    one_side, other_side = sides
    base, tuned = (_stored(folder / side / "pictures.json") for side in sides)
    if not base or not tuned:
        message = f"{folder}: the pictures of {one_side} and {other_side} are not both there."
        raise UserError(message)
    if len(base["pictures"]) != len(tuned["pictures"]):
        counts = len(base["pictures"]), len(tuned["pictures"])
        message = f"{folder}: {counts[0]} pictures of {one_side} cannot be paired with {counts[1]} of {other_side}."
        raise UserError(message)
    for one, other in zip(base["pictures"], tuned["pictures"], strict=True):
        told = [
            {**each, "size": _size(folder / side / each["file"])}
            for side, each in zip(sides, (one, other), strict=True)
        ]
        key = next((key for key in told[0] if told[0][key] != told[1].get(key)), None)
        if key is not None:
            message = (
                f"{folder}: {one['file']} cannot be paired: {key} is {told[0][key]!r} for {one_side} and "
                f"{told[1].get(key)!r} for {other_side}. Only pictures of the same prompt, seed and settings say what "
                f"training changed."
            )
            raise UserError(message)


def _size(path: Path) -> str | None:
    """Return a picture's size as it lies there; None where it does not."""
    from PIL import Image

    if not path.is_file():
        return None
    with Image.open(path) as image:
        return f"{image.width}x{image.height}"


def hash_files(folder: Path) -> str:
    """Return a hash of a file, or of every file in a folder by relative name."""
    digest = hashlib.blake2b(digest_size=16)
    for path in [folder] if folder.is_file() else sorted(each for each in folder.rglob("*") if each.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
