"""Our training against diffusers' training scripts, and what it saves drawn with by plain diffusers.

``Script`` is a step of ``examples/text_to_image/train_text_to_image{,_lora}.py`` written out with diffusers', peft's
and torch's own classes: pictures and captions are encoded in the step, the optimizer is torch's plain loop. It is fed
the order, flips, noise and timesteps that brushwork drew.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import compute_snr
from peft import LoraConfig
from PIL import Image
from safetensors import safe_open
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from brushwork import config as configs
from brushwork import generate, models
from brushwork.runs import RunFolder
from brushwork.seeds import derive
from brushwork.train import Trainer, prepare

if TYPE_CHECKING:
    from torch import Tensor, nn

    from brushwork.batches import Batch
    from brushwork.config import Config

pytestmark = pytest.mark.slow

STEPS, BATCH, RESOLUTION = 5, 2, 32
PROMPT = "a drawing of a cat"


def make_config(base: Path, data: Path, method: str = "lora", /, **changes: Any) -> Config:
    tree = {
        "base": str(base),
        "method": {"type": method} | ({"rank": 3} if method == "lora" else {}),
        "data": {"type": "captioned", "path": str(data), "resolution": RESOLUTION, "random_flip": True},
        "optimizer": {"learning_rate": 1e-3, "lr_scheduler": "cosine", "lr_warmup_steps": 1, "max_grad_norm": None},
        "train": {"max_train_steps": STEPS, "train_batch_size": BATCH, "device": "cpu"},
        "validation": {"prompts": [PROMPT], "samples_during_training": 0},
        "seed": 3,
    }
    return configs.load(configs.merge(tree, changes))


class Script:
    """One training of diffusers' script, fed from outside with everything random."""

    def __init__(self, config: Config, trainer: Trainer) -> None:
        folder, method, optimizer = config.base, config.method, config.optimizer
        self.settings: Any = config
        self.scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
        self.tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
        self.text_encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").requires_grad_(False)
        self.vae = AutoencoderKL.from_pretrained(folder, subfolder="vae").requires_grad_(False)
        self.unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
        self.lora = method.type == "lora"
        if self.lora:
            self._add_lora(method)
        self._start_from(trainer)
        trained = [each for each in self.unet.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained, lr=optimizer.learning_rate, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8, foreach=False
        )
        self.schedule = get_scheduler(
            optimizer.lr_scheduler, self.optimizer, num_warmup_steps=optimizer.lr_warmup_steps, num_training_steps=STEPS
        )
        self.unet.train()

    def _add_lora(self, method: Any) -> None:
        self.unet.requires_grad_(False)
        targets = ["to_k", "to_q", "to_v", "to_out.0"]
        alpha = method.alpha or method.rank
        self.unet.add_adapter(
            LoraConfig(r=method.rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=targets)
        )

    def _start_from(self, trainer: Trainer) -> None:
        with torch.no_grad():
            for name, parameter in self.trained().items():
                parameter.copy_(trainer.named[name])

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the trained weights under brushwork's names."""
        named = self.unet.named_parameters()
        return {
            f"denoiser.{name.replace('.default.', '.brushwork.')}": each for name, each in named if each.requires_grad
        }

    def step(self, micro_batches: list[tuple[Batch, list[int]]]) -> tuple[float, float]:
        """Do one optimizer step; return the mean loss and the learning rate."""
        rate, total = self.schedule.get_last_lr()[0], 0.0
        for batch, positions in micro_batches:
            loss = self.loss(batch, positions)
            (loss / len(micro_batches)).backward()
            total += loss.item() / len(micro_batches)
        if self.settings.optimizer.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.unet.parameters(), self.settings.optimizer.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return total, rate

    def loss(self, batch: Batch, positions: list[int]) -> Tensor:
        """The script's loss of one batch, line by line."""
        seed = self.settings.seed
        pixels = torch.stack([self.pixels(name, place) for name, place in zip(batch.names, positions, strict=True)])
        eps = [torch.Generator().manual_seed(derive(seed, "noise", place)) for place in positions]
        latents = self.vae.encode(pixels).latent_dist.sample(generator=eps)  # type: ignore[arg-type]
        latents = latents * self.vae.config.scaling_factor
        noise, timesteps = batch.noise, (batch.uniform * 1000).long()
        noisy_latents = self.scheduler.add_noise(latents, noise, timesteps)
        ids = self.tokenizer(
            batch.captions, max_length=77, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        states = self.text_encoder(ids, return_dict=False)[0]
        is_epsilon = self.scheduler.config.prediction_type == "epsilon"
        target = noise if is_epsilon else self.scheduler.get_velocity(latents, noise, timesteps)
        model_pred = self.unet(noisy_latents, timesteps, states, return_dict=False)[0]
        gamma = self.settings.objective.snr_gamma
        if gamma is None:
            return functional.mse_loss(model_pred.float(), target.float(), reduction="mean")
        snr = compute_snr(self.scheduler, timesteps)
        weights = torch.stack([snr, gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0]
        weights = weights / snr if is_epsilon else weights / (snr + 1)
        loss = functional.mse_loss(model_pred.float(), target.float(), reduction="none")
        return (loss.mean(dim=[1, 2, 3]) * weights).mean()

    def pixels(self, name: str, position: int) -> Tensor:
        """Resize, CenterCrop, RandomHorizontalFlip, ToTensor and Normalize, in Pillow's and numpy's words."""
        image = Image.open(Path(self.settings.data.path) / Path(name).name).convert("RGB")
        assert image.size == (40, 36)
        image = image.resize((35, RESOLUTION), Image.Resampling.LANCZOS).crop((2, 0, 2 + RESOLUTION, RESOLUTION))
        draw = torch.Generator().manual_seed(derive(self.settings.seed, "augment", position))
        if torch.rand(3, generator=draw)[0] < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - 0.5) / 0.5


def recorded(trainer: Trainer) -> list[Batch]:
    """Return a list that every batch lands in whose loss the trainer computes."""
    batches: list[Batch] = []
    losses = trainer.losses

    def record(batch: Batch, *tally: Any) -> Tensor:
        batches.append(batch)
        return losses(batch, *tally)

    trainer.losses = record  # type: ignore[method-assign]
    return batches


def train_both(config: Config) -> tuple[list[tuple[float, float]], list[tuple[float, float]], Trainer, Script]:
    """Train with brushwork and then with the script on the same samples and noise; return (loss, rate) of each step."""
    trainer = prepare(config)
    script = Script(config, trainer)
    batches = recorded(trainer)
    ours = [(step.loss, step.lr) for step in trainer.steps()]
    parts = config.train.gradient_accumulation_steps
    assert len(batches) == STEPS * parts
    fed = [(batch, list(range(BATCH * number, BATCH * (number + 1)))) for number, batch in enumerate(batches)]
    theirs = [script.step(fed[first : first + parts]) for first in range(0, len(fed), parts)]
    return ours, theirs, trainer, script


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lora": ("epsilon", "lora", {}),
    "lora, v": ("v_prediction", "lora", {}),
    "lora, alpha is not rank": ("epsilon", "lora", {"method": {"alpha": 7.5}}),
    "lora, min-SNR": ("epsilon", "lora", {"objective": {"snr_gamma": 5.0}}),
    "lora, min-SNR, v": ("v_prediction", "lora", {"objective": {"snr_gamma": 5.0}}),
    "lora, accumulated": ("epsilon", "lora", {"train": {"gradient_accumulation_steps": 3}}),
    "lora, nothing cached": ("epsilon", "lora", {"train": {"cache_latents": False, "cache_text": False}}),
    "full": ("epsilon", "full", {}),
    "full, clipped, v": ("v_prediction", "full", {"optimizer": {"max_grad_norm": 0.05}}),
}


@pytest.mark.parametrize("case", CASES)
def test_five_steps_equal_those_of_diffusers_script(case: str, tiny_sd: Path, tiny_sd_v: Path, tiny_data: Path) -> None:
    """Losses, learning rates and the weights after five optimizer steps."""
    prediction, method, changes = CASES[case]
    base = tiny_sd if prediction == "epsilon" else tiny_sd_v
    ours, theirs, trainer, script = train_both(make_config(base, tiny_data, method, **changes))
    assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-7), (ours, theirs)
    assert set(script.trained()) == set(trainer.named)
    for name, parameter in script.trained().items():
        torch.testing.assert_close(trainer.named[name], parameter, rtol=0, atol=1e-5, msg=name)


def test_the_comparison_would_notice_other_noise(tiny_sd: Path, tiny_data: Path) -> None:
    """The tolerance is no empty promise: other noise for the posterior alone is ten times outside of it."""
    config = make_config(tiny_sd, tiny_data)
    trainer = prepare(config)
    script = Script(config, trainer)
    batches = recorded(trainer)
    step = next(trainer.steps())
    same, other = (script.loss(batches[0], positions).item() for positions in ([0, 1], [1, 0]))
    assert same == pytest.approx(step.loss, rel=1e-5)
    assert abs(other - same) > 1e-4 * same


@pytest.fixture
def finished(
    request: pytest.FixtureRequest, tiny_sd: Path, tiny_data: Path, tmp_path: Path
) -> tuple[Trainer, RunFolder]:
    """A short training that moved the weights visibly, and its run folder."""
    method, changes = request.param
    config = make_config(tiny_sd, tiny_data, method, **configs.merge({"optimizer": {"learning_rate": 2e-2}}, changes))
    trainer, run = prepare(config), RunFolder.create(config, tmp_path / "run")
    assert len(list(trainer.steps(run))) == STEPS
    return trainer, run


def picture(pipeline: Any) -> Any:
    """Return a picture as plain diffusers draws it, as an array."""
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        done = pipeline(
            PROMPT,
            num_inference_steps=4,
            guidance_scale=3.0,
            generator=torch.Generator().manual_seed(1),
            output_type="np",
        )
    return done.images[0]


ADAPTERS = [
    ("lora", {}),
    ("lora", {"method": {"alpha": 12.0}}),
    ("lora", {"method": {"alpha": 1.5, "train_text_encoder": True}}),
]


@pytest.mark.parametrize("finished", ADAPTERS, indirect=True, ids=["alpha=rank", "alpha!=rank", "text encoder too"])
def test_plain_diffusers_draws_the_same_picture_with_the_adapter(
    finished: tuple[Trainer, RunFolder], tiny_sd: Path
) -> None:
    trainer, run = finished
    plain = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    before = picture(plain)
    plain.load_lora_weights(run.weights)
    tuned = picture(plain)
    assert np.array_equal(tuned, picture(trainer.family.pipeline()))
    assert np.abs(tuned - before).max() > 1e-2
    plain.unload_lora_weights()
    assert np.array_equal(picture(plain), before)


@pytest.mark.parametrize("finished", ADAPTERS, indirect=True, ids=["alpha=rank", "alpha!=rank", "text encoder too"])
def test_the_adapters_file_says_its_rank_and_alpha(finished: tuple[Trainer, RunFolder]) -> None:
    trainer, run = finished
    method: Any = trainer.config.method
    with safe_open(run.weights / "pytorch_lora_weights.safetensors", "pt") as file:
        header = json.loads(file.metadata()["lora_adapter_metadata"])
    parts = ("unet", "text_encoder") if method.train_text_encoder else ("unet",)
    assert {key.split(".")[0] for key in header} == set(parts)
    for part in parts:
        assert header[f"{part}.r"] == 3
        assert header[f"{part}.lora_alpha"] == (method.alpha or 3)


@pytest.mark.parametrize("finished", [("full", {}), ("full", {"method": {"train_text_encoder": True}})], indirect=True)
def test_plain_diffusers_draws_the_same_picture_with_the_full_model(
    finished: tuple[Trainer, RunFolder], tiny_sd: Path
) -> None:
    trainer, run = finished
    tuned = picture(StableDiffusionPipeline.from_pretrained(run.weights, safety_checker=None))
    assert np.array_equal(tuned, picture(trainer.family.pipeline()))
    assert np.abs(tuned - picture(StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None))).max() > 1e-2


@pytest.mark.parametrize("finished", [ADAPTERS[2], ("full", {})], indirect=True, ids=["lora", "full"])
def test_a_run_draws_what_plain_diffusers_draws_with_its_weights(
    finished: tuple[Trainer, RunFolder], tiny_sd: Path
) -> None:
    """From the run folder through ``brushwork generate`` to the last pixel."""
    trainer, run = finished
    full = trainer.method.updates_base
    plain = StableDiffusionPipeline.from_pretrained(run.weights if full else tiny_sd, safety_checker=None)
    if not full:
        plain.load_lora_weights(run.weights)
    request = generate.Request(PROMPT, seed=1, steps=4, guidance_scale=3.0, sampler="DDIM")
    ours = next(iter(generate.draw(models.open_model(str(run.path)).family, itertools.repeat(request, 1)))).image
    theirs = (picture(plain) * 255).round().astype(np.int64)
    assert np.abs(np.asarray(ours).astype(np.int64) - theirs).max() <= 1
