"""A look at the training data: pictures spread evenly over it, cropped as training crops them, with their captions.

    for caption, picture in pictures(run.config.data, limit=48):
        picture.show()

The order is the data's own, and the same limit gives the same pictures every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork import images

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL.Image import Image

    from brushwork.config import PluginSettings
    from brushwork.values import Source


REFERENCES = 5_000
"""At most so many training pictures are measured beside the drawn ones; copies of others are not found."""


REMEMBERED = 10_000
"""At most so many captions are looked at to choose some."""


def pictures(data: PluginSettings, limit: int) -> Iterator[tuple[str, Image]]:
    """Yield at most ``limit`` captions with their pictures as squares of the training resolution.

    Raises:
        DataError: The data is not there any more, or a picture is broken.
    """
    source: Source = data.build()
    for index in spread(getattr(source, "distinct", len(source)), limit):
        yield _square(source, index, data)


def _square(source: Source, index: int, data: PluginSettings) -> tuple[str, Image]:
    from PIL import Image

    resolution, background = data.resolution, data.background  # type: ignore[attr-defined]  # every source of images has them
    sample = source[index]
    image = images.decode(sample.image.read(), background, sample.name)
    return sample.caption, Image.fromarray(images.square(image, resolution, centre=True, flip=False))


def references(data: PluginSettings, places: Sequence[int], count: int) -> list[Image]:
    """Return those at some places of ``pictures(data, REFERENCES)``; none when these are no longer ``count``.

    Raises:
        DataError: The data is not there any more, or a picture is broken.
    """
    source: Source = data.build()
    every = spread(getattr(source, "distinct", len(source)), REFERENCES)
    return [_square(source, every[place], data)[1] for place in places] if len(every) == count else []


def captions(source: Source, limit: int) -> list[str]:
    """Return at most ``limit`` different captions, spread evenly over those of a source; of many, over some of them."""
    count = source.distinct if getattr(source, "streaming", False) else len(source)  # type: ignore[attr-defined]
    every = (source[index].caption for index in spread(count, REMEMBERED))
    different = list(dict.fromkeys(caption for caption in every if caption))
    return [different[place] for place in spread(len(different), limit)]


def spread(count: int, limit: int) -> list[int]:
    """Return at most ``limit`` places among ``count``, evenly spread.

    >>> spread(10, 3)
    [0, 3, 6]
    """
    return [place * count // min(count, limit) for place in range(min(count, limit))]
