"""Data sets that are made in the studio: folders of pictures, each with a caption in a text file beside it.

datasets = Datasets(config)
datasets.add("holiday", "beach.jpg", data, caption="a beach")
datasets.items("holiday")                       # names, captions, sizes
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork.errors import UserError, nearest
from brushwork.readers import folder as folders
from brushwork.runs import replacing
from brushwork.serve import names, uploads

if TYPE_CHECKING:
    from brushwork.serve.settings import ServeConfig

EMBEDDED = Path(__file__).parent.parent / "assets" / "datasets"
LONGEST_CAPTION = 4000
MARK = ".brushwork"
"""A file in each data set that was made here: since when nobody touched it, and whether it was trained on."""
WEIGHED_FOR = 20.0
"""Seconds for which the bytes of all data sets are remembered."""
TURNS = (0, 90, 180, 270)


class Datasets:
    """The embedded ones, which stay as they are, and those of the studio."""

    def __init__(self, config: ServeConfig) -> None:
        self.config, self.folder = config, config.datasets
        self._weighed = (0, -WEIGHED_FOR)

    def all(self) -> list[dict[str, Any]]:
        """Return what there is, with how many pictures each has."""
        own = sorted(each for each in self.folder.iterdir() if each.is_dir()) if self.folder.is_dir() else []
        embedded = sorted(each for each in EMBEDDED.iterdir() if each.is_dir())
        return [
            {"name": each.name, "pictures": len(self._files(each)), "embedded": each in embedded}
            for each in [*own, *embedded]
        ]

    def path_of(self, name: str) -> str:
        """Return what a configuration's ``data.path`` is for a data set.

        Raises:
            UserError: With the nearest name.
        """
        path = self.find(name)
        return name if path.parent == EMBEDDED else str(path.resolve())

    def items(self, name: str) -> list[dict[str, Any]]:
        """Return the pictures with their captions."""
        return [
            {"picture": each.name, "caption": _caption(each), "bytes": each.stat().st_size}
            for each in self._files(self.find(name))
        ]

    def picture(self, name: str, picture: str) -> Path:
        """Return a picture's file.

        Raises:
            UserError: There is none of that name in the data set.
        """
        files = {each.name: each for each in self._files(self.find(name))}
        if picture not in files:
            message = f"picture: there is no {picture[:80]!r} in {name}.{nearest(picture, files)}"
            raise UserError(message)
        return files[picture]

    def add(self, name: str, data: bytes, caption: str = "") -> str:
        """Put a picture in, making the data set if there is none; the same picture is there only once.

        Raises:
            UserError: It is no picture, the name is none, or the data set is full or embedded.
        """
        folder = self._own(names.check(name, "data set"))
        image = uploads.decode(data, self.config.limits.upload_pixels)
        files = self._files(folder) if folder.is_dir() else []
        if len(files) >= self.config.limits.dataset:
            message = f"data set: {name} has {len(files)} pictures, which is the limit of this server"
            raise UserError(message)
        encoded = uploads.encode(image)
        self._check_room(len(encoded))
        picture = f"{hashlib.sha256(encoded).hexdigest()[:16]}.png"
        fresh = not folder.is_dir()
        with replacing(folder / picture) as temporary:
            temporary.write_bytes(encoded)
        self._weighed = (self._weighed[0] + len(encoded), self._weighed[1])
        if fresh:
            self._mark(folder, trained=False)
        self._touch(folder)
        if caption:
            self.describe(name, picture, caption)
        return picture

    def change(self, name: str, picture: str, turn: int, crop: tuple[float, float, float, float] | None) -> str:
        """Turn a picture, or cut it, and return its new name; its caption comes along.

        Args:
            name: Of the data set.
            picture: Of the picture.
            turn: Degrees clockwise: 0, 90, 180 or 270.
            crop: Left, top, right and bottom of what stays of the picture as it was turned, in shares of its sides.

        Raises:
            UserError: The box is empty or outside, the turn is another, or the data set is embedded.
        """
        folder = self._own(name)
        path = self.picture(name, picture)
        image = uploads.decode(path.read_bytes(), self.config.limits.upload_pixels, picture[:80])
        if turn not in TURNS:
            message = f"turn: {turn} is none of {', '.join(map(str, TURNS))} degrees"
            raise UserError(message)
        image = image.rotate(-turn, expand=True)
        if crop is not None:
            box = [round(share * side) for share, side in zip(crop, image.size * 2, strict=True)]
            if not (0 <= box[0] < box[2] <= image.width and 0 <= box[1] < box[3] <= image.height):
                message = f"crop: {list(crop)} is no box within the picture; left, top, right, bottom from 0 to 1"
                raise UserError(message)
            image = image.crop((box[0], box[1], box[2], box[3]))
        encoded = uploads.encode(image)
        self._check_room(len(encoded))
        changed = f"{hashlib.sha256(encoded).hexdigest()[:16]}.png"
        if changed == picture:
            return picture
        with replacing(folder / changed) as temporary:
            temporary.write_bytes(encoded)
        words = path.with_suffix(".txt")
        if words.is_file():
            words.replace((folder / changed).with_suffix(".txt"))
        path.unlink()
        self._touch(folder)
        return changed

    def describe(self, name: str, picture: str, caption: str) -> None:
        """Write a picture's caption.

        Raises:
            UserError: It is too long, or the data set is embedded.
        """
        self._own(name)
        path = self.picture(name, picture).with_suffix(".txt")
        if len(caption) > LONGEST_CAPTION:
            message = f"caption: {len(caption)} characters are more than {LONGEST_CAPTION}"
            raise UserError(message)
        with replacing(path) as temporary:
            temporary.write_text(caption.strip() + "\n", "utf-8")
        self._touch(self._own(name))

    def drop(self, name: str, picture: str) -> None:
        """Take a picture out, with its caption."""
        self._own(name)
        path = self.picture(name, picture)
        path.unlink()
        path.with_suffix(".txt").unlink(missing_ok=True)
        self._touch(self._own(name))

    def remove(self, name: str) -> None:
        """Remove a data set of the studio."""
        self._own(name)
        shutil.rmtree(self.find(name))
        self._weighed = (0, -WEIGHED_FOR)

    def weight(self) -> int:
        """Return how large all data sets are that do not come with the package, as it was a few seconds ago."""
        weight, when = self._weighed
        if time.monotonic() - when > WEIGHED_FOR:
            every = self.folder.rglob("*") if self.folder.is_dir() else ()
            weight = sum(each.stat().st_size for each in every if each.is_file())
            self._weighed = (weight, time.monotonic())
        return weight

    def used(self, name: str) -> None:
        """Note that a data set was trained on: it is never abandoned then."""
        folder = self.folder / name
        if name and (folder / MARK).is_file():
            self._mark(folder, trained=True)

    def abandoned(self, seconds: float) -> list[str]:
        """Return the data sets that were made here, never trained on, and not touched for so long."""
        found = []
        for each in sorted(self.folder.glob(f"*/{MARK}")):
            try:
                trained = json.loads(each.read_text("utf-8"))["trained"]
            except (OSError, ValueError, LookupError, TypeError):
                continue  # of somebody else
            if trained is False and time.time() - each.stat().st_mtime > seconds:
                found.append(each.parent.name)
        return found

    @staticmethod
    def _mark(folder: Path, *, trained: bool) -> None:
        with replacing(folder / MARK) as temporary:
            temporary.write_text(json.dumps({"trained": trained}) + "\n", "utf-8")

    @staticmethod
    def _touch(folder: Path) -> None:
        if (folder / MARK).is_file():
            (folder / MARK).touch()

    def _check_room(self, more: int) -> None:
        there, most = self.weight(), self.config.limits.datasets
        if there + more > most:
            message = (
                f"data set: with this picture all data sets would have {there + more:,} bytes, and the limit of this "
                f"server is {most:,}; remove pictures or data sets that are not needed"
            )
            raise UserError(message)

    def _own(self, name: str) -> Path:
        if (EMBEDDED / names.check(name, "data set")).is_dir():
            message = f"data set: {name} is embedded and stays as it is; choose another name"
            raise UserError(message)
        return self.folder / name

    def find(self, name: str) -> Path:
        """Return a data set's folder.

        Raises:
            UserError: With the nearest name.
        """
        embedded = [each.name for each in EMBEDDED.iterdir() if each.is_dir()]
        own = [each.name for each in self.folder.iterdir() if each.is_dir()] if self.folder.is_dir() else []
        folder = EMBEDDED if name in embedded else self.folder
        return names.inside(folder, name, "data set", [*own, *embedded])

    @staticmethod
    def _files(folder: Path) -> list[Path]:
        return sorted(Path(each) for each in folders.pictures(list(folders.walk(folder))))


def _caption(picture: Path) -> str:
    path = picture.with_suffix(".txt")
    return path.read_text("utf-8", errors="replace").strip() if path.is_file() else ""
