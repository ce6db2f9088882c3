"""What a million samples cost in memory: a source, its order and what the loop holds, against ten thousand.

    python benchmarks/samples.py                                 # 10,000 and 1,000,000 samples in tar shards
    python benchmarks/samples.py --layout txt table saved        # and in the other forms
    python benchmarks/samples.py --large 100000

Layouts: shards (tar), txt (one folder of pictures, each with a text file beside it), table (a folder of pictures with
``metadata.jsonl``), saved (what ``datasets`` saves). Each size runs in a process of its own, which goes the way of a
training run up to the loop: all is listed, captions are checked, every picture's bytes read and hashed, some held out,
the samples of a whole epoch dealt out. Pictures are 1 x 1 pixels, so nothing else is measured. Printed is the peak of
anonymous memory (what the process cannot give back), and the time; exit code 1 when the large one costs more than 50 MB
over the small one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 50e6
SHARD = 10_000
HEADER = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 58, 0, 54, 40, 1, 1, 1, 24, 0, 4, 2835, 2835, 0, 0)
"""Of a bitmap of one pixel, whose three bytes and a fill byte follow."""


def samples(count: int) -> Iterator[tuple[str, bytes, str]]:
    """Yield names, pictures of one pixel, and captions, each different."""
    for number in range(count):
        caption = f"a picture of one colour and of no other, which is number {number} of a million"
        yield f"{number:08}", HEADER + struct.pack("<I", number), caption


def make_shards(folder: Path, count: int) -> None:
    """Write tar shards."""
    each = samples(count)
    for first in range(0, count, SHARD):
        with (folder / f"{first // SHARD:06}.tar").open("wb") as tar:
            for name, picture, caption in itertools.islice(each, SHARD):
                for suffix, data in (("bmp", picture), ("txt", caption.encode())):
                    tar.write(_header(f"{name}.{suffix}", len(data)) + data + bytes(-len(data) % 512))
            tar.write(bytes(1024))


def _header(name: str, size: int) -> bytes:
    """Return the header of a file in a tar archive (POSIX ustar); ``tarfile`` takes thirty times as long."""
    fields = f"{name:\0<100}0000644\0" + "0000000\0" * 2 + f"{size:011o}\0" + f"{0:011o}\0"
    header = (fields + " " * 8 + "0" + "\0" * 100 + "ustar\00000").encode().ljust(512, b"\0")
    return header[:148] + f"{sum(header):06o}\0 ".encode() + header[156:]


def make_txt(folder: Path, count: int) -> None:
    """Write pictures with text files beside them."""
    for name, picture, caption in samples(count):
        (folder / f"{name}.bmp").write_bytes(picture)
        (folder / f"{name}.txt").write_text(caption, "utf-8")


def make_table(folder: Path, count: int) -> None:
    """Write pictures and a table."""
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as table:
        for name, picture, caption in samples(count):
            (folder / f"{name}.bmp").write_bytes(picture)
            table.write(json.dumps({"file_name": f"{name}.bmp", "text": caption}) + "\n")


def make_saved(folder: Path, count: int) -> None:
    """Write what ``datasets`` saves."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset, Image, disable_progress_bars

    disable_progress_bars()
    each, path = samples(count), folder / "pictures.parquet"
    schema = pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "text": pa.string()})
    with pq.ParquetWriter(path, schema) as writer:
        while part := [
            {"image": {"bytes": picture, "path": None}, "text": caption}
            for _, picture, caption in itertools.islice(each, SHARD)
        ]:
            writer.write_table(pa.Table.from_pylist(part, schema))
    opened = Dataset.from_parquet(str(path), cache_dir=str(folder / "cache"))
    opened.cast_column("image", Image()).save_to_disk(folder / "saved")
    path.unlink()
    shutil.rmtree(folder / "cache")
    for made in (folder / "saved").iterdir():
        made.rename(folder / made.name)


LAYOUTS = {"shards": make_shards, "txt": make_txt, "table": make_table, "saved": make_saved}


def anonymous() -> int:
    """Return the bytes of this process that no file stands behind."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def measure(folder: str) -> None:
    """Go the way of a run up to the loop, and print the peak of memory over what was there before."""
    import torch  # noqa: F401  (its own memory is none of ours)
    from datasets import Dataset  # noqa: F401

    from brushwork import contact, progress
    from brushwork.batches import Examples
    from brushwork.encoding import read
    from brushwork.pictures import Pictures
    from brushwork.sources.captioned import Config

    progress.silence()
    before = peak = anonymous()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    settings = Config(path=folder, resolution=8, random_flip=True)
    source = settings.build()
    data = read(source, settings, seed=0)
    told = time.perf_counter() - began
    contact.captions(source, 8)
    examples = Examples(Pictures(data, settings, None, "float32", 8), seed=0)
    for position in range(0, 2 * len(data.train), max(1, len(data.train) // 1000)):
        examples.sample(position)
    assert data.pictures(data.own) == len(data.own) == len(source) - 32
    done.set()
    watcher.join()
    print(json.dumps({"samples": len(source), "peak_bytes": peak - before, "read_seconds": round(told, 1)}))


def compare(layout: str, small: int, large: int) -> bool:
    """Measure both sizes; return whether the large one costs too much."""
    told = []
    for count in (small, large):
        with tempfile.TemporaryDirectory(prefix="brushwork-samples-") as folder:
            LAYOUTS[layout](Path(folder), count)
            command = [sys.executable, __file__, "--measure", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  (this very file)
            told.append(json.loads(done.stdout))
            print(
                f"{layout}, {count:>9,} samples: {told[-1]['peak_bytes'] / 1e6:6.1f} MB, "
                f"{told[-1]['read_seconds']} s to read",
                flush=True,
            )
    more, added = told[1]["peak_bytes"] - told[0]["peak_bytes"], large - small
    print(f"{layout}: {added:,} samples more cost {more / 1e6:.1f} MB ({more / added:.0f} bytes each)", flush=True)
    return bool(more > LIMIT)


def main() -> None:
    """Measure both sizes and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=["shards"])
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        measure(asked.measure)
        return
    costly = [compare(layout, asked.small, asked.large) for layout in asked.layout]
    sys.exit(any(costly))


if __name__ == "__main__":
    main()
