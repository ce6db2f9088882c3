"""Data sets that are made in the studio: folders of pictures, each with a caption in a text file beside it.

datasets = Datasets(config)
datasets.add("holiday", "beach.jpg", data, caption="a beach")
datasets.items("holiday")                       # names, captions, sizes
"""

from __future__ import annotations

import hashlib
import shutil
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


class Datasets:
    """The embedded ones, which stay as they are, and those of the studio."""

    def __init__(self, config: ServeConfig) -> None:
        self.config, self.folder = config, config.datasets

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
        path = self._find(name)
        return name if path.parent == EMBEDDED else str(path.resolve())

    def items(self, name: str) -> list[dict[str, Any]]:
        """Return the pictures with their captions."""
        return [
            {"picture": each.name, "caption": _caption(each), "bytes": each.stat().st_size}
            for each in self._files(self._find(name))
        ]

    def picture(self, name: str, picture: str) -> Path:
        """Return a picture's file.

        Raises:
            UserError: There is none of that name in the data set.
        """
        files = {each.name: each for each in self._files(self._find(name))}
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
        picture = f"{hashlib.sha256(encoded).hexdigest()[:16]}.png"
        with replacing(folder / picture) as temporary:
            temporary.write_bytes(encoded)
        if caption:
            self.describe(name, picture, caption)
        return picture

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

    def drop(self, name: str, picture: str) -> None:
        """Take a picture out, with its caption."""
        self._own(name)
        path = self.picture(name, picture)
        path.unlink()
        path.with_suffix(".txt").unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a data set of the studio."""
        self._own(name)
        shutil.rmtree(self._find(name))

    def _own(self, name: str) -> Path:
        if (EMBEDDED / names.check(name, "data set")).is_dir():
            message = f"data set: {name} is embedded and stays as it is; choose another name"
            raise UserError(message)
        return self.folder / name

    def _find(self, name: str) -> Path:
        known = {each["name"]: each["embedded"] for each in self.all()}
        folder = EMBEDDED if known.get(name) else self.folder
        return names.inside(folder, name, "data set", list(known))

    @staticmethod
    def _files(folder: Path) -> list[Path]:
        return sorted(Path(each) for each in folders.pictures(list(folders.walk(folder))))


def _caption(picture: Path) -> str:
    path = picture.with_suffix(".txt")
    return path.read_text("utf-8", errors="replace").strip() if path.is_file() else ""
