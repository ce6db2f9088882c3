"""The configuration: YAML in, YAML out; every mistake is named, with the nearest right word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import ValidationError

from brushwork import config as configs
from brushwork.config import load, merge, parse_override, to_yaml
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
MINIMAL = {"data": "photos/"}


def complaint(tree: Mapping[str, Any], *overrides: str, **top: Any) -> str:
    """Return what ``load`` says about a wrong configuration."""
    with pytest.raises(ConfigError) as caught:
        load(tree, overrides=overrides, **top)
    return str(caught.value)


def changed(tree: Mapping[str, Any], key: str, value: object) -> dict[str, Any]:
    override: Any = value
    for part in reversed(key.split(".")):
        override = {part: override}
    return merge(configs._spell_out(tree), override)


class TestRoundTrip:
    @pytest.mark.parametrize("preset", configs.presets())
    def test_a_preset_is_the_same_after_writing_and_reading(self, preset: str) -> None:
        config = load(MINIMAL, method=preset)
        assert load(yaml.safe_load(to_yaml(config))) == config

    @pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
    def test_a_recipe_is_the_same_after_writing_and_reading(self, recipe: Path, tmp_path: Path) -> None:
        config = load(recipe)
        (tmp_path / "config.yaml").write_text(to_yaml(config), "utf-8")
        assert load(tmp_path / "config.yaml") == config
        assert to_yaml(load(tmp_path / "config.yaml")) == to_yaml(config)

    def test_a_resolved_file_holds_every_field_so_later_defaults_cannot_change_it(self) -> None:
        tree = yaml.safe_load(to_yaml(load(MINIMAL)))
        assert set(tree) == set(configs.Config.model_fields)
        assert set(tree["train"]) == set(configs.TrainConfig.model_fields)
        assert "rank" in tree["method"]
        assert "resolution" in tree["data"]

    def test_text_that_yaml_would_read_as_something_else_survives(self) -> None:
        config = load(
            MINIMAL, overrides=["train.mixed_precision=no", "name='1e3'", "validation.negative_prompt='null'"]
        )
        again = load(yaml.safe_load(to_yaml(config)))
        assert (again.train.mixed_precision, again.name, again.validation.negative_prompt) == ("no", "1e3", "null")


class TestPrecedence:
    def test_defaults_preset_recipe_argument_override(self, tmp_path: Path) -> None:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text("data: photos/\nmethod: full\noptimizer: {learning_rate: 0.1}\nseed: 1\n")
        assert load(MINIMAL).optimizer.learning_rate is None
        assert load(MINIMAL).optimizer.adam_weight_decay == 1e-2
        assert load(MINIMAL, method="textual-inversion").optimizer.adam_weight_decay == 0.0
        assert load(recipe).optimizer.learning_rate == 0.1
        assert load(recipe, seed=2).seed == 2
        assert load(recipe, seed=2, overrides=["seed=3", "seed=4"]).seed == 4

    def test_a_method_without_a_name_is_lora(self) -> None:
        assert load(MINIMAL).method.type == "lora"
        assert load({**MINIMAL, "method": {"rank": 3}}).method.type == "lora"

    def test_the_argument_method_replaces_the_recipes_whole_method(self) -> None:
        recipe = {**MINIMAL, "method": {"type": "lora", "rank": 3}}
        assert load(recipe, method="full").method.type == "full"
        assert load(recipe, method="lora").method.model_dump()["rank"] == 3

    def test_another_method_keeps_the_recipes_other_parts(self) -> None:
        recipe = {**MINIMAL, "method": "lora", "optimizer": {"learning_rate": 0.1}}
        assert load(recipe, method="full").optimizer.learning_rate == 0.1

    def test_an_override_of_a_type_drops_the_fields_of_the_former_type(self) -> None:
        recipe = {**MINIMAL, "method": {"type": "lora", "rank": 3}}
        assert load(recipe, overrides=["method.type=full"]).method.type == "full"
        assert load(recipe, overrides=["method=full"]).method.type == "full"

    @pytest.mark.parametrize("override", ["method=full", "method.type=full", "method=dora"])
    def test_two_methods_in_one_command_contradict_each_other(self, override: str) -> None:
        with pytest.raises(ConfigError, match=f"--method lora and {override} contradict each other"):
            load(MINIMAL, method="lora", overrides=[override])
        assert load(MINIMAL, method="dora", overrides=["method.type=lora"]).method.model_dump()["use_dora"] is True

    def test_a_short_form_and_a_key_below_it_combine(self) -> None:
        config = load({"data": "photos/", "method": "lora"}, overrides=["method.rank=2", "data.resolution=64"])
        assert (config.method.model_dump()["rank"], config.data.model_dump()["path"]) == (2, "photos/")

    def test_none_as_an_argument_counts_as_not_given(self) -> None:
        assert load({**MINIMAL, "base": "there"}, base=None, seed=None).base == "there"

    def test_null_in_yaml_turns_an_optional_setting_off(self) -> None:
        assert load(MINIMAL, overrides=["optimizer.max_grad_norm=null"]).optimizer.max_grad_norm is None


class TestValues:
    @pytest.mark.parametrize(
        ("text", "value"), [("1e-4", 1e-4), ("3E-04", 3e-4), ("1.0e-5", 1e-5), ("0.001", 1e-3), ("2", 2)]
    )
    def test_a_rate_is_read_however_it_is_written(self, text: str, value: float, tmp_path: Path) -> None:
        assert load(MINIMAL, overrides=[f"optimizer.learning_rate={text}"]).optimizer.learning_rate == value
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(f"data: photos/\noptimizer:\n  learning_rate: {text}\n")
        assert load(recipe).optimizer.learning_rate == value

    @pytest.mark.parametrize("text", ["no", "'no'", "No", "off"])
    def test_no_mixed_precision_may_be_written_without_quotes(self, text: str) -> None:
        assert load(MINIMAL, overrides=[f"train.mixed_precision={text}"]).train.mixed_precision == "no"

    def test_the_tree_is_frozen(self) -> None:
        config = load(MINIMAL)
        with pytest.raises(ValidationError, match="frozen"):
            config.seed = 1  # type: ignore[misc]

    def test_equal_configurations_are_equal_and_others_are_not(self) -> None:
        assert load(MINIMAL) == load(MINIMAL)
        assert load(MINIMAL) != load(MINIMAL, overrides=["method.rank=2"])


class TestMistakes:
    @pytest.mark.parametrize(
        ("key", "offered"),
        [
            ("sede", "seed"),
            ("optimizr.learning_rate", "optimizer"),
            ("optimizer.learning_rte", "learning_rate"),
            ("train.max_trian_steps", "max_train_steps"),
            ("validation.promts", "prompts"),
            ("method.rnak", "rank"),
            ("data.resolutoin", "resolution"),
            ("objective.snr_gama", "snr_gamma"),
            ("preserve.wieght", "weight"),
        ],
    )
    def test_a_misspelt_key_is_named_with_the_nearest_one_at_every_level(self, key: str, offered: str) -> None:
        said = complaint(MINIMAL, f"{key}=1")
        top, _, rest = key.partition(".")
        named = top if offered == "optimizer" else key
        assert said == f"config: {named} is not a known key. Did you mean {offered}?"
        assert rest or top

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("seed", -1, "greater than or equal to 0"),
            ("seed", "one", "valid integer"),
            ("optimizer.learning_rate", "fast", "valid number"),
            ("optimizer.learning_rate", 0, "greater than 0"),
            ("optimizer.lr_scheduler", "cosin", "'cosine'"),
            ("train.max_train_steps", 1.5, "integer"),
            ("train.use_ema", "perhaps", "boolean"),
            ("train.mixed_precision", "fp8", "'bf16'"),
            ("method.rank", 0, "greater than 0"),
            ("data.resolution", "big", "integer"),
            ("preserve.weight", 0, "greater than 0"),
        ],
    )
    def test_a_wrong_value_is_named_with_what_it_is_and_what_it_may_be(
        self, key: str, value: object, words: str
    ) -> None:
        said = complaint(changed(MINIMAL, key, value))
        assert said.startswith(f"config: {key}: ")
        assert words in said
        assert repr(value) in said
        assert len(said.splitlines()) == 1

    @pytest.mark.parametrize("part", ["optimizer", "train", "validation"])
    def test_a_part_that_is_no_mapping_is_one_line(self, part: str) -> None:
        said = complaint({**MINIMAL, part: 3})
        assert said.startswith(f"config: {part}: ")
        assert "mapping" in said or "dictionary" in said
        assert len(said.splitlines()) == 1

    def test_all_mistakes_are_told_at_once(self) -> None:
        said = complaint({"sede": 1, "method": {"rnak": 2}, "train": {"use_ema": "perhaps"}})
        assert len(said.splitlines()) == 4
        for name in ("sede", "method.rnak", "train.use_ema", "data"):
            assert f"config: {name}" in said

    def test_missing_data_says_what_could_be_given(self) -> None:
        assert "embedded data set" in complaint({})

    @pytest.mark.parametrize("axis", ["method", "data", "objective"])
    def test_an_unknown_type_is_answered_with_the_nearest(self, axis: str) -> None:
        right = {"method": "lora", "data": "captioned", "objective": "denoising"}[axis]
        said = complaint(changed(MINIMAL, f"{axis}.type", f"{right}x"))
        assert axis in said
        assert f"Did you mean {right}?" in said

    def test_an_unknown_method_offers_the_nearest_preset(self) -> None:
        assert "Did you mean lora?" in complaint(MINIMAL, method="lroa")
        assert "Did you mean full?" in complaint({**MINIMAL, "method": "ful"})

    @pytest.mark.parametrize("wrong", [3, [1, 2], True, {"type": 3}])
    def test_a_method_of_a_wrong_kind_is_a_config_error(self, wrong: object) -> None:
        assert "method" in complaint({**MINIMAL, "method": wrong})

    def test_a_colour_that_does_not_exist_is_named(self) -> None:
        said = complaint(MINIMAL, "data.background=wite")
        assert said.startswith("config: data.background")
        assert "'wite'" in said

    def test_a_warm_up_longer_than_the_run_names_both_numbers(self) -> None:
        decay = ("optimizer.lr_scheduler=warmup_stable_decay", "optimizer.lr_decay_steps=8")
        said = complaint(MINIMAL, "train.max_train_steps=10", "optimizer.lr_warmup_steps=4", *decay)
        assert "4 and 8, but train.max_train_steps is only 10" in said
        said = complaint(MINIMAL, "train.max_train_steps=10", "optimizer.lr_warmup_steps=20")
        assert "20" in said
        assert "10" in said

    def test_an_override_below_a_value_that_is_no_mapping_is_named(self) -> None:
        assert "seed" in complaint(MINIMAL, "seed.x=1")


class TestOverrides:
    @pytest.mark.parametrize(
        ("text", "tree"),
        [
            ("method.rank=8", {"method": {"rank": 8}}),
            ("seed=1", {"seed": 1}),
            ("validation.prompts=[a, b]", {"validation": {"prompts": ["a", "b"]}}),
            ("name=a=b", {"name": "a=b"}),
            ("name=", {"name": None}),
            ("base=stabilityai/x", {"base": "stabilityai/x"}),
        ],
    )
    def test_an_override_is_a_path_and_a_yaml_value(self, text: str, tree: dict[str, Any]) -> None:
        assert parse_override(text) == tree

    @pytest.mark.parametrize("text", ["method.rank", "=3", "a..b=3", ".a=3", ""])
    def test_what_is_no_override_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"method\.rank=8"):
            parse_override(text)

    def test_a_value_that_is_no_yaml_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="not YAML"):
            parse_override("name=[a")

    def test_merge_changes_neither_side(self) -> None:
        below, above = {"a": {"b": 1}}, {"a": {"c": 2}}
        assert merge(below, above) == {"a": {"b": 1, "c": 2}}
        assert (below, above) == ({"a": {"b": 1}}, {"a": {"c": 2}})


class TestFiles:
    def test_a_missing_recipe_offers_the_nearest(self, tmp_path: Path) -> None:
        (tmp_path / "pokemon.yaml").touch()
        with pytest.raises(ConfigError, match=r"Did you mean .*pokemon\.yaml\?"):
            load(tmp_path / "pokemn.yaml")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"a: [1", "cannot be read as YAML"),
            (b"- a\n- b", "mapping"),
            (b"", "mapping"),
            (b"\xff\xfe\x00", "cannot be read as YAML"),
            (b"a: 1\na: 2\n", "twice"),
        ],
    )
    def test_a_broken_recipe_is_named(self, content: bytes, words: str, tmp_path: Path) -> None:
        path = tmp_path / "broken.yaml"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 3

    def test_a_mistake_in_a_file_names_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("data: photos/\nsede: 1\n")
        with pytest.raises(ConfigError, match=r"mine\.yaml: sede is not a known key\. Did you mean seed\?"):
            load(path)


def test_the_schema_describes_every_plug_in() -> None:
    properties = configs.schema()["properties"]
    types = {each["properties"]["type"]["const"] for each in properties["method"]["oneOf"]}
    assert {"full", "lora"} <= types
    assert set(properties) == set(configs.Config.model_fields)


def test_reading_a_configuration_imports_no_torch() -> None:
    code = "import sys; from brushwork import config; config.load({'data': 'x'}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
