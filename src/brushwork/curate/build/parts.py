"""What is done with some rows at once, the same in every engine: fetch each picture, standardise it, make a table.

    async with Fetcher(config.fetch, config.seed) as fetcher:
        table = await process(rows, fetcher, prepare_here)      # rows: id, url, caption, license

A table of a part has the rows it was given, in their order, each with its picture or with the reason why it has none.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork.curate.pixels import PictureConfig, Standardised, UnfitError, standardise

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pyarrow as pa

    from brushwork.curate.build.fetching import Answer, Fetcher

    Prepare = Callable[[bytes], Awaitable["Prepared"]]
    Tick = Callable[[str, int], None]
    """Called for each row with its reason and the bytes read."""


@dataclass(frozen=True)
class Prepared:
    """What was made of the bytes of a file."""

    sha256: str
    picture: Standardised | None
    reason: str = ""


def prepare(data: bytes, settings: PictureConfig) -> Prepared:
    """Standardise a picture; what cannot be has a reason instead."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        return Prepared(digest, standardise(data, settings))
    except UnfitError as error:
        return Prepared(digest, None, str(error))


def schema() -> pa.Schema:
    """Return the columns of a part."""
    import pyarrow as pa

    text, whole = pa.string(), pa.int32()
    return pa.schema(
        {
            "id": pa.int64(), "url": text, "caption": text, "license": text, "reason": text, "detail": text,
            "final_url": text, "content_type": text, "last_modified": text, "bytes": pa.int64(), "sha256": text,
            "width": whole, "height": whole, "original_width": whole, "original_height": whole,
            "hash": pa.uint64(), "mirrored_hash": pa.uint64(), "image": pa.large_binary(),
        }
    )  # fmt: skip


async def process(rows: pa.Table, fetcher: Fetcher, prepare: Prepare, tick: Tick | None = None) -> pa.Table:
    """Fetch and standardise the pictures of some rows."""
    import pyarrow as pa

    async def one(row: dict[str, Any]) -> dict[str, Any]:
        record = _record(row, await fetcher.fetch(row["id"], row["url"], prepare))
        if tick is not None:
            tick(record["reason"], record["bytes"])
        return record

    # The tasks wait for one another; if one fails, and that is a bug, the others must not go on by themselves.
    tasks = [asyncio.ensure_future(one(row)) for row in rows.to_pylist()]
    try:
        records = [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
    return pa.Table.from_pylist(records, schema=schema())


def _record(row: dict[str, Any], answer: Answer[Prepared]) -> dict[str, Any]:
    made = answer.value
    record = {
        **row,
        "reason": made.reason if made else answer.reason,
        "detail": answer.detail,
        "final_url": answer.final_url,
        "content_type": answer.content_type,
        "last_modified": answer.last_modified,
        "bytes": answer.bytes,
        "sha256": made.sha256 if made else None,
    }
    if made and made.picture:
        picture = made.picture
        record |= {
            "width": picture.width,
            "height": picture.height,
            "original_width": picture.original_width,
            "original_height": picture.original_height,
            "hash": picture.hashes[0],
            "mirrored_hash": picture.hashes[1],
            "image": picture.data,
        }
    return record
