"""The engine of one machine: one event loop fetches, a pool of processes decodes.

    run(config, parts, done)        # done(number, table) for each part, in whatever order they are finished

All requests go through one loop, so the limits for a host hold exactly.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from brushwork.curate.build import parts
from brushwork.curate.build.fetching import Fetcher
from brushwork.errors import RunFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa

    from brushwork.curate.build.parts import Prepared, Tick
    from brushwork.curate.build.settings import BuildConfig
    from brushwork.curate.pixels import PictureConfig

    Parts = Iterable[tuple[int, pa.Table]]
    Done = Callable[[int, pa.Table], None]

ROWS_PER_SLOT = 16
"""So many rows for each request at a time are under way, so that one slow host does not hold up the others."""


def run(config: BuildConfig, todo: Parts, done: Done, tick: Tick) -> None:
    """Process parts.

    Args:
        config: What to do.
        todo: (number, rows) of each part, read as they are needed.
        done: Takes the table of a part.
        tick: Called for each row.

    Raises:
        RunFailed: A process died.
    """
    try:
        with _pool(config) as pool:
            asyncio.run(_run(config, todo, done, tick, pool))
    except BrokenProcessPool as error:
        message = "A process that decodes pictures died, perhaps for want of memory. Go on with --resume."
        raise RunFailed(message) from error


async def _run(config: BuildConfig, todo: Parts, done: Done, tick: Tick, pool: concurrent.futures.Executor) -> None:
    ahead = max(2, ROWS_PER_SLOT * config.fetch.concurrency // config.engine.part_size)
    loop = asyncio.get_running_loop()
    work = functools.partial(_prepare, settings=config.image)

    async def prepare(data: bytes) -> Prepared:
        return await loop.run_in_executor(pool, work, data)

    waiting: set[asyncio.Task[None]] = set()
    async with Fetcher(config.fetch, config.seed) as fetcher:

        async def one(number: int, rows: pa.Table) -> None:
            done(number, await parts.process(rows, fetcher, prepare, tick))

        try:
            for number, rows in todo:
                waiting.add(asyncio.create_task(one(number, rows)))
                if len(waiting) >= ahead:
                    waiting = await _some(waiting)
            while waiting:
                waiting = await _some(waiting)
        finally:
            for task in waiting:
                task.cancel()


async def _some(waiting: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait until one is done at least; return the others."""
    finished, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in finished:
        await task  # raises what it raised
    return others


def _prepare(data: bytes, settings: PictureConfig) -> Prepared:
    return parts.prepare(data, settings)


@contextlib.contextmanager
def _pool(config: BuildConfig) -> Iterator[concurrent.futures.Executor]:
    """Yield what decodes: processes, or with none of them a thread of this one."""
    count = config.engine.processes
    pool: concurrent.futures.Executor
    if count == 0:
        pool = concurrent.futures.ThreadPoolExecutor(1)
    else:
        # Not forked: DuckDB and the resolver have threads.
        context = multiprocessing.get_context("spawn")
        pool = concurrent.futures.ProcessPoolExecutor(count, context, initializer=_begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Set up a process of the pool."""
    from brushwork.curate.resizing import opencv

    opencv().setNumThreads(1)  # the processes share the cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends us
    # libjpeg writes a line for each damaged file, past Python; what happens to a file stands in the manifest.
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123  (no path of the user's)
        os.dup2(nothing.fileno(), 2)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """End when the main process does, however it does; otherwise we would wait for work for ever."""
    parent.join()
    os._exit(1)
