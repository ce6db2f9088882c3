"""Pictures that were preferred, each with the one that it was preferred to: people's votes, or a metric's.

    source = Config(path="votes").build()
    source[0].image, source[0].extra["rejected"], source[0].caption

``path`` is a folder with a table of pairs, a saved data set, or one from the hub; ``brushwork.readers.pairs`` has the
columns, ``brushwork data pairs`` writes such a folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from brushwork import progress
from brushwork.errors import DataError, listing
from brushwork.readers import Row
from brushwork.sources import ImageSettings, captioned
from brushwork.values import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from brushwork.readers import pairs as readers


class Config(ImageSettings):
    """Settings of preference pairs."""

    type: Literal["pairs"] = "pairs"
    path: str = Field(min_length=1, description="A folder with a table of pairs, a saved data set, or a hub id.")
    caption_column: str | None = Field(None, description="The column of captions.")
    split: str = Field("train", description="The split of a data set that has splits.")
    subset: str | None = Field(None, description="The configuration of a data set on the hub that has several.")
    revision: str | None = Field(None, description="The hub revision of the data set.")

    def build(self) -> Pairs:
        """Find the pairs and check the captions.

        Raises:
            DataError: There is no such data set, it holds no pairs, none has a preference, or captions are missing.
        """
        found = find_pairs(self)
        bare = [index for index, caption in enumerate(found.captions()) if not caption]
        if bare:
            names = listing(found[index].name for index in bare)
            message = f"{self.path}: {len(bare)} of {len(found)} pairs have no caption: {names}."
            raise DataError(message)
        for note in found.notes:
            progress.note(note)
        return Pairs(found)


class Pairs:
    """Samples by index: the chosen picture, and in ``extra`` the rejected one."""

    def __init__(self, pairs: readers.Pairs) -> None:
        self.pairs = pairs
        self.notes = pairs.notes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self.pairs[index]
        return Sample(pair.name, pair.chosen, pair.caption or "", extra={"rejected": pair.rejected})

    def verify(self, look: captioned.Look | None = None) -> None:
        """Read every picture once; see ``brushwork.sources.captioned``."""
        captioned.Captioned(_Both(self.pairs)).verify(look)


class _Both:
    """The pictures of all pairs as rows: chosen, rejected, chosen ..."""

    notes: Sequence[str] = ()

    def __init__(self, pairs: readers.Pairs) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return 2 * len(self._pairs)

    def __getitem__(self, index: int) -> Row:
        pair = self._pairs[index // 2]
        if index % 2:
            return Row(f"{pair.name} (rejected)", pair.rejected, pair.caption)
        return Row(pair.name, pair.chosen, pair.caption)

    def captions(self) -> Iterable[str | None]:
        """Yield every caption twice."""
        return (caption for caption in self._pairs.captions() for _ in range(2))


def find_pairs(config: Config) -> readers.Pairs:
    """Choose the reader for a path; the captions are not looked at.

    Raises:
        DataError: There is no such data set, or it holds no pairs.
    """
    from brushwork.readers import arrow, metadata, pairs
    from brushwork.readers import folder as folders

    folder = captioned.find_folder(config.path)
    if folder is None:
        hint = captioned.nearest_data(config.path)
        dataset = arrow.load(config.path, config.subset, config.split, config.revision, hint=hint)
        return pairs.ArrowPairs(dataset, config.caption_column, config.path)
    if arrow.is_saved(folder):
        _refuse(config, f"{config.path} is a saved data set", "subset", "revision")
        return pairs.ArrowPairs(arrow.from_disk(folder, config.split), config.caption_column, config.path)
    table = metadata.find(folder) or metadata.find(folder / config.split)
    if table is not None:
        _refuse(config, f"{config.path} is a folder with a table", "subset", "revision")
        return pairs.PairFiles(table, config.caption_column)
    if captioned.is_shards(list(folders.walk(folder))):
        _refuse(config, f"{config.path} is a data set in Parquet files", "revision")
        dataset = arrow.load(str(folder), config.subset, config.split)
        return pairs.ArrowPairs(dataset, config.caption_column, config.path)
    message = (
        f"{config.path} has no table of pairs ({', '.join(metadata.NAMES)}). A line of the first would be\n"
        f'{{"chosen": "a.png", "rejected": "b.png", "text": "a cat"}}'
    )
    raise DataError(message)


def _refuse(config: Config, because: str, *options: str) -> None:
    """Refuse options that would have no effect."""
    given = [f"data.{name}" for name in options if getattr(config, name) is not None]
    if given:
        message = f"{because}, so {' and '.join(given)} cannot apply. Leave it out."
        raise DataError(message)
