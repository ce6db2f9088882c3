"""Schedules, clipping and the moving average against diffusers and torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from transformers.optimization import get_wsd_schedule

from brushwork import checkpoints, optim
from brushwork.config import OptimizerConfig
from brushwork.errors import ConfigError, RunFailed
from brushwork.values import ParameterGroup

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "cosine_with_restarts", "polynomial"])
@pytest.mark.parametrize("warm_up", [0, 7])
def test_schedules_equal_diffusers(name: str, warm_up: int) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=2e-3)
    their_name = "constant_with_warmup" if name == "constant" else name
    theirs = get_scheduler(
        their_name, optimizer, num_warmup_steps=warm_up, num_training_steps=40, num_cycles=2, power=2.0
    )
    if name == "cosine":
        theirs = get_scheduler(their_name, optimizer, num_warmup_steps=warm_up, num_training_steps=40)
    config = OptimizerConfig(
        learning_rate=2e-3, lr_scheduler=name, lr_warmup_steps=warm_up,
        lr_num_cycles=2 if name == "cosine_with_restarts" else 1, lr_power=2.0 if name == "polynomial" else 1.0,
        lr_end=1e-7 if name == "polynomial" else 0.0,
    )  # fmt: skip
    for step in range(40):
        assert 2e-3 * optim.lr_factor(config, step, 40) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9, abs=1e-15)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("warm_up", [0, 7])
def test_the_schedule_of_warm_up_plateau_and_decay_equals_transformers(warm_up: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_wsd_schedule(optimizer, warm_up, num_decay_steps=12, num_training_steps=40, decay_type="linear")
    config = OptimizerConfig(lr_scheduler="warmup_stable_decay", lr_decay_steps=12, lr_warmup_steps=warm_up)
    for step in range(40):
        assert optim.lr_factor(config, step, 40) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_clipping_really_clips() -> None:
    """The well-known LoRA script hands an exhausted iterator to the clipping and clips nothing."""
    parameters = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(4))]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 10.0)
    norm = optim.clip_gradients(parameters, 1.0)
    assert norm == pytest.approx(10 * 7**0.5)
    clipped = torch.cat([parameter.grad for parameter in parameters if parameter.grad is not None])
    assert clipped.norm() == pytest.approx(1.0, rel=1e-4)


def test_without_a_limit_the_norm_is_measured_and_nothing_is_scaled() -> None:
    parameter = torch.nn.Parameter(torch.zeros(4))
    parameter.grad = torch.full_like(parameter, 10.0)
    assert optim.clip_gradients([parameter], None) == 20.0
    assert parameter.grad.tolist() == [10.0] * 4


def test_training_that_reaches_no_weight_stops() -> None:
    with pytest.raises(RunFailed, match="received a gradient"):
        optim.clip_gradients([torch.nn.Parameter(torch.zeros(4))], 1.0)


def test_the_moving_average_equals_diffusers() -> None:
    parameter = torch.nn.Parameter(torch.zeros(5))
    ours, theirs = optim.MovingAverage([parameter], 0.9), EMAModel([parameter], decay=0.9)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 150):
        parameter.data = torch.randn(5, generator=generator)
        ours.update(step)
        theirs.step([parameter])
        torch.testing.assert_close(ours.average[0], theirs.shadow_params[0], rtol=1e-5, atol=1e-6)


def test_swapping_the_average_twice_is_nothing() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    average = optim.MovingAverage([parameter], 0.9)
    parameter.data.fill_(3.0)
    average.swap()
    assert (parameter.tolist(), average.average[0].tolist()) == ([1.0, 1.0], [3.0, 3.0])
    average.swap()
    assert parameter.tolist() == [3.0, 3.0]


def test_groups_keep_their_own_rates() -> None:
    groups = [
        ParameterGroup("denoiser", {"w": torch.nn.Parameter(torch.zeros(1))}),
        ParameterGroup("text_encoder", {"w": torch.nn.Parameter(torch.zeros(1))}, learning_rate=5e-6),
    ]
    optimizer = optim.build(OptimizerConfig(learning_rate=1e-4), groups)
    optim.set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [5e-5, 2.5e-6]


TYPES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "adamw8bit": {},
    "adafactor": {"learning_rate": 1.0},
    "lion": {"adam_beta2": 0.99},
    "muon": {},
    "prodigy": {"learning_rate": 1.0},
    "schedulefree": {},
}


@pytest.mark.parametrize("name", TYPES)
def test_an_optimizer_learns_and_goes_on_exactly_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    """Six steps are three, a checkpoint, and three more, to the last bit; weights are looked at in between."""
    target = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    start = torch.randn(64, 128, generator=torch.Generator().manual_seed(1))

    def build() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        parameter = torch.nn.Parameter(start.clone())
        config = OptimizerConfig(**({"type": name, "learning_rate": 1e-2, "adam_weight_decay": 0.0} | TYPES[name]))
        return parameter, optim.build(config, [ParameterGroup("denoiser", {"w": parameter})])

    def descend(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for step in range(steps):
            optim.set_learning_rate(optimizer, 1 / (1 + step))
            optimizer.zero_grad()
            (parameter - target).square().mean().backward()
            optimizer.step()

    whole, optimizer = build()
    descend(whole, optimizer, 3)
    with optim.at_rest(optimizer):
        looked_at = whole.detach().clone()
    descend(whole, optimizer, 3)
    assert (whole - target).square().mean() < (start - target).square().mean()
    if name == "adamw8bit":
        assert {state["state1"].dtype for state in optimizer.state.values()} == {torch.uint8}

    half, optimizer = build()
    descend(half, optimizer, 3)
    checkpoints.save(tmp_path / "3", {"trained": half.data, "optimizer": optimizer.state_dict()})
    state = checkpoints.load(tmp_path / "3")
    again, optimizer = build()
    again.data.copy_(state["trained"])
    optimizer.load_state_dict(state["optimizer"])
    with optim.at_rest(optimizer):
        assert torch.equal(again, looked_at)
    assert torch.equal(again, half)
    descend(again, optimizer, 3)
    assert torch.equal(again, whole)


def test_schedule_free_weights_at_rest_are_those_of_its_evaluation_mode() -> None:
    parameter = torch.nn.Parameter(torch.ones(4))
    optimizer = optim.build(
        OptimizerConfig(type="schedulefree", learning_rate=1e-4), [ParameterGroup("denoiser", {"w": parameter})]
    )
    for _ in range(3):
        parameter.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    training = parameter.detach().clone()
    with optim.at_rest(optimizer):
        resting = parameter.detach().clone()
    assert torch.equal(parameter, training)
    optimizer.eval()  # type: ignore[attr-defined]
    assert torch.equal(parameter, resting)
    assert not torch.equal(training, resting)


def test_prodigy_says_nothing_and_takes_one_rate_only(capsys: pytest.CaptureFixture[str]) -> None:
    config = OptimizerConfig(type="prodigy", learning_rate=1.0)
    groups = [ParameterGroup(name, {"w": torch.nn.Parameter(torch.ones(1))}) for name in ("denoiser", "text_encoder")]
    optim.build(config, groups)
    assert capsys.readouterr().out == ""
    groups[1] = ParameterGroup("text_encoder", groups[1].parameters, learning_rate=0.5)
    with pytest.raises(ConfigError, match=r"one rate for everything, but this method has 0.5, 1"):
        optim.build(config, groups)


@pytest.mark.parametrize(
    ("name", "package"), [("lion", "bitsandbytes"), ("prodigy", "prodigyopt"), ("schedulefree", "schedulefree")]
)
def test_a_missing_package_is_named_with_its_extra(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"optimizer.type {name} needs {package}: pip install 'brushwork\["):
        optim.build(OptimizerConfig(type=name, learning_rate=1.0), [])


class NoKernel(torch.optim.SGD):
    """An optimizer whose kernels are not there."""

    def step(self, closure: Any = None) -> Any:
        message = "No operator found for 'optimizer_update_8bit_blockwise'"
        raise NotImplementedError(message)


class Idle(torch.optim.SGD):
    """An optimizer whose kernels do nothing."""

    def step(self, closure: Any = None) -> Any:
        pass


@pytest.mark.parametrize(
    ("broken", "message"),
    [(NoKernel, r"cannot do it on cpu: No operator found"), (Idle, "leaves the weights as they are")],
)
@pytest.mark.parametrize(("name", "attribute"), [("adamw8bit", "AdamW8bit"), ("lion", "Lion")])
def test_a_device_without_kernels_is_found_out_before_training(
    name: str, attribute: str, broken: type, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bitsandbytes

    def make(parameters: Any, lr: float) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = broken(parameters, lr)
        return made

    monkeypatch.setattr(bitsandbytes.optim, attribute, make)
    group = ParameterGroup("denoiser", {"w": torch.nn.Parameter(torch.ones(4))})
    with pytest.raises(ConfigError, match=f"optimizer.type {name}: .*{message}"):
        optim.build(OptimizerConfig(type=name, learning_rate=1.0), [group])  # type: ignore[arg-type]


def test_adamw_is_one_fused_kernel() -> None:
    group = ParameterGroup("denoiser", {"w": torch.nn.Parameter(torch.ones(4))})
    optimizer = optim.build(OptimizerConfig(learning_rate=1e-4), [group])
    assert [each["fused"] for each in optimizer.param_groups] == [True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "adafactor", "adam_beta1": 0.8}, "type is adafactor, which has no use for adam_beta1"),
        ({"type": "schedulefree", "lr_scheduler": "cosine"}, "has no use for lr_scheduler"),
        ({"type": "prodigy", "learning_rate": 1e-4}, "finds the rate itself"),
        ({"lr_num_cycles": 2}, "lr_scheduler is constant, which has no use for lr_num_cycles"),
        (
            {"lr_scheduler": "linear", "lr_power": 2.0},
            "linear, which has no use for lr_power; .*lr_scheduler=polynomial",
        ),
        ({"lr_scheduler": "cosine", "lr_end": 1e-6}, "cosine, which has no use for lr_end"),
        ({"lr_scheduler": "linear", "lr_end": 1.0, "learning_rate": 1e-4}, "lr_end is 1 but learning_rate, .* 0.0001"),
        ({"lr_decay_steps": 10}, "belong together"),
        ({"lr_scheduler": "warmup_stable_decay"}, "belong together"),
    ],
)
def test_what_an_optimizer_cannot_honour_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**settings)
