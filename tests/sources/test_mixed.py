"""Several data sets at once: each as often and with such weight as was asked, read once, resumed exactly."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from PIL import Image

from brushwork import config as configs
from brushwork.errors import ConfigError, DataError
from brushwork.sources import mixed
from brushwork.train import prepare

if TYPE_CHECKING:
    from pathlib import Path


def make(folder: Path, count: int) -> str:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.effect_noise((36, 36), 20 + number).convert("RGB").save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{folder.name} {number}", "utf-8")
    return str(folder)


@pytest.fixture
def cats(tmp_path: Path) -> str:
    return make(tmp_path / "cats", 3)


@pytest.fixture
def dogs(tmp_path: Path) -> str:
    return make(tmp_path / "dogs", 2)


def captions(*parts: dict[str, Any]) -> collections.Counter[str]:
    source = mixed.Config.model_validate({"parts": parts}).build()
    return collections.Counter(source[index].caption for index in range(len(source)))


def test_every_sample_of_every_part_comes_once_unless_it_is_repeated(cats: str, dogs: str) -> None:
    assert captions({"path": cats}, {"path": dogs}) == collections.Counter(
        ["cats 0", "cats 1", "cats 2", "dogs 0", "dogs 1"]
    )
    assert set(captions({"path": cats}, {"path": dogs, "repeats": 3}).items()) == {
        ("cats 0", 1), ("cats 1", 1), ("cats 2", 1), ("dogs 0", 3), ("dogs 1", 3),
    }  # fmt: skip


def test_shares_say_how_much_of_an_epoch_is_of_a_part(cats: str, dogs: str) -> None:
    found = captions({"path": cats, "share": 1}, {"path": dogs, "share": 3})
    by_part = collections.Counter({"cats": 0, "dogs": 0})
    for caption, count in found.items():
        by_part[caption.split()[0]] += count
    assert by_part == {"cats": 3, "dogs": 9}
    assert max(found.values()) - min(count for text, count in found.items() if "dogs" in text) == 1


def test_weights_reach_the_samples(cats: str, dogs: str) -> None:
    source = mixed.Config.model_validate({"parts": [{"path": cats, "weight": 0.5}, {"path": dogs}]}).build()
    assert [source[index].weight for index in range(5)] == [0.5, 0.5, 0.5, 1.0, 1.0]


def test_other_sources_may_be_parts(cats: str, dogs: str) -> None:
    parts = [
        {"type": "dreambooth", "path": dogs, "instance_prompt": "a sks dog", "class_prompt": "a dog"},
        {"type": "templated", "path": cats, "token": "<cat>"},
    ]
    config = mixed.Config.model_validate({"parts": parts})
    source = config.build()
    assert (source[0].caption, source[2].caption, len(source)) == ("a sks dog", "a photo of a <cat>", 2 + 3 * 27)
    prior = config.prior()
    assert prior is not None
    assert prior.prompts == ("a dog",)


def config_of(base: Path, *parts: dict[str, Any], **data: Any) -> configs.Config:
    tree = {
        "base": str(base),
        "method": {"type": "lora", "rank": 2},
        "data": {"type": "mixed", "parts": list(parts), "resolution": 32, **data},
        "train": {"max_train_steps": 3, "train_batch_size": 2, "device": "cpu"},
        "validation": {"prompts": ["a cat"], "samples_during_training": 0},
    }
    return configs.load(tree)


def test_it_trains_reads_each_picture_once_and_its_configuration_comes_back(
    tiny_sd: Path, cats: str, dogs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tiny_sd, {"path": cats, "repeats": 2}, {"path": dogs, "weight": 0.5})
    assert configs.load(yaml.safe_load(configs.to_yaml(config))) == config
    trainer = prepare(config)
    assert "reading pictures: 5/5" in capsys.readouterr().err
    assert trainer.encoded == {"latents": 5, "texts": 5}
    assert len(trainer.data.train) == 8
    assert len([step.loss for step in trainer.steps()]) == 3


def test_copies_of_one_picture_are_never_on_both_sides(tiny_sd: Path, tmp_path: Path) -> None:
    many = make(tmp_path / "many", 20)
    trainer = prepare(config_of(tiny_sd, {"path": many}, {"path": many, "repeats": 2}, validation_split=0.2))
    digests = trainer.data.digests
    held_out = {digests[index] for index in trainer.data.held_out}
    assert len(held_out) == 4
    assert not held_out & {digests[index] for index in trainer.data.train.tolist()}
    assert len(trainer.data.held_out) == 12


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([{"path": "a"}], "1 is too few to be mixed"),
        ([{"path": "a", "repeats": 2, "share": 0.5}, {"path": "b"}], "repeats and share say the same"),
        ([{"path": "a", "share": 0.5}, {"path": "b"}], "give it to all or to none"),
        ([{"path": "a", "resolution": 64}, {"path": "b"}], "resolution holds for all parts"),
        ([{"path": "a"}, {"type": "pairs", "path": "b"}], "cannot be mixed with pictures"),
        ([{"path": "a"}, {"path": "b", "pth": 1}], "data.parts.1.pth is not a known key. Did you mean path?"),
        ([{"path": "a"}, {"path": "b", "repeats": 0}], "data.parts.1.repeats: should be greater than 0"),
        ([{"path": "a"}, {"type": "mixd", "path": "b"}], "Did you mean mixed?"),
    ],
)
def test_what_does_not_go_together_is_said(parts: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load({"data": {"type": "mixed", "parts": parts}})
    assert said in str(caught.value)


def test_only_one_part_may_want_class_images(cats: str, dogs: str) -> None:
    part = {"type": "dreambooth", "instance_prompt": "a sks x", "class_prompt": "an x"}
    config = mixed.Config.model_validate({"parts": [{**part, "path": cats}, {**part, "path": dogs}]})
    with pytest.raises(DataError, match="2 parts have a class_prompt"):
        config.prior()


def test_a_new_word_is_said_once_for_all_parts(cats: str, dogs: str) -> None:
    tree = {
        "method": {"type": "textual_inversion", "token": "<cat>"},
        "data": {"type": "mixed", "parts": [{"type": "templated", "path": cats}, {"type": "templated", "path": dogs}]},
    }
    config: Any = configs.load(tree)
    assert [part.data.token for part in config.data.parts] == ["<cat>", "<cat>"]
