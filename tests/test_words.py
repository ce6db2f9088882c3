"""Textual Inversion and pivotal tuning: plain diffusers draws the same, and words that cannot be learnt are refused.

That only the new rows move and that a run resumes exactly is in ``test_matrix.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import WIDTH, make_tiny_sd

from brushwork import api, embeddings, families, generate, models, samplers
from brushwork import config as configs
from brushwork.errors import ConfigError, DataError, ModelError
from brushwork.runs import RunFolder
from brushwork.sources import templated
from brushwork.train import prepare, steps

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config

METHODS = {
    "textual-inversion": {"token": "<mascot>", "num_vectors": 2, "initial_word": "a"},
    "pivotal": {"token": "<mascot>", "num_vectors": 2, "initial_word": "a", "lora": {"rank": 2}},
}
PROMPT = "a drawing of a <mascot> on the moon"


def make_config(base: Path, data: Path, name: str = "textual-inversion", /, **changes: Any) -> Config:
    tree: dict[str, Any] = {
        "base": str(base),
        "method": METHODS[name],
        "data": {"path": str(data), "resolution": 32},
        "optimizer": {"learning_rate": 1e-1},
        "train": {"max_train_steps": 3, "train_batch_size": 2, "checkpointing_steps": 2, "device": "cpu"},
        "validation": {
            "prompts": [PROMPT], "samples_during_training": 0, "num_inference_steps": 2, "images_per_prompt": 1,
        },
    }  # fmt: skip
    return configs.load(configs.merge(tree, changes), method=name)


def draw(family: Any, prompt: str) -> np.ndarray[Any, Any]:
    (picture,) = generate.draw(family, [generate.Request(prompt, seed=3, steps=2, width=32, height=32)])
    return np.asarray(picture.image)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_sd(tmp_path_factory.mktemp("base") / "tiny-sd")


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """A finished run of each method."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("words")
    (folder / "data").mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (36, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "data" / f"{index}.png")
    runs = {}
    for name in METHODS:
        config = make_config(base, folder / "data", name)
        runs[name] = RunFolder.create(config, folder / name)
        list(steps(config, runs[name]))
    return runs


def test_the_optimizer_knows_the_new_rows_only(base: Path, tiny_data: Path) -> None:
    """What the usual script spends most of its updates on, the rest of the table, has no state here."""
    trainer = prepare(make_config(base, tiny_data, train={"max_train_steps": 1}))
    assert not trainer.encoder.cache_text
    assert trainer.encoded["latents"] == 6
    list(trainer.steps())
    assert [state["exp_avg"].shape for state in trainer.optimizer.state.values()] == [(2, WIDTH)]


def test_checkpointing_and_half_precision_reach_the_word(base: Path, tiny_data: Path) -> None:
    finals = []
    for train in ({}, {"gradient_checkpointing": True}, {"mixed_precision": "bf16"}):
        trainer = prepare(make_config(base, tiny_data, train={"max_train_steps": 1, **train}))
        before = trainer.named["embeddings.text_encoder"].detach().clone()
        (step,) = trainer.steps()
        assert trainer.named["embeddings.text_encoder"].dtype == torch.float32
        assert not torch.equal(trainer.named["embeddings.text_encoder"], before)
        finals.append(step.grad_norm)
    assert finals[1] == pytest.approx(finals[0], rel=1e-4)
    assert finals[2] == pytest.approx(finals[0], rel=0.2)


@pytest.mark.parametrize("name", METHODS)
def test_plain_diffusers_draws_the_same_picture(base: Path, trained: dict[str, RunFolder], name: str) -> None:
    from diffusers import StableDiffusionPipeline

    run = trained[name]
    with safe_open(run.weights / "learned_embeds.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert {key: file.get_slice(key).get_shape() for key in file.keys()} == {"<mascot>": [2, WIDTH]}  # noqa: SIM118
    opened = models.open_model(str(run.path), device="cpu")
    ours = draw(opened.family, PROMPT)
    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_textual_inversion(run.weights, weight_name="learned_embeds.safetensors")
    if name == "pivotal":
        pipeline.load_lora_weights(run.weights, weight_name="pytorch_lora_weights.safetensors")
    encoded = pipeline.encode_prompt(PROMPT, "cpu", 1, do_classifier_free_guidance=False)[0]
    torch.testing.assert_close(encoded, opened.family.encode_text([PROMPT]).tensors["states"])
    request = generate.Request(PROMPT)
    pipeline.scheduler = samplers.build(samplers.resolve(request.sampler), dict(pipeline.scheduler.config))
    theirs = pipeline(
        PROMPT, num_inference_steps=2, guidance_scale=request.guidance_scale, height=32, width=32,
        generator=torch.Generator().manual_seed(3),
    ).images[0]  # fmt: skip
    assert np.abs(ours.astype(int) - np.asarray(theirs).astype(int)).max() <= 1


def test_prompts_without_the_word_are_drawn_as_by_the_base(base: Path, trained: dict[str, RunFolder]) -> None:
    plain, tuned = families.load(str(base)), models.open_model(str(trained["textual-inversion"].path), device="cpu")
    assert np.array_equal(draw(plain, "a dog"), draw(tuned.family, "a dog"))
    assert not np.array_equal(draw(plain, PROMPT), draw(tuned.family, PROMPT))


def test_disabled_is_the_initial_word(base: Path, tiny_data: Path) -> None:
    trainer = prepare(make_config(base, tiny_data, train={"max_train_steps": 1}))

    def encode(text: str) -> torch.Tensor:
        return trainer.family.encode_text([text]).tensors["states"].detach()

    list(trainer.steps())
    learnt = encode("<mascot>")
    with trainer.method.disabled():
        assert torch.equal(encode("<mascot>"), encode("a a"))
    assert torch.equal(encode("<mascot>"), learnt)


def test_a_word_of_two_vectors_takes_two_tokens_everywhere(base: Path) -> None:
    family = families.load(str(base))
    values = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    embeddings.extend(family, "text_encoder", "<m>", values)
    embeddings.extend(family, "text_encoder", "<n>", values[:1])
    tokenizer = family.tokenizers["text_encoder"]
    assert embeddings.expand("a <m> and <n>", tokenizer) == "a <m> <m>_1 and <n>"
    assert tokenizer.tokenize(embeddings.expand("<m>.", tokenizer)) == ["<m>", "<m>_1", ".</w>"]
    assert family.unread("a " * 73 + "<m>") == ""
    assert family.unread("a " * 74 + "<m>") == "<m>_1"
    states = family.encode_text(["a <m>", "a <n>"]).tensors["states"]
    assert not torch.equal(states[0], states[1])


@pytest.mark.parametrize("form", ["run", "diffusers", "kohya", "bare"])
def test_an_embedding_loads_in_every_form(base: Path, trained: dict[str, RunFolder], tmp_path: Path, form: str) -> None:
    run = trained["textual-inversion"]
    (rows,) = load_file(run.weights / "learned_embeds.safetensors").values()
    places = {"run": run.path, "diffusers": run.weights}
    if form in ("kohya", "bare"):
        places[form] = tmp_path / "<mascot>.safetensors"
        save_file({"emb_params": rows} if form == "kohya" else {"<mascot>": rows[0]}, places[form])
    opened = models.open_model(f"{base}+{places[form]}", device="cpu")
    (adapter,) = opened.adapters
    assert (adapter.name, adapter.kind) == ("<mascot>", "embedding")
    (picture,) = generate.draw(
        opened.family, [generate.Request(PROMPT, steps=1, width=32, height=32)], adapters=opened.adapters
    )
    assert f'TI hashes: "<mascot>: {adapter.hash}"' in picture.infotext
    table: Any = opened.family.text_encoders["text_encoder"].get_input_embeddings()  # type: ignore[operator]
    assert torch.equal(table.rows, rows[:1] if form == "bare" else rows)


def test_an_embedding_of_another_width_is_refused_with_both_numbers(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "wide.safetensors"
    save_file({"<wide>": torch.zeros(1, 768)}, file)
    with pytest.raises(ModelError, match=f"<wide>: its vectors have 768 numbers, but .* of this base has {WIDTH}"):
        models.open_model(f"{base}+{file}", device="cpu")
    with pytest.raises(ModelError, match="is an embedding, which has no weight"):
        models.open_model(f"{base}+{file}@0.5", device="cpu")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"method": {"initial_word": "dog"}}, ConfigError, r"'dog' is 3 tokens in this base \('d', 'o', 'g</w>'\)"),
        ({"method": {"token": "a"}}, ConfigError, "'a' is a word of this base already, which would lose its meaning"),
        ({"method": {"token": "a</w>"}}, ModelError, "a</w>: this base has such a word already"),
        ({"data": {"caption_dropout": 0.1}}, ConfigError, "from a caption without it nothing is learnt"),
        ({"method": {"token": "two words"}}, ConfigError, r"method\.token"),
        (
            {"data": {"type": "captioned", "path": "PATH"}},
            ConfigError,
            r"'<mascot>' is not in 6 of 6 captions: .*0\.png",
        ),
        ({"data": {"token": "<other>"}}, ConfigError, "'<mascot>' is not in 162 of 162 captions"),
        ({"train": {"cache_text": True}}, ConfigError, "the text side is being trained"),
        ({"method": {"token": None}}, ConfigError, r"method\.token"),
        ({"preserve": {}}, ConfigError, "preserve: textual_inversion learns a word and nothing else"),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    base: Path, tiny_data: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    if changes.get("data", {}).get("path"):
        changes = {"data": changes["data"] | {"path": str(tiny_data), "resolution": 32}}
    with pytest.raises(error, match=message):
        prepare(make_config(base, tiny_data, **changes))


def test_as_many_initial_tokens_as_vectors_start_one_vector_each(base: Path, tiny_data: Path) -> None:
    trainer = prepare(make_config(base, tiny_data, method={"initial_word": "dog", "num_vectors": 3}), encode=False)
    tokenizer = trainer.family.tokenizers["text_encoder"]
    table: Any = trainer.family.text_encoders["text_encoder"].get_input_embeddings()  # type: ignore[operator]
    assert torch.equal(table.rows, table.table.weight[tokenizer("dog", add_special_tokens=False).input_ids])


def test_every_picture_comes_under_every_template(tiny_data: Path) -> None:
    assert (len(templated.OBJECT), len(templated.STYLE)) == (27, 19)
    source = templated.Config(path=str(tiny_data), templates="style", token="<x>").build()  # noqa: S106
    samples = [source[index] for index in range(len(source))]
    assert len(samples) == 6 * 19
    assert len({sample.name for sample in samples[: source.distinct]}) == 6
    assert samples[6].caption == "a rendering in the style of <x>"
    with pytest.raises(DataError, match="templates need a word"):
        templated.Config(path=str(tiny_data)).build()


def test_a_run_from_start_to_report(base: Path, tiny_data: Path, tmp_path: Path) -> None:
    changes = {"train": {"max_train_steps": 1}, "preserve": {"prompts": ["a dog"], "num_images": 1}}
    run = api.train(make_config(base, tiny_data, "pivotal", **changes), out=tmp_path / "run")
    assert (run.record["data"]["count"], run.record["status"]) == (6, "done")
    assert "1 picture that the base drew or was given (pictures to preserve)" in (run.path / "report.html").read_text()
    half = models.open_model(f"{base}+{run.path}@0.5", device="cpu")
    assert [(adapter.kind, adapter.weight) for adapter in half.adapters] == [("embedding", 1.0), ("lora", 0.5)]
    card = (run.path / "README.md").read_text()
    assert 'load_textual_inversion("weights"' in card
    assert 'load_lora_weights("weights"' in card
