"""Prompts and no pictures: the base draws the data, once, and the run says where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from brushwork import api
from brushwork import config as configs
from brushwork.errors import ConfigError
from brushwork.train import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config

TEXTS = ["a cat", "a dog"]


def make_config(base: Path, /, **changes: Any) -> Config:
    tree: dict[str, Any] = {
        "base": str(base),
        "method": {"type": "lora", "rank": 2},
        "data": {"type": "prompts", "path": TEXTS, "images_per_prompt": 2, "validation_split": 0},
        "objective": {"type": "clip", "clip": "mini-clip", "target": "a drawing"},
        "optimizer": {"learning_rate": 1e-2},
        "train": {"max_train_steps": 2, "train_batch_size": 2, "device": "cpu"},
        "validation": {"prompts": ["a cat"], "samples_during_training": 0, "num_inference_steps": 1},
    }
    return configs.load(configs.merge(tree, changes))


def test_the_base_draws_each_prompt_at_several_seeds_and_a_second_run_draws_nothing(
    tiny_sd: Path, tmp_path: Path
) -> None:
    data = {"folder": str(tmp_path / "drawn")}
    trainer = prepare(make_config(tiny_sd, data=data))
    samples = [trainer.data.source[index] for index in range(len(trainer.data.source))]
    assert [sample.caption for sample in samples] == ["a cat", "a dog", "a cat", "a dog"]
    assert len(set(trainer.data.digests)) == 4
    assert not any(sample.extra for sample in samples)  # they are the data, not what is to be preserved
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "drawn").glob("*.png")}
    assert len(drawn) == 4
    prepare(make_config(tiny_sd, data={**data, "images_per_prompt": 3}))
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn


def test_the_run_says_where_the_pictures_are_and_its_evaluation_finds_them(tiny_sd: Path, tmp_path: Path) -> None:
    run = api.train(make_config(tiny_sd), out=tmp_path / "run", evaluate=False)
    folder = configs.load(tmp_path / "run" / "config.yaml").data.folder  # type: ignore[attr-defined]
    assert sorted(path.name for path in (tmp_path / folder).glob("*.png")) == [f"prior-{n:05}.png" for n in range(4)]
    results = run.evaluate("memorisation")
    assert any(result.details.get("training_pictures") == 4 for result in results)


def test_a_dry_run_draws_nothing(tiny_sd: Path, tmp_path: Path) -> None:
    trainer = prepare(make_config(tiny_sd, data={"folder": str(tmp_path / "drawn")}), encode=False)
    assert len(trainer.data.source) == 4
    assert not (tmp_path / "drawn").exists()


@pytest.mark.parametrize("method", ["textual-inversion", "pivotal"])
def test_a_word_to_be_learnt_cannot_be_drawn(tiny_sd: Path, method: str) -> None:
    part = {"token": "<new>", "initial_word": "a"}
    tree = {"base": str(tiny_sd), "method": part, "data": {"type": "prompts", "path": ["a <new>"]}}
    with pytest.raises(ConfigError, match="cannot draw a word"):
        prepare(configs.load(tree, method=method))


def test_pictures_of_the_users_own_are_not_taken_for_the_bases(tiny_sd: Path, tiny_data: Path) -> None:
    with pytest.raises(ConfigError, match="pictures of your own"):
        prepare(make_config(tiny_sd, data={"folder": str(tiny_data)}))


def test_an_unknown_list_names_the_nearest(tiny_sd: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path: 'targt'.*target"):
        prepare(make_config(tiny_sd, data={"path": "targt"}))


def test_pictures_by_another_base_are_refused(tiny_sd: Path, tmp_path: Path) -> None:
    data = {"folder": str(tmp_path / "drawn")}
    prepare(make_config(tiny_sd, data=data))
    with pytest.raises(ConfigError, match="were drawn with seed 0, but now it is 7"):
        prepare(make_config(tiny_sd, data=data, seed=7))
