"""Pictures with captions: a folder, a table in a folder, WebDataset shards, a saved data set, or one from the hub.

source = Config(path="engravings").build()
source.verify()                                 # decodes every picture once
source[0].caption
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt, model_validator

from brushwork import progress
from brushwork.errors import DataError, listing, nearest
from brushwork.sources import ImageSettings
from brushwork.values import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from datasets import Dataset
    from PIL.Image import Image

    Look = Callable[[str, Image], None]

    from brushwork.readers import FileRows, Row, Rows
    from brushwork.readers.batches import Sliced
    from brushwork.readers.stream import Streamed

DATASETS = Path(__file__).parent.parent / "assets" / "datasets"

KNOWN = {"gigant/oldbookillustrations": ("1600px", "info_alt")}
"""Columns of pictures and captions of data sets on the hub where several could be meant."""

DECODED_AT_MOST = 20_000
"""Up to so many pictures ``verify`` decodes each one; of larger sets it reads the headers only."""

LISTED = 3
"""So many pictures are named where many are meant."""

AT_ONCE = 256
"""How many pictures are handed to the checking threads at a time."""


class Config(ImageSettings):
    """Settings of pictures with captions."""

    type: Literal["captioned"] = "captioned"
    path: str = Field(
        min_length=1,
        description="A folder, tar shards (shards/{000..007}.tar), a hub id, or an embedded data set: engravings.",
    )
    captions: Literal["auto", "metadata", "txt", "caption"] = Field(
        "auto", description="Where a folder's captions are, should it have several kinds; auto: whichever is there."
    )
    image_column: str | None = Field(None, description="The column of pictures (in a table: of file names).")
    caption_column: str | None = Field(None, description="The column of captions.")
    split: str = Field("train", description="The split of a data set that has splits.")
    subset: str | None = Field(None, description="The configuration of a data set on the hub that has several.")
    revision: str | None = Field(None, description="The hub revision of the data set.")
    masks: bool = Field(
        default=False,
        description="Weigh the loss by masks: a column of the data set or table, or cat-masklabel.png beside cat.jpg.",
    )
    mask_column: str | None = Field(None, description="The column of masks (in a table: of file names).")
    allow_bad_captions: bool = Field(
        default=False, description="Train although captions are missing (then empty), empty, or all the same."
    )
    streaming: bool = Field(
        default=False, description="Read a data set of the hub as training goes on, without storing it."
    )
    shuffle_buffer: PositiveInt = Field(
        1000, description="Samples of a stream that are held in memory and shuffled, and as many behind them."
    )
    num_samples: PositiveInt | None = Field(
        None, description="About how many samples a stream has, where it does not say so itself."
    )

    @model_validator(mode="after")
    def _masks_are_wanted(self) -> Config:
        if self.mask_column is not None and not self.masks:
            message = "mask_column is set but masks is false; set data.masks=true or leave it out"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _streamed(self) -> Config:
        self._refuse_changed("streaming is false", self.streaming, "shuffle_buffer", "num_samples")
        unread = ("buckets", "masks", "captions", "bucket_step", "bucket_upscale")
        self._refuse_changed("streaming is true", not self.streaming, *unread)
        return self

    def build(self) -> Captioned | Streamed:
        """Find the pictures and check the captions.

        Raises:
            DataError: There is no such data set, no picture, or the captions are not as they should be.
        """
        if self.streaming:
            return _stream(self)
        rows = find_rows(self)
        if not len(rows):
            message = f"{self.path} has no pictures."
            raise DataError(message)
        problem = _caption_problem(rows)
        if problem and not self.allow_bad_captions:
            allow = "To train on them all the same: data.allow_bad_captions=true"
            raise DataError("\n".join([f"{self.path}: {problem}", *rows.notes, allow]))
        notes = [*rows.notes, *([f"{self.path}: {problem}"] if problem else [])]
        for note in notes:
            progress.note(note)
        return Captioned(rows, notes, masked=self.masks)


class Captioned:
    """Samples by index, light to hold and to send to another process."""

    def __init__(self, rows: Rows, notes: Sequence[str] = (), *, masked: bool = False) -> None:
        self.rows, self.masked = rows, masked
        self.notes = notes
        """What the user should know about the data, a sentence or two each."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        extra = {"mask": row.mask} if self.masked else {}
        return Sample(_shown(row.name), row.image, row.caption or "", extra=extra, others=row.others)

    def verify(self, look: Look | None = None) -> None:
        """Read every picture once, with a progress bar; of more than ``DECODED_AT_MOST`` only the headers.

        ``look`` is called with the name and the decoded picture of each, from several threads.

        Raises:
            DataError: With the number of broken pictures and the first of them.
        """
        broken = list(self._broken(look))
        if broken:
            message = (
                f"{len(broken)} of {len(self)} pictures cannot be used:\n{listing(broken)}.\n"
                f"Repair them or take them out, then start again."
            )
            raise DataError(message)

    def _broken(self, look: Look | None) -> Iterator[str]:
        decoded = len(self) <= DECODED_AT_MOST or self.masked
        check = functools.partial(_check_pixels, look=look) if decoded else _check_header
        workers = min(8, os.cpu_count() or 1)
        with progress.bar("checking pictures", len(self)) as advance, ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(self), AT_ONCE):
                rows = [self.rows[index] for index in range(start, min(start + AT_ONCE, len(self)))]
                for problem in pool.map(check, rows):
                    advance()
                    if problem:
                        yield problem


def _shown(name: str) -> str:
    """Leave out where the package lies, which says nothing to anybody: engravings/000-cat.png."""
    return name.removeprefix(f"{DATASETS}{os.sep}")


def _check_pixels(row: Row, look: Look | None) -> str:
    from brushwork import images
    from brushwork.readers import masks

    try:
        image = images.decode(row.image.read(), name=row.name)
    except DataError as error:
        return str(error)
    if look is not None:
        look(_shown(row.name), image)
    return masks.problem(row)


def _check_header(row: Row) -> str:
    import io

    from brushwork import images
    from brushwork.readers import ImageFile

    try:
        # A file is opened where it lies, so that only its first bytes are read.
        file = Path(row.image.path) if isinstance(row.image, ImageFile) else io.BytesIO(row.image.read())
        images.inspect(file, row.name).close()
    except DataError as error:
        return str(error)
    return ""


def _caption_problem(rows: Rows) -> str:
    """Say what is wrong with the captions, if anything."""
    bad, same, start = 0, True, None
    named: list[str] = []
    for index, caption in enumerate(rows.captions()):
        start = caption if index == 0 else start
        same = same and caption == start
        if not caption:
            bad += 1
            named += [rows[index].name] if len(named) <= LISTED else []
    if bad:
        more = f" and {bad - LISTED} more" if bad > LISTED else ""
        return f"{bad} of {len(rows)} pictures have no caption or an empty one: {', '.join(named[:LISTED])}{more}."
    if len(rows) > 1 and same:
        return f"all {len(rows)} captions are the same: {start!r}."
    return ""


def find_rows(config: Config) -> Rows:
    """Choose the reader for a path; the captions are not looked at."""
    from brushwork.readers import arrow, masks, shards
    from brushwork.readers import folder as folders
    from brushwork.readers.spool import Spool

    if shards.is_shards(config.path):
        unread = ("subset", "revision", "image_column", "masks", "mask_column")
        _refuse(config, f"{config.path} is tar shards", *unread)
        return shards.read(config.path, config.caption_column)
    folder = find_folder(config.path)
    if folder is None:
        dataset = arrow.load(config.path, config.subset, config.split, config.revision, hint=nearest_data(config.path))
        return _arrow_rows(dataset, config)
    _refuse(config, f"{config.path} is a folder", "revision")
    if arrow.is_saved(folder):
        _refuse(config, f"{config.path} is a saved data set", "subset")
        return _arrow_rows(arrow.saved(folder, config.split), config)
    files: Iterable[str] = Spool(folders.walk(folder))
    if is_shards(files):
        return _arrow_rows(arrow.load(str(folder), config.subset, config.split), config)
    _refuse(config, f"{config.path} is a folder of pictures", "subset")
    files, beside = masks.split(files)
    rows = _from_folder(folder, files, config)
    masks.check(folder, files, beside, wanted=config.masks, in_table=bool(rows.masks))
    return masks.MaskedRows(rows, beside) if beside else rows


def _stream(config: Config) -> Streamed:
    """Open a data set of the hub, or a folder of Parquet files, as a stream."""
    from brushwork.readers import arrow, shards, stream

    folder = None if shards.is_shards(config.path) else find_folder(config.path)
    if shards.is_shards(config.path) or (folder and (arrow.is_saved(folder) or not list(folder.rglob("*.parquet")))):
        message = (
            f"data.streaming: {config.path} lies here already and is read picture by picture in any case; "
            f"set data.streaming=false."
        )
        raise DataError(message)
    known = KNOWN.get(config.path, (None, None))
    asked = stream.Asked(
        config.path, config.image_column or known[0], config.caption_column or known[1], config.shuffle_buffer,
        config.num_samples, config.validation_split, config.allow_bad_captions,
    )  # fmt: skip
    hint = nearest_data(config.path)
    path = str(folder or config.path)
    return stream.Streamed(stream.open_stream(path, config.subset, config.split, config.revision, hint=hint), asked)


def _arrow_rows(dataset: Dataset | Sliced, config: Config) -> Rows:
    from brushwork.readers import arrow

    known = KNOWN.get(config.path, (None, None))
    image, caption = config.image_column or known[0], config.caption_column or known[1]
    return arrow.rows(dataset, image, caption, config.path, config.mask_column, masks=config.masks)


def _refuse(config: Config, because: str, *options: str) -> None:
    """Refuse options that would have no effect."""
    given = [f"data.{name}" for name in options if getattr(config, name) not in (None, False)]
    if given:
        message = f"{because}, so {' and '.join(given)} cannot apply. Leave it out."
        raise DataError(message)


def find_folder(path: str) -> Path | None:
    """Return the folder that ``path`` names: one on disk, else an embedded data set; None for what may be a hub id."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if path in embedded():
        return DATASETS / path
    if folder.exists():
        message = f"data: {path!r} is a file. Give the folder that the pictures are in."
        raise DataError(message)
    if path.count("/") != 1 or path.startswith((".", "/", "~")) or path.endswith("/"):
        hint = nearest_data(path) or f" Embedded data sets: {', '.join(embedded()) or 'none'}."
        message = f"data: there is no folder {path!r}.{hint}"
        raise DataError(message)
    return None


def embedded() -> list[str]:
    """Return the names of the data sets in the package."""
    return sorted(each.name for each in DATASETS.iterdir() if each.is_dir()) if DATASETS.is_dir() else []


def nearest_data(path: str) -> str:
    """Return a hint at a folder or an embedded data set with nearly this name, if there is one."""
    parent = Path(path).expanduser().parent
    siblings = [str(each) for each in parent.iterdir() if each.is_dir()] if parent.is_dir() else []
    hint = nearest(path, [*siblings, *embedded()])
    return hint if "Did you mean" in hint else ""


def is_shards(files: Iterable[str]) -> bool:
    """Return whether a folder holds Parquet files with the pictures in them, as a clone of a hub data set does."""
    from brushwork.readers import folder as folders

    tables = (each for each in files if each.endswith(".parquet") and Path(each).name != "metadata.parquet")
    return any(tables) and not any(map(folders.is_picture, files))


def _from_folder(folder: Path, files: Iterable[str], config: Config) -> FileRows:
    """Read a folder of pictures, with its captions in a table or in files beside the pictures."""
    from brushwork.readers import folder as folders
    from brushwork.readers import metadata

    table = metadata.find(folder) or metadata.find(folder / config.split)
    if config.captions == "metadata" and table is None:
        message = f"data.captions=metadata: {folder} has none of {', '.join(metadata.NAMES)}."
        raise DataError(message)
    if table is None or config.captions in ("txt", "caption"):
        _refuse(
            config, f"the captions of {config.path} are in text files", "image_column", "caption_column", "mask_column"
        )
        suffixes = folders.CAPTIONS if config.captions == "auto" else (f".{config.captions}",)
        return folders.read(folder, files, suffixes)
    if config.captions == "auto":
        _refuse_both(table, files)
    columns = (config.image_column, config.caption_column, config.mask_column)
    return metadata.read(table, files, *columns, masks=config.masks)


def _refuse_both(table: Path, files: Iterable[str]) -> None:
    from brushwork.readers import folder as folders
    from brushwork.readers.spool import Few

    found, first = Few(), ""
    for path, texts in folders.matched(files):
        if path is not None and texts:
            found.add(*texts)
            first = first or texts[0]
    if found:
        message = (
            f"{table.parent} has both {table.name} and {found.count} captions beside the pictures ({found}).\n"
            f"Say which are meant: data.captions=metadata or data.captions={Path(first).suffix[1:].lower()}"
        )
        raise DataError(message)
