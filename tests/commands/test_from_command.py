"""``brushwork recipe from-command``: diffusers' training commands become recipes; no flag is lost without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from brushwork import config
from brushwork.cli import run
from brushwork.commands import rules
from brushwork.commands.scripts import SCRIPTS
from brushwork.commands.translate import METHODS, Translation, translate
from brushwork.errors import ConfigError

OLD_BOOKS = """! accelerate launch train_text_to_image_lora.py \\
--pretrained_model_name_or_path=$MODEL_NAME \\
--dataset_name=$DATASET_NAME \\
--dataloader_num_workers=8 \\
--resolution=512 --center_crop --random_flip \\
--train_batch_size=1 \\
--gradient_accumulation_steps=4 \\
--max_train_steps=2501 \\
--learning_rate=3e-04 \\
--max_grad_norm=1 \\
--lr_scheduler="cosine" --lr_warmup_steps=0 \\
--output_dir="fine_tuned_model" \\
--mixed_precision="fp16" \\
--checkpointing_steps=500 \\
```

--seed=1337
"""
"""The mini project on old book illustrations, as it is printed there."""
DOG = """accelerate launch train dreambooth.py \\
pretrained model name or path="stabilityai/
stable-diffusion-2-1-base" \\
--instance_data_dir="./data/dog" \\
--output_dir="./results/dog" \\
--instance_prompt="a sks dog" \\
--with_prior_preservation \\
--class_prompt="a dog" \\
--class data dir="./results/dog class" \\
--num class images=1000 \\
--resolution=512 \\
--train batch size=2 \\
--gradient_accumulation_steps=1 \\
--learning_rate=5e-6 \\
--lr_scheduler="constant" \\
--lr_warmup_steps=0 \\
--max train steps=1000
"""
"""The slides on approaches to fine-tuning, whose PDF lost underscores and dashes."""
POKEMON = """accelerate launch --mixed_precision="fp16" {script}
 --pretrained_model_name_or_path=CompVis/stable-diffusion-v1-4
 --dataset_name=lambdalabs/pokemon-blip-captions {ema} --resolution=512 --center_crop --random_flip --train_batch_size=4
 --gradient_accumulation_steps=4 --gradient_checkpointing --max_train_steps=100 --learning_rate=1e-05 --max_grad_norm=1
 --lr_scheduler="constant" --lr_warmup_steps=0"""
"""The parameters that the comparison of full fine-tuning with LoRA lists."""
SKETCH = """accelerate launch train_text_to_image.py --pretrained_model_name_or_path=stabilityai/stable-diffusion-2-base
 --dataset_name=zoheb/sketch-scene --use_ema --use_8bit_adam --gradient_checkpointing --mixed_precision=fp16
 --num_train_epochs=30 --resolution=256 --center_crop --random_flip --max_grad_norm=1 --report_to=wandb"""
"""What the slides on sketches say of their training."""
BASE = "--pretrained_model_name_or_path=org/base"


def shared(one: Any, other: Any) -> bool:
    """Return whether two trees agree wherever both say something."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(shared(one[key], other[key]) for key in one.keys() & other.keys())
    return bool(one == other)


def test_the_old_books_command_is_the_recipe_in_this_repository() -> None:
    found = translate(
        OLD_BOOKS, {"MODEL_NAME": "CompVis/stable-diffusion-v1-4", "DATASET_NAME": "gigant/oldbookillustrations"}
    )
    ours = recipe("old-books-lora")
    theirs = config.load(found.recipe)
    assert theirs.base == ours.base
    assert theirs.method == ours.method
    assert theirs.optimizer == ours.optimizer
    for name in ("max_train_steps", "train_batch_size", "gradient_accumulation_steps", "mixed_precision"):
        assert getattr(theirs.train, name) == getattr(ours.train, name)
    assert theirs.train.checkpoints_total_limit is None
    assert (theirs.seed, found.out) == (1337, "fine_tuned_model")
    assert found.to_fill_in == []


def recipe(name: str) -> config.Config:
    return config.load(Path(__file__).parents[2] / "recipes" / f"{name}.yaml")


def test_shell_variables_that_nobody_gave_are_to_be_filled_in_and_the_rest_validates() -> None:
    found = translate(OLD_BOOKS)
    assert found.recipe["base"] == "$MODEL_NAME"
    assert [each.split()[0] for each in found.to_fill_in] == ["$MODEL_NAME", "$DATASET_NAME"]
    exported = translate('export MODEL_NAME="org/a"\nexport DATASET_NAME=org/b\n' + OLD_BOOKS)
    assert (exported.recipe["base"], exported.recipe["data"]["path"]) == ("org/a", "org/b")


def test_the_dog_command_is_read_though_its_pdf_lost_underscores() -> None:
    found = translate(DOG)
    ours, theirs = recipe("dreambooth-dog"), config.load(found.recipe)
    assert theirs.base == ours.base
    assert theirs.method == ours.method
    data: Any = theirs.data
    assert (data.instance_prompt, data.class_prompt, data.num_class_images) == ("a sks dog", "a dog", 1000)
    assert (data.path, data.class_path, data.prior_loss_weight) == ("./data/dog", "./results/dog class", 1.0)
    assert (theirs.optimizer.learning_rate, theirs.optimizer.lr_warmup_steps) == (5e-6, 0)
    assert (theirs.train.max_train_steps, theirs.train.train_batch_size) == (1000, 2)
    assert len(found.repaired) == 5
    assert found.ignored_there == ["--lr_warmup_steps: the constant schedule has no warm-up; constant_with_warmup has"]
    assert any("double it" in each for each in found.differs)


@pytest.mark.parametrize(
    ("script", "ema", "name"),
    [("train_text_to_image.py", "--use_ema", "pokemon-full"), ("train_text_to_image_lora.py", "", "pokemon-lora")],
)
def test_the_parameters_of_the_comparison(script: str, ema: str, name: str) -> None:
    found = translate(POKEMON.format(script=script, ema=ema))
    ours, theirs = recipe(name), config.load(found.recipe)
    assert theirs.base == ours.base
    assert theirs.method.type == ours.method.type
    assert theirs.optimizer == ours.optimizer
    assert theirs.train.mixed_precision == "fp16"
    assert theirs.train.use_ema == bool(ema)
    data: Any = theirs.data
    assert (data.center_crop, data.random_flip, data.resolution) == (True, True, 512)


def test_the_average_of_the_comparison_is_no_flag_of_the_lora_script() -> None:
    with pytest.raises(ConfigError, match=r"--use_ema: train_text_to_image_lora\.py has no such flag\. .* has"):
        translate(POKEMON.format(script="train_text_to_image_lora.py", ema="--use_ema"))


def test_the_parameters_of_the_sketches() -> None:
    found = translate(SKETCH)
    ours, theirs = recipe("sketch-scene-full"), config.load(found.recipe)
    assert (theirs.base, theirs.method, theirs.optimizer.type) == (ours.base, ours.method, "adamw8bit")
    assert (theirs.train.num_train_epochs, theirs.train.trackers) == (30, ("wandb",))
    assert theirs.train.train_batch_size == 16, "the script's default, not brushwork's"


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_of_every_script_ends_somewhere(script: str) -> None:
    places = (rules.KEYS, rules.MISSING, rules.DIFFERS, rules.NEEDS)
    together = {"output_dir", "checkpoints_total_limit", "use_8bit_adam", "scale_lr", "offload_ema", "offset_noise"}
    together |= {"with_prior_preservation", "validation_scheduler", "report_to", "dream_detail_preservation"}
    assert [flag for flag in SCRIPTS[script] if not any(flag in each for each in places) and flag not in together] == []


def everything(script: str) -> str:
    """Return a command with every flag of a script, each other than its default."""
    words = ["accelerate launch --num_processes=2", script]
    special = {
        "lr_scheduler": "cosine_with_restarts",
        "mixed_precision": "bf16",
        "prediction_type": "epsilon",
        "report_to": "comet_ml",
        "learnable_property": "style",
        "validation_scheduler": "DDPMScheduler",
        "placeholder_token": "<cat>",
        "initializer_token": "cat",
        "adam_beta1": "0.8",
        "adam_beta2": "0.95",
        "lora_dropout": "0.1",
        "image_interpolation_mode": "bilinear",
    }
    for flag, (kind, _) in SCRIPTS[script].items():
        value = special.get(flag, {"int": "3", "float": "0.5", "str": f"a-{flag}", "list": "one two"}.get(kind))
        words.append(f"--{flag}" if kind == "flag" else f"--{flag} {value}")
    return " ".join(words)


@pytest.mark.parametrize("script", SCRIPTS)
def test_with_every_flag_given_each_is_in_the_recipe_or_spoken_of(script: str) -> None:
    found = translate(everything(script))
    spoken = [*found.ignored_there, *found.missing_here, *found.differs, *found.to_fill_in]
    said = {each.split(":")[0].removeprefix("--") for each in spoken}
    in_recipe = {flag for flag, key in rules.KEYS.items() if flag in SCRIPTS[script] and has(found.recipe, key)}
    in_recipe |= {"output_dir", "checkpoints_total_limit", "use_8bit_adam", "scale_lr", "offload_ema", "offset_noise"}
    in_recipe |= {"with_prior_preservation", "validation_scheduler", "dream_detail_preservation"}
    assert set(SCRIPTS[script]) - said - in_recipe == set()
    assert config.load(found.recipe).method.type == config.load(method=METHODS[script], data="x").method.type


def has(tree: dict[str, Any], key: str) -> bool:
    for part in key.split("."):
        if part not in tree:
            return False
        tree = tree[part]
    return True


def test_a_secret_is_never_repeated() -> None:
    found = translate(f"train_text_to_image.py {BASE} --dataset_name=a/b --push_to_hub --hub_token=hf_secret")
    assert "hf_secret" not in json.dumps(found.as_json())
    assert any(each.startswith("--hub_token: the token comes from HF_TOKEN") for each in found.missing_here)


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        ("--lr_scheduler=constant_with_warmup --lr_warmup_steps=50", "optimizer.lr_warmup_steps", 50),
        ("--lr_scheduler=constant_with_warmup", "optimizer.lr_warmup_steps", 500),
        ("--lr_scheduler=constant --lr_warmup_steps=50", "optimizer.lr_warmup_steps", 0),
        ("--lr_scheduler=polynomial", "optimizer.lr_end", 1e-7),
        ("--scale_lr --train_batch_size=2 --gradient_accumulation_steps=3", "optimizer.learning_rate", 6e-4),
        ("--snr_gamma=5", "objective.snr_gamma", 5.0),
        ("--max_train_steps=9 --num_train_epochs=3", "train.max_train_steps", 9),
        ("", "train.num_train_epochs", 100),
        ("", "data.center_crop", False),
        ("--use_ema --offload_ema", "train.ema_device", "cpu"),
        ("--validation_prompts 'a cat' 'a dog'", "validation.prompts", ["a cat", "a dog"]),
        ("--max_train_st 9", "train.max_train_steps", 9),
    ],
)
def test_what_flags_decide_together(flags: str, key: str, value: Any) -> None:
    tree: Any = translate(f"train_text_to_image.py {BASE} --dataset_name a/b {flags}").recipe
    for part in key.split("."):
        tree = tree[part]
    assert tree == pytest.approx(value) if isinstance(value, float) else tree == value


def test_textual_inversion_flips_and_never_clips() -> None:
    found = translate(
        f"accelerate launch textual_inversion.py {BASE} --train_data_dir=./cat --learnable_property=object "
        '--placeholder_token="<Cat-Toy>" --initializer_token=toy --scale_lr --repeats=10'
    )
    ours = config.load(found.recipe)
    data: Any = ours.data
    method: Any = ours.method
    assert (data.random_flip, data.templates, ours.optimizer.max_grad_norm) == (True, "object", None)
    assert (method.token, method.initial_word, ours.train.max_train_steps) == ("<cat-toy>", "toy", 5000)
    assert any(each.startswith("--repeats") for each in found.ignored_there)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train_text_to_image.py --dataset_name=a/b", "cannot do without --pretrained_model_name_or_path"),
        (f"train_text_to_image.py {BASE} --train_batchsize=3", "no such flag. Did you mean train_batch_size"),
        (f"train_text_to_image.py {BASE} --seed=many", "--seed: 'many' is no whole number"),
        (f"train_text_to_image.py {BASE} --use_ema=true", "is a switch and takes no value"),
        (f"train_text_to_image.py {BASE} --seed", "its value is missing"),
        (f"train_text_to_image.py {BASE} lost", "'lost': it belongs to no flag"),
        (f"train_text_to_image.py {BASE} --seed='3", "Is a quotation mark missing"),
        (f"train_text_to_image_sdxl.py {BASE}", "train_text_to_image_sdxl.py is none of diffusers' scripts"),
        ("python make_coffee.py", "make_coffee.py is none of diffusers' scripts"),
        ("ls -l", "there is no training script in this"),
        (
            f"train_text_to_image.py {BASE} --dataset_name=a/b --train_batch_size=0",
            "no recipe can(.|\n)*train_batch_size",
        ),
    ],
)
def test_what_is_no_such_command_is_refused_with_the_reason(command: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translate(command)


def test_the_command_writes_a_recipe_that_train_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "dog.yaml"
    assert run(["recipe", "from-command", DOG, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(out)
    assert "no effect there: --lr_warmup_steps" in said.err
    assert out.read_text("utf-8").splitlines()[0] == f"# brushwork train {out} --out ./results/dog"
    assert config.load(out) == config.load(translate(DOG).recipe)
    assert run(["recipe", "from-command", DOG, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert yaml.safe_load(told["yaml"]) == told["recipe"]
    assert run(["recipe", "from-command", DOG, "--set", "nonsense"]) == 2


def test_a_translation_says_everything_in_json() -> None:
    found: Translation = translate(SKETCH)
    assert {"recipe", "yaml", "ignored_there", "missing_here", "differs", "to_fill_in"} <= set(found.as_json())
