"""Pictures that the base draws itself and is then trained on beside the data, so that it forgets less.

The class images of DreamBooth (Ruiz et al. 2022, arXiv:2208.12242, section 3.2) and ``preserve``, which works with
every method and source, are both a ``Prior``: prompts, a number, a weight. So are all data that are prompts alone.

    drawn = prepare(config, family, method)     # before the method is attached: the base draws what is missing
    data = mix(encoding.read(...), drawn)       # each part has an equal share of every epoch

Picture number i is drawn from prompt i (modulo their number) with a seed made of the run's seed and i, so a folder that
is topped up holds what it would have held if all had been drawn at once. Pictures appear whole or not at all.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork import defaults, generate, images, infotext, prompts
from brushwork.cache import cache_folder, content_key
from brushwork.digests import Digests
from brushwork.errors import ConfigError
from brushwork.processes import join
from brushwork.progress import bar
from brushwork.readers import ImageFile
from brushwork.readers import folder as folders
from brushwork.runs import write_json
from brushwork.seeds import derive
from brushwork.values import Prior, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.config import Config
    from brushwork.encoding import Data
    from brushwork.values import Family, Method, Source

DRAWN = re.compile(r"prior-\d{5,}\.png")
SETTINGS = "prior.json"


@dataclass(frozen=True)
class Drawn:
    """The pictures of one prior, a source of weighted samples; the last ``missing`` may have to be drawn still."""

    prior: Prior
    folder: Path
    paths: tuple[Path, ...]
    missing: tuple[int, ...] = ()
    """Numbers of the pictures that are not there."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        caption = self.prior.prompts[index % len(self.prior.prompts)]
        return Sample(path.name, ImageFile(str(path)), caption, self.prior.weight, {"preserved": True})


class Joined:
    """Sources one after the other."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int) -> Sample:
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)


def wanted(config: Config) -> list[Prior]:
    """Return what the configuration asks the base to draw for training: the source's own wish, then ``preserve``."""
    wish = getattr(config.data, "prior", None)
    priors = [wish()] if wish is not None else []
    if config.preserve is not None:
        texts = prompts.resolve(config.preserve.prompts, key="preserve.prompts")
        priors.append(
            Prior("pictures to preserve", tuple(texts), config.preserve.num_images, config.preserve.weight, "preserve")
        )
    return [each for each in priors if each is not None]


def prepare(config: Config, family: Family, method: Method, *, draw: bool = True) -> list[Drawn]:
    """Draw what is missing with the family as it is; without ``draw`` only look what that would be.

    Raises:
        ConfigError: A folder holds pictures that were drawn by another base or with other settings, or the method
            cannot learn from any.
    """
    priors = wanted(config)
    if priors and method.trains == {"embeddings"}:
        message = (
            f"{priors[0].key}: {config.method.type} learns a word and nothing else, so prompts without it are drawn as "
            f"before and there is nothing to preserve. Leave it out."
        )
        raise ConfigError(message)
    config = defaults.as_drawn(config, family)
    every = [_look(config, family, each) for each in priors]
    return _draw_missing(config, family, every) if draw and every else every


def draw_data(config: Config, family: Family, source: Source, *, draw: bool = True) -> tuple[Config, Source]:
    """Let the base draw the data, where these are prompts alone; other configurations come back as they are.

    The configuration that comes back says where the pictures lie.

    Raises:
        ConfigError: The folder holds pictures that were drawn by another base or with other settings, or a new word is
            to be learnt, which the base cannot draw.
    """
    wish = getattr(config.data, "drawings", None)
    if wish is None:
        return config, source
    prior: Prior = wish()
    there = (
        folders.pictures(list(folders.walk(Path(prior.folder)))) if prior.folder and Path(prior.folder).is_dir() else []
    )
    if any(not DRAWN.fullmatch(Path(each).name) for each in there):
        message = f"data.folder: {prior.folder} has pictures of your own in it; name a folder for the base's alone."
        raise ConfigError(message)
    said = defaults.as_drawn(config, family)
    drawn = _look(said, family, prior)
    if draw:
        _draw_missing(said, family, [drawn])
    data = config.data.model_copy(update={"folder": str(drawn.folder)})
    return config.model_copy(update={"data": data}), data.build()


def _draw_missing(config: Config, family: Family, every: Sequence[Drawn]) -> list[Drawn]:
    world = join()
    world.exchange()  # all have seen what is missing before anyone draws
    for each in every:
        _draw(config, family, each, world.local_share(each.missing))
    world.exchange()
    return [replace(each, missing=()) for each in every]


def mix(data: Data, every: Sequence[Drawn]) -> Data:
    """Lay the drawn pictures beside the data; none of them is ever held out.

    All parts get an equal share: the data are repeated as often as the largest part needs, and the other parts are gone
    round until they are as many.
    """
    if not every:
        return data
    own = len(data.source)
    rounds = -(-max(map(len, every)) // len(data.train))
    share = max(1, rounds) * len(data.train)
    digests, train = Digests(data.digests), [np.tile(data.train, max(1, rounds))]
    for drawn in every:
        train.append((len(digests) + np.arange(share) % len(drawn)).astype(np.int32))
        for index in range(len(drawn)):
            digests.append("" if drawn.missing else images.digest(drawn[index].image.read()))
    source = Joined([data.source, *every])
    contents = [(source[index].caption, source[index].weight, digests[index]) for index in range(own, len(source))]
    return replace(
        data,
        source=source,
        digests=digests,
        train=np.concatenate(train),
        fingerprint=content_key(data.fingerprint, json.dumps(contents)),
        drawn=len(source) - own,
    )


def _settings(config: Config, family: Family, prior: Prior) -> dict[str, Any]:
    """Return everything that the drawn pictures depend on but their number."""
    validation, data = config.validation, config.data
    return {
        "base": family.fingerprint,
        "prompts": list(prior.prompts),
        "resolution": data.resolution,  # type: ignore[attr-defined]  # every source of images has one
        "sampler": validation.sampler,
        "steps": validation.num_inference_steps,
        "guidance_scale": validation.guidance_scale,
        "seed": config.seed,
    }


def _look(config: Config, family: Family, prior: Prior) -> Drawn:
    """Find what is there already: the user's own pictures come first, then those drawn earlier."""
    settings = _settings(config, family, prior)
    key = content_key(json.dumps(settings))
    folder = Path(prior.folder).expanduser() if prior.folder else cache_folder() / "prior" / key
    files = folders.pictures(list(folders.walk(folder))) if folder.is_dir() else []
    own = [Path(each) for each in files if not DRAWN.fullmatch(Path(each).name)][: prior.count]
    if len(own) < len(files):
        _refuse_others(folder, settings, prior)
    ours = [folder / f"prior-{number:05}.png" for number in range(prior.count - len(own))]
    missing = tuple(number for number, path in enumerate(ours) if not path.is_file())
    return Drawn(prior, folder, (*own, *ours), missing)


def _refuse_others(folder: Path, settings: dict[str, Any], prior: Prior) -> None:
    path = folder / SETTINGS
    stored = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for name, value in settings.items():
        if stored.get(name) != value:
            message = (
                f"{prior.key}: the pictures in {folder} were drawn with {name} {stored.get(name)!r}, but now it is "
                f"{value!r}.\nChoose another folder, or remove its {DRAWN.pattern[:6]}*.png and {SETTINGS}."
            )
            raise ConfigError(message)


def _draw(config: Config, family: Family, drawn: Drawn, numbers: Sequence[int]) -> None:
    """Draw the pictures of some numbers: this process's share of those that are missing."""
    if not numbers:
        return
    settings, texts = _settings(config, family, drawn.prior), drawn.prior.prompts
    write_json(drawn.folder / SETTINGS, settings)
    first = len(drawn) - _numbered(drawn)
    asked = [
        generate.Request(
            prompt=texts[(first + number) % len(texts)],
            seed=derive(config.seed, "prior", number),
            steps=settings["steps"],
            guidance_scale=settings["guidance_scale"],
            sampler=settings["sampler"],
            width=settings["resolution"],
            height=settings["resolution"],
        )
        for number in numbers
    ]
    with bar(f"drawing {drawn.prior.name}", len(drawn), start=len(drawn) - len(asked)) as advance:
        for number, picture in zip(numbers, generate.draw(family, asked, label=config.base), strict=True):
            infotext.save_png(picture, drawn.paths[first + number])
            advance()


def _numbered(drawn: Drawn) -> int:
    """Return how many of the pictures are ours, not the user's own."""
    return sum(DRAWN.fullmatch(path.name) is not None for path in drawn.paths)
