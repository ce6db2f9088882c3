"""The hub where it cannot be reached: what is in its cache is used at once, nothing is tried again and again.

    with access() as lacking:
        folder = snapshot_download(...)
    # lacking: None, or "the hub (https://...) cannot be reached"

The hub's own client asks six times, each time waiting longer, some 23 seconds in all, even for what lies in its cache.
"""

from __future__ import annotations

import contextlib
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 5.0
"""That an answer may take."""


def unreachable() -> str | None:
    """Return why the hub cannot be asked, after one question; None: it answers, whatever it says."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answers: list[str] = []
    # In a thread of its own, because looking up a name can take longer than any timeout.
    thread = threading.Thread(target=_ask, args=(constants.ENDPOINT, answers), daemon=True)
    thread.start()
    thread.join(SECONDS)
    reason = answers[0] if answers else f"no answer within {SECONDS:g} s"
    return f"the hub ({constants.ENDPOINT}) cannot be reached: {reason}" if reason else None


def _ask(address: str, answers: list[str]) -> None:
    """Put the reason why an address does not answer into ``answers``, or an empty text when it does."""
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310  (the hub's own https address)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):  # noqa: S310  (as above)
            answers.append("")
    except urllib.error.HTTPError:
        answers.append("")  # it answered, whatever it said
    except OSError as error:
        answers.append(str(getattr(error, "reason", error)))


@contextlib.contextmanager
def access() -> Iterator[str | None]:
    """Within this context the hub's client uses its cache alone, if the hub cannot be reached; yields why."""
    from huggingface_hub import constants

    lacking, before = unreachable(), constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or lacking is not None
    try:
        yield lacking
    finally:
        constants.HF_HUB_OFFLINE = before
