"""A streamed data set is never stored: its first samples are held out, its order follows from the seed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from brushwork import config as configs
from brushwork.errors import ConfigError, DataError
from brushwork.readers import stream
from brushwork.readers.stream import Streamed
from brushwork.sources import captioned
from brushwork.train import prepare

if TYPE_CHECKING:
    from pathlib import Path


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((36, 36), 10 + number).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Forty rows in two Parquet files, as a data set of the hub has them."""
    folder = tmp_path / "set"
    folder.mkdir()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for part in (0, 1):
        rows = range(20 * part, 20 * part + 20)
        pictures = pa.array([{"bytes": png(number), "path": None} for number in rows], kind)
        table = pa.table({"image": pictures, "text": [f"number {number}" for number in rows]})
        pq.write_table(table, folder / f"train-{part:05}-of-00002.parquet")
    return folder


def build(path: Path, **options: Any) -> Streamed:
    options = {"num_samples": 40, "shuffle_buffer": 8, **options}
    source = captioned.Config(path=str(path), streaming=True, **options).build()
    assert isinstance(source, Streamed)
    return source


def seen(source: Streamed, count: int, start: int = 0) -> list[str]:
    first = len(source.head)
    return [source[first + number].caption for number in range(start, start + count)]


def test_the_first_are_held_out_and_the_others_come_shuffled_each_once_an_epoch(parquet: Path) -> None:
    source = build(parquet)
    assert (source.held_out, len(source.head), len(source)) == (4, 8, 8 + 36)
    assert [sample.caption for sample in source.head] == [f"number {number}" for number in range(8)]
    source.start(3)
    first, second = seen(source, 36), seen(source, 36, 36)
    every = sorted(f"number {number}" for number in range(4, 40))
    assert sorted(first) == sorted(second) == every
    assert first not in (second, every)
    assert source[8].image.read().startswith(b"\x89PNG")


def test_the_order_follows_from_the_seed_and_any_place_can_be_gone_to(parquet: Path) -> None:
    source = build(parquet)
    source.start(3)
    order = seen(source, 60)
    later = build(parquet)
    later.start(3)
    assert seen(later, 10, 50) == order[50:60]
    assert seen(later, 5) == order[:5], "going back reads again from the beginning"
    later.start(4)
    assert seen(later, 60) != order


def make_config(base: Path, data: Path, /, **changes: Any) -> configs.Config:
    tree = {
        "base": str(base),
        "method": {"type": "lora", "rank": 2},
        "data": {"path": str(data), "resolution": 32, "streaming": True, "num_samples": 40, "shuffle_buffer": 4},
        "train": {"max_train_steps": 4, "train_batch_size": 2, "gradient_accumulation_steps": 3, "device": "cpu"},
        "validation": {"prompts": ["a cat"], "samples_during_training": 0},
    }
    return configs.load(configs.merge(tree, changes))


def test_it_trains_without_a_cache_and_any_later_step_is_the_same_as_on_the_way(tiny_sd: Path, parquet: Path) -> None:
    trainer = prepare(make_config(tiny_sd, parquet))
    assert trainer.encoded == {"latents": 0, "texts": 0}
    assert trainer.held_out() is not None
    names = [trainer.examples.sample(position).name for position in range(24)]
    assert len([step.loss for step in trainer.steps()]) == 4
    again = prepare(trainer.config)
    assert again.data.fingerprint == trainer.data.fingerprint
    assert [again.examples.sample(position).name for position in range(18, 24)] == names[18:]
    assert again.config == trainer.config


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"data": {"buckets": True}}, ConfigError, "streaming is true, so buckets cannot apply"),
        ({"data": {"streaming": False}}, ConfigError, "streaming is false, so shuffle_buffer and num_samples"),
        ({"preserve": {"prompts": ["a dog"], "num_images": 2}}, ConfigError, "preserve: a stream comes one by one"),
        ({"train": {"dataloader_num_workers": 1}}, ConfigError, "train.dataloader_num_workers: a stream"),
        ({"train": {"cache_latents": True}}, ConfigError, "what is streamed is not stored"),
        ({"data": {"num_samples": None}}, DataError, "does not say how many samples"),
        (
            {"data": {"validation_split": 0.5, "num_samples": 9000}},
            DataError,
            "would hold out 4500 samples",
        ),
        ({"data": {"num_samples": 100, "validation_split": 0.9}}, DataError, "has only 40 samples"),
    ],
)
def test_what_a_stream_cannot_do_is_said(
    tiny_sd: Path, parquet: Path, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as caught:
        prepare(make_config(tiny_sd, parquet, **changes))
    assert said in str(caught.value)


def test_a_word_cannot_be_learnt_from_a_stream(tiny_sd: Path, parquet: Path) -> None:
    config = make_config(tiny_sd, parquet)
    word = {"type": "textual_inversion", "token": "<cat>", "initial_word": "a"}
    tree = config.model_dump(mode="json") | {"method": word}
    tree["optimizer"]["learning_rate"] = 1e-3
    with pytest.raises(ConfigError, match="those of a stream are not known"):
        prepare(configs.load(tree))


def test_a_missing_caption_is_named_when_it_comes(parquet: Path) -> None:
    table = pq.read_table(parquet / "train-00001-of-00002.parquet")
    texts = [None, *table.column("text").to_pylist()[1:]]
    pq.write_table(table.set_column(1, "text", pa.array(texts)), parquet / "train-00001-of-00002.parquet")
    source = build(parquet)
    source.start(0)
    with pytest.raises(DataError, match="there is no caption"):
        seen(source, 36)
    assert "" in seen(build(parquet, allow_bad_captions=True), 36)


def test_what_lies_here_is_not_streamed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="is read picture by picture in any case"):
        build(tmp_path / "photos")


def test_how_much_is_held_out_follows_the_rule() -> None:
    assert [stream._held_out(total, "auto") for total in (10, 40, 1000, 10**7)] == [0, 4, 32, 32]
    assert stream._held_out(10**6, 3.2e-05) == 32
