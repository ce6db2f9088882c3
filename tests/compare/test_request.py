"""A bake-off is asked for in three forms, which mean the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from brushwork.compare.request import listed, read, requested
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def ask(*overrides: str, **changes: Any) -> Any:
    return requested({"methods": "full,lora", "data": "engravings", "steps": 5} | changes, overrides)


def test_a_list_of_methods_has_presets_names_and_keys_of_their_own() -> None:
    assert listed("full, dora=lora+method.use_dora=true+method.targets=[to_q,to_k]") == {
        "full": "full",
        "dora": "lora+method.use_dora=true+method.targets=[to_q,to_k]",
    }
    asked = ask(methods="dora=lora+method.use_dora=true+method.targets=[to_q,to_k]")
    assert asked.methods == {
        "dora": {"preset": "lora", "method": {"use_dora": True, "targets": ["to_q", "to_k"]}},
    }
    assert asked.config("dora", 3).method.use_dora
    assert (asked.config("dora", 3).seed, asked.config("dora", 3).name) == (3, "dora")


def test_the_rate_of_a_number_in_scientific_form_is_one_value() -> None:
    methods = ask(methods="fast=lora+optimizer.learning_rate=1.0e+1").methods
    assert methods["fast"]["optimizer"] == {"learning_rate": 10.0}


def test_keys_hold_for_all_or_for_one() -> None:
    asked = ask("optimizer.lr_scheduler=cosine", "lora:method.rank=3")
    full, lora = asked.config("full", 0), asked.config("lora", 0)
    assert (full.optimizer.lr_scheduler, lora.optimizer.lr_scheduler) == ("cosine", "cosine")
    assert lora.method.rank == 3


def test_a_recipe_is_the_same_request(tmp_path: Path) -> None:
    recipe = tmp_path / "bake.yaml"
    recipe.write_text(
        "data: {path: engravings}\nsteps: 5\nmethods:\n  full:\n  lora: {method: {rank: 3}}\n"
        "optimizer: {lr_scheduler: cosine}\n"
    )
    assert requested(read(recipe)) == ask("optimizer.lr_scheduler=cosine", "lora:method.rank=3")


def test_the_budget_is_every_methods() -> None:
    assert {ask().config(name, 0).train.max_train_steps for name in ("full", "lora")} == {5}
    timed = requested({"methods": "full", "data": "engravings", "seconds": 2.5}).config("full", 0)
    assert (timed.train.max_train_steps, timed.train.max_train_seconds) == (None, 2.5)


@pytest.mark.parametrize(("overrides", "changes", "said"), [
    ([], {"methods": "full,lroa"}, "no method 'lroa'.*Did you mean lora"),
    ([], {"methods": "full,full"}, "twice"),
    ([], {"methods": ""}, "no name"),
    ([], {"steps": None}, "one budget"),
    ([], {"seconds": 3.0}, "one budget"),
    ([], {"means": "bear"}, "concept is not"),
    ([], {"data": None}, "data is required"),
    ([], {"sedes": 1}, "sedes is not a known key.*Did you mean seed"),
    (["method.rank=3"], {}, "would hold for every method"),
    (["dora:method.rank=3"], {}, "'dora' is none of the methods"),
])  # fmt: skip
def test_a_wrong_request_is_refused(overrides: list[str], changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ask(*overrides, **changes)


def test_what_is_wrong_with_one_method_is_said_with_its_name() -> None:
    with pytest.raises(ConfigError, match=r"^lora: .*method.rnak is not a known key"):
        ask("lora:method.rnak=3").config("lora", 0)


def test_a_recipe_for_one_run_is_no_comparison(tmp_path: Path) -> None:
    recipe = tmp_path / "run.yaml"
    recipe.write_text("data: engravings\n")
    with pytest.raises(ConfigError, match="brushwork train"):
        read(recipe)
