"""Opt-outs in the headers of an answer: what says that a picture is not to be used for training.

    reserved({"X-Robots-Tag": ["noai, noimageai"]}, "brushwork")      # "x-robots-tag: noai"

- ``X-Robots-Tag``: the directives below; one for another robot (``otherbot: noai``) is none for us.
- ``TDM-Reservation: 1``: the W3C community group's TDM Reservation Protocol.
- ``Content-Usage: train-ai=n``: the IETF's AI Preferences (draft-ietf-aipref-attach).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

DIRECTIVES = ("noai", "noimageai", "noindex", "noimageindex", "none")
TAKES_VALUE = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
"""Directives with a colon of their own, which name no robot."""


def reserved(headers: Mapping[str, Iterable[str]], agent: str) -> str | None:
    """Return which header reserves the picture, or None.

    Args:
        headers: Lower-case name -> every value that was sent.
        agent: Our name, to which a directive may be addressed.
    """
    names = {agent.partition("/")[0].strip().lower(), "brushwork", "*"}
    for value in headers.get("x-robots-tag", ()):
        for directive in _directives(value, names):
            if directive in DIRECTIVES:
                return f"x-robots-tag: {directive}"
    if any(value.strip() == "1" for value in headers.get("tdm-reservation", ())):
        return "tdm-reservation: 1"
    usages = [
        each.strip().lower().replace(" ", "") for value in headers.get("content-usage", ()) for each in value.split(",")
    ]
    return "content-usage: train-ai=n" if "train-ai=n" in usages else None


def _directives(value: str, names: Collection[str]) -> Iterable[str]:
    """Yield the directives that are for everyone or for us: a robot's name holds until the next one."""
    ours = True
    for part in value.lower().split(","):
        name, colon, rest = part.partition(":")
        if colon and name.strip() not in TAKES_VALUE:
            ours, part = name.strip() in names, rest  # noqa: PLW2901  (what follows the name)
        if ours:
            yield part.strip()
