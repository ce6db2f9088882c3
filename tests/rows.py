"""The table Method x Source x Objective, each cell as small as it gets, for ``test_matrix`` and ``test_kill``.

A new preset, method, source or objective needs one line here, and so does a combination that is refused; without it
``test_matrix.py`` fails.

    config = preset("dora", base, data)
"""

from __future__ import annotations

import itertools
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from pairs import make_pairs
from PIL import Image

from brushwork import config as configs
from brushwork import registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brushwork.config import Config

WORD = "<thing>"
PROMPT = f"a drawing of a {WORD} cat"
STEPS, SAVED = 3, 2
"""Each run is so long, with a checkpoint after step ``SAVED``."""

FULL: dict[str, Any] = {"method": {"keep_base": True}, "optimizer": {"learning_rate": 1e-2}}
LEARNT: dict[str, Any] = {"token": WORD, "initial_word": "a", "num_vectors": 2}
SUBJECT: dict[str, Any] = {"instance_prompt": PROMPT, "instance_token": WORD}
CLASS: dict[str, Any] = {**SUBJECT, "class_prompt": "a cat", "num_class_images": 2}

PRESETS: dict[str, dict[str, Any]] = {
    "clip-guided": {"method": {"rank": 2}, "objective": {"clip": "mini-clip"}},
    "dora": {"method": {"rank": 2}},
    "dpo": {"method": {"rank": 2}},
    "dreambooth": {**FULL, "data": CLASS},
    "dreambooth-lora": {"method": {"rank": 2}, "data": CLASS},
    "full": FULL,
    "loha": {"method": {"rank": 2}},
    "lokr": {"method": {"rank": 2, "lokr_factor": 2}},
    "lcm": {"method": {"rank": 2}},
    "lora": {"method": {"rank": 2}},
    "oft": {"method": {"oft_block_size": 4}},
    "pivotal": {"method": {**LEARNT, "lora": {"rank": 2}}},
    "textual-inversion": {"method": LEARNT},
}
"""What each ``--method`` needs besides itself."""

OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "full, text encoder": ("full", configs.merge(FULL, {"method": {"train_text_encoder": True}})),
    "lora, text encoder": ("lora", {"method": {"rank": 2, "train_text_encoder": True}}),
    "lora, convolutions": ("lora", {"method": {"rank": 4, "conv_rank": 2}}),
    "lora, rank-stabilised": ("lora", {"method": {"use_rslora": True, "rank": 4, "alpha": 2}}),
    "lora, preserve": ("lora", {"method": {"rank": 2}, "preserve": {"prompts": ["a dog"], "num_images": 2}}),
    "loha, text encoder": ("loha", {"method": {"rank": 2, "train_text_encoder": True}}),
    "loha, convolutions": ("loha", {"method": {"rank": 2, "conv_rank": 2}}),
    "oft, text encoder": ("oft", {"method": {"oft_block_size": 4, "train_text_encoder": True}}),
}
"""Options that change what is trained: the preset, and the options."""

NOT_PRESERVED: dict[str, str] = {
    "dpo": "learns from pairs, and pictures of the base's own are none",
    "textual-inversion": "learns a word and nothing else",
}
"""The presets that cannot be trained on the base's own pictures too, and what is said."""

METHODS: dict[str, dict[str, Any]] = {
    "full": {"keep_base": True},
    "lora": {"rank": 2},
    "pivotal": {**LEARNT, "lora": {"rank": 2}},
    "textual_inversion": LEARNT,
}
SOURCES: dict[str, dict[str, Any]] = {
    "captioned": {},
    "dreambooth": SUBJECT,
    "mixed": {"parts": ({"repeats": 2}, {"weight": 0.5})},
    "pairs": {},
    "prompts": {"images_per_prompt": 2},
    "templated": {"token": WORD},
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "clip": {"clip": "mini-clip", "target": "a drawing"},
    "consistency": {},
    "denoising": {},
    "dpo": {},
}
"""The axes by their registered names, with what each plug-in needs besides its name."""

MAKERS: dict[str, Callable[[Path], object]] = {
    "pairs": lambda folder: make_pairs(folder, text=f"the {WORD}"),
    "prompts": lambda file: file.write_text(f"a {WORD} cat\na {WORD} dog\n", "utf-8"),
}
"""What writes the data of a source that does not read pictures with captions: ``"pairs": make_pairs``."""

REFUSED: dict[tuple[str, str, str], str] = {
    **dict.fromkeys(
        [("*", "pairs", objective) for objective in ("clip", "consistency", "denoising")], "no use for the rejected"
    ),
    **dict.fromkeys(
        [("*", source, "dpo") for source in ("captioned", "dreambooth", "mixed", "prompts", "templated")],
        "preference pairs",
    ),
    **dict.fromkeys([(method, "prompts", "*") for method in ("pivotal", "textual_inversion")], "cannot draw a word"),
    **dict.fromkeys([(each, "*", "consistency") for each in ("pivotal", "textual_inversion")], "what they mean"),
}
"""Cells that make no sense, ``*`` standing for any name, with what brushwork says to them.

    ("*", "captioned", "dpo"): "needs pairs"
"""

COMMON: dict[str, Any] = {
    "data": {"resolution": 32},
    "optimizer": {"learning_rate": 1e-1},
    "train": {"max_train_steps": STEPS, "train_batch_size": 2, "checkpointing_steps": SAVED, "device": "cpu"},
    "validation": {"prompts": [PROMPT], "samples_during_training": 0, "num_inference_steps": 1, "guidance_scale": 1},
}

Cell = tuple[str, str, str]


def every_cell() -> set[Cell]:
    """Return all combinations of what is registered."""
    names = (registry.names("methods"), registry.names("sources"), registry.names("objectives"))
    return set(itertools.product(*names))


def fits(cell: Cell, key: Cell) -> bool:
    """Return whether a cell is meant by a key of ``REFUSED``."""
    return all(map(fnmatchcase, cell, key))


def refused(cell: Cell) -> str | None:
    """Return what is said to a combination that makes no sense; None for one that does."""
    return next((message for key, message in REFUSED.items() if fits(cell, key)), None)


def known() -> set[Cell]:
    """Return the cells whose three names have a line here."""
    return {cell for cell in every_cell() if cell[0] in METHODS and cell[1] in SOURCES and cell[2] in OBJECTIVES}


def preset(name: str, base: Path | str, folder: Path, **changes: Any) -> Config:
    """Return the configuration of a preset, or of one of ``OPTIONS``, on a tiny base and the data in a folder."""
    method, options = OPTIONS.get(name) or (name, PRESETS[name])
    source = configs.read_yaml(configs.PRESETS / f"{method}.yaml")["data"]["type"]
    here = {"base": str(base), "data": {"path": str(data_of(source, folder))}}
    return configs.load(configs.merge(configs.merge(configs.merge(COMMON, here), options), changes), method=method)


def combination(cell: Cell, base: Path, folder: Path) -> Config:
    """Return the configuration of one cell."""
    method, source, objective = cell
    part = {
        "base": str(base),
        "method": {"type": method, **METHODS[method]},
        "data": {"type": source, **_at(str(data_of(source, folder)), SOURCES[source])},
        "objective": {"type": objective, **OBJECTIVES[objective]},
    }
    rate = FULL["optimizer"] if method == "full" else {}
    return configs.load(configs.merge(configs.merge(COMMON, part), {"optimizer": rate}))


def _at(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a source with where its data lie, or those of all that are mixed."""
    if "parts" in options:
        return {**options, "parts": [{"path": path, **part} for part in options["parts"]]}
    return {"path": path, **options}


def data_of(source: str, folder: Path) -> Path:
    """Return where a source's data lie."""
    return folder / (source if source in MAKERS else "pictures")


def make_data(folder: Path) -> Path:
    """Write the data of all sources."""
    make_pictures(folder / "pictures")
    for source, make in MAKERS.items():
        make(folder / source)
    return folder


def make_pictures(folder: Path) -> None:
    """Write four 40 x 36 pictures whose captions have ``WORD`` in them."""
    folder.mkdir(parents=True)
    for index, subject in enumerate(("cat", "dog", "tree", "house")):
        pixels = np.random.default_rng(index).integers(0, 256, (36, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a drawing of a {WORD} {subject}", "utf-8")
