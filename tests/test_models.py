"""MODEL: a base, a run, BASE+ADAPTER@W; an adapter fits wholly and does what its numbers say, or is refused."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_parts
from tiny import make_tiny_sd

from brushwork import config, generate, models, runs
from brushwork.errors import ConfigError, ModelError, UserError
from brushwork.generate import Request
from brushwork.models import AdapterSpec, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
TEXT_LAYER = "encoder.layers.0.self_attn.q_proj"


def make_lora(base: Path, folder: Path, *, seed: int = 0, **settings: Any) -> Path:
    """Write a LoRA with random weights and return its folder."""
    return tiny_parts.make_lora(base, folder, seed=seed, **settings).parent


@pytest.fixture(scope="module")
def adapter(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on UNet and text encoder whose alpha is not its rank."""
    folder = tmp_path_factory.mktemp("lora") / "style"
    return make_lora(tiny_sd, folder, rank=2, alpha=6, train_text_encoder=True)


def draw(model: str) -> list[np.ndarray]:
    opened = models.open_model(model, device="cpu")
    asked = [Request("a cat", seed=seed, steps=3, sampler="Euler a") for seed in (0, 1)]
    return [np.asarray(picture.image).astype(int) for picture in generate.draw(opened.family, asked)]


def equal(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(left, right) for left, right in zip(one, other, strict=True))


def layer_change(base: Path, model: str, part: str, layer: str) -> np.ndarray:
    """Return what an opened model adds to a layer, measured by running the layer on the identity."""
    import torch

    with torch.no_grad():
        plain, tuned = (
            dict(getattr(models.open_model(each, device="cpu").family, part).named_modules())[layer]
            for each in (str(base), model)
        )
        identity = torch.eye(plain.in_features)
        return (tuned(identity) - plain(identity)).T.numpy()


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("mini", ModelSpec("mini", "mini")),
        ("org/name", ModelSpec("org/name", "org/name")),
        ("mini+a", ModelSpec("mini+a", "mini", (AdapterSpec("a", 1.0),))),
        ("mini+a@0.8", ModelSpec("mini+a@0.8", "mini", (AdapterSpec("a", 0.8),))),
        ("mini+a@-1+b/c@.5", ModelSpec("mini+a@-1+b/c@.5", "mini", (AdapterSpec("a", -1.0), AdapterSpec("b/c", 0.5)))),
        ("mini+a@0", ModelSpec("mini+a@0", "mini", (AdapterSpec("a", 0.0),))),
    ],
)
def test_the_grammar(text: str, spec: ModelSpec) -> None:
    assert models.parse(text) == spec


def test_plus_and_at_in_the_name_of_a_file_that_exists_belong_to_the_name(tmp_path: Path) -> None:
    base, style = tmp_path / "a+b@2", tmp_path / "c+d@3"
    base.mkdir()
    style.mkdir()
    assert models.parse(f"{base}+{style}@0.5+e").adapters == (AdapterSpec(str(style), 0.5), AdapterSpec("e", 1.0))
    assert models.parse(f"{base}+{style}").base == str(base)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks a name"),
        ("mini+", "lacks a name"),
        ("+a", "lacks a name"),
        ("mini@0.8", "only an adapter has a weight"),
        ("mini+a@much", "'much' in 'a@much' is not a weight"),
        ("mini+a@nan", "is not a weight"),
        ("mini+@1", "is not a weight"),
    ],
)
def test_what_the_grammar_does_not_know_is_refused(text: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        models.parse(text)
    assert message in str(caught.value)


def test_parsing_does_not_import_torch() -> None:
    code = "import sys, brushwork.models as m; m.parse('mini+a@0.8'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_base_is_named_and_hashed_by_its_denoiser(tiny_sd: Path) -> None:
    opened = models.open_model(str(tiny_sd), device="cpu")
    weights = tiny_sd / "unet" / "diffusion_pytorch_model.safetensors"
    assert opened.hashed == [weights]
    assert opened.hash == hashlib.sha256(weights.read_bytes()).hexdigest()[:10]
    assert (opened.name, opened.adapters) == ("tiny-sd", ())


def test_at_weight_0_pictures_are_bit_identical_to_the_base(tiny_sd: Path, adapter: Path) -> None:
    base = draw(str(tiny_sd))
    assert equal(draw(f"{tiny_sd}+{adapter}@0"), base)
    assert equal(draw(f"{tiny_sd}+{adapter}@0+{adapter}@-0.0"), base)
    assert not equal(draw(f"{tiny_sd}+{adapter}@0.5"), base)


def test_an_adapter_draws_what_plain_diffusers_draws_with_it(tiny_sd: Path, adapter: Path) -> None:
    import torch
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="linspace"
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(adapter, adapter_name="x")
    pipeline.set_adapters(["x"], [0.8])
    theirs = pipeline(
        ["a cat"] * 2,
        num_inference_steps=3,
        guidance_scale=7.0,
        generator=[torch.Generator().manual_seed(seed) for seed in (0, 1)],
    ).images
    assert equal(draw(f"{tiny_sd}+{adapter}@0.8"), [np.asarray(each) for each in theirs])


@pytest.mark.parametrize("weight", [1.0, 0.25, -1.0])
@pytest.mark.parametrize(("part", "layer"), [("unet", LAYER), ("text_encoder", TEXT_LAYER)])
def test_a_layer_changes_by_weight_times_alpha_over_rank(
    tiny_sd: Path, adapter: Path, part: str, layer: str, weight: float
) -> None:
    from safetensors.numpy import load_file

    file = load_file(adapter / "pytorch_lora_weights.safetensors")
    up, down = (file[f"{part}.{layer}.lora_{side}.weight"] for side in ("B", "A"))
    change = layer_change(tiny_sd, f"{tiny_sd}+{adapter}@{weight}", part, layer)
    assert np.allclose(change, weight * 6 / 2 * up @ down, atol=1e-5)


def test_two_adapters_add_up(tiny_sd: Path, adapter: Path, tmp_path: Path) -> None:
    other = make_lora(tiny_sd, tmp_path / "other", seed=1, rank=3)
    both = layer_change(tiny_sd, f"{tiny_sd}+{adapter}@0.5+{other}@2", "unet", LAYER)
    one = layer_change(tiny_sd, f"{tiny_sd}+{adapter}@0.5", "unet", LAYER)
    two = layer_change(tiny_sd, f"{tiny_sd}+{other}@2", "unet", LAYER)
    assert np.allclose(both, one + two, atol=1e-5)


def test_all_layers_of_the_file_are_counted_and_weight_0_attaches_none(tiny_sd: Path, adapter: Path) -> None:
    on = models.open_model(f"{tiny_sd}+{adapter}@0.5", device="cpu")
    off = models.open_model(f"{tiny_sd}+{adapter}@0", device="cpu")
    assert (on.adapters[0].layers, off.adapters[0].layers) == (36, 0)
    assert (on.adapters[0].name, on.adapters[0].weight, len(on.adapters[0].hash)) == ("style", 0.5, 12)
    assert not any(parameter.requires_grad for parameter in on.family.unet.parameters())
    assert not any(hasattr(module, "lora_A") for module in off.family.unet.modules())


def test_opening_does_not_touch_the_global_random_state(tiny_sd: Path, adapter: Path) -> None:
    import torch

    models.open_model(str(tiny_sd), device="cpu")
    before = torch.get_rng_state()
    models.open_model(f"{tiny_sd}+{adapter}", device="cpu")
    assert torch.equal(before, torch.get_rng_state())


def rewritten(
    adapter: Path, to: Path, change: Callable[[dict[str, Any]], dict[str, Any]], *, header: bool = True
) -> Path:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(adapter / "pytorch_lora_weights.safetensors", framework="pt") as file:
        metadata = file.metadata() if header else {"format": "pt"}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is no dict)
    save_file({key: value.contiguous() for key, value in change(tensors).items()}, to, metadata)
    return to


def to_kohya(tensors: dict[str, Any], alpha: float) -> dict[str, Any]:
    """Write the keys as kohya does, with ``text_model`` and an alpha for each layer."""
    import torch

    kohya = {}
    for key, value in tensors.items():
        part, rest = key.split(".", 1)
        layer, side = re.split(r"\.(?:lora_linear_layer|lora)\.|\.lora_(?=[AB]\.)", rest)
        side = side.replace("A.", "down.").replace("B.", "up.")
        prefix = "lora_unet_" if part == "unet" else "lora_te_text_model_"
        stem = prefix + layer.replace(".", "_")
        kohya[f"{stem}.lora_{side}"] = value
        kohya[f"{stem}.alpha"] = torch.tensor(alpha)
    return kohya


def to_older(tensors: dict[str, Any]) -> dict[str, Any]:
    """Write the keys as diffusers did before peft's form: ``lora.up``, ``lora_linear_layer.up``, ``text_model``."""
    written = {}
    for key, value in tensors.items():
        infix = "lora" if key.startswith("unet.") else "lora_linear_layer"
        older = key.replace("lora_A", f"{infix}.down").replace("lora_B", f"{infix}.up")
        written[older.replace("text_encoder.", "text_encoder.text_model.")] = value
    return written


def test_a_kohya_file_with_its_own_alphas_draws_the_same(tiny_sd: Path, adapter: Path, tmp_path: Path) -> None:
    file = rewritten(adapter, tmp_path / "kohya.safetensors", lambda tensors: to_kohya(tensors, 6.0), header=False)
    assert equal(draw(f"{tiny_sd}+{file}"), draw(f"{tiny_sd}+{adapter}"))
    halved = rewritten(adapter, tmp_path / "half.safetensors", lambda tensors: to_kohya(tensors, 3.0), header=False)
    assert equal(draw(f"{tiny_sd}+{halved}"), draw(f"{tiny_sd}+{adapter}@0.5"))


def test_layers_outside_of_attention_and_convolutions_are_applied_too(tiny_sd: Path, tmp_path: Path) -> None:
    targets = {"targets": ("to_q", "proj_in", "ff.net.0.proj", "ff.net.2"), "text_encoder_targets": ("q_proj", "fc1")}
    wide = make_lora(tiny_sd, tmp_path / "wide", rank=2, alpha=1, train_text_encoder=True, **targets)
    kohya = rewritten(wide, tmp_path / "kohya.safetensors", lambda tensors: to_kohya(tensors, 1.0), header=False)
    assert models.open_model(f"{tiny_sd}+{wide}", device="cpu").adapters[0].layers == 4 * 5 + 2
    assert equal(draw(f"{tiny_sd}+{kohya}"), draw(f"{tiny_sd}+{wide}"))
    convolutions = make_lora(tiny_sd, tmp_path / "convolutions", targets=("conv1", "conv2"))
    assert not equal(draw(f"{tiny_sd}+{convolutions}"), draw(str(tiny_sd)))


def test_a_file_in_diffusers_older_form_draws_the_same(tiny_sd: Path, adapter: Path, tmp_path: Path) -> None:
    file = rewritten(adapter, tmp_path / "older.safetensors", to_older)
    assert equal(draw(f"{tiny_sd}+{file}"), draw(f"{tiny_sd}+{adapter}"))


def test_without_any_alpha_it_is_the_rank(tiny_sd: Path, adapter: Path, tmp_path: Path) -> None:
    file = rewritten(adapter, tmp_path / "bare.safetensors", dict, header=False)
    one = layer_change(tiny_sd, f"{tiny_sd}+{file}@3", "unet", LAYER)
    assert np.allclose(one, layer_change(tiny_sd, f"{tiny_sd}+{adapter}", "unet", LAYER), atol=1e-5)


def test_editing_the_header_keeps_the_hash(tiny_sd: Path, adapter: Path, tmp_path: Path) -> None:
    file = rewritten(adapter, tmp_path / "bare.safetensors", dict, header=False)
    hashes = [models.open_model(f"{tiny_sd}+{each}@0", device="cpu").adapters[0].hash for each in (adapter, file)]
    assert hashes[0] == hashes[1]


def renamed(old: str, new: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {key.replace(old, new): value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed("mid_block", "middle"), "28 of 36 layers of 'changed' matched this base; not matched: unet.middle"),
        (renamed("unet.", "transformer."), "4 of 36 layers"),
        (renamed("lora_B", "lora_top"), "belong to no LoRA layer"),
        (renamed("lora", "delta"), "holds no LoRA; it holds"),
        (lambda tensors: dict(list(tensors.items())[1:]), "belong to no LoRA layer"),
        (
            lambda tensors: tensors | {"unet.x.hada_w1_a": next(iter(tensors.values())).clone()},
            "belong to no LoRA layer: unet.x",
        ),
        (lambda tensors: tensors | {"lora_unet_x.dora_scale": next(iter(tensors.values())).clone()}, "is a DoRA"),
        (lambda tensors: tensors | {"extra": next(iter(tensors.values())).clone()}, "belong to no LoRA layer: extra"),
    ],
)
def test_a_file_that_does_not_match_wholly_is_refused_and_nothing_is_attached(
    tiny_sd: Path, adapter: Path, tmp_path: Path, change: Any, message: str
) -> None:
    file = rewritten(adapter, tmp_path / "changed.safetensors", change)
    for weight in (1, 0):
        with pytest.raises(ModelError) as caught:
            models.open_model(f"{tiny_sd}+{file}@{weight}", device="cpu")
        assert message in str(caught.value)


def test_an_adapter_of_another_width_is_refused_with_both_sizes(tiny_sd: Path, tmp_path: Path) -> None:
    wider = make_tiny_sd(tmp_path / "wider", block_out_channels=(8, 24), attention_head_dim=4)
    style = make_lora(wider, tmp_path / "style")
    with pytest.raises(ModelError, match=r"'style' does not fit: unet\..* is 24x24 in it and 16x16 in this base"):
        models.open_model(f"{tiny_sd}+{style}", device="cpu")


def finished(tiny_sd: Path, tmp_path: Path, method: str) -> runs.RunFolder:
    settings = config.load(base=str(tiny_sd), method=method, data="photos")
    return runs.RunFolder.create(settings, tmp_path / f"my-{method}")


def test_a_lora_run_is_its_base_with_its_adapter_in_full(tiny_sd: Path, adapter: Path, tmp_path: Path) -> None:
    run = finished(tiny_sd, tmp_path, "lora")
    shutil.copytree(adapter, run.weights)
    opened = models.open_model(str(run.path), device="cpu")
    assert (opened.name, opened.adapters[0].name, opened.adapters[0].weight) == ("tiny-sd", "my-lora", 1.0)
    assert equal(draw(str(run.path)), draw(f"{tiny_sd}+{adapter}"))
    assert equal(draw(f"{tiny_sd}+{run.path}@0.5"), draw(f"{tiny_sd}+{adapter}@0.5"))


def test_a_full_run_is_its_pipeline(tiny_sd: Path, tmp_path: Path) -> None:
    run = finished(tiny_sd, tmp_path, "full")
    tuned = make_tiny_sd(run.weights, seed=5)
    opened = models.open_model(str(run.path), device="cpu")
    assert (opened.name, opened.adapters) == ("my-full", ())
    assert opened.hashed == [tuned / "unet" / "diffusion_pytorch_model.safetensors"]
    assert equal(draw(str(run.path)), draw(str(tuned)))
    with pytest.raises(ModelError, match="made a whole model, not an adapter"):
        models.open_model(f"{tiny_sd}+{run.path}", device="cpu")


def test_a_run_in_runs_is_found_by_its_name(
    tiny_sd: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(adapter, finished(tiny_sd, tmp_path / "runs", "lora").weights)
    monkeypatch.chdir(tmp_path)
    assert models.open_model("my-lora", device="cpu").adapters[0].layers == 36
    assert models.open_model(f"{tiny_sd}+my-lora@0.1", device="cpu").adapters[0].weight == 0.1


def test_an_unfinished_run_says_how_far_it_came_and_how_to_go_on(tiny_sd: Path, tmp_path: Path) -> None:
    run = finished(tiny_sd, tmp_path, "lora")
    run.update(status="interrupted")
    run.log({"index": 7, "loss": 0.5})
    with pytest.raises(ModelError, match="is 'interrupted' at step 7") as caught:
        models.open_model(str(run.path))
    assert f"brushwork train --resume --out {run.path}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no-such", None, "there is no"),
        ("x.safetensors", b"broken", "not a readable .safetensors file"),
        ("x.pt", b"pickle", "not a .safetensors file; pickled weights can run code"),
    ],
)
def test_what_is_no_adapter_is_refused(
    tiny_sd: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        models.open_model(f"{tiny_sd}+{tmp_path / name}", device="cpu")
    assert message in str(caught.value)


def test_a_missing_adapter_is_noticed_before_the_base_is_loaded() -> None:
    with pytest.raises(ModelError, match="adapter: there is no"):
        models.open_model("org/never-fetched+no-such")


def test_what_is_here_is_listed(tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = finished(tiny_sd, tmp_path / "runs", "lora")
    listed = {each["model"]: each for each in models.installed()}
    assert listed[str(run.path.relative_to(tmp_path))]["kind"] == "run"
    assert json.dumps(list(listed.values()))


def test_devices_and_number_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from brushwork.devices import resolve_device, resolve_dtype

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    assert [resolve_dtype(each, "cpu") for each in ("no", "bf16")] == [torch.float32, torch.bfloat16]
    assert resolve_dtype("fp16", "cuda") == torch.float16
    with pytest.raises(UserError, match="cuda:1 was asked for but torch sees no GPU"):
        resolve_device("cuda:1")
    with pytest.raises(UserError, match="no Apple GPU"):
        resolve_device("mps")
    with pytest.raises(ConfigError, match="Did you mean cuda"):
        resolve_device("cude")
    with pytest.raises(ConfigError, match="fp16 needs a GPU; use bf16 or no"):
        resolve_dtype("fp16", "cpu")
