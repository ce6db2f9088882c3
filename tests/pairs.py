"""A folder of preference pairs small enough for unit tests.

folder = make_pairs(tmp_path / "pairs", 6)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SUBJECTS = ("cat", "dog", "tree", "house", "boat", "fish")


def make_pairs(folder: Path, count: int = len(SUBJECTS), text: str = "a drawing of a") -> Path:
    """Write pairs of random 40 x 36 pictures, the chosen grey, the rejected coloured, and their table."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    lines = []
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (36, 40, 3), dtype=np.uint8)
        grey = np.broadcast_to(pixels[..., :1], pixels.shape)
        names = {"chosen": f"{index}-grey.png", "rejected": f"{index}-colour.png"}
        Image.fromarray(np.ascontiguousarray(grey)).save(folder / names["chosen"])
        Image.fromarray(pixels).save(folder / names["rejected"])
        lines.append(json.dumps({**names, "text": f"{text} {SUBJECTS[index % len(SUBJECTS)]}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder
