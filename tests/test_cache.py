"""The tensor store."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest
import torch

from brushwork import cache
from brushwork.cache import TensorStore, content_key

if TYPE_CHECKING:
    from pathlib import Path


def test_tensors_come_back_exactly(tmp_path: Path) -> None:
    store = TensorStore(tmp_path)
    stored = {"mean": torch.randn(4, 8, 8), "ids": torch.arange(5)}
    store.put("a", stored)
    store.put("b", {"mean": torch.zeros(1)})
    read = TensorStore(tmp_path).get("a")
    assert all(torch.equal(read[name], stored[name]) for name in stored)


def test_missing_lists_each_absent_key_once_in_order(tmp_path: Path) -> None:
    store = TensorStore(tmp_path)
    store.put("b", {"x": torch.zeros(1)})
    assert store.missing(["c", "b", "a", "c"]) == ["c", "a"]


def test_an_entry_written_later_is_seen_through_an_older_map(tmp_path: Path) -> None:
    reader, writer = TensorStore(tmp_path), TensorStore(tmp_path)
    writer.put("a", {"x": torch.ones(2)})
    assert reader.get("a")["x"].sum() == 2
    writer.put("b", {"x": torch.ones(3)})
    assert reader.get("b")["x"].sum() == 3


def test_bytes_without_an_index_entry_do_no_harm(tmp_path: Path) -> None:
    """What a kill between the data and the index leaves behind."""
    store = TensorStore(tmp_path)
    store.put("a", {"x": torch.ones(2)})
    with (tmp_path / "data.bin").open("ab") as file:
        file.write(b"half an entry")
    store.put("b", {"x": torch.full((2,), 7.0)})
    assert store.get("b")["x"].tolist() == [7.0, 7.0]
    assert store.get("a")["x"].tolist() == [1.0, 1.0]


def test_a_store_goes_to_another_process(tmp_path: Path) -> None:
    store = TensorStore(tmp_path)
    store.put("a", {"x": torch.ones(2)})
    assert pickle.loads(pickle.dumps(store)).get("a")["x"].sum() == 2  # noqa: S301  (our own bytes)


def test_an_unknown_key_is_a_key_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        TensorStore(tmp_path).get("nothing")


def test_keys_differ_with_every_part_and_with_its_type() -> None:
    keys = {content_key("a", 1, True), content_key("a", 1, False), content_key("a", "1", True), content_key("a1", True)}
    assert len(keys) == 4


def test_entries_that_are_put_together_are_found_at_once_here_and_afterwards_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = TensorStore(tmp_path), TensorStore(tmp_path)
    with writer.together():
        writer.put("a", {"x": torch.ones(2)})
        assert torch.equal(writer.get("a")["x"], torch.ones(2))
        assert (writer.missing(["a", "b"]), reader.missing(["a", "b"])) == (["b"], ["a", "b"])
        monkeypatch.setattr(cache, "WRITE_EVERY", -1.0)  # a second has passed
        writer.put("b", {"x": torch.zeros(2)})
        assert reader.missing(["a", "b"]) == []
        monkeypatch.undo()
        writer.put("c", {"x": torch.zeros(2)})
        assert reader.missing(["c"]) == ["c"]
    assert torch.equal(reader.get("c")["x"], torch.zeros(2))


def test_what_was_put_is_kept_when_something_fails_between(tmp_path: Path) -> None:
    store = TensorStore(tmp_path)

    def fail() -> None:
        with store.together():
            store.put("a", {"x": torch.ones(2)})
            store.get("nothing")

    with pytest.raises(KeyError):
        fail()
    assert TensorStore(tmp_path).missing(["a"]) == []
