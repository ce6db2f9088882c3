"""Blocks that stay in main memory: the same arithmetic to the last bit, and few copies alive at a time.

A second device is imitated by copies that are counted; on a GPU the same is measured.
"""

from __future__ import annotations

import json
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import rows
import tiny_families
import torch

from brushwork import config as configs
from brushwork import execution, families, offload
from brushwork.errors import ConfigError
from brushwork.forecast import known
from brushwork.settings import TrainConfig
from brushwork.train import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brushwork.values import Family

EVERY = ("sdxl", "sd3", "flux", "flux2", "sana", "qwen_image", "z_image")
DEEP: dict[str, dict[str, Any]] = {
    "sdxl": {"transformer_layers_per_block": 2},
    "sd3": {"num_layers": 5},
    "flux": {"num_layers": 3, "num_single_layers": 3},
    "flux2": {"num_layers": 3, "num_single_layers": 3},
    "sana": {"num_layers": 5},
    "qwen_image": {"num_layers": 5},
    "z_image": {"n_layers": 4},
}
"""Blocks enough that it matters how many are there at once."""


class Counted:
    """Makes copies and counts them: how often each weight came, and how many bytes were alive at most."""

    def __init__(self) -> None:
        self.now = self.most = self.made = 0

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        copy, size = tensor.clone(), tensor.numel() * tensor.element_size()
        self.made += 1
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(copy.untyped_storage(), self._gone, size)
        return copy

    def _gone(self, size: int) -> None:
        self.now -= size


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("deep")

    def folder(name: str) -> Path:
        path = root / name
        return path if path.exists() else tiny_families.make(name, path, **DEEP[name])

    return folder


def adapted(folder: Path) -> tuple[Family, list[torch.nn.Parameter]]:
    """Return a checkpointed family with an adapter in its blocks that is not zero."""
    family = families.load(str(folder))
    lora = rows.preset("lora", folder, folder).method.build()
    (group,) = lora.attach(family, 0)
    generator = torch.Generator().manual_seed(0)
    for each in group.parameters.values():
        each.data = 0.1 * torch.randn(each.shape, generator=generator)
    execution.checkpoint(family.denoiser, 1)
    family.denoiser.train()
    return family, list(group.parameters.values())


def one_step(family: Family, parameters: list[torch.nn.Parameter]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(0)
    latents = torch.randn(2, family.latent_channels, *[32 // family.pixels_per_latent] * 2)
    with torch.no_grad():
        text = family.encode_text(["a cat", "a dog"])
    loss = family.predict(latents, torch.tensor([500.0, 300.0]), text).square().mean()
    return loss.detach(), [each for each in torch.autograd.grad(loss, parameters) if each is not None]


@pytest.mark.parametrize("name", EVERY)
def test_the_arithmetic_is_the_same_and_three_blocks_at_most_are_there_at_a_time(
    name: str, base: Callable[[str], Path]
) -> None:
    expected = one_step(*adapted(base(name)))
    family, parameters = adapted(base(name))
    blocks = offload.blocks_of(family.denoiser)
    sizes = offload.sizes(family.denoiser, len(blocks))
    assert len(blocks) >= 5
    counted = Counted()
    offload.swap(blocks, "cpu", counted)
    for _ in range(2):  # what was sent for ahead in one step is not what the next one computes with
        found = one_step(family, parameters)
        assert torch.equal(found[0], expected[0])
        assert all(torch.equal(*pair) for pair in zip(found[1], expected[1], strict=True))
        assert counted.now <= max(sizes)
    assert counted.most <= 3 * max(sizes) < sum(sizes)
    tensors = sum(len(offload.frozen(block)) for block in blocks)
    assert counted.made <= 2 * 2 * tensors * 1.5  # forward and again backward, in two steps


def test_without_checkpoints_every_copy_would_stay(base: Callable[[str], Path]) -> None:
    """Which is why the setting asks for them."""
    family, parameters = adapted(base("flux"))
    family.denoiser.disable_gradient_checkpointing()  # type: ignore[operator]  # diffusers'
    counted = Counted()
    offload.swap(offload.blocks_of(family.denoiser), "cpu", counted)
    one_step(family, parameters)
    assert counted.most > 0.5 * sum(offload.sizes(family.denoiser, 6))


def test_drawing_needs_no_more(base: Callable[[str], Path]) -> None:
    family, _ = adapted(base("sd3"))
    family.denoiser.eval()
    latents = torch.randn(1, family.latent_channels, 8, 8)
    with torch.no_grad():
        text = family.encode_text(["a cat"])
        expected = family.predict(latents, torch.tensor([500.0]), text)
        counted = Counted()
        offload.swap(offload.blocks_of(family.denoiser), "cpu", counted)
        for _ in range(2):
            assert torch.equal(family.predict(latents, torch.tensor([500.0]), text), expected)
    assert counted.most <= 3 * max(offload.sizes(family.denoiser, 5))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"blocks_to_swap": 2}, "not every block is checkpointed"),
        (
            {"blocks_to_swap": 2, "gradient_checkpointing": True, "gradient_checkpointing_interval": 2},
            "not every block is checkpointed",
        ),
        ({"blocks_to_swap": 2, "gradient_checkpointing": True, "base_quantization": "nf4"}, "base_quantization=nf4"),
        ({"blocks_to_swap": 2, "gradient_checkpointing": True, "compile": True}, "which compile has not"),
    ],
)
def test_what_would_keep_the_blocks_there_is_refused(train: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**train)


def test_on_a_cpu_and_for_weights_that_learn_it_is_refused(tiny_sd: Path, tiny_data: Path) -> None:
    here = {"base": str(tiny_sd), "data": {"path": str(tiny_data)}}
    train = {"train": {"blocks_to_swap": 1, "gradient_checkpointing": True, "device": "cpu"}}
    asked = configs.load(configs.merge(configs.merge(rows.COMMON, here), train), method="lora")
    with pytest.raises(ConfigError, match="all weights are in main memory anyway"):
        prepare(asked, encode=False)
    full = configs.load(configs.merge(configs.merge(rows.COMMON, here), train), method="full").method.build()
    with pytest.raises(ConfigError, match="this method trains them"):
        offload.where_to_load(asked.train, full, "cuda")
    assert offload.where_to_load(asked.train, asked.method.build(), "cuda:0") == "cpu"
    with pytest.raises(ConfigError, match=r"UNet2DConditionModel has \d blocks. Choose at most as many"):
        offload.swapped(families.load(str(tiny_sd)).denoiser, 99)


def test_a_published_base_is_forecast_with_its_blocks_away_and_in_fewer_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = known.shape("flux.1-dev")
    said["parts"]["transformer"]["config"] |= {"num_layers": 2, "num_single_layers": 3, "num_attention_heads": 2}
    said["parts"]["text_encoder"]["config"] |= {"num_hidden_layers": 1}
    said["parts"]["text_encoder_2"]["config"] |= {"num_layers": 1}
    (tmp_path / "small.json").write_text(json.dumps(said), "utf-8")
    monkeypatch.setattr(known, "SHAPES", tmp_path)

    def training(*settings: str) -> dict[str, int]:
        asked = ["train.gradient_checkpointing=true", *settings]
        return dict(known.rehearse("small", resolution=64, overrides=asked).phases[1].parts)

    whole, away, fewer = training(), training("train.blocks_to_swap=5"), training("train.base_quantization=fp8")
    moved = whole["transformer"] - away["transformer"]
    assert 0.3 * whole["transformer"] < moved
    assert moved / 5 <= away["blocks on their way"] / 2 <= moved / 2  # the largest, twice
    matrices = 2 * (whole["transformer"] - fewer["transformer"])  # from two bytes to one, and the scales
    assert matrices == pytest.approx(moved, rel=0.05)


@pytest.mark.gpu
def test_on_a_gpu_it_takes_less_and_learns_the_same(base: Callable[[str], Path], tiny_data: Path) -> None:
    losses, peaks = [], []
    for count in (0, 6):
        here = {"base": str(base("flux")), "data": {"path": str(tiny_data)}, "method": {"rank": 2}}
        train = {"blocks_to_swap": count, "gradient_checkpointing": True, "max_train_steps": 3, "device": "cuda"}
        trainer = prepare(
            configs.load(configs.merge(configs.merge(rows.COMMON, here), {"train": train}), method="lora")
        )
        torch.cuda.reset_peak_memory_stats()
        losses.append([step.loss for step in trainer.steps()])
        peaks.append(torch.cuda.max_memory_allocated())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert peaks[1] < peaks[0]
