"""Words for bases with several text encoders: as diffusers reads them, and in the file that other programs read."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rows
import tiny_families
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from brushwork import card, embeddings, exports, families, generate, models
from brushwork import config as configs
from brushwork.errors import ModelError
from brushwork.exports import hub
from brushwork.exports.orders import Order
from brushwork.runs import RunFolder
from brushwork.train import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brushwork.values import Family

KEYS = {"sdxl": {"clip_l": (2, 32), "clip_g": (2, 48)}, "flux": {"clip_l": (2, 32)}}
PROMPT = "a drawing of <thing> on the moon"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return tiny_families.kept(tmp_path_factory.mktemp("families"))


def picture(family: Family) -> np.ndarray[Any, Any]:
    sampler = family.sampling.sampler if family.sampling else "DDIM"
    request = generate.Request(PROMPT, seed=3, steps=2, sampler=sampler, guidance_scale=2.0, width=32, height=32)
    return np.asarray(next(generate.draw(family, [request])).image)


def learnt(base: Path, tiny_data: Path, folder: Path) -> tuple[Family, Path]:
    """Return a family whose word has rows that are as good as learnt, and the file that the method wrote."""
    here = {"base": str(base), "data": {"path": str(tiny_data)}, "train": {"device": "cpu"}}
    tree = configs.merge(configs.merge(rows.COMMON, here), rows.PRESETS["textual-inversion"])
    config = configs.load(tree, method="textual-inversion")
    trainer = prepare(config, encode=False)
    generator = torch.Generator().manual_seed(0)
    for row in trainer.named.values():
        row.data = torch.randn(row.shape, generator=generator)
    folder.mkdir()
    trainer.method.save(trainer.family, folder)
    return trainer.family, folder / embeddings.WEIGHT_NAME


def states(pipeline: Any, name: str) -> list[torch.Tensor]:
    """Return what diffusers' pipeline makes of the prompt: the states, the pooled text."""
    if name == "flux":
        said = pipeline.encode_prompt(PROMPT, None, device="cpu")
        return [said[0], said[1]]
    said = pipeline.encode_prompt(PROMPT, device="cpu", do_classifier_free_guidance=False)
    return [said[0], said[2]]


@pytest.mark.parametrize("name", sorted(KEYS))
def test_plain_diffusers_reads_the_word_for_every_encoder_that_has_it(
    name: str, base: Callable[[str], Path], tiny_data: Path, tmp_path: Path
) -> None:
    family, file = learnt(base(name), tiny_data, tmp_path / "weights")
    held = load_file(file)
    assert {key: tuple(values.shape) for key, values in held.items()} == KEYS[name]
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata() == {"format": "pt", "token": "<thing>"}
    pipeline = families.load(str(base(name))).pipeline()
    before = states(pipeline, name)
    for key, part in embeddings.KEYS.items():
        if key in held:
            encoder, tokenizer = getattr(pipeline, part), getattr(pipeline, part.replace("text_encoder", "tokenizer"))
            pipeline.load_textual_inversion(held[key], token="<thing>", text_encoder=encoder, tokenizer=tokenizer)  # noqa: S106  (a word)
    ours = family.encode_text([PROMPT]).tensors
    theirs = states(pipeline, name)
    torch.testing.assert_close(theirs, [ours["states"], ours["pooled"]])
    assert not torch.equal(theirs[1], before[1])
    expected = picture(family)
    opened_again = models.open_model(f"{base(name)}+{file}", device="cpu")
    assert opened_again.adapters[0].name == "<thing>"
    assert (picture(opened_again.family) == expected).all()


def test_a_word_for_two_encoders_goes_out_in_the_file_of_all_readers(
    base: Callable[[str], Path], tiny_data: Path, tmp_path: Path
) -> None:
    _, file = learnt(base("sdxl"), tiny_data, tmp_path / "weights")
    out = tmp_path / "<mascot>.safetensors"
    (written,) = exports.export(f"{base('sdxl')}+{file}", Order("comfyui", out, device="cpu"))
    assert load_file(out).keys() == {"clip_l", "clip_g"}
    assert all(torch.equal(values, load_file(file)[key]) for key, values in load_file(out).items())
    assert "there called <mascot>" in written.what
    with safe_open(out, framework="pt") as opened:
        assert opened.metadata()["modelspec.trigger_phrase"] == "<thing>"
        assert opened.metadata()["modelspec.architecture"] == "stable-diffusion-xl-v1-base/textual-inversion"


@pytest.mark.parametrize("where", ["here", "on the hub"])
def test_the_model_card_loads_the_word_for_both_encoders(
    where: str, base: Callable[[str], Path], tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file = learnt(base("sdxl"), tiny_data, tmp_path / "learnt")
    here = {"base": str(base("sdxl")), "data": {"path": str(tiny_data)}}
    tree = configs.merge(configs.merge(rows.COMMON, here), rows.PRESETS["textual-inversion"])
    run = RunFolder.create(configs.load(tree, method="textual-inversion"), tmp_path / "run")
    run.weights.mkdir()
    shutil.copy(file, run.weights)
    run.update(total_steps=1, data={"count": 6, "held_out": 0, "fingerprint": "x"}, base={"hash": "y"}, seed=0)
    if where == "here":
        text = card.text(run)
        monkeypatch.chdir(run.path)
    else:
        text = (bytes(hub.pack(run, "me/word").files["README.md"])).decode()  # type: ignore[arg-type]
        monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda _, name: str(run.weights / name))
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    lines, _, _ = code.partition("image = ")
    held: dict[str, Any] = {}
    exec(re.sub(r'from_pretrained\(".*?"\)', f'from_pretrained("{base("sdxl")}")', lines), held)  # noqa: S102  (our own card)
    for tokenizer in (held["pipeline"].tokenizer, held["pipeline"].tokenizer_2):
        assert {"<thing>", "<thing>_1"} <= set(tokenizer.get_vocab())


@pytest.mark.parametrize(("name", "keys"), [("sdxl", ["clip_l"]), ("flux", ["clip_l", "clip_g"]), ("sana", ["clip_l"])])
def test_a_word_of_other_encoders_is_refused(
    name: str, keys: list[str], base: Callable[[str], Path], tmp_path: Path
) -> None:
    file = tmp_path / "word.safetensors"
    save_file({key: torch.zeros(1, 32) for key in keys}, file)
    with pytest.raises(ModelError, match=rf"rows for {len(keys)} text encoder\(s\); this base has"):
        models.open_model(f"{base(name)}+{file}", device="cpu")
