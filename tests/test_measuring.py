"""Pictures to numbers, by the embedded judge and captioner on the embedded data: what holds whatever is measured."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from test_encoders import make_tiny_clip
from test_evaluate import make_run
from tiny import make_tiny_sd

import brushwork
from brushwork import config as configs
from brushwork import metrics, registry
from brushwork.cli import run as command_line
from brushwork.errors import ConfigError, ModelError
from brushwork.evaluate import evaluate
from brushwork.generate import Request
from brushwork.measuring import Judges, check, load_judges, measure
from brushwork.metrics import Result, find
from brushwork.pairs import Plan
from brushwork.runs import RunFolder, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

DATASETS = Path(brushwork.__file__).parent / "assets" / "datasets"
THINGS = ("cat", "elephant", "giraffe", "lion", "monkey", "panda", "penguin", "fish")
SEEDS = 2
SCORER = """
import json, sys
print(json.dumps({"name": "length", "revision": "1", "gives": "scores"}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps({"id": asked["id"], "score": len(asked["text"])}), flush=True)
"""


def pictures(dataset: str, things: Sequence[str] = THINGS) -> list[list[Image.Image]]:
    """Return two pictures of each thing in a manner: the data's, and one a little smaller on its own paper."""
    shown = [Image.open(next((DATASETS / dataset).glob(f"*-{thing}.png"))).convert("RGB") for thing in things]
    return [[image, ImageOps.expand(image.resize((58, 58)), 3, image.getpixel((1, 1)))] for image in shown]


@dataclass
class Measured:
    """A folder of pictures in pairs, and how it is measured."""

    run: RunFolder
    folder: Path
    prompts: tuple[str, ...]
    judges: Judges

    def numbers(self, *names: str, order: Sequence[int] | None = None, judges: Judges | None = None) -> list[Result]:
        """Return results; ``order`` are places of prompts."""
        places = range(len(self.prompts)) if order is None else order
        requests = tuple(
            Request(prompt=self.prompts[place], seed=place * SEEDS + seed) for place in places for seed in range(SEEDS)
        )
        folder = self.folder
        if order is not None:
            folder = self.folder / "ordered"
            for side in ("base", "tuned"):
                for at, place in enumerate(places):
                    for seed in range(SEEDS):
                        (folder / side).mkdir(parents=True, exist_ok=True)
                        name = f"{place:05}-{place * SEEDS + seed}.png"
                        (folder / side / f"{at:05}-{place * SEEDS + seed}.png").write_bytes(
                            (self.folder / side / name).read_bytes()
                        )
                write_json(folder / side / "pictures.json", {"pictures": []} | self._listed(requests))
        planned = Plan(tuple(self.prompts[place] for place in places), (), SEEDS, requests)
        chosen = [(name, registry.load("metrics", name)) for name in names or registry.names("metrics")]
        return measure(self.run, planned, folder, chosen, judges or self.judges)[0]

    @staticmethod
    def _listed(requests: Sequence[Request]) -> dict[str, Any]:
        return {"pictures": [{"file": str(place), "prompt": each.prompt} for place, each in enumerate(requests)]}


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Judges:
    run = RunFolder.create(configs.load({"data": "engravings"}), tmp_path_factory.mktemp("judges") / "run")
    return load_judges(run, [registry.load("metrics", name) for name in registry.names("metrics")])[0]


def drawn(
    folder: Path, judges: Judges, base: Sequence[Sequence[Image.Image]], tuned: Sequence[Sequence[Image.Image]],
    prompts: Sequence[str] = THINGS, **data: Any,
) -> Measured:  # fmt: skip
    """Write what base and tuned "drew" as evaluation would."""
    config = configs.load({"data": {"path": "engravings", "resolution": 64, **data}, "base": "mini"})
    run = RunFolder.create(config, folder / "run")
    texts = tuple(f"a {each}" for each in prompts)
    for side, rows in (("base", base), ("tuned", tuned)):
        (folder / side).mkdir()
        for place, row in enumerate(rows):
            for seed, image in enumerate(row):
                image.save(folder / side / f"{place:05}-{place * SEEDS + seed}.png")
        write_json(folder / side / "pictures.json", {"pictures": [{"file": text} for text in texts]})
    return Measured(run, folder, texts, judges)


def value(results: Sequence[Result], name: str, of: str = "tuned") -> float:
    found = find(results, name, of)  # type: ignore[arg-type]
    assert found is not None, (name, of)
    return found.value


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, judges: Judges) -> tuple[Measured, list[Result]]:
    """A "model" that draws sketches as base and the training pictures themselves when tuned."""
    measured = drawn(tmp_path_factory.mktemp("learned"), judges, pictures("sketches"), pictures("engravings"))
    return measured, measured.numbers()


def test_training_pictures_among_the_output_are_caught(learned: tuple[Measured, list[Result]]) -> None:
    _, results = learned
    assert value(results, "memorisation", "base") <= 0.1  # one in twenty is that near by chance
    assert value(results, "memorisation") >= 0.5  # the data's own, and not those on other paper alone
    tuned = find(results, "memorisation", "tuned")
    assert tuned is not None
    first = tuned.details["closest"][: len(THINGS)]
    assert {each["prompt"] for each in first} == {f"a {thing}" for thing in THINGS}
    assert all(each["similarity"] == pytest.approx(1, abs=1e-6) and each["flagged"] for each in first)
    change = find(results, "memorisation", "difference")
    assert change is not None
    assert (change.p, change.smallest_p) == (4 / 2**8, 2 / 2**8)  # one sketch is near a training picture as well


@pytest.mark.parametrize("flip", [True, False])
def test_mirrored_training_pictures_are_caught_where_training_flipped(
    tmp_path: Path, judges: Judges, flip: bool
) -> None:
    mirrored = [[ImageOps.mirror(each) for each in row] for row in pictures("engravings", THINGS[:4])]
    measured = drawn(tmp_path, judges, pictures("sketches", THINGS[:4]), mirrored, THINGS[:4], random_flip=flip)
    tuned = find(measured.numbers("memorisation"), "memorisation", "tuned")
    assert tuned is not None
    assert tuned.details["mirrored_too"] is flip
    if flip:
        assert tuned.value >= 0.5
        assert all(each["mirrored"] for each in tuned.details["closest"][:4])


def test_the_style_is_seen_by_captioner_clip_and_every_distance(learned: tuple[Measured, list[Result]]) -> None:
    _, results = learned
    assert value(results, "caption_hits") > 0.9
    assert value(results, "caption_hits", "base") == 0
    words = find(results, "caption_hits", "tuned")
    assert words is not None
    assert words.details["words"] == ["engraving", "ink", "old"]
    assert value(results, "direction", "pairs") > 0.1
    for name in ("fd", "kid", "clip_mmd"):
        assert value(results, name) < value(results, name, "base")
    assert value(results, "clip_i") > value(results, "clip_i", "base")
    assert value(results, "blank") == 0


def test_shuffled_prompts_lower_clip_retrieval_and_faithfulness(
    learned: tuple[Measured, list[Result]], tmp_path: Path, judges: Judges
) -> None:
    turned = (*THINGS[1:], THINGS[0])
    wrong = drawn(tmp_path, judges, pictures("sketches"), pictures("engravings"), turned)
    results = wrong.numbers("clip", "retrieval", "caption_faithfulness")
    for name in ("clip", "gap", "top1", "caption_faithfulness"):
        for of in ("base", "tuned"):
            assert value(learned[1], name, of) > value(results, name, of) + 0.1


def test_one_picture_repeated_collapses_diversity(tmp_path: Path, judges: Judges) -> None:
    shown = pictures("engravings", THINGS[:4])
    one = shown[0][0]
    results = drawn(tmp_path, judges, shown, [[one, one]] * 4, THINGS[:4]).numbers("diversity", "vendi", "retrieval")
    assert value(results, "diversity") == 0
    assert value(results, "vendi") == pytest.approx(1)
    assert value(results, "diversity", "base") > 0.01
    assert value(results, "gap") == pytest.approx(0, abs=1e-6)
    assert value(results, "top1") == pytest.approx(0.25)


def test_neither_batches_nor_the_order_of_files_change_a_number(learned: tuple[Measured, list[Result]]) -> None:
    measured, results = learned
    clip, captions, both = measured.judges.independent, *measured.judges.others
    assert clip is not None
    smaller = replace(clip, batch_size=3)
    one: Any = captions
    words = replace(one, captioner=replace(one.captioner, batch_size=5), _said={})
    others = (words, replace(both, captions=words, clip=smaller))  # type: ignore[type-var]
    again = measured.numbers(
        order=(5, 0, 7, 2, 1, 6, 3, 4), judges=replace(measured.judges, independent=smaller, others=others)
    )
    for before, after in zip(results, again, strict=True):
        assert (before.name, before.of) == (after.name, after.of)
        assert after.value == pytest.approx(before.value, rel=1e-4, abs=1e-5)


class TestNumbersComeAgainFromTheSavedFeatures:
    """One of each kind: from the files alone, with the functions that ``brushwork.metrics`` exports."""

    @staticmethod
    def stored(learned: tuple[Measured, list[Result]], result: Result) -> dict[str, Any]:
        folder = learned[0].folder / "features"
        path = folder / f"{result.encoder}-{result.revision}-{result.preprocessing}.npz"
        with np.load(path) as saved:
            arrays = dict(saved)
        known = dict(zip(arrays["sha256"].tolist(), arrays["features"], strict=True))
        keys = ("references", "target_base", "target_tuned")
        found = {key: np.array([known[each] for each in arrays[key].ravel().tolist()]) for key in keys}
        return arrays | found

    def test_a_distance_of_sets(self, learned: tuple[Measured, list[Result]]) -> None:
        for name, function in (
            ("fd", metrics.frechet_distance),
            ("kid", metrics.kernel_distance),
            ("clip_mmd", metrics.cmmd),
        ):
            result = find(learned[1], name, "tuned")
            assert result is not None
            arrays = self.stored(learned, result)
            assert function(arrays["target_tuned"], arrays["references"]) == pytest.approx(result.value, rel=1e-9)
            floor = metrics.noise_floor(arrays["references"], function, size=16, draws=20, seed=result.seed)  # type: ignore[operator]
            assert floor._asdict() == result.details["floor"]

    def test_a_mean_over_texts(self, learned: tuple[Measured, list[Result]]) -> None:
        result = find(learned[1], "gap", "tuned")
        assert result is not None
        arrays = self.stored(learned, result)
        matrix = metrics.similarity_matrix(arrays["target_tuned"], arrays["target_texts"])
        assert metrics.summarise_similarity(matrix).gap == pytest.approx(result.value, abs=1e-9)

    def test_a_direction(self, learned: tuple[Measured, list[Result]]) -> None:
        result = find(learned[1], "direction", "pairs")
        assert result is not None
        arrays = self.stored(learned, result)
        texts = [np.repeat(arrays[f"target_{kind}"], SEEDS, axis=0) for kind in ("plain", "styled")]
        values = metrics.directional_similarity(arrays["target_base"], arrays["target_tuned"], *texts)
        assert values.mean() == pytest.approx(result.value, abs=1e-9)

    def test_a_rate_of_captions(self, learned: tuple[Measured, list[Result]]) -> None:
        result = find(learned[1], "caption_hits", "tuned")
        assert result is not None
        said = self.stored(learned, result)["target_tuned"].tolist()
        assert said == result.details["captions"]
        assert np.mean(["engraving" in text for text in said]) == pytest.approx(result.value)

    def test_a_technical_check(self, learned: tuple[Measured, list[Result]]) -> None:
        result = find(learned[1], "sharpness", "base")
        assert result is not None
        assert self.stored(learned, result)["target_base"][:, 2].mean() == pytest.approx(result.value, rel=1e-6)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a judge, two pictures, a classifier and a vision transformer."""
    from extractors.test_extractors import make_classifier, make_dino

    folder = tmp_path_factory.mktemp("models")
    make_tiny_sd(folder / "base")
    make_tiny_clip(folder / "judge")
    make_classifier(folder / "classes")
    make_dino(folder / "dino")
    (folder / "data").mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (32, 32), colour).save(folder / "data" / f"{colour}.png")
        (folder / "data" / f"{colour}.txt").write_text(f"a {colour} square")
    return folder


@pytest.fixture(scope="module")
def everything(models: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose tuned model is its base, looked at by a captioner, pixels, a classifier and a program."""
    folder = tmp_path_factory.mktemp("everything")
    (folder / "scorer.py").write_text(SCORER)
    names = [f"classifier:{models / 'classes'}", f"dinov2:{models / 'dino'}", "pixels:8", f"clip:{models / 'judge'}"]
    run = make_run(
        models, folder / "run", captioner="mini-captioner", style_words=["square"], style_template="{prompt}, in ink",
        extractors=[*names, f"pickscore:{models / 'judge'}"],
    )  # fmt: skip
    evaluate(run, extractors=[f"external:{sys.executable} {folder / 'scorer.py'}"])
    return run


def test_a_model_that_did_not_change_measures_zero_everywhere(everything: RunFolder) -> None:
    results = [Result.from_dict(each) for each in everything.metrics]
    unchanged = {"same_seed_ssim": 1.0, "same_seed_psnr": 100.0}
    changes = [each for each in results if each.of in ("difference", "ratio", "pairs")]
    assert {each.value - unchanged.get(each.name, 0) for each in changes} == {0.0}
    assert {each.p for each in changes} == {1.0, None}
    assert {each.interval for each in changes if each.name not in unchanged} == {(0.0, 0.0), None}
    assert {"direction", "dino_i", "inception", "external_score", "pickscore", "caption_hits"} <= {
        e.name for e in changes
    }


def test_every_number_says_by_whom_and_what_was_not_measured_says_why(everything: RunFolder) -> None:
    for each in everything.metrics:
        assert all(each[key] for key in ("encoder", "revision", "preprocessing", "version", "n"))
        assert each["seed"] == 0
    told = json.loads((everything.path / "evaluation" / "evaluation.json").read_text())["not_measured"]
    assert set(told) == {"clip_styled", "fid", "prdc", "same_seed_lpips", "same_seed_ms_ssim"}
    assert "inception:auto" in told["fid"]
    assert "176 pixels" in told["same_seed_ms_ssim"]
    assert "12 training pictures" in told["prdc"]
    assert "pip" not in told["prdc"]


def test_what_was_asked_for_and_cannot_be_measured_is_refused_before_anything_is_drawn(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    run = make_run(models, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"metrics: pickscore cannot be measured: name it: .*PickScore_v1"):
        evaluate(run, ["pickscore"])
    for name in ("caption_hits", "fid", "dino_i", "inception", "external_score", "same_seed_lpips"):
        with pytest.raises(ConfigError, match=f"metrics: {name} cannot be measured"):
            evaluate(run, [name])
    assert command_line(["evaluate", str(run.path), "--extractor", "dino:x"]) == 2
    assert "must be KIND:WHICH" in capsys.readouterr().err
    assert not (run.path / "evaluation").exists()


@pytest.mark.parametrize(("settings", "words"), [
    ({"extractors": ["dinvo2:x"]}, "Did you mean dinov2"),
    ({"extractors": ["pixels:8", "dinov2:./nowhere"]}, "is not a model folder"),
    ({"extractors": ["inception:auto"]}, r"brushwork\[inception\]"),
    ({"captioner": "./nowhere"}, r"validation\.captioner: '\./nowhere' is not a model folder"),
    ({"style_template": "in ink"}, r"validation\.style_template"),
])  # fmt: skip
def test_networks_that_cannot_measure_are_refused_before_training(
    settings: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises((ConfigError, ModelError), match=words):
        check(configs.load({"data": "engravings"}, validation=settings))


def test_networks_that_can_measure_need_no_words(tmp_path: Path) -> None:
    (tmp_path / "scorer.py").write_text(SCORER)
    names = ["pixels:8", f"external:{sys.executable} {tmp_path / 'scorer.py'}"]
    assert check(configs.load({"data": "engravings"}, validation={"extractors": names, "captioner": "none"})) == []


def test_a_style_without_a_place_for_the_prompt_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"validation\.style_template"):
        evaluate(make_run(models, tmp_path / "run", style_template="in ink"))
