"""A job while it is queued or drawn: how far it is, and the events that clients follow.

async for event in live.follow(after=3):        # from the fourth on, until the job is over
    ...
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork.serve.jobs import OVER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from brushwork.serve.jobs import Planned

KEPT = 500
"""Events of a job that a client which comes back can still be told."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; ``number`` counts from 1."""

    number: int
    type: str
    data: dict[str, Any]


@dataclass
class Live:
    """A job that is not over, or was not when its followers came."""

    id: str
    client: str
    kind: str
    planned: list[Planned]
    pictures: list[str]
    left: deque[int]
    """Places of pictures that were not handed out yet."""
    state: str = "queued"
    steps: dict[int, float] = field(default_factory=dict)
    """How far each picture is, 0 to 1, by its place."""
    finished: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    started: float | None = None
    preview: str | None = None
    """The newest preview, a JPEG in base64."""
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=KEPT))
    count: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and another put in its place, whenever something happens."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _previewed: Event | None = None
    """The event that has the newest preview."""

    @property
    def progress(self) -> float:
        """How much is drawn, 0 to 1."""
        return sum(self.steps.values()) / len(self.planned)

    @property
    def eta(self) -> float | None:
        """Seconds that it will still take, judged by those so far; None before the first step."""
        if self.started is None or not self.progress:
            return None
        return (time.monotonic() - self.started) * (1 / self.progress - 1)

    def tell(self, kind: str, **data: Any) -> None:
        """Let everybody who follows know."""
        self.count += 1
        if "preview" in data or kind in OVER:
            self._drop_preview()
        self.events.append(Event(self.count, kind, data))
        if "preview" in data:
            self.preview, self._previewed = data["preview"], self.events[-1]
        if kind in OVER:
            self.state = kind
            self.over.set()
        news, self.news = self.news, asyncio.Event()
        news.set()

    def _drop_preview(self) -> None:
        """Keep only the newest preview: hundreds of them for each job would fill the memory."""
        self.preview = None
        if self._previewed is not None:
            self._previewed.data.pop("preview", None)
            self._previewed = None

    async def follow(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield the events after a number, and then each new one until the job is over."""
        while True:
            news = self.news  # before the look: what is told while an event is on its way must not be missed
            for event in [each for each in self.events if each.number > after]:
                after = event.number
                yield event
            if self.over.is_set() and after >= self.count:
                return
            await news.wait()
