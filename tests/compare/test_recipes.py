"""The comparisons of the documents: each is the command in its first line, and every method of it can run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from brushwork import config as configs
from brushwork.compare import bakeoff
from brushwork.compare.request import read, requested

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes" / "compare").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_first_line_is_the_command_and_every_method_has_a_configuration(recipe: Path) -> None:
    assert recipe.read_text("utf-8").splitlines()[0] == f"# brushwork compare recipes/compare/{recipe.name}"
    asked = requested(read(recipe))
    for name in asked.methods:
        assert asked.config(name, 0).train.max_train_steps == asked.steps


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_comparison_of_the_source_trains_the_two_runs_of_its_recipes(method: str) -> None:
    asked = requested(read(ROOT / "recipes" / "compare" / "pokemon.yaml"))
    ours, alone = asked.config(method, 0), configs.load(ROOT / "recipes" / f"pokemon-{method}.yaml")
    for part in ("base", "method", "data", "objective", "optimizer"):
        assert getattr(ours, part) == getattr(alone, part), part
    same = {"checkpoints_total_limit": alone.train.checkpoints_total_limit}
    assert ours.train.model_copy(update=same) == alone.train


def test_any_data_set_can_take_the_place_of_the_sources(tmp_path: Path) -> None:
    tree = read(ROOT / "recipes" / "compare" / "pokemon.yaml") | {"base": "mini"}
    asked = requested(tree, [f"data.path={tmp_path}", "data.resolution=64"])
    data: Any = asked.config("lora", 0).data
    assert (data.path, data.resolution, data.random_flip) == (str(tmp_path), 64, True)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("name", ["engravings", "mascot"])
def test_every_method_passes_the_check_before_training(name: str) -> None:
    asked = requested(read(ROOT / "recipes" / "compare" / f"{name}.yaml"))
    settings = {method: asked.config(method, 0) for method in asked.methods}
    wanted = bakeoff._wanted(asked, settings)
    bakeoff._check_words(wanted, settings)
    plans = bakeoff._checked(asked, wanted, {})
    assert {plan.facts["effective_batch"] for plan in plans.values()} == {8}


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("comparison", ROOT / "docs" / "comparison.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_page_of_the_docs_has_both_tables(tmp_path: Path) -> None:
    number = {
        "metric": "clip", "prompt_set": "target", "value": 0.5, "interval": [0.4, 0.6], "n": 2, "direction": "higher",
        "encoder": "judge", "revision": "1", "caveat": "the loss's own judge",
    }  # fmt: skip
    cost = {"steps": 5.0, "step_seconds": 1.5, "peak_memory_bytes": 2e8, "artefact_bytes": 1e6}
    record = {
        "title": "2 methods on x", "brushwork": "1", "data": {}, "encoders": [{"name": "judge"}],
        "request": {"base": "mini", "steps": 5, "seconds": None, "seeds": 1},
        "prompts": {"target": ["a"], "control": [], "seeds": 2},
        "lines": [
            {"label": "base", "numbers": [number], "cost": None},
            {"label": "lora", "numbers": [number], "cost": cost},
        ],
    }  # fmt: skip
    (tmp_path / "fit-drift.svg").write_text("<svg/>")
    text = script().page(tmp_path, record, "x")
    assert "| lora | 0.500\N{DAGGER} (0.400 to 0.600) |" in text
    assert "| lora | 5 | 1.5 s | 200 MB | 1.0 MB |" in text
    assert "pictures/x-fit-drift.svg" in text
    assert "fit-time" not in text
