"""What a million samples cost in memory: a source, its order and what the loop holds, against ten thousand.

    python benchmarks/samples.py                    # 10,000 and 1,000,000 samples in tar shards
    python benchmarks/samples.py --large 100000

Each size runs in a process of its own, which goes the way of a training run up to the loop: the headers of shards are
read, captions checked, every picture's bytes read and hashed, some held out, the samples of a whole epoch dealt out.
Pictures are 1 x 1 pixels, so nothing else is measured. Printed is the peak of anonymous memory (what the process cannot
give back), and the time; exit code 1 when the large one costs more than 50 MB over the small one.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

LIMIT = 50e6
SHARD = 10_000
HEADER = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 58, 0, 54, 40, 1, 1, 1, 24, 0, 4, 2835, 2835, 0, 0)
"""Of a bitmap of one pixel, whose three bytes and a fill byte follow."""


def make(folder: Path, count: int) -> None:
    """Write tar shards of 1 x 1 pictures with captions, each different."""
    for first in range(0, count, SHARD):
        with tarfile.open(folder / f"{first // SHARD:06}.tar", "w") as tar:
            for number in range(first, min(first + SHARD, count)):
                caption = f"a picture of one colour and of no other, which is number {number} of a million".encode()
                for suffix, data in (("bmp", HEADER + struct.pack("<I", number)), ("txt", caption)):
                    info = tarfile.TarInfo(f"{number:08}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


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


def main() -> None:
    """Measure both sizes and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        measure(asked.measure)
        return
    told = []
    for count in (asked.small, asked.large):
        with tempfile.TemporaryDirectory(prefix="brushwork-samples-") as folder:
            make(Path(folder), count)
            command = [sys.executable, __file__, "--measure", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  (this very file)
            told.append(json.loads(done.stdout))
            print(f"{count:>9,} samples: {told[-1]['peak_bytes'] / 1e6:6.1f} MB, {told[-1]['read_seconds']} s to read")
    more = told[1]["peak_bytes"] - told[0]["peak_bytes"]
    added = asked.large - asked.small
    print(f"{added:,} samples more cost {more / 1e6:.1f} MB ({more / added:.0f} bytes each)")
    sys.exit(more > LIMIT)


if __name__ == "__main__":
    main()
