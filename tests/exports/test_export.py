"""``brushwork export``: what is written loads in plain diffusers and is the same model there."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import WIDTH, make_tiny_sd
from tiny_parts import make_lora

from brushwork import exports, families, models
from brushwork.cli import run
from brushwork.errors import ModelError, RunFailed, UserError
from brushwork.exports import proof, whole
from brushwork.exports.orders import Order

if TYPE_CHECKING:
    from pathlib import Path

STEPS, PROMPT = 3, "a cat"


@pytest.fixture(scope="module")
def style(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on UNet and text encoder whose alpha is not its rank."""
    return make_lora(tiny_sd, tmp_path_factory.mktemp("lora") / "style", rank=2, alpha=6, train_text_encoder=True)


def write(model: str, target: Any, out: Path, *, merge: bool = False, **order: Any) -> exports.Written:
    (written,) = exports.export(model, Order(target, out, device="cpu", **order), merge=merge)
    return written


def header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def by_diffusers(pipeline: Any) -> np.ndarray:
    from diffusers import DDIMScheduler

    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    drawn = pipeline(PROMPT, num_inference_steps=STEPS, guidance_scale=2.0, generator=generator, height=32, width=32)
    return np.asarray(drawn.images[0], float)


def pipeline_of(folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)


def with_lora(base: Path, file: Path, weight: float = 1.0) -> np.ndarray:
    pipeline = pipeline_of(base)
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="x")
    pipeline.set_adapters(["x"], [weight])
    return by_diffusers(pipeline)


@pytest.mark.parametrize("options", [{}, {"metadata": False}])
@pytest.mark.parametrize("target", ["diffusers", "kohya", "comfyui"])
def test_plain_diffusers_draws_the_same_with_an_exported_lora(
    target: str, options: dict[str, Any], tiny_sd: Path, style: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.safetensors"
    written = write(f"{tiny_sd}+{style}", target, out, **options)
    assert (written.proof.reader, written.proof.tensors) == ("diffusers", 36)
    assert written.proof.delta <= 1e-6
    assert written.proof.picture == 0
    assert written.proof.effect > 0
    assert np.abs(with_lora(tiny_sd, out) - with_lora(tiny_sd, style)).max() <= 1
    assert bool(set(header(out)) - {"format"}) == (options == {})


def test_a_weight_goes_into_the_file(tiny_sd: Path, style: Path, tmp_path: Path) -> None:
    for target in ("diffusers", "kohya"):
        out = tmp_path / f"{target}.safetensors"
        write(f"{tiny_sd}+{style}@0.5", target, out)
        assert np.abs(with_lora(tiny_sd, out) - with_lora(tiny_sd, style, 0.5)).max() <= 1
    alphas = [float(tensor) for key, tensor in load_file(out).items() if key.endswith(".alpha")]
    assert set(alphas) == {3.0}


def test_the_header_says_what_other_programs_look_for(tiny_sd: Path, style: Path, tmp_path: Path) -> None:
    out = tmp_path / "old-books.safetensors"
    write(f"{tiny_sd}+{style}", "kohya", out)
    said = header(out)
    assert all(isinstance(value, str) for value in said.values())
    expected = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.title": "old-books",
        "modelspec.resolution": "32x32",
        "modelspec.prediction_type": "epsilon",
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_output_name": "old-books",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "2",
        "ss_network_alpha": "6",
    }
    assert expected.items() <= said.items()
    import hashlib

    raw = out.read_bytes()
    digest = hashlib.sha256(raw[8 + int.from_bytes(raw[:8], "little") :]).hexdigest()
    assert (said["modelspec.hash_sha256"], said["sshs_model_hash"]) == (f"0x{digest}", digest)
    assert not [value for value in said.values() if str(tmp_path) in value or str(tiny_sd) in value]
    write(f"{tiny_sd}+{style}", "diffusers", tmp_path / "peft.safetensors")
    peft = json.loads(header(tmp_path / "peft.safetensors")["lora_adapter_metadata"])
    assert (peft["unet.r"], peft["unet.lora_alpha"]) == (2, 6)


def test_how_an_adapter_is_to_be_drawn_goes_with_it(tiny_sd: Path, style: Path, tmp_path: Path) -> None:
    from brushwork import sampling
    from brushwork.checkpoints import add_to_header

    few = tmp_path / "few.safetensors"
    few.write_bytes(style.read_bytes())
    told = {"sampler": "LCM", "steps": 2, "guidance_scale": 1.0}
    add_to_header(few, {sampling.HEADER: json.dumps(told)})
    write(f"{tiny_sd}+{few}", "kohya", tmp_path / "mine.safetensors")
    assert str(sampling.read(header(tmp_path / "mine.safetensors"))) == "LCM, 2 steps, guidance 1"


def test_a_single_file_of_1_that_predicts_v_comes_with_a_warning(
    tiny_sd_v: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(str(tiny_sd_v), "single-file", tmp_path / "mine.safetensors")
    assert "tell them: v_prediction" in capsys.readouterr().err


def test_half_precision_is_written_and_proved(tiny_sd: Path, style: Path, tmp_path: Path) -> None:
    out = tmp_path / "half.safetensors"
    written = write(f"{tiny_sd}+{style}", "kohya", out, dtype="fp16")
    assert {tensor.dtype for key, tensor in load_file(out).items() if "lora" in key and "alpha" not in key} == {
        torch.float16
    }
    assert written.proof.dtype == "float16"


@pytest.mark.parametrize("target", ["kohya", "comfyui"])
@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_loha_and_lokr_are_written_as_lycoris_reads_them(kind: str, target: str, tiny_sd: Path, tmp_path: Path) -> None:
    file = make_lora(tiny_sd, tmp_path / "run", kind=kind, rank=2, alpha=3)
    out = tmp_path / "mine.safetensors"
    written = write(f"{tiny_sd}+{file}@0.5", target, out)
    assert written.proof.reader == "brushwork"
    assert written.proof.picture <= 1
    assert header(out)["ss_network_args"] == json.dumps({"algo": kind})


@pytest.mark.parametrize(
    ("settings", "target", "message"),
    [
        ({"use_dora": True}, "kohya", r"is a DoRA(.|\n)*--to diffusers"),
        ({"use_dora": True}, "comfyui", r"is a DoRA(.|\n)*--merge"),
        ({"kind": "loha"}, "diffusers", "diffusers reads LoRA only, and this is a LoHa"),
        ({"kind": "oft", "oft_block_size": 4}, "kohya", r"rotates the inputs(.|\n)*--merge"),
    ],
)
def test_what_a_target_would_misread_is_refused_and_merged_instead(
    settings: dict[str, Any], target: str, message: str, tiny_sd: Path, tmp_path: Path
) -> None:
    file = make_lora(tiny_sd, tmp_path / "run", **({"rank": 2} if "oft_block_size" not in settings else {}), **settings)
    out = tmp_path / "mine.safetensors"
    with pytest.raises(ModelError, match=message):
        write(f"{tiny_sd}+{file}", target, out)
    assert not out.exists()
    merged = write(f"{tiny_sd}+{file}", "single-file", out, merge=True)
    assert merged.proof.delta == 0
    assert merged.proof.picture <= 1


def test_a_dora_in_pefts_form_is_exported_whole(tiny_sd: Path, tmp_path: Path) -> None:
    file = make_lora(tiny_sd, tmp_path / "run", rank=2, alpha=4, use_dora=True)
    out = tmp_path / "mine.safetensors"
    assert write(f"{tiny_sd}+{file}", "diffusers", out).proof.picture == 0
    assert np.abs(with_lora(tiny_sd, out) - with_lora(tiny_sd, file)).max() <= 1


@pytest.mark.parametrize("target", ["diffusers", "single-file"])
def test_several_adapters_merge_with_their_weights(target: str, tiny_sd: Path, style: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    other = make_lora(tiny_sd, tmp_path / "other", seed=1, rank=3, alpha=1)
    out = tmp_path / ("mine.safetensors" if target == "single-file" else "mine")
    written = write(f"{tiny_sd}+{style.parent}@0.8+{other.parent}@-0.5", target, out, merge=True)
    assert written.proof.delta == 0
    assert written.proof.picture <= 1
    if target == "single-file":
        theirs = StableDiffusionPipeline.from_single_file(str(out), config=str(tiny_sd), safety_checker=None)
        assert header(out)["modelspec.architecture"] == "stable-diffusion-v1"
        assert header(out)["modelspec.merged_from"] == "tiny-sd, style, other"
    else:
        theirs = pipeline_of(out)
    pipeline = pipeline_of(tiny_sd)
    for name, file in (("style", style), ("other", other)):
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")  # two are meant
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
    pipeline.set_adapters(["style", "other"], [0.8, -0.5])
    assert np.abs(by_diffusers(theirs) - by_diffusers(pipeline)).max() <= 1
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    name = f"unet.{layer}"
    update = torch.zeros(())
    for file, weight, scale in ((style, 0.8, 6 / 2), (other, -0.5, 1 / 3)):
        held = load_file(file)
        update = update + weight * scale * held[f"{name}.lora_B.weight"] @ held[f"{name}.lora_A.weight"]
    before = pipeline_of(tiny_sd).unet.get_submodule(layer).weight
    torch.testing.assert_close(theirs.unet.get_submodule(layer).weight - before, update, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_a_single_file_has_the_layout_of_its_version_and_reads_back(act: str, tmp_path: Path) -> None:
    """OpenAI's CLIP by transformers' names for 1, OpenCLIP's for 2."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline

    pipeline = pipeline_of(make_tiny_sd(tmp_path / "made"))
    with_attention = {**pipeline.vae.config, "mid_block_add_attention": True}
    pipeline.register_modules(vae=AutoencoderKL.from_config(with_attention))
    pipeline.text_encoder.config.hidden_act = act
    pipeline.save_pretrained(tmp_path / "base", safe_serialization=True)
    out = tmp_path / "single.safetensors"
    assert write(str(tmp_path / "base"), "single-file", out).proof.delta == 0
    keys = set(load_file(out))
    is_open = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight" in keys
    assert is_open == (act == "gelu")
    assert load_file(out)["first_stage_model.decoder.mid.attn_1.q.weight"].shape == (8, 8, 1, 1)
    assert "model.diffusion_model.input_blocks.0.0.weight" in keys
    theirs = StableDiffusionPipeline.from_single_file(str(out), config=str(tmp_path / "base"), safety_checker=None)
    assert np.array_equal(by_diffusers(theirs), by_diffusers(pipeline_of(tmp_path / "base")))


def test_words_are_written_in_the_layout_that_each_reader_takes(tiny_sd: Path, tmp_path: Path) -> None:
    rows = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    word = tmp_path / "learned_embeds.safetensors"
    save_file({"<mascot>": rows}, word)
    write(f"{tiny_sd}+{word}", "diffusers", tmp_path / "a.safetensors")
    pipeline = pipeline_of(tiny_sd)
    pipeline.load_textual_inversion(str(tmp_path / "a.safetensors"))
    assert pipeline.tokenizer.convert_tokens_to_ids("<mascot>") == len(pipeline.tokenizer) - 2
    written = write(f"{tiny_sd}+{word}", "kohya", tmp_path / "<mascot-2>.safetensors")
    held = load_file(written.path)
    assert list(held) == ["emb_params"]
    assert torch.equal(held["emb_params"], rows)
    assert header(written.path)["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert header(written.path)["modelspec.trigger_phrase"] == "<mascot>"
    assert "there called <mascot-2>" in written.what
    pipeline = pipeline_of(tiny_sd)
    pipeline.load_textual_inversion(str(written.path), token="<other>")  # noqa: S106  (a word)
    assert models.open_model(f"{tiny_sd}+{written.path}", device="cpu").adapters[0].name == "<mascot-2>"


def test_a_word_for_two_text_encoders_needs_two(tiny_sd: Path, tmp_path: Path) -> None:
    file = tmp_path / "xl.safetensors"
    save_file({"clip_l": torch.zeros(1, WIDTH), "clip_g": torch.zeros(1, WIDTH)}, file)
    with pytest.raises(ModelError, match=r"rows for 2 text encoder\(s\); this base has 1"):
        models.open_model(f"{tiny_sd}+{file}", device="cpu")


@pytest.mark.parametrize(
    ("adapter", "options", "message"),
    [
        (True, ["--to", "single-file", "--out", "x.safetensors"], "Add --merge"),
        (True, ["--to", "kohya", "--out", "x.safetensors", "--merge"], "--merge makes a whole model"),
        (False, ["--to", "kohya", "--out", "x.safetensors"], "is a whole model"),
        (False, ["--to", "diffusers", "--out", "x", "--merge"], "has no adapter to merge"),
        (True, ["--to", "kohya", "--out", "x.ckpt"], "does not end in .safetensors"),
        (True, ["--to", "diffusers", "--out", "x.safetensors", "--merge"], "Leave the ending out"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_before_anything_is_loaded(
    adapter: bool,
    options: list[str],
    message: str,
    tiny_sd: Path,
    style: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models, "open_model", lambda *_, **__: pytest.fail("loaded"))
    model = f"{tiny_sd}+{style}" if adapter else str(tiny_sd)
    assert run(["export", model, *options]) == 2
    assert message in capsys.readouterr().err


def test_two_adapters_are_not_one_file_and_nothing_is_written_over(tiny_sd: Path, style: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    with pytest.raises(UserError, match="has 2 adapters, and a file holds one"):
        write(f"{tiny_sd}+{style}+{style}", "kohya", out)
    out.write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        write(f"{tiny_sd}+{style}", "kohya", out)
    assert out.read_bytes() == b"mine"


def test_a_file_that_says_something_else_is_removed_and_the_command_fails(
    tiny_sd: Path, style: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a wrong alpha would: each check is broken on purpose, and noticed."""
    from brushwork.formats import writing

    right = writing.write

    def doubled(*args: Any) -> dict[str, torch.Tensor]:
        return {key: tensor * 2 if key.endswith("alpha") else tensor for key, tensor in right(*args).items()}

    monkeypatch.setattr(writing, "write", doubled)
    out = tmp_path / "x.safetensors"
    with pytest.raises(RunFailed, match="does not say the same when it is read back by diffusers"):
        write(f"{tiny_sd}+{style}", "kohya", out)
    assert not out.exists()
    with pytest.raises(RunFailed, match="a picture by 40/255"):
        proof.check(proof.Proof("diffusers", 1, 0.0, 40.0, 1.0), out)


def test_a_file_that_cannot_even_be_read_is_removed_too(
    tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any) -> None:
        message = "no configs"
        raise ModelError(message)

    monkeypatch.setattr(whole, "save_configs", unreadable)
    with pytest.raises(ModelError, match="no configs"):
        write(str(tiny_sd), "single-file", tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_configs_without_weights_are_enough_to_open_a_single_file(tiny_sd: Path, tmp_path: Path) -> None:
    family = families.load(str(tiny_sd))
    whole.save_configs(family.pipeline(), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert (tmp_path / "model_index.json").is_file()
    assert (tmp_path / "unet" / "config.json").is_file()


def test_json_says_what_was_proved(
    tiny_sd: Path, style: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.safetensors"
    assert run(["export", f"{tiny_sd}+{style}", "--to", "kohya", "--out", str(out), "--device", "cpu", "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert said["path"] == str(out)
    assert said["verified"]["picture"] == 0
