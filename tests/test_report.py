"""The report is one complete, safe page, and says honestly what is missing."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from synthetic import CONTROL, TARGET, make_run

from brushwork import report
from brushwork.cli import run as command_line
from brushwork.report import write_report

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.runs import RunFolder

HOSTILE = "\"><script>alert(1)</script>&{{ 7*7 }}' <img src=http://evil.example/x onerror=alert(2)>"
VOID = {"meta", "img", "input", "br", "hr", "link"}


class Page(HTMLParser):
    """Collects the elements of a page and checks that they are closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """Remember an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that the innermost element is the one that ends."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect what is read."""
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data

    def said(self) -> str:
        """Return the text with single spaces."""
        return " ".join(self.text.split())

    def images(self) -> list[str]:
        """Return the sources of all pictures."""
        return [str(attributes["src"]) for tag, attributes in self.elements if tag == "img"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(run: RunFolder) -> Page:
    return Page(write_report(run))


def copied(run: RunFolder, folder: Path) -> RunFolder:
    shutil.copytree(run.path, folder)
    return type(run)(folder)


def test_the_page_is_well_formed_and_stands_alone(run: RunFolder, page: Page) -> None:
    assert page.open == []
    links = [value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")]
    assert all(value and value.startswith(("data:image/", "#")) for value in links)
    text = (run.path / "report.html").read_text("utf-8")
    assert not re.search(r"https?://|url\(|@import", text)
    assert len(text.encode()) < 10_000_000


def test_every_anchor_leads_somewhere(page: Page) -> None:
    places = {attributes.get("id") for _, attributes in page.elements}
    anchors = [str(attributes["href"])[1:] for tag, attributes in page.elements if tag == "a"]
    assert anchors
    assert set(anchors) <= places


def test_every_picture_can_be_read_and_says_what_it_shows(page: Page) -> None:
    for source in set(page.images()):
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            image.load()
    alternatives = [attributes.get("alt") for tag, attributes in page.elements if tag == "img"]
    assert None not in alternatives
    assert f"Base, seed 5: {TARGET[1]}" in alternatives
    assert f"Tuned, seed 5: {TARGET[1]}" in alternatives


def test_pictures_of_64_pixels_travel_without_loss(run: RunFolder, page: Page) -> None:
    original = Image.open(run.path / "evaluation" / "tuned" / "00000-0.png").convert("RGB")
    found = [
        Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB") for source in page.images()
    ]
    assert any(image.size == original.size and image.tobytes() == original.tobytes() for image in found)


def test_every_number_is_in_a_table(run: RunFolder, page: Page) -> None:
    for result in run.metrics:
        assert f"{result['name']}{result['prompt_set']}{result['of']}" in page.said()


def test_the_nearest_training_pictures_are_shown_beside_what_was_drawn(
    run: RunFolder, page: Page, tmp_path: Path
) -> None:
    alternatives = [attributes.get("alt") or "" for tag, attributes in page.elements if tag == "img"]
    assert alternatives.count("The nearest training picture") == 6
    assert "of the tuned model lie nearer to a training picture than" in page.said()
    gone = copied(run, tmp_path / "gone")
    (gone.path / "config.yaml").write_text(
        (gone.path / "config.yaml").read_text("utf-8").replace("run-data", "gone-data"), "utf-8"
    )
    without = Page(write_report(gone))
    assert "The nearest training picture" not in {str(each.get("alt")) for _, each in without.elements}
    assert "of the tuned model lie nearer to a training picture than" in without.said()


def test_the_slider_can_be_used_with_the_keyboard(page: Page) -> None:
    (slider,) = [each for tag, each in page.elements if tag == "input" and each.get("type") == "range"]
    assert slider["aria-label"]
    assert (slider["min"], slider["max"]) == ("0", "100")


def test_the_numbers_are_those_of_metrics_json(run: RunFolder, page: Page) -> None:
    (change,) = [
        each
        for each in run.metrics
        if (each["name"], each["prompt_set"], each["of"]) == ("clip", "target", "difference")
    ]
    said = page.said()
    low, high = (f"{end:+.3f}".replace("-", "\N{MINUS SIGN}") for end in change["interval"])
    assert f"paired difference of {change['value']:+.3f}".replace("-", "\N{MINUS SIGN}") in said
    assert f"interval {low} to {high}, cluster bootstrap over prompts" in said
    assert "the smallest p that 3 prompts can reach is 0.25" in said
    assert "read this as an indication, not as evidence" in said


def test_all_that_was_asked_for_is_on_the_page(page: Page) -> None:
    said = page.said()
    for text in (
        *TARGET, *CONTROL, "2 min 22 s", "38.4 images/s", "1.3 GB", "446 464", "1.8 MB",
        "brushwork train config.yaml", "--method lora --base mini", "torch 2.13.0", "ab12cd34ef56ab12",
        "c0ffee00c0ffee00c0ffee00c0ffee00", "mini-clip was trained on the same rendered scenes", "an independent judge",
        "learning rate", "a thing number 11, old book engraving", "The training pictures have", "of what another seed",
    ):  # fmt: skip
        assert text in said, text
    assert len([tag for tag, each in page.elements if tag == "svg" and each.get("class") == "chart"]) == 4


def test_the_page_may_load_nothing(page: Page) -> None:
    policy = [each["content"] for tag, each in page.elements if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]


def test_hostile_captions_prompts_and_warnings_are_text(tmp_path: Path) -> None:
    captions = [f"{HOSTILE} {number}" for number in range(4)]
    run = make_run(tmp_path / "run", target=[HOSTILE, "a cat"], control=[f"control {HOSTILE}"], captions=captions)
    run.update(warnings=[HOSTILE], command=HOSTILE, git={"commit": HOSTILE}, versions={HOSTILE: HOSTILE})
    page = Page(write_report(run))
    assert page.open == []
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert all(source.startswith("data:image/") for source in page.images())
    assert page.said().count("alert(1)") >= 6
    assert "{{ 7*7 }}" in page.said()


def test_a_run_that_was_never_evaluated_says_so(run: RunFolder, tmp_path: Path) -> None:
    bare = copied(run, tmp_path / "bare")
    shutil.rmtree(bare.path / "evaluation")
    (bare.path / "metrics.json").unlink()
    said = Page(write_report(bare)).said()
    assert "This run has not been evaluated" in said
    assert "Nothing was measured on the target prompts." in said
    assert "cannot say what the model forgot" in said


def test_a_stopped_run_without_steps_samples_or_validation_says_so(run: RunFolder, tmp_path: Path) -> None:
    bare = copied(run, tmp_path / "bare")
    (bare.path / "steps.jsonl").unlink()
    shutil.rmtree(bare.path / "samples")
    shutil.rmtree(bare.path / "evaluation")
    (bare.path / "metrics.json").unlink()
    (bare.path / "run.json").write_text(json.dumps({"status": "failed", "failure": "Step 3: NaN", "total_steps": 9}))
    said = Page(write_report(bare)).said()
    for text in (
        "This run failed: it is at step 0 of 9. Step 3: NaN",
        "No step was done yet.",
        "No pictures were drawn while training.",
        "Nothing is recorded yet.",
    ):
        assert text in said


def test_a_run_in_the_middle_shows_what_there_is(run: RunFolder, tmp_path: Path) -> None:
    half = copied(run, tmp_path / "half")
    half.forget_after(120)
    half.update(status="stopped", base_validation_loss=None)
    said = Page(write_report(half)).said()
    assert "This run was stopped: it is at step 120 of 300." in said
    assert "The loss on held-out pictures is" in said


def test_without_held_out_pictures_overfitting_is_said_to_be_invisible(run: RunFolder, tmp_path: Path) -> None:
    other = copied(run, tmp_path / "other")
    steps = [{key: value for key, value in step.items() if key != "validation_loss"} for step in other.steps()]
    (other.path / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    other.update(data={"count": 12, "held_out": 0})
    assert "overfitting cannot be seen here" in Page(write_report(other)).said()


def test_data_that_moved_away_is_said_to_be_gone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    shutil.rmtree(tmp_path / "run-data")
    assert "cannot be read any more from here" in Page(write_report(run)).said()


def test_a_picture_that_is_missing_on_one_side_is_left_out_on_both(run: RunFolder, tmp_path: Path) -> None:
    other = copied(run, tmp_path / "other")
    (other.path / "evaluation" / "base" / "00000-2.png").unlink()
    alternatives = [each.get("alt") for tag, each in Page(write_report(other)).elements if tag == "img"]
    assert f"Tuned, seed 2: {TARGET[0]}" not in alternatives
    assert f"Tuned, seed 3: {TARGET[0]}" in alternatives


def test_the_page_shrinks_its_pictures_until_it_is_small_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", side=320, target=TARGET[:2], control=(), seeds=2)
    large = write_report(run).stat().st_size
    monkeypatch.setattr(report, "LARGEST", large - 1)
    assert write_report(run).stat().st_size < large


def test_the_command_prints_the_path_or_json(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert command_line(["report", str(run.path), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert command_line(["report", str(run.path), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(out), "bytes": out.stat().st_size}


def test_the_command_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["report", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_the_command_to_evaluate_names_the_metric_that_was_meant(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(["evaluate", str(run.path), "--metrics", "clip,drft"]) == 2
    assert "Did you mean drift?" in capsys.readouterr().err


def test_sets_captions_and_what_was_not_measured_are_said(run: RunFolder, tmp_path: Path) -> None:
    other = copied(run, tmp_path / "run")
    told = other.path / "evaluation" / "evaluation.json"
    written = {**json.loads(told.read_text("utf-8")), "not_measured": {"fid": "name it: <inception:auto>"}}
    told.write_text(json.dumps(written), "utf-8")
    said = " ".join(Page(write_report(other)).said().split())
    assert "Asked what it sees, mini-captioner names the style (engraving) in 12 of 12 pictures" in said
    assert "s 12 pictures as a whole, from the training pictures" in said
    assert "at this size not comparable with published numbers" in said
    assert re.search(r"Fréchet distance by mini-clip [\d.]+ \N{RIGHTWARDS ARROW} [\d.]+ \(noise floor [\d.]+, ", said)
    assert "not comparable: N = 12" in said  # in the table
    assert re.search(r"not comparable: N = 12; noise floor [\d.]+ \([\d.]+ to [\d.]+\) at N = 6", said)
    assert "Likeness to the training pictures (CLIP-I, mini-clip)" in said
    assert "Not measured here (1)" in said
    assert "name it: <inception:auto>" in said
