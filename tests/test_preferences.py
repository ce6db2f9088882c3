"""Pairs from a metric: drawn, ranked and written so that the source ``pairs`` reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from brushwork import models
from brushwork.cli import run
from brushwork.encoders import Colour
from brushwork.errors import ConfigError, RunFailed, UserError
from brushwork.generate import Request
from brushwork.preferences import Ranking, make, split
from brushwork.sources.pairs import Config

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS = ("a cat", "a dog")


def requests(candidates: int) -> list[list[Request]]:
    seeds = iter(range(100))
    return [[Request(text, seed=next(seeds), steps=1) for _ in range(candidates)] for text in PROMPTS]


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> Any:
    return models.open_model(str(tiny_sd))


def test_the_better_half_is_preferred_to_the_other_and_no_picture_counts_twice() -> None:
    values = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    assert split(values, "higher", 0.0) == [(0, 3), (2, 1)]
    assert split(values, "lower", 0.0) == [(1, 2), (3, 0)]
    assert split(values, "higher", 3.0) == []
    assert split(np.array([1.0, 1.0, 2.0, 0.0]), "higher", 0.0) == [(2, 1), (0, 3)]
    assert split(np.array([1.0, 1.0]), "higher", 0.0) == []


@pytest.mark.parametrize("wish", ["lower", "higher"])
def test_pairs_are_ranked_by_the_metric_and_read_by_the_source(model: Any, tmp_path: Path, wish: Any) -> None:
    told = make(model, requests(5), Ranking("saturation", prefer=wish), tmp_path / "pairs")
    assert (told["pairs"], told["candidates"], told["ties"]) == (4, 10, 0)
    source = Config(path=str(tmp_path / "pairs")).build()
    source.verify()
    assert [source[index].caption for index in range(4)] == ["a cat", "a cat", "a dog", "a dog"]
    names = set()
    for line in (tmp_path / "pairs" / "metadata.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        names |= {row["chosen"], row["rejected"]}
        pictures = [Image.open(tmp_path / "pairs" / row[side]) for side in ("chosen", "rejected")]
        chosen, rejected = Colour().encode_images(pictures)[:, 0].tolist()
        assert (chosen, rejected) == pytest.approx((row["chosen_score"], row["rejected_score"]))
        assert chosen < rejected if wish == "lower" else chosen > rejected
    assert {path.name for path in (tmp_path / "pairs").glob("*.png")} == names
    assert len(names) == 8


def test_a_clip_model_ranks_by_its_own_prompt_and_direction(model: Any, tmp_path: Path) -> None:
    told = make(model, requests(2), Ranking("clip", judge="mini-clip"), tmp_path / "pairs")
    assert told["ranking"]["prefer"] == "higher"
    assert told["chosen_score"] > told["rejected_score"]
    assert told["encoder"]["name"] == "mini-clip"


@pytest.mark.parametrize(
    ("ranking", "kind", "message"),
    [
        (Ranking("drift"), ConfigError, r"drift says nothing about a single picture\. These do: clip, saturation"),
        (Ranking("saturation"), ConfigError, "neither high nor low saturation is better as such"),
        (Ranking("satuation"), ConfigError, "Did you mean saturation"),
        (Ranking("saturation", prefer="lower", margin=1.0), RunFailed, "2 prompts gave no pair"),
    ],
)
def test_what_cannot_be_ranked_leaves_nothing_behind(
    model: Any, tmp_path: Path, ranking: Ranking, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        make(model, requests(2), ranking, tmp_path / "pairs")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_free_is_refused(model: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(UserError, match="exists and is not empty"):
        make(model, requests(2), Ranking("saturation", prefer="lower"), tmp_path)


def test_the_command_writes_them(tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs"
    asked = ["data", "pairs", str(tiny_sd), *PROMPTS, "--metric", "saturation", "--candidates", "2", "--steps", "1"]
    assert run([*asked, "--out", str(out)]) == 2
    assert "--prefer" in capsys.readouterr().err
    assert run([*asked, "--prefer", "lower", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["pairs"], told["settings"]["width"]) == (str(out), 2, 32)
    assert told == {"path": str(out), **json.loads((out / "pairs.json").read_text("utf-8"))}
