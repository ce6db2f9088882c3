"""A model trained down to pure noise is drawn so too, whichever way it was saved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from brushwork import card, models, samplers
from brushwork import config as configs
from brushwork.runs import RunFolder
from brushwork.train import prepare

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["lora", "full"])
def run(request: pytest.FixtureRequest, tiny_sd_v: Path, tiny_data: Path, tmp_path: Path) -> RunFolder:
    tree: dict[str, Any] = {
        "base": str(tiny_sd_v),
        "method": request.param,
        "data": {"path": str(tiny_data), "resolution": 32},
        "objective": {"rescale_betas_zero_snr": True},
        "train": {"max_train_steps": 1, "device": "cpu"},
        "validation": {"prompts": ["a cat"], "samples_during_training": 0},
    }
    config = configs.load(tree)
    run = RunFolder.create(config, tmp_path / "run")
    list(prepare(config).steps(run))
    run.update(total_steps=1, artefact={"path": "weights/pytorch_lora_weights.safetensors"}, data={}, seed=0, base={})
    return run


def test_the_tuned_model_is_drawn_with_the_schedule_it_was_trained_with(run: RunFolder, tiny_sd_v: Path) -> None:
    texts = [str(run.path)] + ([f"{tiny_sd_v}+{run.path}"] if run.config.method.type == "lora" else [])
    for text in texts:
        family = models.open_model(text, device="cpu").family
        assert float(family.alphas_cumprod[-1]) == 0.0
        scheduler = samplers.build(samplers.resolve("DDIM"), family.scheduler_config)
        scheduler.set_timesteps(4)
        assert scheduler.timesteps[0] == 999
        assert float(scheduler.alphas_cumprod[-1]) == 0.0
    assert float(models.open_model(str(tiny_sd_v), device="cpu").family.alphas_cumprod[-1]) > 0


def test_plain_diffusers_learns_of_the_schedule(run: RunFolder) -> None:
    """A whole model carries it in its scheduler's config; for an adapter the model card has the line."""
    if run.config.method.type == "full":
        written = json.loads((run.weights / "scheduler" / "scheduler_config.json").read_text("utf-8"))
        assert written["rescale_betas_zero_snr"] is True
        assert written["timestep_spacing"] == "trailing"
    else:
        run.update(data={"count": 6, "held_out": 0, "fingerprint": ""}, base={"hash": ""}, effective_batch=2)
        assert 'rescale_betas_zero_snr=True, timestep_spacing="trailing"' in card.text(run)
