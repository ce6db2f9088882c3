"""A sample costs a few dozen bytes, whatever its caption, from the source to the order of an epoch.

``benchmarks/samples.py`` measures the same with a million samples and real shards.
"""

from __future__ import annotations

import pickle
import tracemalloc

import pytest

from brushwork import progress
from brushwork.batches import Examples
from brushwork.digests import Digests, different
from brushwork.encoding import read
from brushwork.pictures import Pictures
from brushwork.readers.arrow import Encoded
from brushwork.readers.spool import Spool
from brushwork.sources.captioned import Config
from brushwork.values import Sample

MOST = 50
"""Bytes a sample: 50 MB for a million."""


class Many:
    """A source of pictures that are nothing but their number."""

    def __init__(self, count: int) -> None:
        self.rows = Spool(["a long caption " * 5, number] for number in range(count))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        caption, number = self.rows[index]
        return Sample(f"picture {number}", Encoded(number.to_bytes(4, "big")), f"{caption}{number}")


def peak(count: int) -> int:
    """Return the bytes that are held at most on the way from a source to the loop."""
    tracemalloc.start()
    settings = Config(path="x", resolution=8)
    data = read(Many(count), settings, seed=0)
    examples = Examples(Pictures(data, settings, None, "float32", 8), seed=0)
    assert len({examples.sample(position).name for position in range(40)}) == 40
    assert data.pictures(data.own) == count - 32
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_many_samples_cost_little_more_than_few() -> None:
    progress.silence()
    peak(1000)  # what is imported and remembered only once
    few, many = peak(2000), peak(12_000)
    assert (many - few) / 10_000 < MOST


def test_a_spool_is_a_list_that_other_processes_can_read() -> None:
    rows = [["a", None], {"b": ["c", "ä\udcff"]}, 3, "x" * 3_000_000]
    spool = Spool(rows)
    assert list(spool) == rows
    assert list(pickle.loads(pickle.dumps(spool))) == rows  # noqa: S301  (just written)
    spool.append("later")
    assert (spool[4], len(spool)) == ("later", 5)
    with pytest.raises(IndexError):
        spool[5]


def test_digests_are_a_list_of_texts_in_sixteen_bytes_each() -> None:
    import numpy as np

    texts = ["cf4ab791c62b8d2b2109c90275287816", "", "00" * 15 + "01", "cf4ab791c62b8d2b2109c90275287816"]
    digests = Digests(texts)
    assert digests == texts
    digests[1] = texts[0]
    assert digests.at(np.array([1, 2])) == [texts[0], texts[2]]
    assert different(digests.lots(np.arange(4))) == 2
    assert different(digests.lots(np.arange(0))) == 0
    with pytest.raises(IndexError):
        digests[4]
