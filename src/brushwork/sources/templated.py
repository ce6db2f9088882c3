"""Pictures captioned by templates around a new word, for Textual Inversion: every picture under every template.

    source = Config(path="mascot", templates="object", token="<mascot>").build()
    source[0].caption                               # "a photo of a <mascot>"

The lists are those of the authors' code (rinongal/textual_inversion, ldm/data/personalized.py and
personalized_style.py), which took them from CLIP's prompts for ImageNet; what stands there twice stands here twice.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from brushwork import progress
from brushwork.errors import DataError
from brushwork.sources import ImageSettings, captioned

if TYPE_CHECKING:
    from brushwork.readers import Rows
    from brushwork.values import Sample

OBJECT = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)
STYLE = (
    "a painting in the style of {}",
    "a rendering in the style of {}",
    "a cropped painting in the style of {}",
    "the painting in the style of {}",
    "a clean painting in the style of {}",
    "a dirty painting in the style of {}",
    "a dark painting in the style of {}",
    "a picture in the style of {}",
    "a cool painting in the style of {}",
    "a close-up painting in the style of {}",
    "a bright painting in the style of {}",
    "a cropped painting in the style of {}",
    "a good painting in the style of {}",
    "a close-up painting in the style of {}",
    "a rendition in the style of {}",
    "a nice painting in the style of {}",
    "a small painting in the style of {}",
    "a weird painting in the style of {}",
    "a large painting in the style of {}",
)
TEMPLATES = {"object": OBJECT, "style": STYLE}


class Config(ImageSettings):
    """Settings of pictures that are captioned by templates."""

    type: Literal["templated"] = "templated"
    path: str = Field(
        min_length=1, description="Pictures: a folder, a hub id, or an embedded data set; captions are not read."
    )
    templates: Literal["object", "style"] = Field(
        "object", description="object: a photo of a WORD, and 26 more; style: a painting in the style of WORD, 18 more."
    )
    token: str | None = Field(None, description="The word; default: the method's token.")

    @property
    def subject(self) -> bool:
        """Whether the pictures show one subject; see ``brushwork.defaults``."""
        return self.templates == "object"

    def build(self) -> Templated:
        """Find the pictures.

        Raises:
            DataError: There is no picture, or no word to write.
        """
        if self.token is None:
            message = "data.token: templates need a word. Give one, or use a method that has one: textual-inversion."
            raise DataError(message)
        rows = captioned.find_rows(captioned.Config(path=self.path))
        for note in rows.notes:
            progress.note(note)
        return Templated(rows, [template.format(self.token) for template in TEMPLATES[self.templates]])


class Templated:
    """Every picture under the first caption, then every picture under the second, and so on."""

    def __init__(self, rows: Rows, captions: list[str]) -> None:
        self.pictures, self.captions = captioned.Captioned(rows), captions
        self.distinct = len(rows)
        """Sample i shows picture i modulo so many."""

    def __len__(self) -> int:
        return self.distinct * len(self.captions)

    def __getitem__(self, index: int) -> Sample:
        caption, picture = divmod(index, self.distinct)
        return dataclasses.replace(self.pictures[picture], caption=self.captions[caption], others=())

    def verify(self, look: captioned.Look | None = None) -> None:
        """Read every picture once; see ``brushwork.sources.captioned``."""
        self.pictures.verify(look)
