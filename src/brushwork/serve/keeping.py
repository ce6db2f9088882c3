"""What is removed by itself, so that a disk does not fill in silence.

    keeper = Keeper(engine)
    await keeper.sweep()                            # {"uploads": 3, "jobs": 0, ...}: how many of each went

- A picture that was sent and that no job names goes after ``keep.uploads_hours``; one that a job names goes with the
  last such job.
- Beyond ``keep.pictures`` or ``keep.bytes`` the oldest jobs go, with their pictures; never one that waits or runs.
- An exported file goes after ``keep.exports_hours``, for it can be made again.
- A data set goes only where ``keep.datasets_days`` says so, and only if it was made in the studio, nobody touched it
  for so long, and no run was trained on it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from brushwork.errors import UserError
from brushwork.serve.store import DiskFull

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.serve.engine import Engine

EVERY = 600.0
"""Seconds between two sweeps."""
HOUR, DAY = 3600.0, 86400.0
EXPORTS = "exports"
LOG = logging.getLogger(__name__)


class Keeper:
    """Removes what nobody needs any more, now and then."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.keep = engine, engine.config.keep
        self.exports = engine.config.data / EXPORTS

    async def watch(self) -> None:
        """Sweep, again and again."""
        while True:
            try:
                gone = {name: count for name, count in (await self.sweep()).items() if count}
            except (OSError, DiskFull) as error:
                LOG.warning("nothing could be removed: %s", error)  # a full disk is told to whoever asks for something
            else:
                if gone:
                    LOG.warning("removed: %s", ", ".join(f"{count} {name}" for name, count in gone.items()))
            await asyncio.sleep(EVERY)

    async def sweep(self) -> dict[str, int]:
        """Remove what is to go and return how many of each."""
        exports = await asyncio.to_thread(_old_files, self.exports, self.keep.exports_hours * HOUR)
        uploads = self.forget_uploads(time.time() - self.keep.uploads_hours * HOUR)
        jobs = self._forget_jobs(await asyncio.to_thread(_sizes, self.engine.store.images))
        sets = 0 if self.keep.datasets_days is None else await asyncio.to_thread(self._forget_sets)
        return {"exports": exports, "uploads": uploads, "jobs": jobs, "data sets": sets}

    def forget_uploads(self, before: float | None = None) -> int:
        """Remove the pictures that were sent before a time and that no job names; return how many."""
        return sum(
            self.engine.store.remove_upload(each) for each in self.engine.store.uploads(used=False, before=before)
        )

    def forget(self, job: str) -> None:
        """Remove a job that is over, with its pictures.

        Raises:
            UserError: It waits or runs.
        """
        live = self.engine.live.get(job)
        if live is not None and not live.over.is_set():
            message = "job: it is not over; cancel it first (DELETE /api/v1/jobs/ID)"
            raise UserError(message)
        self.engine.live.pop(job, None)
        self.engine.store.forget(job)

    def _forget_jobs(self, sizes: dict[str, int]) -> int:
        """Remove the oldest jobs until those that stay keep to both limits."""
        ended = self.engine.store.ended()
        count, weight = sum(len(pictures) for _, pictures in ended), sum(sizes.values())
        gone = 0
        for job, pictures in ended:
            if weight <= self.keep.bytes and (self.keep.pictures is None or count <= self.keep.pictures):
                break
            self.forget(job)
            count -= len(pictures)
            weight -= sum(sizes.get(each, 0) for each in pictures)
            gone += 1
        return gone

    def _forget_sets(self) -> int:
        datasets, days = self.engine.trainings.datasets, self.keep.datasets_days
        assert days is not None
        names = datasets.abandoned(days * DAY)
        for name in names:
            datasets.remove(name)
        return len(names)

    def used(self) -> dict[str, Any]:
        """Return how much there is of everything that takes room; reads the disk."""
        sizes = _sizes(self.engine.store.images)
        unused = self.engine.store.uploads(used=False)
        uploads = [*unused, *self.engine.store.uploads(used=True)]
        drawn = sum(sizes.values()) - sum(sizes.get(each, 0) for each in uploads)
        return {
            "pictures": {"count": len(sizes) - len([each for each in uploads if each in sizes]), "bytes": drawn},
            "uploads": {
                "count": len(uploads),
                "bytes": sum(sizes.get(each, 0) for each in uploads),
                "unused": len(unused),
                "unused_bytes": sum(sizes.get(each, 0) for each in unused),
            },
            "datasets": {"bytes": self.engine.trainings.datasets.weight()},
            "exports": {"bytes": sum(_sizes(self.exports).values())},
            "keep": self.keep.model_dump(),
            "limits": {name: getattr(self.engine.config.limits, name) for name in ("datasets", "uploads", "dataset")},
        }

    def check_room(self, more: int) -> None:
        """Refuse a picture for which there is no room among those that no job names.

        Raises:
            UserError: With the limit and what to do.
        """
        most, unused = self.engine.config.limits.uploads, self.engine.store.uploads(used=False)
        paths = [self.engine.store.path(each) for each in unused]
        there = sum(each.stat().st_size for each in paths if each.is_file())
        if there + more > most:
            message = (
                f"image: {len(unused)} sent pictures that no job names have {there:,} bytes, and with this one they "
                f"would be beyond the limit of this server, {most:,}. Remove some: DELETE /api/v1/images/ID, or all: "
                f"DELETE /api/v1/storage/uploads"
            )
            raise UserError(message)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file by its stem."""
    return {each.stem: each.stat().st_size for each in folder.glob("*") if each.is_file()}


def _old_files(folder: Path, seconds: float) -> int:
    old = [each for each in folder.glob("*") if each.is_file() and time.time() - each.stat().st_mtime > seconds]
    for each in old:
        each.unlink(missing_ok=True)
    return len(old)
