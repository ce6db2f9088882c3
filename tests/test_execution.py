"""Options that change how the denoiser is run must not change what is learnt."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch

from brushwork import config as configs
from brushwork import execution, optim
from brushwork.errors import ConfigError, UserError
from brushwork.runs import RunFolder
from brushwork.settings import TrainConfig
from brushwork.train import prepare, steps

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config


def make_config(base: Path, data: Path, **train: Any) -> Config:
    return configs.load(
        {
            "base": str(base),
            "method": {"type": "full"},
            "data": {"path": str(data), "resolution": 32},
            "train": {"max_train_steps": 2, "train_batch_size": 2, "device": "cpu", **train},
            "validation": {"prompts": ["a cat"], "samples_during_training": 0},
        }
    )


@pytest.fixture
def plain(tiny_sd: Path, tiny_data: Path) -> list[float]:
    return [step.loss for step in prepare(make_config(tiny_sd, tiny_data)).steps()]


@pytest.mark.parametrize("interval", [1, 2, 3])
def test_every_so_manieth_block_is_checkpointed_and_no_loss_changes(
    interval: int, plain: list[float], tiny_sd: Path, tiny_data: Path
) -> None:
    """The tiny UNet has five blocks: two down, the middle, two up."""
    settings = {"gradient_checkpointing": True, "gradient_checkpointing_interval": interval}
    trainer = prepare(make_config(tiny_sd, tiny_data, **settings))
    unet: Any = trainer.family.denoiser
    blocks = [*unet.down_blocks, *unet.up_blocks, unet.mid_block]  # in the order of the UNet's own modules
    assert [block.gradient_checkpointing for block in blocks] == [place % interval == 0 for place in range(5)]
    assert [step.loss for step in trainer.steps()] == pytest.approx(plain, rel=1e-5)


def test_channels_last_changes_the_layout_and_no_loss(plain: list[float], tiny_sd: Path, tiny_data: Path) -> None:
    trainer = prepare(make_config(tiny_sd, tiny_data, channels_last=True))
    losses = [step.loss for step in trainer.steps()]
    kernels = [each for each in trainer.named.values() if each.dim() == 4 and min(each.shape[1:]) > 1]
    assert kernels
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in kernels)
    assert losses == pytest.approx(plain, rel=1e-4)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_repeated_blocks_are_compiled_in_place(plain: list[float], tiny_sd: Path, tiny_data: Path) -> None:
    """The compiler itself is torch's; here the compiled blocks run eagerly."""
    trainer = prepare(make_config(tiny_sd, tiny_data, compile=True))
    compiled = {type(each).__name__ for each in trainer.family.denoiser.modules() if each._compiled_call_impl}
    assert compiled == {"BasicTransformerBlock"}
    with torch.compiler.set_stance("force_eager"):
        assert [step.loss for step in trainer.steps()] == pytest.approx(plain, rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:The .grad attribute:UserWarning")
def test_compiled_blocks_learn_the_same(
    plain: list[float], tiny_sd: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and differentiated as for the real compiler, which would take minutes to write C++ of it."""
    compiled = functools.partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", compiled)
    trainer = prepare(make_config(tiny_sd, tiny_data, compile=True))
    assert [step.loss for step in trainer.steps()] == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("option", ["channels_last", "compile", "gradient_checkpointing"])
def test_a_denoiser_that_cannot_honour_an_option_refuses_it(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"train.{option}: Linear"):
        execution.arrange(torch.nn.Linear(2, 2), TrainConfig(**{option: True}))


def test_an_average_on_a_device_of_its_own_is_the_same(tiny_sd: Path, tiny_data: Path) -> None:
    averages = []
    for device in (None, "cpu"):
        trainer = prepare(make_config(tiny_sd, tiny_data, use_ema=True, ema_device=device))
        list(trainer.steps())
        assert trainer.average is not None
        averages.append(trainer.average.average)
    assert all(torch.equal(*pair) for pair in zip(*averages, strict=True))
    parameter = torch.nn.Parameter(torch.ones(2))
    average = optim.MovingAverage([parameter], 0.9, "meta")
    assert average.average[0].device.type == "meta"
    assert parameter.device.type == "cpu"


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99"])
def test_an_average_needs_a_device_that_is_there(device: str, tiny_sd: Path, tiny_data: Path) -> None:
    with pytest.raises(UserError, match=rf"train\.ema_device: (there is no '{device}'|{device} was asked for)"):
        prepare(make_config(tiny_sd, tiny_data, use_ema=True, ema_device=device))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ema_device": "cpu"}, "ema_device is set but use_ema is false"),
        ({"ema_decay": 0.5}, "ema_decay is set but use_ema is false"),
        ({"gradient_checkpointing_interval": 2}, "gradient_checkpointing is false"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize("optimizer", [{"type": "schedulefree"}, {"type": "prodigy", "learning_rate": 1.0}])
def test_a_run_that_was_stopped_between_checkpoints_ends_the_same(
    optimizer: dict[str, Any], tiny_sd: Path, tiny_data: Path, tmp_path: Path
) -> None:
    tree = make_config(tiny_sd, tiny_data, max_train_steps=4, validation_steps=1).model_dump(mode="json")
    tree |= {"method": {"type": "lora", "rank": 2}, "optimizer": optimizer}
    config = configs.load(tree)
    runs = [RunFolder.create(config, tmp_path / name) for name in ("whole", "halves")]
    list(steps(config, runs[0]))
    first = steps(config, runs[1])
    list(itertools.islice(first, 2))
    first.close()  # type: ignore[attr-defined]
    list(steps(config, runs[1]))
    whole, halves = ((run.weights / "pytorch_lora_weights.safetensors").read_bytes() for run in runs)
    assert whole == halves
