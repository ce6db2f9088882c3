"""The engine of many machines: Ray Data runs the same function for a part as the local engine does.

    run(config, parts, done)        # as in brushwork.curate.build.local

Rows go out with the tasks and pictures come back with the results, so machines need not share a disk. A task whose
worker dies is run again elsewhere by Ray; what it makes is the same. Each of N tasks keeps N times the delay between
two requests to a host and its share of the requests at a time, so that a host sees no more of them than from one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

from brushwork.curate.build import parts
from brushwork.curate.build.fetching import Fetcher
from brushwork.curate.resizing import opencv
from brushwork.errors import RunFailed, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    import pyarrow as pa

    from brushwork.curate.build.local import Done, Parts
    from brushwork.curate.build.parts import Prepared, Tick
    from brushwork.curate.build.settings import BuildConfig

PARTS_PER_TASK = 8
"""So many parts for each worker are handed to Ray at once: what the driver holds in memory."""
OBJECT_STORE = 200_000_000
"""Bytes of shared memory for a Ray that is started here."""


def run(config: BuildConfig, todo: Parts, done: Done, tick: Tick) -> None:
    """Process parts; see :func:`brushwork.curate.build.local.run`.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
        RunFailed: Ray gave up.
    """
    with _ray(config) as ray:
        try:
            waiting = iter(todo)
            while wave := list(itertools.islice(waiting, PARTS_PER_TASK * config.engine.processes)):
                _wave(ray, config, wave, done, tick)
        except ray.exceptions.RayError as error:
            message = f"Ray gave up: {str(error).strip().splitlines()[-1]}. Go on with --resume."
            raise RunFailed(message) from error


def _wave(ray: ModuleType, config: BuildConfig, wave: list[tuple[int, pa.Table]], done: Done, tick: Tick) -> None:
    """Run some parts: each is a block, and so a task."""
    import pyarrow as pa

    blocks = [rows.append_column("part", pa.array([number] * len(rows), pa.int64())) for number, rows in wave]
    workers = config.engine.processes
    made = ray.data.from_arrow(blocks).map_batches(
        process, fn_kwargs={"tree": config.model_dump(mode="json"), "workers": workers},
        batch_size=None, batch_format="pyarrow", zero_copy_batch=True, concurrency=workers, num_cpus=1,
    )  # fmt: skip
    # A large block may come back in pieces, and blocks in any order.
    missing = {number: len(rows) for number, rows in wave}
    pieces: dict[int, list[pa.Table]] = {number: [] for number in missing}
    for batch in made.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for number in batch.column("part").unique().to_pylist():
            piece = batch.filter(pa.compute.equal(batch.column("part"), number)).drop_columns(["part"])
            pieces[number].append(piece.cast(parts.schema()))
            missing[number] -= len(piece)
            if not missing[number]:
                table = pa.concat_tables(pieces.pop(number)).sort_by("id")
                for reason, size in zip(
                    table.column("reason").to_pylist(), table.column("bytes").to_pylist(), strict=True
                ):
                    tick(reason, size)
                done(number, table)


def process(rows: pa.Table, tree: dict[str, Any], workers: int) -> pa.Table:
    """Be the task: process the rows of one or several parts."""
    from brushwork.curate.build.settings import BuildConfig

    config = BuildConfig.model_validate(tree)
    opencv().setNumThreads(1)
    part = rows.column("part")
    table = asyncio.run(_process(rows.drop_columns(["part"]), config, workers))
    return table.append_column("part", part)


async def _process(rows: pa.Table, config: BuildConfig, workers: int) -> pa.Table:
    asked = config.fetch
    share = asked.model_copy(
        update={
            "delay": asked.delay * workers,
            "per_host": max(1, asked.per_host // workers),
            "concurrency": max(1, asked.concurrency // workers),
        }
    )

    async def prepare(data: bytes) -> Prepared:
        return await asyncio.to_thread(parts.prepare, data, config.image)

    async with Fetcher(share, config.seed) as fetcher:
        return await parts.process(rows, fetcher, prepare)


def library() -> ModuleType:
    """Import Ray.

    Raises:
        UserError: It is not installed.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its new behaviour; it warns about the old one
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
            import ray.data
    except ImportError as error:
        message = "engine.type is ray, which is not installed. Install it: pip install 'brushwork[ray]'"
        raise UserError(message) from error
    return ray


@contextlib.contextmanager
def _ray(config: BuildConfig) -> Iterator[ModuleType]:
    """Yield Ray, connected to a cluster or to one that lives as long as this block."""
    ray = library()
    own = not ray.is_initialized()
    if own:
        _start(ray, config)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()


def _start(ray: ModuleType, config: BuildConfig) -> None:
    """Connect to the cluster, or start a Ray that only this machine can reach."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    own = {
        "num_cpus": config.engine.processes,
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
    }
    address = config.engine.address
    try:
        ray.init(**quiet, **({"address": address} if address else own))
    except (ConnectionError, ValueError) as error:
        message = f"engine.address: no Ray at {address!r} ({str(error).splitlines()[0]})."
        raise UserError(message) from error
