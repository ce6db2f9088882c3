"""A few pictures of one subject and a word for it (DreamBooth: Ruiz et al. 2022, arXiv:2208.12242).

    source = Config(path="mascot", instance_prompt="a sks teddy bear", class_prompt="a teddy bear").build()
    source[0].caption                               # "a sks teddy bear"

With a ``class_prompt`` the run lets the base draw pictures of the class before it begins, and trains on them too.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from brushwork import progress
from brushwork.errors import DataError, listing
from brushwork.sources import ImageSettings, captioned
from brushwork.values import Prior

if TYPE_CHECKING:
    from brushwork.readers import Rows
    from brushwork.values import Sample

DEFAULT_IMAGES = 100
"""The number of class images in diffusers' script."""


class Config(ImageSettings):
    """Settings of pictures of one subject, with or without prior preservation."""

    type: Literal["dreambooth"] = "dreambooth"
    path: str = Field(min_length=1, description="Pictures of the subject: a folder, a hub id, or an embedded data set.")
    instance_prompt: str | None = Field(
        None, min_length=1, description="The caption of all of them, a sks dog; default: the captions beside them."
    )
    instance_token: str | None = Field(
        None, min_length=1, description="The subject's word, sks; checked to be in every caption. Default: not checked."
    )
    class_prompt: str | None = Field(
        None, min_length=1, description="The class without the word, a dog: switches prior preservation on."
    )
    class_path: str | None = Field(
        None, description="Where the class images lie or are drawn to; default: a folder of the cache."
    )
    num_class_images: PositiveInt = Field(
        DEFAULT_IMAGES, description="So many; what the folder lacks is drawn by the base, once."
    )
    prior_loss_weight: PositiveFloat = Field(1.0, description="How much a class image counts beside an instance image.")

    subject: ClassVar[bool] = True
    """The pictures show one subject; see ``brushwork.defaults``."""

    def build(self) -> DreamBooth:
        """Find the pictures and check prompts and captions.

        Raises:
            DataError: There is no picture, a caption is missing, or the subject's word is not where it should be.
        """
        self._check_class()
        rows = captioned.find_rows(captioned.Config(path=self.path))
        for note in rows.notes:
            progress.note(note)
        if self.instance_prompt is None:
            bare = [rows[index].name for index, caption in enumerate(rows.captions()) if not caption]
            if bare:
                message = (
                    f"{self.path}: {len(bare)} of {len(rows)} pictures have no caption: {listing(bare)}.\n"
                    f'Write one beside each, or give one for all: data.instance_prompt="a sks dog"'
                )
                raise DataError(message)
        self._check_token(rows)
        return DreamBooth(rows, self.instance_prompt)

    def prior(self) -> Prior | None:
        """Return what the base draws before training; None without a class prompt."""
        if self.class_prompt is None:
            return None
        texts, count = (self.class_prompt,), self.num_class_images
        return Prior("class images", texts, count, self.prior_loss_weight, "data.class_path", self.class_path)

    def _check_class(self) -> None:
        options = {"class_path": None, "num_class_images": DEFAULT_IMAGES, "prior_loss_weight": 1.0}
        given = [f"data.{name}" for name, default in options.items() if getattr(self, name) != default]
        if self.class_prompt is None and given:
            message = (
                f"{' and '.join(given)} cannot apply without data.class_prompt, which switches prior preservation on."
            )
            raise DataError(message)
        if self.instance_prompt and self.class_prompt and not _words(self.instance_prompt) - _words(self.class_prompt):
            message = (
                f"data.instance_prompt: {self.instance_prompt!r} has no word that data.class_prompt "
                f"{self.class_prompt!r} lacks, so nothing names the subject. Write a rare word into it, such as sks."
            )
            raise DataError(message)
        own, drawn = (Path(each).expanduser().resolve() for each in (self.path, self.class_path or "."))
        if self.class_path is not None and (own.is_relative_to(drawn) or drawn.is_relative_to(own)):
            message = (
                f"data.class_path: {self.class_path} and data.path {self.path} lie within one another, so pictures of "
                f"the subject and of its class would be taken for each other. Choose a folder of its own."
            )
            raise DataError(message)

    def _check_token(self, rows: Rows) -> None:
        token = self.instance_token
        if token is None:
            return
        if self.instance_prompt is not None and not _has(self.instance_prompt, token):
            message = f"data.instance_prompt: {self.instance_prompt!r} lacks the data.instance_token {token!r}."
            raise DataError(message)
        every = (rows[index] for index in range(len(rows)))
        lacking = [row.name for row in every if not all(_has(text or "", token) for text in (row.caption, *row.others))]
        if self.instance_prompt is None and lacking:
            message = f"data.instance_token: {token!r} is not in the captions of {listing(lacking)}."
            raise DataError(message)
        if self.class_prompt is not None and _has(self.class_prompt, token):
            message = (
                f"data.class_prompt: {self.class_prompt!r} has the subject's own word {token!r} in it; the class "
                f"images would teach it what every other of its kind looks like. Leave the word out."
            )
            raise DataError(message)


def _has(text: str, token: str) -> bool:
    """Return whether a text has a token as a word of its own; tokenizers do not tell capitals apart."""
    return re.search(rf"(?<!\w){re.escape(token)}(?!\w)", text, re.IGNORECASE) is not None


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class DreamBooth:
    """The pictures of the subject; the class images join them in the loop."""

    def __init__(self, rows: Rows, prompt: str | None) -> None:
        self.pictures, self.prompt = captioned.Captioned(rows), prompt

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        sample = self.pictures[index]
        return sample if self.prompt is None else dataclasses.replace(sample, caption=self.prompt, others=())

    def verify(self, look: captioned.Look | None = None) -> None:
        """Read every picture once; see ``brushwork.sources.captioned``."""
        self.pictures.verify(look)
