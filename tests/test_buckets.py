"""Buckets keep a picture's shape, never enlarge it, and deal all pictures out equally often, in a seed's order."""

from __future__ import annotations

import collections
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from brushwork import batches, buckets, images
from brushwork import config as configs
from brushwork.curate import gate, report
from brushwork.errors import ConfigError, DataError
from brushwork.sources import captioned
from brushwork.train import prepare, steps

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config

SIZES = [(40, 40), (80, 40), (90, 44), (40, 84), (64, 30), (41, 40), (36, 90), (100, 50), (50, 50), (84, 41), (33, 33)]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Eleven pictures of many shapes."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    for number, (width, height) in enumerate(SIZES):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(f"a drawing of number {number}", "utf-8")
    return folder


def make_config(base: Path, data: Path, /, **changes: Any) -> Config:
    tree = {
        "base": str(base),
        "method": {"type": "lora", "rank": 2},
        "data": {"path": str(data), "resolution": 32, "buckets": True, "bucket_step": 8, "validation_split": 0.2},
        "train": {"max_train_steps": 6, "train_batch_size": 2, "device": "cpu"},
        "validation": {"prompts": ["a cat"], "samples_during_training": 0},
    }
    return configs.load(configs.merge(tree, changes))


@pytest.mark.parametrize("resolution", [64, 512, 1024])
def test_a_bucket_has_its_area_its_step_and_never_more_than_the_picture(resolution: int) -> None:
    step = buckets.usual_step(resolution, 8)
    generator = np.random.default_rng(resolution)
    for width, height in generator.integers(step, 6 * resolution, (2000, 2)).tolist():
        wide, high = buckets.fit((width, height), resolution, step)
        assert wide % step == high % step == 0
        assert 0 < wide * high <= resolution**2
        assert wide <= width
        assert high <= height
        assert buckets.fit((height, width), resolution, step) == (high, wide)
        assert buckets.lost((width, height), (wide, high))[1] <= 1


def test_a_picture_that_fits_loses_less_than_a_square_would() -> None:
    assert buckets.fit((3000, 2000), 512, 64) == (640, 384)
    assert buckets.fit((512, 512), 512, 64) == (512, 512)
    assert buckets.fit((300, 400), 512, 64) == (256, 384)
    assert buckets.fit((300, 400), 512, 64, upscale=True) == (448, 576)
    assert buckets.fit((50, 400), 512, 64) == (0, 0)
    lost, scale = buckets.lost((3000, 2000), (640, 384))
    assert (round(lost, 3), round(scale, 3)) == (0.099, 0.213)


def test_a_square_is_what_it_always_was(shapes: Path) -> None:
    for path in sorted(shapes.glob("*.png")):
        image = Image.open(path)
        for xy in (None, (0.3, 0.8)):
            cropped = images.crop(image, (24, 24), flip=True, random_xy=xy)
            assert (cropped == images.square(image, 24, centre=xy is None, flip=True, random_xy=xy)).all()


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_a_batch_has_one_shape_and_every_picture_comes_equally_often(batch: int) -> None:
    kinds = np.random.default_rng(0).choice(4, 50, p=[0.6, 0.25, 0.13, 0.02])
    order = buckets.Order(kinds, ["a", "b", "c", "d"], batch, seed=1)
    seen = [order(position) for position in range(50 * batch * 2)]
    for first in range(0, len(seen), batch):
        assert len(set(kinds[seen[first : first + batch]])) == 1
    counts = collections.Counter(seen)
    assert set(counts.values()) == {2 * batch}, "after as many epochs as a batch has places nothing is carried over"
    assert [order(position) for position in (7, 3, 60)] == [seen[7], seen[3], seen[60]]
    again = pickle.loads(pickle.dumps(order))  # noqa: S301  (just written)
    assert [again(position) for position in range(100)] == seen[:100]
    other = buckets.Order(kinds, ["a", "b", "c", "d"], batch, seed=2)
    assert [other(position) for position in range(50)] != seen[:50]


def test_training_in_buckets_sees_one_shape_a_batch_and_resumes_exactly(tiny_sd: Path, shapes: Path) -> None:
    config = make_config(tiny_sd, shapes, train={"gradient_accumulation_steps": 2})
    trainer = prepare(config)
    assert len(trainer.encoder.pictures.shapes) == 4
    for position in range(0, 40, 2):
        first, second = (trainer.examples[position + slot] for slot in (0, 1))
        assert first["mean"].shape == second["mean"].shape
        width, height = trainer.encoder.pictures.size(trainer.examples.index(position))
        assert first["mean"].shape[1:] == (height // 4, width // 4)
    losses = [step.losses for step in trainer.steps()]
    assert len({len(each) for each in losses}) == 1
    assert [
        step.losses for step in steps(make_config(tiny_sd, shapes, train={"gradient_accumulation_steps": 2}))
    ] == losses
    held_out = trainer.held_out()
    assert held_out is not None
    assert np.isfinite(held_out.mean)
    workers = prepare(
        make_config(tiny_sd, shapes, train={"gradient_accumulation_steps": 2, "dataloader_num_workers": 1})
    )
    assert [step.losses for step in workers.steps()] == losses


def test_the_crop_of_a_bucket_is_random_when_asked(tiny_sd: Path, shapes: Path) -> None:
    config = make_config(tiny_sd, shapes, data={"center_crop": False, "random_flip": True})
    trainer = prepare(config)
    assert trainer.encoder.pictures.store is None
    assert len([step.loss for step in trainer.steps()]) == 6


def test_pictures_below_a_step_are_refused_until_they_may_be_enlarged(tiny_sd: Path, shapes: Path) -> None:
    Image.new("RGB", (30, 6)).save(shapes / "99.png")
    (shapes / "99.txt").write_text("thin", "utf-8")
    with pytest.raises(DataError, match=r"1 pictures are smaller than 8 pixels.*99\.png \(30x6\)"):
        prepare(make_config(tiny_sd, shapes))
    prepare(make_config(tiny_sd, shapes, data={"bucket_upscale": True}))


def test_settings_of_buckets_need_buckets_and_fit_the_base(tiny_sd: Path, shapes: Path) -> None:
    with pytest.raises(ConfigError, match="buckets is false, so bucket_step cannot apply"):
        make_config(tiny_sd, shapes, data={"buckets": False})
    with pytest.raises(ConfigError, match=r"bucket_step is 6, but .* needs a multiple of 4"):
        prepare(make_config(tiny_sd, shapes, data={"bucket_step": 6}))


def test_what_changed_is_encoded_anew_and_nothing_else(tiny_sd: Path, shapes: Path) -> None:
    """An edited caption, an edited picture, a changed resolution, a changed VAE: each counted."""
    config = make_config(tiny_sd, shapes)
    assert prepare(config).encoded == {"latents": 11, "texts": 11}
    assert prepare(config).encoded == {"latents": 0, "texts": 0}
    (shapes / "00.txt").write_text("something else", "utf-8")
    assert prepare(config).encoded == {"latents": 0, "texts": 1}
    Image.open(shapes / "03.png").transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(shapes / "03.png")
    assert prepare(config).encoded == {"latents": 1, "texts": 0}
    before = [buckets.fit(size, 32, 8) for size in SIZES]
    after = [buckets.fit(size, 48, 8) for size in SIZES]
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert moved > 0
    assert prepare(make_config(tiny_sd, shapes, data={"resolution": 48})).encoded == {"latents": moved, "texts": 0}
    square = {"buckets": False, "bucket_step": None}
    already = sum(size == (32, 32) for size in before)
    assert prepare(make_config(tiny_sd, shapes, data=square)).encoded == {"latents": 11 - already, "texts": 0}
    other = tiny_sd.with_name("another-vae")
    if not other.exists():
        _with_vae(tiny_sd, other)
    assert prepare(make_config(other, shapes)).encoded == {"latents": 11, "texts": 0}


def _with_vae(base: Path, out: Path) -> None:
    """Copy a base and change one weight of its VAE."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(base)
    with torch.no_grad():
        next(pipeline.vae.parameters()).add_(0.01)
    pipeline.save_pretrained(out)


def test_the_gate_says_what_is_wrong_and_refuses_what_is_in_vain(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "same"
    folder.mkdir()
    for number in range(24):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(f"number {number}", "utf-8")
    plain = {"buckets": False, "bucket_step": None}
    with pytest.raises(DataError) as caught:
        prepare(make_config(tiny_sd, folder, data=plain))
    assert str(caught.value).startswith("The data are not fit to train on: 24 of 24 pictures show one colour (")
    assert str(caught.value).endswith("To train on them all the same: data.allow_findings=true")
    trainer = prepare(make_config(tiny_sd, folder, data={**plain, "allow_findings": True}))
    assert "error: 24 of 24 pictures show one colour" in capsys.readouterr().err
    assert len(trainer.warnings) == 1


def test_training_prints_what_the_report_finds(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(8):
        side = 24 if number == 3 else 48
        colours = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((side, side)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a beach" if number < 4 else f"place {number}", "utf-8")
    Image.open(folder / "0.png").save(folder / "9.bmp")
    (folder / "9.txt").write_text("place 9", "utf-8")
    data = {"buckets": False, "bucket_step": None}
    trainer = prepare(make_config(tiny_sd, folder, data=data))
    said = capsys.readouterr().err.splitlines()
    told = report.examine(captioned.Config(path=str(folder)), resolution=32, unread=trainer.family.unread)
    found = [each for each in told.findings if each.kind != "other files"]
    assert {each.kind for each in found} == {"repeated caption", "near duplicate", "enlarged"}
    for each in found:
        assert any(line.startswith(f"{each.level}: {each.message}") for line in said)
    assert trainer.warnings == [line for line in said if line.startswith("warning: ")]


def test_the_gate_reads_no_picture_twice(tiny_sd: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = collections.Counter[str]()
    decode = images.decode

    def count(data: bytes, background: str = "white", name: str = "") -> Image.Image:
        decoded[name] += 1
        return decode(data, background, name)

    monkeypatch.setattr(images, "decode", count)
    config = make_config(tiny_sd, shapes)
    gate.verify(config.data.build())
    assert set(decoded.values()) == {1}


def test_size_and_crop_are_told_to_a_family_that_reads_them(tiny_sd: Path, shapes: Path) -> None:
    """Height and width as they were, top and left of the crop, the crop's height and width; mirrored from the right."""
    assert images.geometry((3000, 2000), (640, 384), flip=False) == (2000, 3000, 21, 0, 384, 640)
    assert images.geometry((200, 100), (64, 64), flip=False, random_xy=(0.0, 0.5)) == (100, 200, 0, 0, 64, 64)
    assert images.geometry((200, 100), (64, 64), flip=True, random_xy=(0.0, 0.5)) == (100, 200, 0, 64, 64, 64)
    trainer = prepare(make_config(tiny_sd, shapes))
    assert trainer.examples[0]["geometry"] is None
    trainer.encoder.pictures.tells_geometry = True
    for position in range(6):
        row = trainer.examples[position]
        index = trainer.examples.index(position)
        width, height = trainer.encoder.pictures.size(index)
        assert row["geometry"].tolist()[:2] == [SIZES[index][1], SIZES[index][0]]
        assert row["geometry"].tolist()[4:] == [height, width]
    batch = batches.collate([trainer.examples[position] for position in (0, 1)], trainer.examples, trainer.encoder)
    assert batch.told["geometry"].shape == (2, 6)
    assert batch.conditioning is not None
    assert set(batch.conditioned(batch.conditioning).tensors) == {"states", "geometry"}
