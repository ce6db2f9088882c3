"""The source documents' experiments: every value that a document states, and two steps of each on ``mini``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_families

from brushwork.cli import run
from brushwork.config import load

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))

# Written out from the documents, not from the recipes.
POKEMON = {
    "data.path": "lambdalabs/pokemon-blip-captions",
    "data.resolution": 512,
    "data.center_crop": True,
    "data.random_flip": True,
    "train.use_ema": True,
    "train.train_batch_size": 4,
    "train.gradient_accumulation_steps": 4,
    "train.gradient_checkpointing": True,
    "train.max_train_steps": 100,
    "optimizer.learning_rate": 1e-5,
    "optimizer.max_grad_norm": 1,
    "optimizer.lr_scheduler": "constant",
}
STATED: dict[str, dict[str, Any]] = {
    "pokemon-full": {"method.type": "full", **POKEMON},
    "pokemon-lora": {
        "method.type": "lora",
        "method.targets": ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"],
        **POKEMON,
    },
    "old-books-lora": {
        "base": "CompVis/stable-diffusion-v1-4",
        "method.type": "lora",
        "data.path": "gigant/oldbookillustrations",
        "data.resolution": 512,
        "data.center_crop": True,
        "data.random_flip": True,
        "train.dataloader_num_workers": 8,
        "train.train_batch_size": 1,
        "train.gradient_accumulation_steps": 4,
        "train.max_train_steps": 2501,
        "train.mixed_precision": "fp16",
        "train.checkpointing_steps": 500,
        "optimizer.learning_rate": 3e-4,
        "optimizer.max_grad_norm": 1,
        "optimizer.lr_scheduler": "cosine",
        "optimizer.lr_warmup_steps": 0,
        "seed": 1337,
        "validation.prompts": [
            "A bald man with a long beard smiles faintly",
            "Vase with foliated ornaments",
            "A big black cat looking at the window",
            "A monkey wearing a feathered hat walks around the countryside",
            "A boy is reading a book in his bedroom",
            "A family is having a dinner",
            "A country cottage",
            "Wildflowers in a meadow",
            "A steam train on a bridge",
            "Children playing in a park",
            "A medieval castle",
            "A botanical illustration of a rose",
            "A map of Europe in the 18th century",
            "A caricature of a politician",
            "A scene from a Shakespeare play",
        ],
        "validation.control_prompts": ["A futuristic cityscape at sunset with flying cars and neon lights"],
    },
    "sketch-scene-full": {
        "base": "stabilityai/stable-diffusion-2-base",
        "method.type": "full",
        "data.resolution": 256,
        "data.center_crop": True,
        "data.random_flip": True,
        "train.num_train_epochs": 30,
        "train.max_train_steps": None,
        "train.gradient_checkpointing": True,
        "train.mixed_precision": "fp16",
        "train.use_ema": True,
        "train.trackers": ["wandb"],
        "optimizer.type": "adamw8bit",
        "optimizer.max_grad_norm": 1,
        "validation.images_per_prompt": 6,
        "validation.prompts": [
            "A black and white sketch of a boy is practicing martial arts",
            "A black and white sketch of a statue of a man on horse",
            "A black and white sketch of a boy is riding bike on the road",
            "A black and white sketch of giraffe standing in a forest",
            "A black and white sketch of zebra running",
        ],
    },
}
STATED["diffusionclip-style"] = {
    **{key: value for key, value in STATED["sketch-scene-full"].items() if key != "train.max_train_steps"},
    "objective.type": "clip",
    "objective.target": "A black and white sketch of {caption}",  # its style preposition
}
DOG = {
    "base": "stabilityai/stable-diffusion-2-1-base",
    "data.path": "data/dog",
    "data.resolution": 512,
    "train.train_batch_size": 2,
    "train.gradient_accumulation_steps": 1,
    "optimizer.lr_scheduler": "constant",
    "optimizer.lr_warmup_steps": 0,
}
STATED["dreambooth-dog"] = {
    **DOG,
    "method.type": "full",
    "data.instance_prompt": "a sks dog",
    "data.class_prompt": "a dog",
    "data.class_path": "results/dog_class",
    "data.num_class_images": 1000,
    "optimizer.learning_rate": 5e-6,
    "train.max_train_steps": 1000,
    "validation.prompts": "dreambooth-dog",
}
STATED["textual-inversion-dog"] = {**DOG, "method.type": "textual_inversion", "data.type": "templated"}
# Of diffusers' examples/consistency_distillation/README.md, "LCM-LoRA".
STATED["lcm"] = {
    "base": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "method.type": "lora",
    "method.rank": 64,
    "objective.type": "consistency",
    "objective.loss": "huber",
    "data.resolution": 512,
    "optimizer.type": "adamw8bit",
    "optimizer.adam_weight_decay": 0,
    "train.mixed_precision": "fp16",
    "train.max_train_steps": 1000,
    "train.train_batch_size": 12,
    "train.gradient_accumulation_steps": 1,
    "train.gradient_checkpointing": True,
    "train.dataloader_num_workers": 8,
    "train.checkpointing_steps": 200,
    "train.checkpoints_total_limit": 10,
    "train.validation_steps": 200,
    "seed": 453645634,
}

# Large bases of today: what their recipes have in common, and the family of each, on whose small pipeline it runs.
LARGE = {
    "method.type": "lora",
    "method.rank": 16,
    "optimizer.learning_rate": 1e-4,
    "train.train_batch_size": 1,
    "train.gradient_accumulation_steps": 4,
    "train.gradient_checkpointing": True,
    "train.mixed_precision": "bf16",
}
FAMILIES = {"sdxl-lora": "sdxl", "sd3.5-lora": "sd3", "flux.1-lora": "flux", "flux.2-klein-lora": "flux2"}
STATED |= {
    "sdxl-lora": {**LARGE, "base": "stabilityai/stable-diffusion-xl-base-1.0", "data.resolution": 1024},
    "sd3.5-lora": {**LARGE, "base": "stabilityai/stable-diffusion-3.5-medium", "data.resolution": 1024},
    "flux.1-lora": {**LARGE, "base": "black-forest-labs/FLUX.1-dev", "data.resolution": 512},
    "flux.2-klein-lora": {**LARGE, "base": "black-forest-labs/FLUX.2-klein-base-4B", "data.resolution": 512},
}

# What a recipe's data has that another data set has not, and how it becomes small.
OTHER_DATA = {
    "dreambooth-dog": ["data.path=mascot", "data.class_path=class", "data.num_class_images=2"],
    "textual-inversion-dog": ["data.path=mascot"],
}
OFFLINE = {"diffusionclip-style": ["objective.clip=mini-clip", "validation.judge=auto"]}
COLUMNS = ["data.path=engravings", "data.image_column=null", "data.caption_column=null"]


def every_recipe(test: Any) -> Any:
    return pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)(test)


def test_there_is_a_recipe_for_every_experiment_and_no_other() -> None:
    assert {path.stem for path in RECIPES} == set(STATED)


@every_recipe
def test_the_first_line_is_the_command_that_runs_it(recipe: Path) -> None:
    assert recipe.read_text("utf-8").splitlines()[0] == f"# brushwork train recipes/{recipe.name}"


@every_recipe
def test_every_value_that_the_document_states_is_the_recipes(recipe: Path) -> None:
    tree = load(recipe).model_dump(mode="json")
    found = {}
    for key in STATED[recipe.stem]:
        value: Any = tree
        for part in key.split("."):
            value = value[part]
        found[key] = value
    assert found == STATED[recipe.stem]


def test_the_two_pokemon_runs_differ_in_nothing_but_the_method() -> None:
    full, lora = (load(ROOT / "recipes" / f"pokemon-{name}.yaml") for name in ("full", "lora"))
    assert full.method != lora.method
    assert full.model_copy(update={"method": lora.method}) == lora


LONG = (
    "diffusionclip-style", "flux.1-lora", "flux.2-klein-lora", "lcm", "old-books-lora", "pokemon-full",
    "pokemon-lora", "sd3.5-lora",
    "sketch-scene-full",
)  # fmt: skip
"""Recipes whose two steps take many seconds; the others hold what they have in common."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.thorough] if path.stem in LONG else []) for path in RECIPES],
)
@pytest.mark.usefixtures("shared_cache")
def test_two_steps_on_the_embedded_model_and_data(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    name = FAMILIES.get(recipe.stem)
    own = ["base=mini", "data.resolution=64", "train.mixed_precision=no"]
    if name:  # in the recipe's own precision
        base = tiny_families.make(name, tmp_path / name)
        own = [f"base={base}", "data.resolution=32", "validation.judge=mini-clip"]
    small = [
        *own,
        *OTHER_DATA.get(recipe.stem, ["data.path=engravings"] if name else COLUMNS),
        *OFFLINE.get(recipe.stem, []),
        "train.max_train_steps=2",
        "train.dataloader_num_workers=0",
        "validation.prompts=[a cat]",
        "validation.content_prompts=[]",
        "validation.control_prompts=[a house]",
        "validation.images_per_prompt=1",
        "validation.samples_during_training=1",
        "validation.num_inference_steps=2",
        "validation.loss_images=2",
        "validation.loss_timesteps=1",
    ]
    assert run(["train", str(recipe), *small, "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["run"] == str(out)
    assert said["record"]["status"] == "done"
    assert [json.loads(line)["index"] for line in (out / "steps.jsonl").read_text().splitlines()] == [1, 2]
    assert (out / "report.html").is_file()
    assert any((out / "weights").iterdir())
