"""Prompts and no pictures: the base draws them before training, for objectives that need no example of yours.

    source = Config(path="prompts.txt", images_per_prompt=4).build()    # its pictures are there once a run drew them

For `clip-guided`, which moves what the base draws towards a text (DiffusionCLIP's setting: Kim et al. 2022,
arXiv:2110.02711, section 4), and for `lcm`, which needs any pictures that the base could have drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from brushwork import prompts
from brushwork.readers import ImageFile
from brushwork.sources import ImageSettings
from brushwork.values import Prior, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.values import ImageBytes


class Config(ImageSettings):
    """Settings of prompts whose pictures the base draws."""

    type: Literal["prompts"] = "prompts"
    path: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Prompts: a text file with one in each line, the name of an embedded list, or a list written here."
    )
    images_per_prompt: PositiveInt = Field(4, description="So many pictures of each, at different seeds.")
    folder: str | None = Field(
        None, description="Where the pictures lie or will lie; default: in the cache. A run writes here which."
    )

    def build(self) -> Prompted:
        """Read the prompts.

        Raises:
            ConfigError: There is no such list, or it holds nothing.
        """
        wish = self.drawings()
        names = [f"prior-{number:05}.png" for number in range(wish.count)]
        return Prompted(wish.prompts, [Path(wish.folder or "", name) for name in names])

    def drawings(self) -> Prior:
        """Return what the base has to draw, which is all there is; see ``brushwork.prior.draw_data``."""
        texts = tuple(prompts.resolve(self.path, key="data.path"))
        count = len(texts) * self.images_per_prompt
        return Prior("pictures of the prompts", texts, count, 1.0, "data.path", self.folder)


@dataclass(frozen=True)
class NotDrawn:
    """A picture that a run will draw; until then its contents are its name."""

    name: str

    def read(self) -> bytes:
        """Return the name."""
        return self.name.encode()


class Prompted:
    """The pictures of all prompts once, then those of all prompts at the next seed."""

    def __init__(self, texts: Sequence[str], paths: Sequence[Path]) -> None:
        self.texts, self.paths = texts, paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        image: ImageBytes = ImageFile(str(path)) if path.is_file() else NotDrawn(path.name)
        return Sample(path.name, image, self.texts[index % len(self.texts)])
