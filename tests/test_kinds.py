"""LoRA's relatives: who reads their files, at which weights, and which settings they refuse.

That exactly the adapter moves, that the file draws the same when opened again and that a run resumes exactly is in
``test_matrix.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_tiny_sd

from brushwork import card, generate, models
from brushwork import config as configs
from brushwork.errors import ConfigError, ModelError
from brushwork.runs import RunFolder
from brushwork.train import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config
    from brushwork.values import Family

KINDS: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True, "rank": 2},
    "rslora": {"use_rslora": True, "rank": 4, "alpha": 2},
    "conv": {"rank": 4, "conv_rank": 2},
    "loha": {"kind": "loha", "rank": 2, "train_text_encoder": True},
    "oft": {"kind": "oft", "oft_block_size": 4},
}
DIFFUSERS = ("dora", "rslora", "conv")
PROMPT = "a drawing of a cat"


def make_config(base: Path, data: Path, kind: str, **settings: Any) -> Config:
    return configs.load(
        {
            "base": str(base),
            "method": {"type": "lora", **KINDS[kind]},
            "data": {"path": str(data), "resolution": 32},
            "optimizer": {"learning_rate": 1e-1},
            "train": {"max_train_steps": 4, "train_batch_size": 2, "device": "cpu", **settings},
            "validation": {"prompts": [PROMPT], "samples_during_training": 0},
        }
    )


def picture(family: Family) -> np.ndarray:
    request = generate.Request(PROMPT, seed=3, steps=3, sampler="DDIM", guidance_scale=2.0)
    return np.asarray(next(generate.draw(family, [request])).image, float)


def train(config: Config, run: RunFolder) -> None:
    list(prepare(config).steps(run))


@pytest.mark.parametrize("kind", DIFFUSERS)
def test_plain_diffusers_draws_the_same_with_it(kind: str, tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    config = make_config(tiny_sd, tiny_data, kind)
    run = RunFolder.create(config, tmp_path / "run")
    train(config, run)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None, requires_safety_checker=False)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(run.weights)
    generator = torch.Generator().manual_seed(3)
    theirs = pipeline(PROMPT, num_inference_steps=3, guidance_scale=2.0, generator=generator, height=32, width=32)
    ours = picture(models.open_model(str(run.path), device="cpu").family)
    assert np.abs(np.asarray(theirs.images[0], float) - ours).max() <= 1


@pytest.fixture
def loha(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> Path:
    config = make_config(tiny_sd, tiny_data, "loha", max_train_steps=1)
    run = RunFolder.create(config, tmp_path / "run")
    train(config, run)
    return run.weights / "peft_adapter.safetensors"


def test_its_weight_scales_the_change_and_0_is_the_base(loha: Path, tiny_sd: Path) -> None:
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    base, half, whole, none = (
        models.open_model(f"{tiny_sd}{end}", device="cpu").family.pipeline().unet.get_submodule(layer[5:]).weight
        for end in ("", f"+{loha}@0.5", f"+{loha}", f"+{loha}@0")
    )
    torch.testing.assert_close(half - base, (whole - base) / 2, rtol=1e-4, atol=1e-7)
    assert torch.equal(none, base)
    assert not torch.equal(whole, base)


def test_a_file_that_does_not_fit_wholly_is_refused(loha: Path, tiny_sd: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    with safe_open(loha, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(loha)
    name = next(iter(tensors))
    for changed in (dict(list(tensors.items())[1:]), tensors | {f"{name}x": torch.zeros(1)}):
        save_file(changed, tmp_path / "changed.safetensors", metadata=header)
        with pytest.raises(ModelError, match="tensors have no place of their shape in this base"):
            models.open_model(f"{tiny_sd}+{tmp_path / 'changed.safetensors'}", device="cpu")
    wider = make_tiny_sd(tmp_path / "wider", block_out_channels=(8, 24), attention_head_dim=4)
    with pytest.raises(ModelError, match="does not fit"):
        models.open_model(f"{wider}+{loha}", device="cpu")


def test_an_oft_has_no_half(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    config = make_config(tiny_sd, tiny_data, "oft", max_train_steps=1)
    run = RunFolder.create(config, tmp_path / "run")
    train(config, run)
    with pytest.raises(ModelError, match="has no half"):
        models.open_model(f"{tiny_sd}+{run.path}@0.5", device="cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "oft", "rank": 8}, "kind is oft, so rank cannot apply"),
        ({"kind": "loha", "use_dora": True}, "kind is loha, so use_dora cannot apply"),
        ({"oft_block_size": 8}, "kind is lora, so oft_block_size cannot apply"),
        ({"kind": "lokr", "alpha": 1.5}, "alpha is a whole number"),
        ({"kind": "lokr", "lokr_factor": 0}, "lokr_factor is 0"),
        ({"text_encoder_lr": 1e-5}, "train_text_encoder is false, so text_encoder_lr cannot apply"),
        ({"text_encoder_targets": ("q_proj",)}, "train_text_encoder is false, so text_encoder_targets cannot apply"),
    ],
)
def test_settings_of_another_kind_are_refused(settings: dict[str, Any], message: str) -> None:
    from brushwork.methods.lora import Config as LoraConfig

    with pytest.raises(ValueError, match=message):
        LoraConfig(**settings)


def test_dropout_hides_inputs_from_the_update_while_training_only(tiny_sd: Path, tiny_data: Path) -> None:
    config = make_config(tiny_sd, tiny_data, "rslora")
    config = config.model_copy(update={"method": config.method.model_copy(update={"dropout": 0.5})})
    trainer = prepare(config, encode=False)
    layer: Any = next(each for each in trainer.family.denoiser.modules() if hasattr(each, "lora_B"))
    torch.nn.init.ones_(layer.lora_B["brushwork"].weight)
    inputs = torch.ones(1, 64, layer.in_features)
    trainer._enter_training_mode()
    hidden = {round(float(each), 4) for each in layer(inputs).detach()[0, :, 0]}
    layer.eval()
    assert len(hidden) > 1
    assert len({round(float(each), 4) for each in layer(inputs).detach()[0, :, 0]}) == 1


def test_full_fine_tuning_has_no_rate_for_a_text_encoder_that_stands_still() -> None:
    from brushwork.methods.full import Config as FullConfig

    with pytest.raises(ValueError, match="train_text_encoder is false, so text_encoder_lr cannot apply"):
        FullConfig(text_encoder_lr=1e-5)


def test_a_chosen_side_of_ofts_rotations_is_the_one_it_has(tiny_sd: Path, tiny_data: Path) -> None:
    config = make_config(tiny_sd, tiny_data, "oft")
    for size in (4, 7, 32):
        method = config.method.model_copy(update={"oft_block_size": size})
        changed = config.model_copy(update={"method": method})
        if size == 7:
            with pytest.raises(
                ConfigError, match=r"oft_block_size is 7, but the layers here are 16, 32 wide.* Take 16 or"
            ):
                prepare(changed, encode=False)
            continue
        layers = prepare(changed, encode=False).family.denoiser.modules()
        sides = {each.oft_block_size["brushwork"] for each in layers if hasattr(each, "oft_block_size")}
        assert sides == ({4} if size == 4 else {16, 32})


def test_plain_peft_draws_the_same_by_the_lines_of_the_model_card(
    loha: Path, tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import StableDiffusionPipeline

    monkeypatch.chdir(loha.parents[1])
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None, requires_safety_checker=False)
    exec(card.PEFT, {"pipeline": pipeline})  # noqa: S102  (what the card tells people to run)
    ours = models.open_model(f"{tiny_sd}+{loha}", device="cpu").family
    latents, states = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 32)
    with torch.no_grad():
        theirs = pipeline.unet(latents, torch.tensor([500]), states).sample
        torch.testing.assert_close(theirs, ours.denoiser(latents, torch.tensor([500]), states).sample)
        plain = models.open_model(str(tiny_sd), device="cpu").family.denoiser
        assert not torch.allclose(theirs, plain(latents, torch.tensor([500]), states).sample, atol=1e-5)
