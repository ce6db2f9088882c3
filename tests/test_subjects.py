"""Any MODEL is evaluated beside what it was tuned from; what did not change measures exactly zero."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from test_encoders import make_tiny_clip
from test_processes import finish, start
from tiny import make_tiny_sd

from brushwork import api, cli, findings, pairs, prompts, registry
from brushwork import config as configs
from brushwork.errors import ConfigError, DataError, ModelError, UserError
from brushwork.evaluate import evaluate, subjects
from brushwork.evaluate.predicted import BINS
from brushwork.metrics import Result, find
from brushwork.report import write_report
from brushwork.runs import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from warm import Server

SETS = {
    "target": ["a dog in <mascot> style", "a cat in <mascot> style", "a fish"],
    "content": ["a dog", "a cat", "a fish"],
    "held_out": ["a house", "a tree"],
}
FORGOTTEN = ("drift", "noise_drift", "uptake", "retention", "change", "clip", "clip_styled")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a judge, pictures, a file of sets, and what LoRA, Textual Inversion and full fine-tuning make of them."""
    folder = tmp_path_factory.mktemp("subjects")
    make_tiny_sd(folder / "base")
    make_tiny_clip(folder / "judge")
    (folder / "data").mkdir()
    for colour in ("red", "blue", "green", "gold"):
        Image.new("RGB", (32, 32), colour).save(folder / "data" / f"{colour}.png")
        (folder / "data" / f"{colour}.txt").write_text(f"a {colour} square in <mascot> style")
    (folder / "sets.yaml").write_text(json.dumps(SETS))
    for method in ("lora", "textual-inversion", "full"):
        token = {} if method != "textual-inversion" else {"method": {"token": "<mascot>"}}
        config = configs.load(
            {"base": str(folder / "base"), "data": {"type": "captioned", "path": str(folder / "data")}, **token},
            method=method,
            validation={"prompts": ["a dog"], "samples_during_training": 0, "num_inference_steps": 2},
            optimizer={"learning_rate": 1e-2},
            train={"max_train_steps": 2, "train_batch_size": 2, "device": "cpu"},
        )
        api.train(config, out=folder / method, evaluate=False)
    return folder


def settings(place: Path) -> list[str]:
    return [
        "validation.images_per_prompt=2",
        "validation.num_inference_steps=2",
        f"validation.judge={place / 'judge'}",
        "data.resolution=32",
    ]


def measured(place: Path, model: str, out: Path, metrics: tuple[str, ...] = FORGOTTEN, **asked: Any) -> list[Result]:
    sets = str(place / "sets.yaml")
    return evaluate(model, metrics, prompts=sets, overrides=settings(place), out=out, **asked)


def changes(results: list[Result], prompt_set: str) -> dict[str, float]:
    return {
        f"{each.name} {each.of}": each.value
        for each in results
        if each.prompt_set == prompt_set and each.of in ("difference", "ratio")
    }


def test_an_adapter_of_weight_zero_changes_exactly_nothing(place: Path, tmp_path: Path) -> None:
    results = measured(place, f"{place / 'base'}+{place / 'lora'}@0", tmp_path / "out")
    every = {name: changes(results, name) for name in ("target", "content", "control")}
    assert {"drift ratio", "noise_drift ratio", "uptake difference"} <= set(every["control"])
    assert {value for found in every.values() for value in found.values()} == {0.0}
    assert all(each.p in (None, 1.0) for each in results)
    kept = find(results, "retention", "tuned", "control")
    assert kept is not None
    assert (kept.value, kept.details["worst"]) == (1.0, [])
    assert "exactly 0" in " ".join(findings.forgetting(results)["sentences"])


def test_a_new_word_changes_nothing_where_it_is_not_said(place: Path, tmp_path: Path) -> None:
    results = measured(place, str(place / "textual-inversion"), tmp_path / "out")
    for without in ("content", "control"):
        assert set(changes(results, without).values()) == {0.0}
    assert changes(results, "target")["change ratio"] > 0


def test_full_fine_tuning_does(place: Path, tmp_path: Path) -> None:
    results = measured(place, str(place / "full"), tmp_path / "out")
    forgotten = changes(results, "control")
    assert min(forgotten[name] for name in ("drift ratio", "noise_drift ratio", "change ratio")) > 0
    moved = find(results, "noise_drift", "ratio", "control")
    assert moved is not None
    assert len(moved.details["bins"]) == BINS
    assert moved.value == pytest.approx(np.mean([each["drift"] for each in moved.details["prompts"]]))


def test_content_prompts_are_drawn_at_the_seeds_of_their_targets_and_scored_by_themselves(
    place: Path, tmp_path: Path
) -> None:
    """A prompt whose content is the same is drawn once; the style's words are in one text of each pair."""
    results = measured(place, str(place / "full"), tmp_path, ("clip", "clip_styled"))
    listed = json.loads((tmp_path / "evaluation" / "tuned" / "pictures.json").read_text())["pictures"]
    seeds: dict[str, list[int]] = {}
    for each in listed:
        seeds.setdefault(each["prompt"], []).append(each["seed"])
    assert list(seeds) == [*SETS["target"], "a dog", "a cat", *SETS["held_out"]]
    assert seeds["a dog"] == seeds["a dog in <mascot> style"] == [0, 1]
    assert seeds["a house"] == [6, 7]
    square = findings.square(results)
    assert square is not None
    cells = {name: cell["tuned"] for name, cell in square.items() if name != "told"}
    assert {name: (cell.name, cell.prompt_set) for name, cell in cells.items()} == {
        "styled_content": ("clip", "target"), "styled_styled": ("clip_styled", "target"),
        "plain_content": ("clip", "content"), "plain_styled": ("clip_styled", "content"),
    }  # fmt: skip
    assert len({cell.value for cell in cells.values()}) == 4


def test_metrics_that_are_not_asked_for_again_are_kept_while_the_pictures_are_the_same(
    place: Path, tmp_path: Path
) -> None:
    measured(place, str(place / "full"), tmp_path, ("saturation",))
    found = measured(place, str(place / "full"), tmp_path, ("change",))
    assert {each.name for each in found} == {"change"}
    assert {each["name"] for each in json.loads((tmp_path / "metrics.json").read_text())} == {"saturation", "change"}


def test_any_folder_can_be_evaluated_and_its_report_written_again(place: Path, tmp_path: Path, capsys: Any) -> None:
    """A run's weights say what they were tuned from; the page stands without the run."""
    shutil.copytree(place / "full" / "weights", tmp_path / "model")
    out = tmp_path / "out"
    asked = ["--prompts", str(place / "sets.yaml"), "--out", str(out), "--metrics", "clip,change", *settings(place)]
    assert cli.run(["evaluate", str(tmp_path / "model"), *asked]) == 2
    assert "does not say what it was tuned from. Name it: --against BASE" in capsys.readouterr().err
    (tmp_path / "model" / "README.md").write_text(f"---\nbase_model: {place / 'base'}\n---\n")
    assert cli.run(["evaluate", str(tmp_path / "model"), *asked, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["against"], said["out"]) == (str(place / "base"), str(out))
    page = (out / "report.html").read_text("utf-8")
    assert "model beside base" in page
    assert 'id="training"' not in page
    (out / "report.html").unlink()
    assert cli.run(["report", str(out)]) == 0
    assert (out / "report.html").read_text("utf-8") == page
    assert write_report(subjects.reopen(out)).read_text("utf-8") == page


def test_references_of_ones_own_take_the_place_of_the_training_pictures(place: Path, tmp_path: Path) -> None:
    (tmp_path / "references").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 32), (number, 9, 200)).save(tmp_path / "references" / f"{number}.png")
    asked = {"references": str(tmp_path / "references")}
    results = measured(place, str(place / "lora"), tmp_path / "out", ("saturation", "memorisation"), **asked)
    data, copied = find(results, "saturation", "data"), find(results, "memorisation", "tuned")
    assert data is not None
    assert copied is not None
    assert (data.n, copied.details["training_pictures"]) == (3, 4)  # copies are of what it was trained on
    plain = f"{place / 'base'}+{place / 'lora' / 'weights'}"
    bare = measured(place, plain, tmp_path / "bare", ("saturation", "memorisation"), **asked)
    assert {each.name for each in bare} == {"saturation"}
    with pytest.raises(DataError):
        measured(place, plain, tmp_path / "bare", ("saturation",), references=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("model", "asked", "told"),
    [
        ("{place}/base", {"prompts": "old-books"}, "does not say what it was tuned from"),
        ("{place}/base+{place}/lora/weights", {}, "nobody says what to draw.*old-books"),
        ("{place}/lora", {"overrides": ["seed=3"]}, "an evaluation reads validation and data.resolution only"),
        ("{place}/lora", {"prompts": "old-bokks"}, "Did you mean old-books"),
        ("{place}/lora", {"overrides": ["validation.setps=3"]}, "validation.setps"),
    ],
)
def test_what_nobody_says_is_asked_for_before_anything_is_drawn(
    place: Path, tmp_path: Path, model: str, asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        subjects.find(model.format(place=place), out=tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_pictures_of_two_sizes_are_not_paired(tmp_path: Path) -> None:
    for side, size in (("base", 32), ("tuned", 40)):
        (tmp_path / side).mkdir()
        Image.new("RGB", (size, 32)).save(tmp_path / side / "00000-0.png")
        listed = {"pictures": [{"file": "00000-0.png", "prompt": "a dog", "seed": 0}]}
        (tmp_path / side / "pictures.json").write_text(json.dumps(listed))
    with pytest.raises(UserError, match="size is '32x32' for base and '40x32' for tuned"):
        pairs.check_pairs(tmp_path)


def test_a_run_that_is_no_run_and_no_evaluation_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds neither a run \(config\.yaml\) nor an evaluation"):
        subjects.reopen(tmp_path)


def draw_together(place: str, out: str) -> int:
    return cli.run(
        ["evaluate", f"{place}/base+{place}/lora@0.7", "--prompts", f"{place}/sets.yaml", "--out", out,
         "--metrics", "clip,change,noise_drift", "validation.images_per_prompt=4", "validation.num_inference_steps=2",
         f"validation.judge={place}/judge", "data.resolution=32"]
    )  # fmt: skip


@pytest.mark.thorough
@pytest.mark.slow
def test_two_processes_draw_and_measure_what_one_does(place: Path, tmp_path: Path, warm: Server) -> None:
    assert draw_together(str(place), str(tmp_path / "alone")) == 0
    assert finish(start(warm, tmp_path, draw_together, str(place), str(tmp_path / "both"))) == [0, 0]
    alone, both = (tmp_path / name for name in ("alone", "both"))
    assert (alone / "metrics.json").read_text() == (both / "metrics.json").read_text()
    drawn = sorted(path.relative_to(alone) for path in alone.rglob("*.png"))
    assert len(drawn) == 2 * 4 * 7
    assert all(Image.open(alone / each).tobytes() == Image.open(both / each).tobytes() for each in drawn)
    speed = json.loads((both / "evaluation" / "base" / pairs.SPEED).read_text())
    assert speed["pictures"] < 28  # the main process drew a share


class TestSets:
    def test_the_source_documents_sets_are_there_by_name(self) -> None:
        books, sketch, dog = (prompts.read_sets(name) for name in ("old-books", "sketch-scene", "dreambooth-dog"))
        assert (len(books.target), len(books.content), len(books.held_out)) == (15, 0, 1)
        assert (len(sketch.target), len(sketch.content)) == (5, 5)
        assert [f"A black and white sketch of {text}" for text in sketch.content] == list(sketch.target)
        assert (len(dog.target), len(dog.content)) == (8, 8)
        assert [text.replace("SKS ", "") for text in dog.target] == list(dog.content)

    def test_a_setting_takes_its_own_set_of_a_file(self) -> None:
        assert prompts.resolve("dreambooth-dog", key="validation.content_prompts")[0] == "dog in a forest"
        assert prompts.resolve("old-books", key="validation.control_prompts")[0].startswith("A futuristic cityscape")
        with pytest.raises(ConfigError, match="holds no prompts"):
            prompts.resolve("sketch-scene", key="validation.control_prompts")

    def test_a_set_may_be_a_text_file_beside(self, tmp_path: Path) -> None:
        (tmp_path / "plain.txt").write_text("a dog\na cat\n")
        (tmp_path / "sets.yaml").write_text("target: [a dog, ink]\nheld_out: plain.txt\n".replace("[a dog", "[my dog"))
        assert prompts.read_sets(str(tmp_path / "sets.yaml")).held_out == ("a dog", "a cat")

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("target: [a, b]\ncontent: [c]", "2 target prompts but 1 content"),
            ("target: [a, b]\nheld_out: [b]", "'b' is both a target and a held-out"),
            ("target: [a, b]\ncontent: [b, a]", "both a target and a content"),
            ("targets: [a]", "'targets' is no set of prompts. Did you mean target"),
            ("content: [a]", "has no target prompts"),
            ("target: [a, a]", "each prompt may occur once"),
            ("target: {a: b}", "must be a list of texts"),
            ("- a", "no mapping of sets"),
            ("target: [a", "cannot be read as YAML"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, tmp_path: Path, text: str, told: str) -> None:
        (tmp_path / "sets.yaml").write_text(text)
        with pytest.raises(ConfigError, match=told):
            prompts.read_sets(str(tmp_path / "sets.yaml"))


def test_the_run_class_measures_what_is_named(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "lora", tmp_path / "run")
    results = api.Run(tmp_path / "run").evaluate("change")
    assert [(each.name, each.of) for each in results] == [("change", "ratio")]
    assert results[0].value > 0
    assert RunFolder(tmp_path / "run").metrics[0]["name"] == "change"
    assert "change" in registry.names("metrics")
