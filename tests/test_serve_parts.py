"""The parts of the server that need no model: queue, history, names, uploads, data sets, catalogue."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from brushwork.errors import DataError, ModelError, UserError
from brushwork.serve import names, uploads
from brushwork.serve.catalogue import Catalogue
from brushwork.serve.datasets import Datasets
from brushwork.serve.grids import Axis, Grid
from brushwork.serve.jobs import HiresAsked, TextToImage
from brushwork.serve.line import Full, Line
from brushwork.serve.settings import Limits, ServeConfig
from brushwork.serve.store import Store

if TYPE_CHECKING:
    from pathlib import Path


def test_clients_take_turns_and_the_queue_is_bounded() -> None:
    line = Line(most=5)
    for job, client in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")):
        line.join(job, client)
    assert line.order() == ["a1", "b1", "a2", "a3"]
    assert [line.turn() for _ in range(4)] == ["a1", "b1", "a1", "b1"]
    assert line.leave("a1")
    assert not line.leave("a1")
    assert {line.turn(), line.turn()} == {"a2", "b1"}
    line.join("c1", "c")
    line.join("c2", "c")
    with pytest.raises(Full, match="5 jobs wait already"):
        line.join("d1", "d")


def test_the_history_outlives_the_process(tmp_path: Path) -> None:
    first = Store(tmp_path)
    planned = TextToImage(prompt="a dog", n=2, seed=4).pictures(lambda: 0)
    ids = first.add_job("j1", "txt2img", "me", {"prompt": "a dog"}, planned)
    first.start("j1")
    first.picture_done(ids[0], "a dog\nSteps: 1", 0.5)
    first.path(ids[0]).write_bytes(b"png")
    first.close()
    second = Store(tmp_path)
    assert second.recover() == 1
    job = second.job("j1")
    assert job is not None
    assert (job.state, job.error and job.error["type"]) == ("failed", "server_restarted")
    assert [each.state for each in job.pictures] == ["done", "failed"]
    assert second.picture(ids[0]) == second.path(ids[0])
    assert second.picture(ids[1]) is None
    assert second.picture("../history") is None
    second.forget("j1")
    assert second.job("j1") is None
    assert not second.path(ids[0]).exists()
    second.close()


def test_a_grid_has_every_combination_x_innermost() -> None:
    axes = (Axis(name="steps", values=(1, 2)), Axis(name="prompt", values=("dog", "cat")))
    planned = Grid(prompt="a dog", seed=9, axes=axes).pictures(lambda: 0)
    assert [(each.steps, each.prompt, each.seed) for each in planned] == [
        (1, "a dog", 9), (2, "a dog", 9), (1, "a cat", 9), (2, "a cat", 9),
    ]  # fmt: skip


def test_axes_of_adapters_and_their_weights_go_together_in_any_order() -> None:
    adapters, weights = Axis(name="adapter", values=("none", "ink")), Axis(name="adapter_weight", values=(0.5, 1))
    for axes in ((adapters, weights), (weights, adapters)):
        planned = Grid(prompt="a dog", seed=9, axes=axes).pictures(lambda: 0)
        found = sorted((each.label, [(one.name, one.weight) for one in each.adapters]) for each in planned)
        assert [have for label, have in found if "none" in label] == [[], []]
        assert sorted(have for label, have in found if "ink" in label) == [[("ink", 0.5)], [("ink", 1.0)]]


def test_two_axes_of_the_prompt_replace_one_after_the_other_in_both_prompts() -> None:
    axes = (Axis(name="prompt", values=("dog", "cat")), Axis(name="prompt", values=("red", "blue")))
    planned = Grid(prompt="a red dog", negative_prompt="dogs", axes=axes).pictures(lambda: 0)
    assert [(each.prompt, each.negative_prompt) for each in planned] == [
        ("a red dog", "dogs"), ("a red cat", "cats"), ("a blue dog", "dogs"), ("a blue cat", "cats"),
    ]  # fmt: skip


def test_a_schedule_goes_with_the_sampler_of_the_other_axis_and_a_second_pass_with_its_own() -> None:
    axes = (Axis(name="schedule", values=("automatic", "karras")), Axis(name="sampler", values=("Euler", "Heun Beta")))
    planned = Grid(prompt="a dog", axes=axes).pictures(lambda: 0)
    assert [each.sampler for each in planned] == ["Euler", "Euler Karras", "Heun", "Heun Karras"]
    axes = (Axis(name="hires_steps", values=(2, 4)), Axis(name="hires_strength", values=(0.5, 0.25)))
    planned = Grid(prompt="a dog", hires=HiresAsked(scale=2), axes=axes).pictures(lambda: 0)
    found = [(each.hires.steps, each.hires.strength) for each in planned if each.hires is not None]
    assert found == [(2, 0.5), (4, 0.5), (2, 0.25), (4, 0.25)]


def test_a_grid_can_start_from_a_picture_and_count_its_seeds_on_along_axes() -> None:
    axes = (Axis(name="strength", values=(0.5, 0.7)), Axis(name="steps", values=(3, 4)), Axis(name="seed", values=(7,)))
    planned = Grid(prompt="a dog", init="p", mask="m", mask_blur=2, vary_seeds=("x", "y"), axes=axes).pictures(int)
    assert [(each.strength, each.steps, each.seed, each.init, each.mask, each.mask_blur) for each in planned] == [
        (0.5, 3, 7, "p", "m", 2), (0.7, 3, 8, "p", "m", 2), (0.5, 4, 9, "p", "m", 2), (0.7, 4, 10, "p", "m", 2),
    ]  # fmt: skip
    varied = Grid(prompt="a", axes=(Axis(name="variation_strength", values=(0, 0.5)),)).pictures(lambda: 5)
    assert [(each.variation_seed, each.variation_strength) for each in varied] == [(5, 0.0), (5, 0.5)]


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        (Axis(name="prompt", values=("horse", "cat")), "has no 'horse' in it"),
        (Axis(name="steps", values=("many",)), "'many' is not a number"),
        (Axis(name="size", values=("64",)), "is not WIDTHxHEIGHT"),
        (Axis(name="adapter_weight", values=(1,)), "has no adapters"),
        (Axis(name="clip_skip", values=(0,)), "clip_skip: Input should be greater than 0"),
        (Axis(name="clip_skip", values=(13,)), "axes: clip_skip: Input should be less than or equal to 12"),
        (Axis(name="strength", values=(0.5,)), "strength: these pictures are from text alone"),
        (Axis(name="hires_steps", values=(5,)), "hires_steps: these pictures have no second pass"),
        (Axis(name="schedule", values=("Karrs",)), "schedule: there is no 'Karrs'. Known: Automatic, Uniform"),
        (Axis(name="variation_strength", values=(2,)), "variation_strength: Input should be less than or equal to 1"),
    ],
)
def test_an_axis_that_cannot_be(axis: Axis, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Grid(prompt="a dog", axes=(axis,)).pictures(lambda: 0)


def png(mode: str = "RGB", size: tuple[int, int] = (8, 6), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG", **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG that says it is 30,000 x 30,000."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no picture"),
        (b"<html>", "no picture"),
        (b"GIF89a" + b"\0" * 40, "no picture"),
        (png()[:40], "no picture"),
        (bomb(), "(no picture|30000x30000 is more than the limit)"),
        (png(size=(40, 40)), "40x40 is more than the limit of this server, 1000 pixels"),
    ],
)
def test_what_is_sent_is_looked_at_before_it_is_decoded(data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        uploads.decode(data, 1000)


def test_a_picture_is_written_anew_without_what_else_its_file_held() -> None:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text("parameters", "secret")
    encoded = uploads.encode(uploads.decode(png("RGBA", pnginfo=chunks), 1000))
    assert b"secret" not in encoded
    with Image.open(io.BytesIO(encoded)) as image:
        assert (image.mode, image.size) == ("RGBA", (8, 6))


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "a\0b", " a", "a.", "x" * 65, "-rf", "a..b"])
def test_a_name_leads_nowhere(name: str) -> None:
    with pytest.raises(UserError, match="is no name"):
        names.check(name, "run")


def test_a_data_set_is_filled_described_and_emptied(tmp_path: Path) -> None:
    datasets = Datasets(ServeConfig(datasets=tmp_path, limits=Limits(dataset=2)))
    picture = datasets.add("holiday", png(), "a beach")
    assert datasets.add("holiday", png(), "the same beach") == picture
    assert [(each["picture"], each["caption"]) for each in datasets.items("holiday")] == [(picture, "the same beach")]
    datasets.add("holiday", png(size=(9, 9)))
    with pytest.raises(UserError, match="2 pictures, which is the limit"):
        datasets.add("holiday", png(size=(7, 7)))
    datasets.drop("holiday", picture)
    assert len(datasets.items("holiday")) == 1
    with pytest.raises(UserError, match="embedded and stays"):
        datasets.add("engravings", png())
    with pytest.raises(UserError, match=r"there is no 'holday'. Did you mean holiday"):
        datasets.items("holday")
    datasets.remove("holiday")
    assert [each["name"] for each in datasets.all() if not each["embedded"]] == []


def test_the_catalogue_tells_files_by_what_is_in_them(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "pipeline" / "unet").mkdir(parents=True)
    (folder / "pipeline" / "model_index.json").write_text("{}")
    one = torch.zeros(2, 2)
    save_file({"x": one}, folder / "pipeline" / "unet" / "part.safetensors")
    save_file({"a.lora_up.weight": one}, folder / "ink.safetensors", {"ss_output_name": "<b>ink</b>"})
    save_file({"model.diffusion_model.x": one}, folder / "whole.safetensors")
    save_file({"emb_params": one}, folder / "word.safetensors")
    save_file({name: one + number for number, name in enumerate("abc")}, folder / "unknown.safetensors")
    (folder / "broken.safetensors").write_bytes(b"\xff" * 100)
    (folder / "out").symlink_to("/etc")
    catalogue = Catalogue(ServeConfig(models=(folder,), runs=tmp_path / "runs", data=tmp_path / "served"))
    found = {kind: [each.name for each in catalogue.all(kind)] for kind in ("model", "adapter", "embedding")}  # type: ignore[arg-type]
    assert found == {"model": ["mini", "pipeline", "whole"], "adapter": ["ink"], "embedding": ["word"]}
    whole = catalogue.hash(catalogue.find("model", "whole"))
    assert catalogue.find("model", whole.title).name == "whole"
    assert catalogue.find("model", (whole.sha256 or "")[:10]).name == "whole"
    with pytest.raises(ModelError, match=r"there is no 'hole'. Did you mean whole"):
        catalogue.find("model", "hole")
    with pytest.raises(ModelError, match="there is no folder"):
        Catalogue(ServeConfig(models=(tmp_path / "nothing",)))
