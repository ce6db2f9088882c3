"""DreamBooth and preserve: what the base draws itself, what it counts, and the subject's word."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import rows
import torch
from PIL import Image

from brushwork import api, batches
from brushwork import config as configs
from brushwork.errors import ConfigError, DataError
from brushwork.train import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config


def make_config(base: Path, data: Path, /, **changes: Any) -> Config:
    tree: dict[str, Any] = {
        "base": str(base),
        "method": {"type": "lora", "rank": 2},
        "data": {
            "type": "dreambooth", "path": str(data), "resolution": 32, "instance_prompt": "a sks cat",
            "instance_token": "SKS", "class_prompt": "a cat", "num_class_images": 4, "prior_loss_weight": 0.5,
        },
        "optimizer": {"learning_rate": 1e-2},
        "train": {"max_train_steps": 4, "train_batch_size": 2, "checkpointing_steps": 2, "device": "cpu"},
        "validation": {"prompts": ["a sks cat"], "samples_during_training": 0, "num_inference_steps": 1},
    }  # fmt: skip
    return configs.load(configs.merge(tree, changes))


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_class_images_are_drawn_once_and_topped_up_as_if_all_had_been_drawn_at_once(
    tiny_sd: Path, tiny_data: Path, tmp_path: Path
) -> None:
    drawn = {}
    for name, numbers in {"grown": (2, 4, 3), "whole": (4,)}.items():
        folder = tmp_path / name
        for number in numbers:
            before = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
            data = {"class_path": str(folder), "num_class_images": number}
            trainer = prepare(make_config(tiny_sd, tiny_data, data=data))
            assert len(trainer.data.source) == 6 + number
            assert all(path.stat().st_mtime_ns == when for path, when in before.items())
        drawn[name] = {file: Image.open(folder / file).convert("RGB").tobytes() for file in pictures(folder)}
    assert drawn["grown"] == drawn["whole"]
    assert sorted(drawn["whole"]) == [f"prior-{number:05}.png" for number in range(4)]
    assert len(set(drawn["whole"].values())) == 4


def test_the_users_own_class_images_come_first(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "class"
    folder.mkdir()
    Image.new("RGB", (32, 32), "red").save(folder / "mine.png")
    source = prepare(
        make_config(tiny_sd, tiny_data, data={"class_path": str(folder), "num_class_images": 3})
    ).data.source
    assert [source[6 + place].name for place in range(3)] == ["mine.png", "prior-00000.png", "prior-00001.png"]
    assert {source[6 + place].caption for place in range(3)} == {"a cat"}


def test_a_folder_of_pictures_drawn_otherwise_is_refused(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    data = {"class_path": str(tmp_path / "class"), "num_class_images": 1}
    prepare(make_config(tiny_sd, tiny_data, data=data))
    with pytest.raises(ConfigError, match=r"data\.class_path: the pictures in .* were drawn with prompts \['a cat'\]"):
        prepare(make_config(tiny_sd, tiny_data, data=data | {"class_prompt": "a tom cat"}))


def test_a_dry_run_draws_nothing_and_says_how_many_it_would(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    facts = api.plan(make_config(tiny_sd, tiny_data, data={"class_path": str(tmp_path / "class")})).facts
    assert (facts["pictures_to_draw"], facts["pictures"]) == (4, 6)
    assert facts["times_each_is_seen"] == 0.7  # 4 steps of 2, one of two being the subject, over 6 pictures
    assert not (tmp_path / "class").exists()


def test_subject_and_class_have_equal_shares_and_only_the_subject_is_held_out(tiny_sd: Path, tiny_data: Path) -> None:
    changes = {"data": {"validation_split": 0.2, "num_class_images": 12}}
    trainer = prepare(make_config(tiny_sd, tiny_data, **changes), encode=False)
    data, examples = trainer.data, trainer.examples
    assert (len(data.held_out), len(data.own), data.drawn, data.epoch) == (1, 5, 12, 10)
    assert data.held_out[0] < 6
    seen = [examples.index(position) for position in range(len(data.train))]
    assert sum(index < 6 for index in seen) == sum(index >= 6 for index in seen) == 15
    assert {seen.count(index) for index in range(6)} == {0, 3}
    assert set(range(6, 18)) < set(seen)


def test_the_loss_weighs_class_images_by_the_prior_loss_weight(tiny_sd: Path, tiny_data: Path) -> None:
    """The gradient of a step is that of sum(w loss) / sum(w), w being 1 for the subject and 0.5 for the class."""
    trainer = prepare(make_config(tiny_sd, tiny_data, train={"train_batch_size": 8}))
    assert {trainer.data.source[index].weight for index in trainer.data.train} == {1.0, 0.5}
    (batch,) = batches.batches(trainer.examples, trainer.encoder, trainer.config, 0, 8)
    assert set(batch.weights.tolist()) == {1.0, 0.5}
    weights = torch.tensor([0.5 if name.startswith("prior-") else 1.0 for name in batch.names])
    (weights * trainer.losses(batch)).sum().div(weights.sum()).backward()
    expected = torch.cat([each.grad.flatten() for each in trainer.named.values() if each.grad is not None]).norm()
    trainer.optimizer.zero_grad(set_to_none=True)
    assert next(trainer.steps()).grad_norm == pytest.approx(float(expected), rel=1e-4)


def test_preserve_adds_pictures_of_its_prompts_to_any_source(tiny_sd: Path, tiny_data: Path) -> None:
    changes = {
        "data": {"class_prompt": None, "num_class_images": 100, "prior_loss_weight": 1.0},
        "preserve": {"prompts": ["a dog", "a house"], "num_images": 3, "weight": 2.0},
    }
    trainer = prepare(make_config(tiny_sd, tiny_data, **changes))
    samples = [trainer.data.source[index] for index in range(6, 9)]
    assert [(each.caption, each.weight) for each in samples] == [("a dog", 2.0), ("a house", 2.0), ("a dog", 2.0)]
    assert len(trainer.data.train) == 12


@pytest.mark.parametrize("name", rows.PRESETS)
def test_every_method_preserves_or_says_why_it_cannot(name: str, tiny_sd: Path, tmp_path: Path) -> None:
    """The drawn pictures are among what is seen, with their weight, and a step can be done with them."""
    data, preserve = rows.make_data(tmp_path / "data"), {"prompts": ["a dog"], "num_images": 2, "weight": 4.0}
    config = rows.preset(name, tiny_sd, data, preserve=preserve, train={"train_batch_size": 12})
    if name in rows.NOT_PRESERVED:
        with pytest.raises(ConfigError, match=rf"preserve: .*{rows.NOT_PRESERVED[name]}"):
            prepare(config)
        return
    trainer = prepare(config)
    (batch,) = batches.batches(trainer.examples, trainer.encoder, trainer.config, 0, 12)
    seen = list(zip(batch.captions, batch.preserved, batch.weights.tolist(), strict=True))
    assert ("a dog", True, 4.0) in seen
    assert {weight for caption, _, weight in seen if caption != "a dog"} == {1.0}
    assert all(map(math.isfinite, next(trainer.steps()).losses))


def test_preserve_is_off_unless_asked_for() -> None:
    assert configs.load(data="engravings").preserve is None
    switched_on = configs.load(data="engravings", preserve={}, overrides=["preserve.num_images=8"]).preserve
    assert switched_on is not None
    assert (switched_on.prompts, switched_on.num_images) == ("neutral", 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instance_token": "zwx"}, r"instance_prompt: 'a sks cat' lacks the data\.instance_token 'zwx'"),
        ({"instance_token": "sk"}, "lacks the data.instance_token 'sk'"),
        ({"instance_prompt": None}, r"'SKS' is not in the captions of .*0\.png"),
        (
            {"instance_prompt": "A cat", "instance_token": None},
            "'A cat' has no word that data.class_prompt 'a cat' lacks",
        ),
        ({"class_prompt": "a sks cat", "instance_prompt": "my sks cat"}, "has the subject's own word 'SKS' in it"),
        ({"class_prompt": None}, r"data\.num_class_images and data\.prior_loss_weight cannot apply without"),
    ],
)
def test_a_misplaced_word_is_refused(tiny_sd: Path, tiny_data: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(make_config(tiny_sd, tiny_data, data=changes))


@pytest.mark.parametrize("place", [".", "class", ".."])
def test_the_class_has_a_folder_of_its_own(tiny_sd: Path, tiny_data: Path, place: str) -> None:
    """Otherwise class images would be drawn among the subject's pictures, and learnt as such by the next run."""
    with pytest.raises(DataError, match=r"data\.class_path: .* lie within one another"):
        prepare(make_config(tiny_sd, tiny_data, data={"class_path": str(tiny_data / place)}))
    assert len(pictures(tiny_data)) == 6


def test_without_an_instance_prompt_every_picture_needs_a_caption(tiny_sd: Path, tiny_data: Path) -> None:
    (tiny_data / "3.txt").unlink()
    with pytest.raises(DataError, match=r"1 of 6 pictures have no caption: .*3\.png"):
        prepare(make_config(tiny_sd, tiny_data, data={"instance_prompt": None, "instance_token": None}))
