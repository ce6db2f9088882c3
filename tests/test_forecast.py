"""The forecast: what is counted, against what autograd and optimizers really keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rows
import torch

from brushwork import api, config, forecast, memory
from brushwork.errors import RunFailed
from brushwork.forecast import estimate, optimizers
from brushwork.forecast.tracking import rehearsal
from brushwork.train import Trainer, prepare

SAID = "CUDA out of memory. Tried to allocate 2.00 GiB."
KINDS = ("adamw", "adafactor", "muon", "lion", "adamw8bit", "prodigy", "schedulefree")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forecast")
    rows.make_data(folder)
    return folder


def trainer(base: Path, data: Path, method: str = "lora", **changes: Any) -> Trainer:
    return prepare(rows.preset(method, base, data, **changes), encode=False)


def test_a_rehearsal_counts_what_is_alive_at_once() -> None:
    """Of y = x w: 4 MB in, 4 MB out; the square and its mean besides; all of it gone at the end."""
    with rehearsal() as watch:
        x, w = torch.zeros(1000, 1000), torch.zeros(1000, 1000, requires_grad=True)
        assert watch.now == watch.peak == 8_000_000
        y = x @ w
        loss = y.square().mean()
        assert watch.now == 12_000_000 + 4  # autograd keeps y for the square; the square itself is gone
        assert watch.peak >= 16_000_000
        (gradient,) = torch.autograd.grad(loss, w)
        del y, loss, x, w, gradient
    assert watch.now == 0


def test_a_rehearsal_leaves_weights_gradients_and_random_numbers_alone(tiny_sd: Path, data: Path) -> None:
    made = trainer(tiny_sd, data)
    before = {name: tensor.clone() for name, tensor in made.family.denoiser.state_dict().items()}
    random = torch.get_rng_state()
    forecast.of(made)
    assert torch.equal(torch.get_rng_state(), random)
    for name, tensor in made.family.denoiser.state_dict().items():
        assert type(tensor) is torch.Tensor, name
        assert torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in made.named.values())


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimizers_state_is_as_large_as_said(kind: str) -> None:
    from torch.utils._pytree import tree_leaves

    from brushwork import optim
    from brushwork.settings import OptimizerConfig
    from brushwork.values import ParameterGroup

    weights = {"wide": torch.nn.Parameter(torch.randn(128, 96)), "vector": torch.nn.Parameter(torch.randn(96))}
    group = ParameterGroup("denoiser", weights)
    optimizer = optim.build(OptimizerConfig(type=kind, learning_rate=1.0), [group])  # type: ignore[arg-type]
    for weight in weights.values():
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    leaves = tree_leaves(optimizer.state_dict()["state"])
    # Not counters, nor bitsandbytes' code books of 256 numbers.
    kept = [each for each in leaves if isinstance(each, torch.Tensor) and each.numel() > 1 and each.shape != (256,)]
    real = sum(value.numel() * value.element_size() for value in kept)
    assert optimizers.state(kind, weights.values()) == pytest.approx(real, rel=0.02)


def test_activations_grow_with_the_batch_and_shrink_with_checkpoints(tiny_sd: Path, data: Path) -> None:
    made = trainer(tiny_sd, data, "full")
    one, two, four = (estimate.step_peak(made, batch, checkpointing=False) for batch in (1, 2, 4))
    saved = estimate.step_peak(made, 4, checkpointing=True)
    gradients = sum(4 * each.numel() for each in made.named.values())
    assert gradients < one < four
    assert (four - two) / (two - one) == pytest.approx(2, rel=0.15)  # where the peak lies shifts a little
    assert saved < four
    flags = {
        module.gradient_checkpointing
        for module in made.family.denoiser.modules()
        if hasattr(module, "gradient_checkpointing")
    }
    assert flags == {False}  # as it was


def test_the_parts_are_those_of_the_run(tiny_sd: Path, data: Path) -> None:
    made = trainer(tiny_sd, data, "full", train={"use_ema": True})
    said = forecast.of(made)
    count = sum(each.numel() for each in made.family.denoiser.parameters())
    parts = {phase.name: phase.parts for phase in said.phases}["training"]
    assert parts["gradients"] == parts["average"] == parts["the base's copy"] == 4 * count
    assert parts["optimizer"] == 8 * count
    assert parts["unet"] >= 4 * count
    assert said.disk["checkpoints"] == 2 * 16 * count  # after steps 2 and 3
    latents = 4 * 2 * 4 * 8 * 8 * 4  # pictures, mean and deviation, channels, side, side, bytes
    assert said.disk["cached latents"] == latents
    assert said.peak.total == max(phase.total for phase in said.phases)


def test_what_is_there_already_is_not_counted_twice(tiny_sd: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(tiny_sd, data, "full", train={"use_ema": True})
    count = sum(each.numel() for each in made.family.denoiser.parameters())
    monkeypatch.setattr("brushwork.memory.used", lambda _: 1_000_000_000)
    parts = {phase.name: phase.parts for phase in forecast.of(made).phases}["training"]
    weights = sum(estimate.standing(made).values())
    assert parts["python and libraries"] == 1_000_000_000 - weights - 2 * 4 * count  # the average, the base's copy


def test_what_loading_took_is_part_of_the_peak_and_no_reason_not_to_begin(
    tiny_sd: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(tiny_sd, data, "lora")
    monkeypatch.setattr("brushwork.memory.peak", lambda _: 10**15)
    said = forecast.of(made)
    assert (said.peak.name, said.peak.total, said.fits) == (estimate.LOADING, 10**15, True)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system keeps one peak for good")
def test_the_peak_counts_from_the_beginning_of_a_run() -> None:
    held = bytearray(300_000_000)
    held[::4096] = b"x" * len(held[::4096])
    del held
    before = memory.peak("cpu")
    memory.begin("cpu")
    assert memory.peak("cpu") < before - 200_000_000


def test_the_disk_of_a_run_is_as_said(
    tiny_sd: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brushwork.runs import RunFolder

    monkeypatch.setenv("BRUSHWORK_CACHE", str(tmp_path / "cache"))
    asked = rows.preset("full", tiny_sd, data)
    made = prepare(asked)
    said = forecast.of(made).disk
    run = RunFolder.create(asked, tmp_path / "run")
    list(made.steps(run))
    for name, folder in (("checkpoints", run.path / "checkpoints"), ("weights", run.weights)):
        real = sum(each.stat().st_size for each in folder.rglob("*.safetensors"))
        assert said[name] == pytest.approx(real, rel=0.1), name
    for name, part in (("cached latents", "latents"), ("cached texts", "texts")):
        real = sum(each.stat().st_size for each in (tmp_path / "cache" / part).rglob("data.bin"))
        assert said[name] == pytest.approx(real, rel=0.05), name


def test_what_does_not_fit_is_told_what_would_help(tiny_sd: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(tiny_sd, data, "full")
    monkeypatch.setattr("brushwork.memory.used", lambda _: 500_000_000)  # it may shrink between two forecasts
    whole = forecast.of(made)
    assert whole.fits
    assert whole.advice == ()
    monkeypatch.setattr(estimate, "available", lambda _: 1_000_000)
    small = forecast.of(made)
    assert not small.fits
    text = "\n".join(small.lines())
    for expected in ("there are only 1 MB", "train.train_batch_size=1", "gradient_checkpointing=true", "--method lora"):
        assert expected in text
    to_come = max(phase.total for phase in whole.phases if phase.name != estimate.LOADING)
    monkeypatch.setattr(estimate, "available", lambda _: to_come - 1)
    assert forecast.of(made).advice[-1].endswith("(fits)")


def test_a_dry_run_says_memory_disk_and_time(
    tiny_sd: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRUSHWORK_CACHE", str(tmp_path / "cache"))
    plan = api.plan(rows.preset("lora", tiny_sd, data), calibrate=True)
    said = plan.forecast.to_json()
    assert said["fits"] is True
    assert said["seconds"] == pytest.approx(3 * said["seconds_per_step"])
    assert set(said["phases"]) == {estimate.LOADING, "encoding", "training", "writing a checkpoint"}
    assert "s a step" in "\n".join(plan.forecast.lines())


def test_calibrate_belongs_to_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    from brushwork.cli import run

    assert run(["train", "--calibrate", "--base", "mini", "--data", "engravings"]) == 2
    assert "--calibrate belongs to --dry-run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"train_batch_size": 4}, "train.train_batch_size=2 train.gradient_accumulation_steps=2"),
        ({"train_batch_size": 1}, "train.gradient_checkpointing=true"),
        ({"train_batch_size": 1, "gradient_checkpointing": True}, "train.mixed_precision=bf16"),
        (
            {"train_batch_size": 1, "gradient_checkpointing": True, "mixed_precision": "bf16"},
            "train.base_quantization=fp8",
        ),
    ],
)
def test_running_out_of_memory_names_the_next_cheaper_setting(settings: dict[str, Any], expected: str) -> None:
    asked = config.load(method="lora", data="engravings", train=settings)
    with pytest.raises(RunFailed, match=f"Try {expected}"), forecast.explaining_out_of_memory(asked):
        raise torch.OutOfMemoryError(SAID)


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("lora", {}, "train.mixed_precision=bf16"),
        ("lora", {"mixed_precision": "bf16"}, "train.blocks_to_swap=10 train.gradient_checkpointing=true"),
        ("full", {}, "data.resolution=32"),
    ],
)
def test_so_does_a_base_that_does_not_even_load(
    method: str, settings: dict[str, Any], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError(SAID)

    monkeypatch.setattr("brushwork.families.load", full)
    asked = config.load(method=method, base="mini", data={"path": "engravings", "resolution": 64}, train=settings)
    with pytest.raises(RunFailed, match=f"Try {expected}"):
        api.train(asked, out=tmp_path / "run")


def test_the_rest_of_a_run_is_told_after_three_steps(capsys: pytest.CaptureFixture[str]) -> None:
    from types import SimpleNamespace

    see = forecast.clock(100)
    for index in range(1, 6):
        see(SimpleNamespace(index=index, seconds=5.0 if index == 1 else 2.0))  # type: ignore[arg-type]
    assert capsys.readouterr().err.strip() == "2 s a step: about 3 min 14 s to go, samples and checkpoints apart"


PUBLISHED = {
    "sd1.5": 0.86e9,
    "sdxl": 2.57e9,
    "sd3-medium": 2.03e9,
    "sd3.5-medium": 2.24e9,  # its card counts 0.23e9 fixed places too
    "flux.1-dev": 11.9e9,
    "flux.2-klein-base-4b": 3.88e9,
}
"""Of the denoiser, as the models' cards and papers round it."""


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_shapes_have_the_published_number_of_parameters(name: str) -> None:
    from brushwork.forecast import known
    from brushwork.forecast.tracking import stage

    said = known.shape(name)
    with stage():
        found = {
            part: sum(each.numel() for each in known._module(kind["class"], kind["config"]).parameters())
            for part, kind in said["parts"].items()
        }
    assert found == {part: kind["parameters"] for part, kind in said["parts"].items()}
    assert next(iter(found.values())) == pytest.approx(PUBLISHED[name], rel=0.01)


def test_a_base_of_a_known_shape_is_forecast_without_its_weights(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from brushwork.cli import run

    assert run(["forecast", "sd1.5", "--memory", "1", "--resolution", "256", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["fits"] is False
    training = said["phases"]["training"]
    assert training["unet"] == 2 * 859_520_964  # bf16
    assert "text_encoder" not in training
    assert said["phases"]["encoding"]["text_encoder"] == pytest.approx(2 * 123_060_480, rel=0.01)
    assert 0.1e9 < training["activations"] < 1e9
    assert run(["forecast", "sd15"]) == 2
    assert "Did you mean sd1.5?" in capsys.readouterr().err


def test_a_recipe_for_a_known_base_is_forecast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    from brushwork.cli import run
    from brushwork.forecast import known

    shape = known.shape("sd1.5")
    shape["parts"]["unet"]["config"] |= {"block_out_channels": [32, 32, 64, 64], "layers_per_block": 1}
    shape["parts"]["vae"]["config"] |= {"block_out_channels": [32, 32, 32, 32]}
    (tmp_path / "narrow.json").write_text(json.dumps(shape), "utf-8")
    monkeypatch.setattr(known, "SHAPES", tmp_path)
    recipe = tmp_path / "mine.yaml"
    text = "base: stable-diffusion-v1-5/stable-diffusion-v1-5\nmethod: {type: lora, rank: 2}\n"
    text += "data: {path: photos, resolution: 64}\ntrain: {train_batch_size: 1, mixed_precision: bf16}\n"
    recipe.write_text(text, "utf-8")
    assert run(["forecast", str(recipe), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "text_encoder" in said["phases"]["encoding"].keys() - said["phases"]["training"].keys()
    assert said["disk"]["each checkpoint"] == 3 * said["disk"]["what is made"]
    assert run(["forecast", str(recipe), "--resolution", "64"]) == 2
    assert "a recipe says its method and resolution itself" in capsys.readouterr().err
    recipe.write_text(text.replace("stable-diffusion-v1-5/stable-diffusion-v1-5", "mini"), "utf-8")
    assert run(["forecast", str(recipe)]) == 2
    assert "no shapes of its base 'mini' are known" in capsys.readouterr().err


def test_the_model_card_says_what_was_forecast_and_what_it_took(tiny_sd: Path, data: Path, tmp_path: Path) -> None:
    from brushwork import card, wording
    from brushwork.runs import RunFolder

    made = trainer(tiny_sd, data)
    said = forecast.of(made).to_json()
    run = RunFolder.create(made.config, tmp_path / "run")
    run.weights.mkdir()
    told = {"count": 4, "held_out": 0, "fingerprint": "x"}
    run.update(total_steps=3, data=told, base={"hash": "y"}, seed=0, forecast=said, peak_memory_bytes=1_500_000_000)
    run.update(seconds={"train": 75.0}, device={"type": "cuda"}, artefact={"bytes": 4_000_000})
    text = card.text(run)
    assert "- Training took 1.5 GB of memory at its peak and 1 min 15 s on cuda." in text
    assert f"{wording.size(said['peak_bytes'])} at most, while {said['peak_phase']}." in text
    for name, parts in said["phases"].items():
        assert f"  - {name}: {wording.size(sum(parts.values()))} (" in text
    assert f"- Disk: cached latents {wording.size(said['disk']['cached latents'])}" in text
    assert "- What it made is 4.0 MB." in text


def test_large_blocks_are_given_back_for_large_denoisers_and_with_checkpointing_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from brushwork import execution, memory
    from brushwork.settings import TrainConfig

    asked: list[str] = []
    monkeypatch.setattr(memory, "give_back_large_blocks", lambda: asked.append("yes"))
    execution.arrange(torch.nn.Linear(64, 64), TrainConfig())
    assert asked == []
    monkeypatch.setattr(execution, "LARGE", 64 * 64)
    execution.arrange(torch.nn.Linear(64, 64), TrainConfig())
    assert asked == ["yes"]
    monkeypatch.setattr(execution, "LARGE", 64 * 64 + 65)
    monkeypatch.setattr(execution, "checkpoint", lambda *_: None)
    execution.arrange(torch.nn.Linear(64, 64), TrainConfig())
    assert asked == ["yes"]
    execution.arrange(torch.nn.Linear(64, 64), TrainConfig(gradient_checkpointing=True))
    assert asked == ["yes", "yes"]
    assert estimate.workspace(1_000_000_000, mapped=True) < estimate.workspace(1_000_000_000, mapped=False)
