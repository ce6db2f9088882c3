"""Any pipeline of diffusers: drawn by its own code, never trained, nothing of others run."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tiny import make_tiny_sd

from brushwork import api, config, families, generate
from brushwork.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latent consistency model, for which brushwork has no family."""
    from diffusers import DiffusionPipeline, LatentConsistencyModelPipeline, LCMScheduler

    root = tmp_path_factory.mktemp("any")
    parts = DiffusionPipeline.from_pretrained(make_tiny_sd(root / "sd", time_cond_proj_dim=8)).components
    parts |= {"scheduler": LCMScheduler.from_config(parts["scheduler"].config), "requires_safety_checker": False}
    LatentConsistencyModelPipeline(**parts).save_pretrained(root / "lcm")
    return root / "lcm"


def request(**settings: Any) -> generate.Request:
    return generate.Request("a cat", **({"seed": 3, "steps": 2, "guidance_scale": 4.0, "sampler": "LCM"} | settings))


def test_a_picture_is_the_pipelines_own(folder: Path) -> None:
    from diffusers import LatentConsistencyModelPipeline

    family = families.load(str(folder))
    assert (family.name, family.resolution) == ("any_pipeline", 32)
    assert family.sampling is not None
    assert (family.sampling.sampler, family.sampling.guidance_scale) == ("LCM", 8.5)
    ours = [np.asarray(each.image) for each in generate.draw(family, [request(), request(seed=4)])]
    pipeline = LatentConsistencyModelPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a cat", num_inference_steps=2, guidance_scale=4.0, generator=torch.Generator().manual_seed(3)
    ).images[0]  # fmt: skip
    assert np.array_equal(ours[0], np.asarray(theirs))
    assert not np.array_equal(ours[0], ours[1])


def test_a_family_of_its_own_comes_first(tiny_sd: Path) -> None:
    assert families.load(str(tiny_sd)).name == "sd"


def test_training_is_refused_with_the_reason(folder: Path, tiny_data: Path) -> None:
    asked = config.load(method="lora", base=str(folder), data=str(tiny_data))
    with pytest.raises(ConfigError, match="cannot be trained: brushwork has no family for a LatentConsistency"):
        api.plan(asked)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negative_prompt": "blur"}, "negative_prompt: a LatentConsistencyModelPipeline takes none"),
        ({"sampler": "DPM++ 2M Karras"}, None),
        ({"sampler": "Euler"}, None),
    ],
)
def test_what_the_pipeline_cannot_do_is_refused(settings: dict[str, Any], message: str | None, folder: Path) -> None:
    family = families.load(str(folder))
    compatible = {each.__name__ for each in family.pipeline().scheduler.compatibles}
    if message is None and "EulerDiscreteScheduler" in compatible:
        assert next(generate.draw(family, [request(**settings)])).image.size == (32, 32)
        return
    with pytest.raises(ConfigError, match=message or "is drawn with LCM only"):
        next(generate.draw(family, [request(**settings)]))


def test_code_of_others_is_not_run(folder: Path, tmp_path: Path) -> None:
    hostile = shutil.copytree(folder, tmp_path / "hostile")
    (hostile / "unet" / "evil.py").write_text("raise SystemExit('ran')")
    index = json.loads((hostile / "model_index.json").read_text())
    index["unet"] = ["evil", "Evil"]
    (hostile / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="comes from 'evil'; code of others is not run"):
        families.load(str(hostile))
    weights = shutil.copytree(folder, tmp_path / "pickled") / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match="could not be loaded as a LatentConsistencyModelPipeline"):
        families.load(str(tmp_path / "pickled"))
