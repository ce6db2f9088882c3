"""Every family x method that makes sense, two steps on small pipelines of the real classes."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rows
import tiny_families
import torch

from brushwork import config as configs
from brushwork import families, generate, models
from brushwork.errors import ConfigError
from brushwork.runs import RunFolder
from brushwork.train import Trainer, prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brushwork.config import Config
    from brushwork.values import Family

FIRST_SIX = ("sdxl", "sd3", "flux", "flux2", "sana")
"""With ``sd``, which ``test_matrix`` has."""
TEXT_LORA = ("sdxl", "sd3", "flux")
"""Whose text encoder's LoRA diffusers reads."""
METHODS = ("lora", "full", "dreambooth-lora", "dora")
WORDS = ("sdxl", "flux")
"""Which have text encoders of CLIP's and a pipeline with a loader for words; ``sd`` is in ``test_matrix``."""
ALIKE = ("dreambooth-lora", "dora")
"""Adapters of the same layers as LoRA's; on flow models but ``sd3`` they are left to `make test-all`."""
ROWS = [
    *((name, method) for name in tiny_families.MAKERS for method in METHODS),
    *((name, method) for name in WORDS for method in ("textual-inversion", "pivotal")),
]
IDLE = {
    # Nobody reads what the last block makes of the text; SD3's has no such layers, and FLUX reads them afterwards.
    ("qwen_image", "full"): r"transformer\.transformer_blocks\.0\.(attn\.to_add_out|txt_mlp\.net\.(0\.proj|2))\.\w+",
}
"""The only declared tensors that may stay as they are."""
STEPS = 2
SAME = 1


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data, the caches, and the pipelines, made when they are first asked for."""
    folder = tmp_path_factory.mktemp("families")
    rows.make_data(folder / "data")
    return folder


@pytest.fixture(autouse=True)
def _one_cache(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRUSHWORK_CACHE", str(shared / "cache"))


@pytest.fixture
def base(shared: Path) -> Callable[[str], Path]:
    def folder(name: str) -> Path:
        path = shared / name
        return path if path.exists() else tiny_families.make(name, path)

    return folder


def small(base: Path, shared: Path, preset: str, /, **changes: Any) -> Config:
    """Two steps with a checkpoint after the first; sampler and guidance are the family's."""
    drawn = {"validation": {"prompts": [rows.PROMPT], "samples_during_training": 1, "num_inference_steps": 2}}
    train = {"max_train_steps": STEPS, "train_batch_size": 2, "checkpointing_steps": 1, "validation_steps": STEPS}
    common = {**rows.COMMON, **drawn, "train": {**train, "device": "cpu"}}
    here = {"base": str(base), "data": {"path": str(shared / "data" / "pictures")}}
    options = rows.PRESETS[preset]
    tree = configs.merge(configs.merge(configs.merge(common, here), options), changes)
    return configs.load(tree, method=preset)


def tensors(family: Family) -> dict[str, torch.Tensor]:
    modules = {family.denoiser_name: family.denoiser, "vae": family.vae, **family.text_encoders}
    return {
        f"{part}.{name}": tensor
        for part, module in modules.items()
        for name, tensor in module.state_dict(keep_vars=True).items()
    }


def picture(family: Family) -> np.ndarray[Any, Any]:
    sampler = family.sampling.sampler if family.sampling else "DDIM"
    request = generate.Request(rows.PROMPT, seed=3, steps=2, sampler=sampler, guidance_scale=2.0, width=32, height=32)
    return np.asarray(next(generate.draw(family, [request])).image, float)


def trained(config: Config, run: RunFolder) -> tuple[Trainer, set[str], set[str]]:
    """Train; return the trainer, which tensors were declared and which moved."""
    trainer = prepare(config)
    every = tensors(trainer.family)
    before = {name: tensor.detach().clone() for name, tensor in every.items()}
    ids = {id(parameter) for parameter in trainer.named.values()}
    steps = list(trainer.steps(run))
    assert all(np.isfinite(step.loss) for step in steps)
    after = tensors(trainer.family)
    declared = {name for name, tensor in after.items() if id(tensor) in ids}
    assert len(declared) == len(ids)
    return trainer, declared, {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param(name, method, marks=[pytest.mark.thorough] * (method in ALIKE and name not in ("sdxl", "sd3")))
        for name, method in ROWS
    ],
)
def test_a_method_moves_what_it_declares_and_draws_the_same_when_opened_again(
    name: str, method: str, base: Callable[[str], Path], shared: Path, tmp_path: Path
) -> None:
    config = small(base(name), shared, method)
    run = RunFolder.create(config, tmp_path / "run")
    trainer, declared, moved = trained(config, run)
    idle = {each for each in declared if re.fullmatch(IDLE.get((name, method), ""), each)}
    assert moved == declared - idle
    assert bool(idle) == ((name, method) in IDLE)
    tuned = picture(trainer.family)
    assert (run.path / "samples" / str(STEPS)).is_dir()
    assert np.abs(tuned - picture(families.load(str(base(name))))).max() > SAME
    assert np.abs(picture(models.open_model(str(run.path), device="cpu").family) - tuned).max() <= SAME


@pytest.mark.parametrize("name", FIRST_SIX)
def test_training_goes_on_exactly_and_diffusers_loads_every_layer(
    name: str, base: Callable[[str], Path], shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    from safetensors.torch import load_file

    config = small(base(name), shared, "lora", method={"train_text_encoder": name in TEXT_LORA, "rank": 2, "alpha": 1})
    whole = RunFolder.create(config, tmp_path / "whole")
    course = [(step.index, step.losses) for step in prepare(config).steps(whole)]
    resumed = RunFolder.create(config, tmp_path / "resumed")
    shutil.copytree(whole.path / "checkpoints" / "1", resumed.path / "checkpoints" / "1")
    assert [(step.index, step.losses) for step in prepare(config).steps(resumed)] == course[1:]
    file = "pytorch_lora_weights.safetensors"
    assert (resumed.weights / file).read_bytes() == (whole.weights / file).read_bytes()

    pipeline = families.load(str(base(name))).pipeline()
    with caplog.at_level(logging.WARNING):
        pipeline.load_lora_weights(whole.weights)
    assert not [record for record in caplog.records if "unexpected" in record.message.lower()]
    saved = load_file(whole.weights / file)
    loaded = {
        f"{part}.{key.replace('.default_0', '')}": tensor
        for part, module in pipeline.components.items()
        if hasattr(module, "state_dict")
        for key, tensor in module.state_dict().items()
        if "lora_" in key
    }
    assert len(loaded) == len(saved)
    if name in TEXT_LORA:
        assert any(key.startswith("text_encoder") for key in loaded)
    ups = sorted(float(tensor.double().sum()) for key, tensor in saved.items() if "lora_B" in key)
    assert ups == sorted(float(tensor.double().sum()) for key, tensor in loaded.items() if "lora_B" in key)
    layer = next(module for module in pipeline.components.values() if getattr(module, "peft_config", None))
    assert {each.lora_alpha for each in layer.peft_config.values()} == {1}  # not the rank, which is 2


@pytest.mark.parametrize("name", sorted(set(tiny_families.MAKERS) - set(WORDS)))
def test_a_word_is_refused_where_nothing_would_read_it(name: str, base: Callable[[str], Path], shared: Path) -> None:
    for method in ("textual-inversion", "pivotal"):
        with pytest.raises(ConfigError, match="reads no learnt words"):
            prepare(small(base(name), shared, method), encode=False)


@pytest.mark.parametrize("name", sorted(set(tiny_families.MAKERS) - set(TEXT_LORA)))
def test_a_text_lora_that_diffusers_would_drop_is_refused(name: str, base: Callable[[str], Path], shared: Path) -> None:
    with pytest.raises(ConfigError, match="reads no LoRA of this base's text encoder"):
        prepare(small(base(name), shared, "lora", method={"rank": 2, "train_text_encoder": True}), encode=False)


@pytest.mark.parametrize("method", ["dpo", "lcm", "clip-guided"])
def test_objectives_of_noise_schedules_are_refused_on_a_flow(
    method: str, base: Callable[[str], Path], shared: Path
) -> None:
    changes = {"data": {"path": str(shared / "data" / "pairs")}} if method == "dpo" else {}
    with pytest.raises(ConfigError, match="flow"):
        prepare(small(base("sd3"), shared, method, **changes), encode=False)


@pytest.mark.parametrize("method", ["dpo", "lcm"])
def test_objectives_that_ask_the_base_tell_it_size_and_crop_too(
    method: str, base: Callable[[str], Path], shared: Path, tmp_path: Path
) -> None:
    """Before the first step base and tuned are the same model, told the same: the loss of dpo is log 2 exactly."""
    changes = {"data": {"path": str(shared / "data" / "pairs")}} if method == "dpo" else {}
    config = small(base("sdxl"), shared, method, **changes)
    seen: list[set[str]] = []
    trainer = prepare(config)
    predict = trainer.family.predict
    trainer.family.predict = lambda *given: (seen.append(set(given[2].tensors)), predict(*given))[1]  # type: ignore[method-assign]
    first = next(iter(trainer.steps(RunFolder.create(config, tmp_path / "run"))))
    drawing, training = seen[:2], [told for told in seen if "geometry" in told]
    assert all("geometry" not in told for told in drawing)
    assert len(training) >= 2
    if method == "dpo":
        assert first.losses == pytest.approx([np.log(2)] * 2)


def test_the_dreambooth_class_is_drawn_by_the_base_as_it_is_drawn(
    base: Callable[[str], Path], shared: Path, tmp_path: Path
) -> None:
    """Its pictures say the family's sampler, which nobody configured."""
    folder = tmp_path / "class"
    config = small(base("flux"), shared, "dreambooth-lora", data={"class_path": str(folder)})
    prepare(config)
    assert json.loads((folder / "prior.json").read_text())["sampler"] == "Euler"


def test_sdxl_learns_with_the_size_and_crop_of_each_picture(base: Callable[[str], Path], shared: Path) -> None:
    """40 x 36 pictures at 32: resized to 35 x 32, cropped in the middle; a mirrored one from its other side."""
    from brushwork import batches

    trainer = prepare(small(base("sdxl"), shared, "lora", data={"random_flip": True}))
    seen = {
        tuple(batch.told["geometry"][row].tolist())
        for batch in batches.batches(trainer.examples, trainer.encoder, trainer.config, 0, 16)
        for row in range(2)
    }
    assert seen <= {(36, 40, 0, 2, 32, 32), (36, 40, 0, 1, 32, 32)}
    assert len(seen) == 2
    plain = trainer.losses(next(batches.batches(trainer.examples, trainer.encoder, trainer.config, 0, 2)))
    trainer.family.reads_geometry = False
    trainer.examples.pictures.tells_geometry = False
    untold = trainer.losses(next(batches.batches(trainer.examples, trainer.encoder, trainer.config, 0, 2)))
    assert not torch.allclose(plain, untold)


def test_freed_text_encoders_change_nothing_but_the_memory(
    base: Callable[[str], Path], shared: Path, tmp_path: Path
) -> None:
    files = []
    for free in (False, True):
        config = small(base("flux"), shared, "lora", train={"free_text_encoders": free})
        run = RunFolder.create(config, tmp_path / str(free))
        trainer = prepare(config)
        list(trainer.steps(run))
        kinds = {each.device.type for part in trainer.family.text_encoders.values() for each in part.parameters()}
        assert kinds == {"meta" if free else "cpu"}
        files.append((run.weights / "pytorch_lora_weights.safetensors").read_bytes())
    assert files[0] == files[1]
    with pytest.raises(ConfigError, match="cannot be encoded any more"):
        trainer.family.encode_text(["another prompt"])


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [("full", {}, "saves a whole model"), ("lora", {"method": {"train_text_encoder": True, "rank": 2}}, "every step")],
)
def test_text_encoders_that_are_needed_are_not_freed(
    method: str, changes: dict[str, Any], message: str, base: Callable[[str], Path], shared: Path
) -> None:
    changes = {**changes, "train": {"free_text_encoders": True}}
    with pytest.raises(ConfigError, match=message):
        prepare(small(base("sd3"), shared, method, **changes))


def test_an_image_size_that_cannot_be_packed_is_refused(base: Callable[[str], Path], shared: Path) -> None:
    with pytest.raises(ConfigError, match="multiple of 8"):
        prepare(small(base("flux"), shared, "lora", data={"resolution": 36}), encode=False)
