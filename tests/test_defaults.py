"""What nobody gave is chosen by written rules, with reasons; what somebody gave is never touched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pairs import make_pairs

from brushwork import api, cli, defaults
from brushwork import config as configs
from brushwork.defaults import Facts, resolve
from brushwork.errors import ConfigError

MILLION = 10**6
SD = Facts(
    pictures=100, held_out=10, compared=10, epoch=100, dilution=1.0, parameters=860 * MILLION, whole=False, words=False,
    subject=False, comparable=True,
)  # fmt: skip
MINI = replace(SD, parameters=5_702_052, pictures=96)
DOG = replace(SD, pictures=5, held_out=0, compared=0, epoch=5, subject=True)
WORD = replace(DOG, words=True, epoch=135)


def tree(method: str = "lora", /, *overrides: str) -> configs.Config:
    return configs.load({"data": "photos/"}, method=method, overrides=overrides)


def chosen(config: configs.Config, facts: Facts) -> dict[str, Any]:
    return {choice.key: choice.value for choice in resolve(config, facts)[1]}


def reasons(config: configs.Config, facts: Facts) -> dict[str, str]:
    return {choice.key: choice.reason for choice in resolve(config, facts)[1]}


@pytest.mark.parametrize(
    ("method", "facts", "batch", "steps", "rate", "warm_up"),
    [
        # Stable Diffusion: the published rates; 100 pictures x 50 / 4
        ("lora", SD, 4, 1250, 1e-4, 62),
        ("full", replace(SD, whole=True), 4, 1250, 1e-5, 62),
        # the embedded model: 1e-4 x sqrt(860 / 5.7) = 1.2e-3; 96 x 50 / 8
        ("lora", MINI, 8, 600, 1e-3, 30),
        ("full", replace(MINI, whole=True), 8, 600, 1e-4, 30),
        ("lora", replace(SD, parameters=110_000), 8, 625, 3e-3, 31),  # 30 times at most
        # larger bases: the same rate, a batch that fits
        ("lora", replace(SD, parameters=2567 * MILLION), 1, 2500, 1e-4, 100),
        # one subject: 5 x 200 / 2, and twice that beside class images, as the experiment in recipes/ has it
        ("dreambooth-lora", DOG, 2, 500, 1e-4, 25),
        ("dreambooth", replace(DOG, whole=True), 2, 500, 5e-6, 25),
        ("dreambooth", replace(DOG, whole=True, dilution=2.0), 2, 1000, 5e-6, 50),
        ("dreambooth-lora", replace(DOG, pictures=2), 2, 400, 1e-4, 20),
        ("dreambooth-lora", replace(DOG, pictures=40), 2, 2000, 1e-4, 100),
        # a word: the published steps, and 5e-4 for each picture of a batch
        ("textual-inversion", WORD, 2, 3000, 1e-3, 0),
        ("textual-inversion", replace(WORD, parameters=5_702_052), 8, 3000, 4e-3, 0),
        # much data
        ("lora", replace(SD, pictures=4172), 4, 2500, 1e-4, 100),
        ("full", replace(SD, pictures=833, whole=True), 4, 10413, 1e-5, 100),
        ("full", replace(SD, pictures=10**6, whole=True), 4, 15000, 1e-5, 100),
    ],
)
def test_the_table_of_rules(method: str, facts: Facts, batch: int, steps: int, rate: float, warm_up: int) -> None:
    config, _ = resolve(tree(method), facts)
    assert config.train.train_batch_size == batch
    assert config.train.max_train_steps == steps
    assert config.optimizer.learning_rate == rate
    assert config.optimizer.lr_warmup_steps == warm_up


def test_the_reasons_are_the_arithmetic() -> None:
    told = reasons(tree(), SD)
    assert told["train.max_train_steps"] == (
        "1,250 steps: 100 pictures x 50 each in batches of 4, at least 400, at most 2,500"
    )
    assert told["optimizer.learning_rate"] == "learning rate 1e-4: 1e-4 is usual for adapters of 860 million"
    assert told["method.rank"] == "rank 16: 16 for up to 1,000 pictures, 32 for more (here 100)"
    assert told["data.validation_split"] == "10 of 110 pictures held out: a tenth, at most 32, none below 20"
    assert reasons(tree(), MINI)["optimizer.learning_rate"] == (
        "learning rate 1e-3: 1e-4 is usual for adapters of 860 million; this base has 5.7 million parameters, and "
        "rates go with one over the root of that"
    )
    beside = reasons(tree("dreambooth"), replace(DOG, whole=True, dilution=2.0))["train.max_train_steps"]
    assert beside == (
        "1,000 steps: 5 pictures x 200 each, and the drawn ones (2 x as many in all) in batches of 2, at least 400, "
        "at most 2,000"
    )


GIVEN = {
    "optimizer.learning_rate": 2e-4,
    "optimizer.lr_warmup_steps": 7,
    "train.max_train_steps": 33,
    "train.train_batch_size": 3,
    "train.keep_best": False,
    "method.rank": 5,
    "data.validation_split": 0.2,
}


@pytest.mark.parametrize("key", GIVEN)
def test_what_is_given_is_never_overridden(key: str) -> None:
    config = tree("lora", f"{key}={str(GIVEN[key]).lower()}")
    resolved, choices = resolve(config, SD)
    value: Any = resolved.model_dump()
    for part in key.split("."):
        value = value[part]
    assert value == GIVEN[key]
    assert {choice.key for choice in choices} == set(GIVEN) - {key}


def test_what_is_given_counts_in_the_other_rules() -> None:
    found = chosen(tree("lora", "train.train_batch_size=10", "train.gradient_accumulation_steps=2"), SD)
    assert found["train.max_train_steps"] == 400  # 100 x 50 / 20 is 250
    assert chosen(tree("textual-inversion", "train.train_batch_size=1"), WORD)["optimizer.learning_rate"] == 5e-4
    assert chosen(tree("lora", "train.max_train_steps=40"), SD)["optimizer.lr_warmup_steps"] == 2


def test_epochs_that_were_asked_for_become_steps() -> None:
    config = tree("full", "train.num_train_epochs=30")
    found = reasons(config, replace(SD, epoch=1001))["train.max_train_steps"]
    assert found == "7,508 steps: 30 epochs of 1,001 samples in batches of 4"


def test_a_resolved_configuration_is_left_alone_also_after_writing_and_reading() -> None:
    config, choices = resolve(tree("pivotal"), DOG)
    assert choices
    assert resolve(config, DOG) == (config, [])
    import yaml

    again = configs.load(yaml.safe_load(configs.to_yaml(config)))
    assert again == config
    assert resolve(again, replace(DOG, pictures=900, parameters=10)) == (config, [])


@pytest.mark.parametrize(
    ("optimizer", "rate"),
    [("adamw8bit", 1e-4), ("schedulefree", 1e-4), ("lion", 3e-5), ("adafactor", 1e-2), ("prodigy", 1.0)],
)
def test_other_optimizers_have_other_rates(optimizer: str, rate: float) -> None:
    assert chosen(tree("lora", f"optimizer.type={optimizer}"), SD)["optimizer.learning_rate"] == rate


def test_there_is_no_rate_for_what_nobody_fine_tunes_with() -> None:
    with pytest.raises(ConfigError, match=r"optimizer.learning_rate: there is no rule for muon. Give a rate; 1e-3 to"):
        resolve(tree("lora", "optimizer.type=muon"), SD)


def test_a_word_beside_an_adapter_moves_five_times_as_fast() -> None:
    found = chosen(tree("pivotal"), DOG)
    assert (found["method.embedding_lr"], found["method.lora.rank"]) == (5e-4, 16)
    assert chosen(tree("pivotal", "optimizer.learning_rate=3e-4"), DOG)["method.embedding_lr"] == 1.5e-3
    assert "method.embedding_lr" not in chosen(tree("pivotal", "optimizer.type=prodigy"), DOG)


def test_the_rank_goes_with_the_data_where_there_is_one() -> None:
    assert chosen(tree(), replace(SD, pictures=1001))["method.rank"] == 32
    for kind in ("dora", "loha", "lokr"):
        assert chosen(tree(kind), SD)["method.rank"] == 16
    assert "method.rank" not in chosen(tree("oft"), SD)
    assert "method.rank" not in chosen(tree("full"), replace(SD, whole=True))


def test_a_warm_up_that_does_not_fit_the_steps_of_the_rules_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lr_warmup_steps is 500 but train.max_train_steps is only 400"):
        resolve(tree("lora", "optimizer.lr_warmup_steps=500"), replace(SD, pictures=10))


def test_the_best_state_is_kept_only_where_the_loss_can_tell() -> None:
    assert chosen(tree(), SD)["train.keep_best"] is True
    assert chosen(tree(), replace(SD, compared=6))["train.keep_best"] is True
    few = resolve(tree(), replace(SD, compared=5))
    assert few[0].train.keep_best is False
    assert few[1][-1].reason == (
        "the last state is saved: to choose takes 6 held-out pictures or more, and of 110 here 5 are compared"
    )
    assert chosen(tree("dreambooth"), DOG)["train.keep_best"] is False
    other = reasons(tree(), replace(SD, comparable=False))["train.keep_best"]
    assert other == (
        "the last state is saved: the loss of denoising does not mean the same throughout a run, so no state is best "
        "by it"
    )


@pytest.mark.parametrize(
    ("override", "facts", "message"),
    [
        ("train.keep_best=true", DOG, r"keep_best=true: to choose takes 6 .* of 5 here 0[\s\S]*none can be spared"),
        (
            "train.early_stopping_patience=3",
            replace(SD, pictures=38, held_out=2, compared=2),
            r"early_stopping_patience: to choose takes 6 .* of 40 here 2 are compared[\s\S]*validation_split=0.15",
        ),
        ("train.keep_best=true", replace(SD, comparable=False), r"keep_best=true: the loss of denoising does not mean"),
    ],
)
def test_a_choice_that_was_asked_for_and_cannot_be_made_is_an_error(override: str, facts: Facts, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(tree("lora", override), facts)


def test_early_stopping_needs_the_best_state() -> None:
    with pytest.raises(ConfigError, match="early_stopping_patience is set but keep_best is false"):
        tree("lora", "train.keep_best=false", "train.early_stopping_patience=2")


def run(base: Path, data: Path, *more: str) -> list[str]:
    options = ["train.max_train_steps=2", "data.resolution=32", "validation.samples_during_training=0"]
    return ["train", "--method", "lora", "--base", str(base), "--data", str(data), *options, *more]


def test_a_dry_run_says_what_was_chosen_and_why(
    tiny_sd: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(run(tiny_sd, tiny_data, "--dry-run")) == 0
    said = capsys.readouterr()
    assert "chosen by rule" in said.err
    assert "learning rate 3e-3: 1e-4 is usual for adapters" in said.err
    assert "of 6 here 0 are compared" in said.err
    assert "learning_rate: 0.003" in said.out
    assert cli.run(run(tiny_sd, tiny_data, "--dry-run", "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["config"]["method"]["rank"] == 16
    assert {key: value for key, value in printed["chosen"][-2].items() if key != "reason"} == {
        "key": "method.rank",
        "value": 16,
    }


def test_a_run_prints_and_records_why_and_its_config_has_the_numbers(
    tiny_sd: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configs.load(
        {"base": str(tiny_sd), "data": {"path": str(tiny_data), "resolution": 32}, "train": {"max_train_steps": 2},
         "validation": {"prompts": ["a cat"], "samples_during_training": 0}}
    )  # fmt: skip
    done = api.train(config, out=tmp_path / "run", evaluate=False)
    said = capsys.readouterr().err
    recorded = {choice["key"]: choice for choice in done.record["chosen"]}
    assert set(recorded) == set(GIVEN) - {"train.max_train_steps"}
    assert all(choice["reason"] in said for choice in recorded.values())
    assert done.config.optimizer.learning_rate == recorded["optimizer.learning_rate"]["value"] == 3e-3
    assert done.config.train.train_batch_size == 8
    again = api.train(done.path / "config.yaml", out=tmp_path / "again", evaluate=False)
    assert "chosen" not in again.record
    assert again.config == done.config
    name = "pytorch_lora_weights.safetensors"
    assert (again.weights / name).read_bytes() == (done.weights / name).read_bytes()


@pytest.mark.parametrize("preset", configs.presets())
def test_every_preset_gets_a_rate_and_steps_from_the_facts_of_its_own_parts(
    preset: str, tiny_sd: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at through the real parts: families, methods, sources and objectives say what the rules ask."""
    monkeypatch.setattr("brushwork.forecast.of", lambda _: None)  # it has tests of its own, and takes seconds
    options = {"instance_prompt": "a sks thing"} if "dreambooth" in preset else {}
    pictures = make_pairs(tiny_data / "pairs") if preset == "dpo" else tiny_data
    data = {"path": str(pictures), "resolution": 32, **options}
    objective = {"objective": {"clip": "mini-clip"}} if preset == "clip-guided" else {}
    plan = api.plan(configs.load({"base": str(tiny_sd), "method": preset, "data": data, **objective}))
    found = {choice.key: choice.value for choice in plan.chosen}
    subject = "dreambooth" in preset or preset == "pivotal"
    steps = 3000 if preset == "textual-inversion" else 400  # 6 x 200 / 8 and 6 x 50 / 8 are fewer
    rates = {"full": 3e-4, "dreambooth": 2e-4, "textual-inversion": 4e-3}
    assert found["train.max_train_steps"] == plan.facts["steps"] == steps
    own = configs.read_yaml(configs.PRESETS / f"{preset}.yaml").get("optimizer", {})
    assert own.get("learning_rate", found.get("optimizer.learning_rate")) == own.get(
        "learning_rate", rates.get(preset, 3e-3)
    )
    assert ("learning_rate" in own) is ("optimizer.learning_rate" not in found)
    assert (plan.config.data.subject if hasattr(plan.config.data, "subject") else False) is (
        subject or preset == "textual-inversion"
    )


def test_the_documentation_has_every_number_of_the_rules() -> None:
    page = (Path(__file__).parents[1] / "docs" / "train.md").read_text("utf-8")
    rules = page[page.index("## What is chosen for you") : page.index("## The best state")]
    numbers = [
        defaults._short(value)
        for value in (defaults.ADAPTER_RATE, defaults.WHOLE_RATE, defaults.SUBJECT_RATE, defaults.WORD_RATE)
    ]
    counts = (
        defaults.FEWEST_STEPS, defaults.WORD_STEPS, defaults.STYLE_TIMES, defaults.SUBJECT_TIMES, defaults.MANY,
        defaults.MOST_ADAPTER, defaults.MOST_SUBJECT, defaults.MOST_WHOLE, defaults.RANK, defaults.HIGHER_RANK,
        defaults.LONGEST_WARM_UP,
    )  # fmt: skip
    assert [each for each in [*numbers, *(f"{count:,}" for count in counts)] if each not in rules] == []
