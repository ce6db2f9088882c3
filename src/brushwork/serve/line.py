"""The queue: bounded, fair between clients, in the order of arrival for each of them.

line = Line(most=256)
line.join("job-1", client="a"); line.join("job-2", client="a"); line.join("job-3", client="b")
line.turn(), line.turn()                        # job-1, job-3: clients take turns, one picture each
line.leave("job-1")                             # all of its pictures are handed out
"""

from __future__ import annotations

from collections import OrderedDict, deque

from brushwork.errors import BrushworkError


class Full(BrushworkError):  # noqa: N818  (reads as what the queue is)
    """So many jobs wait already."""


class Line:
    """Jobs by id that have pictures to hand out."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._waiting: OrderedDict[str, deque[str]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def join(self, job: str, client: str) -> None:
        """Put a job at its client's end.

        Raises:
            Full: With the limit.
        """
        self.check_free()
        self._waiting.setdefault(client, deque()).append(job)

    def check_free(self) -> None:
        """Refuse another job where there is no room for it.

        Raises:
            Full: With the limit.
        """
        if len(self) >= self.most:
            message = f"{self.most} jobs wait already, which is the limit; try again later"
            raise Full(message)

    def turn(self) -> str | None:
        """Return the job whose turn it is, and let its client wait for all others before the next."""
        if not self._waiting:
            return None
        client = next(iter(self._waiting))
        self._waiting.move_to_end(client)
        return self._waiting[client][0]

    def order(self) -> list[str]:
        """Return the jobs in the order in which they begin, if nobody joins and each has one picture."""
        every = list(self._waiting.values())
        longest = max(map(len, every), default=0)
        return [jobs[place] for place in range(longest) for jobs in every if place < len(jobs)]

    def leave(self, job: str) -> bool:
        """Take a job out and return whether it was there."""
        for client, jobs in self._waiting.items():
            if job in jobs:
                jobs.remove(job)
                if not jobs:
                    del self._waiting[client]
                return True
        return False
