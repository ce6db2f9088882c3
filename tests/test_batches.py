"""What the loop is fed besides pictures and noise: masks and dropped captions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from brushwork import batches, images
from brushwork import config as configs
from brushwork.errors import ConfigError, DataError
from brushwork.train import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config


def make_config(base: Path, data: Path, /, **changes: Any) -> Config:
    tree = {
        "base": str(base),
        "method": {"type": "lora", "rank": 2},
        "data": {"path": str(data), "resolution": 32, "random_flip": True, "validation_split": 0.2},
        "train": {"max_train_steps": 2, "train_batch_size": 2, "device": "cpu"},
        "validation": {"prompts": ["a cat"], "samples_during_training": 0},
    }
    return configs.load(configs.merge(tree, changes))


def mask(data: Path, stem: str, size: tuple[int, int] = (40, 36), white: int = 20) -> Path:
    """Write a mask whose left ``white`` columns count."""
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[:, :white] = 255
    path = data / f"{stem}-masklabel.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("center_crop", [True, False])
def test_a_mask_is_cropped_and_mirrored_as_its_picture_is(tiny_sd: Path, tiny_data: Path, center_crop: bool) -> None:
    """Pictures that are their own masks: the mask is what is left of the pixels at the size of the latents."""
    for index in range(6):
        grey = Image.open(tiny_data / f"{index}.png").convert("L")
        for path in (tiny_data / f"{index}.png", tiny_data / f"{index}-masklabel.png"):
            grey.convert("RGB").save(path)
    data = {"masks": True, "center_crop": center_crop}
    trainer = prepare(make_config(tiny_sd, tiny_data, data=data, train={"cache_latents": False}))
    for position in range(8):
        row = trainer.examples[position]
        expected = torch.nn.functional.avg_pool2d((row["pixels"][:1] + 1) / 2, 4)
        torch.testing.assert_close(row["mask"], expected, rtol=0, atol=1e-6)


def test_masks_reach_the_loss_with_and_without_caches(tiny_sd: Path, tiny_data: Path) -> None:
    for index in range(4):  # the others count wholly
        mask(tiny_data, str(index))
    losses = [
        [step.losses for step in prepare(make_config(tiny_sd, tiny_data, **changes)).steps()]
        for changes in ({"data": {"masks": True}}, {"data": {"masks": True}, "train": {"cache_latents": False}})
    ]
    for path in tiny_data.glob("*-masklabel.png"):
        path.unlink()
    plain = [step.losses for step in prepare(make_config(tiny_sd, tiny_data)).steps()]
    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=1e-4, atol=1e-5)
    assert losses[0] != plain


@pytest.mark.parametrize(
    ("make", "wanted", "message"),
    [
        (lambda data: mask(data, "0"), False, r"has 1 masks[\s\S]*data.masks=true"),
        (lambda data: mask(data, "nobody"), True, "1 of 1 masks belong to no picture"),
        (lambda _: None, True, r"has no masks. The mask of cat.jpg is cat-masklabel.png"),
        (lambda data: mask(data, "0", size=(20, 18)), True, "0.png is 20x18 but the picture is 40x36"),
        (lambda data: mask(data, "0", white=0), True, "black everywhere"),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    tiny_sd: Path, tiny_data: Path, make: Any, wanted: bool, message: str
) -> None:
    make(tiny_data)
    with pytest.raises(DataError, match=message):
        prepare(make_config(tiny_sd, tiny_data, data={"masks": wanted}))


def test_an_objective_without_use_for_masks_refuses_them(
    tiny_sd: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brushwork.objectives.denoising import Denoising

    mask(tiny_data, "0")
    monkeypatch.setattr(Denoising, "uses_masks", False)
    with pytest.raises(ConfigError, match="denoising has no use for masks"):
        prepare(make_config(tiny_sd, tiny_data, data={"masks": True}))


def test_another_mask_is_other_data(tiny_sd: Path, tiny_data: Path) -> None:
    mask(tiny_data, "0")
    prints = [prepare(make_config(tiny_sd, tiny_data, data={"masks": True})).data.fingerprint]
    mask(tiny_data, "0", white=21)
    prints.append(prepare(make_config(tiny_sd, tiny_data, data={"masks": True})).data.fingerprint)
    assert len(set(prints)) == 2


def test_captions_are_dropped_as_often_as_asked_for(tiny_sd: Path, tiny_data: Path) -> None:
    trainer = prepare(make_config(tiny_sd, tiny_data, data={"caption_dropout": 0.3}))
    captions = [trainer.examples[position]["caption"] for position in range(600)]
    assert captions.count("") == pytest.approx(180, abs=35)
    feed = batches.batches(trainer.examples, trainer.encoder, trainer.config, 100, 110)
    assert [caption for batch in feed for caption in batch.captions] == captions[100:110]
    plain = prepare(make_config(tiny_sd, tiny_data))
    assert [each for each in captions if each] == [
        plain.examples[position]["caption"] for position, each in enumerate(captions) if each
    ]


def test_a_dropped_caption_is_encoded_as_the_empty_one(tiny_sd: Path, tiny_data: Path) -> None:
    trainer = prepare(make_config(tiny_sd, tiny_data, data={"caption_dropout": 0.5}))
    with torch.no_grad():
        expected = trainer.family.encode_text([""]).tensors["states"]
    torch.testing.assert_close(trainer.encoder.conditioning([""]).tensors["states"], expected)
    for batch in batches.held_out_batches(trainer.encoder, trainer.config):
        assert all(batch.captions)


def test_a_mask_is_an_image_of_one_channel_whatever_its_mode(tmp_path: Path) -> None:
    """A mask drawn with transparency is black where it is transparent."""
    picture = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    picture.putpixel((0, 0), (255, 255, 255, 255))
    picture.save(tmp_path / "mask.png")
    grey = images.decode((tmp_path / "mask.png").read_bytes(), "black").convert("L")
    assert np.asarray(grey).sum() == 255


def test_each_of_several_captions_is_seen_and_all_are_encoded(tiny_sd: Path, tiny_data: Path) -> None:
    texts = ["a cat", "a small cat", "a kitten"]
    rows = [json.dumps({"file_name": f"{index}.png", "text": texts}) for index in range(6)]
    for path in tiny_data.glob("*.txt"):
        path.unlink()
    (tiny_data / "metadata.jsonl").write_text("\n".join(rows), "utf-8")
    trainer = prepare(make_config(tiny_sd, tiny_data, data={"allow_bad_captions": True, "validation_split": 0.0}))
    assert trainer.encoded["texts"] == 3
    seen = [trainer.examples[position]["caption"] for position in range(300)]
    assert all(70 <= seen.count(text) <= 130 for text in texts)
    assert seen == [trainer.examples[position]["caption"] for position in range(300)]
    states = trainer.encoder.conditioning(["a kitten"]).tensors
    fresh = trainer.family.encode_text(["a kitten"]).tensors
    assert all(torch.equal(states[name], fresh[name].float()) for name in states)
