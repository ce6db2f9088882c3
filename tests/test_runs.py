"""A run folder describes itself, and what it holds is whole however its writer ended."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from brushwork import runs
from brushwork.config import load
from brushwork.errors import ModelError, UserError
from brushwork.runs import RunFolder, replacing, write_json


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(load({"data": "photos/"}), tmp_path / "run")


class TestFolder:
    def test_a_new_run_holds_the_configuration_it_was_made_with(self, run: RunFolder) -> None:
        assert run.config == load({"data": "photos/"})
        assert run.record == {"status": "created"}
        assert run.steps() == []
        assert run.metrics == []

    def test_a_run_without_a_place_is_named_by_day_method_and_an_id(self) -> None:
        made = [RunFolder.create(load({"data": "photos/"})).path for _ in range(2)]
        assert made[0] != made[1]
        for path in made:
            assert path.parent == Path("runs")
            assert path.name[10:16] == "-lora-"

    def test_the_name_in_the_configuration_names_the_folder(self) -> None:
        assert "-cats-" in RunFolder.create(load({"data": "photos/", "name": "cats"})).path.name

    def test_a_folder_that_holds_something_is_not_taken(self, tmp_path: Path) -> None:
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "diary.txt").write_text("mine")
        with pytest.raises(UserError, match=r"exists and is not empty\. Choose another"):
            RunFolder.create(load({"data": "photos/"}), tmp_path / "full")
        assert [each.name for each in (tmp_path / "full").iterdir()] == ["diary.txt"]

    def test_a_place_that_holds_a_run_offers_to_go_on_with_it(self, run: RunFolder) -> None:
        with pytest.raises(UserError, match="--resume"):
            RunFolder.create(load({"data": "photos/"}), run.path)

    def test_an_empty_folder_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert RunFolder.create(load({"data": "photos/"}), tmp_path / "empty").config.method.type == "lora"
        assert [each.name for each in tmp_path.iterdir()] == ["empty"]

    def test_what_is_no_run_is_refused_with_the_nearest_run(self, run: RunFolder) -> None:
        with pytest.raises(ModelError, match=r"is not a run folder .*Did you mean .*/run\?"):
            RunFolder(run.path.with_name("rnu"))

    def test_runs_are_found_oldest_first(self, tmp_path: Path) -> None:
        for age, name in enumerate(("young", "middle", "old")):
            made = RunFolder.create(load({"data": "photos/"}), tmp_path / name)
            os.utime(made.path / "config.yaml", (1e9 - age, 1e9 - age))
        (tmp_path / "other").mkdir()
        assert [each.path.name for each in runs.find(tmp_path)] == ["old", "middle", "young"]
        assert runs.find(tmp_path / "nowhere") == []


class TestRecord:
    def test_updates_add_up(self, run: RunFolder) -> None:
        run.update(status="running", seed=1)
        run.update(status="done")
        assert run.record == {"status": "done", "seed": 1}

    def test_what_json_cannot_hold_becomes_null(self, run: RunFolder) -> None:
        run.update(loss=math.nan, losses=[1.0, math.inf], nested={"norm": -math.inf})
        text = (run.path / "run.json").read_text()
        assert json.loads(text, parse_constant=pytest.fail) == {
            "status": "created", "loss": None, "losses": [1.0, None], "nested": {"norm": None},
        }  # fmt: skip


class TestSteps:
    def test_logged_steps_come_back_in_order(self, run: RunFolder) -> None:
        for index in (1, 2, 3):
            run.log({"index": index, "loss": index / 2})
        assert run.steps() == [{"index": index, "loss": index / 2} for index in (1, 2, 3)]

    def test_a_line_cut_short_by_a_kill_is_left_out(self, run: RunFolder) -> None:
        run.log({"index": 1})
        with (run.path / "steps.jsonl").open("a") as file:
            file.write('{"index": 2, "lo')
        assert run.steps() == [{"index": 1}]

    def test_going_on_after_a_cut_line_keeps_the_log_readable(self, run: RunFolder) -> None:
        run.log({"index": 1})
        with (run.path / "steps.jsonl").open("a") as file:
            file.write('{"index": 2, "lo')
        run.forget_after(1)
        run.log({"index": 2})
        assert [step["index"] for step in run.steps()] == [1, 2]

    def test_steps_that_will_be_done_again_are_forgotten(self, run: RunFolder) -> None:
        for index in (1, 2, 3):
            run.log({"index": index})
        run.forget_after(2)
        assert [step["index"] for step in run.steps()] == [1, 2]

    def test_forgetting_in_a_run_without_a_log_leaves_an_empty_one(self, run: RunFolder) -> None:
        run.forget_after(0)
        assert run.steps() == []


class TestReplacing:
    def test_a_file_takes_the_place_of_the_old_one(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "file.txt"
        for text in ("old", "new"):
            with replacing(path) as temporary:
                temporary.write_text(text)
        assert path.read_text() == "new"
        assert [each.name for each in path.parent.iterdir()] == ["file.txt"]

    def test_a_folder_takes_the_place_of_the_old_one(self, tmp_path: Path) -> None:
        for name in ("old", "new"):
            with replacing(tmp_path / "folder") as temporary:
                temporary.mkdir()
                (temporary / name).touch()
        assert [each.name for each in (tmp_path / "folder").iterdir()] == ["new"]
        assert [each.name for each in tmp_path.iterdir()] == ["folder"]

    def test_an_error_leaves_the_old_one_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "file.json"
        write_json(path, {"a": 1})
        with pytest.raises(ZeroDivisionError), replacing(path) as temporary:  # noqa: PT012
            temporary.write_text("half")
            1 / 0  # noqa: B018
        assert json.loads(path.read_text()) == {"a": 1}
        assert [each.name for each in tmp_path.iterdir()] == ["file.json"]
