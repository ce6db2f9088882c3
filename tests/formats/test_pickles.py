"""Pickled checkpoints: the same tensors as torch's own careful reader, and no payload ever runs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import hostile_pickles as hostile
import pytest
import torch
from safetensors.torch import load_file, save_file

from brushwork.cli import run
from brushwork.errors import ModelError
from brushwork.formats.pickles import parent, worker
from brushwork.formats.pickles.parent import convert


def benign() -> dict[str, Any]:
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    return OrderedDict(
        [
            ("plain", base),
            ("transposed", base.T),
            ("sliced", base[1:5:2, ::3]),
            ("shared", base[2]),
            ("cube", torch.randn(2, 3, 4).permute(2, 0, 1)),
            ("stretched", torch.randn(3, 1).expand(3, 5)),
            ("half", torch.randn(5).half()),
            ("half transposed", torch.randn(5, 2).half().T),
            ("brain", torch.randn(5).bfloat16()),
            ("double", torch.randn(5).double()),
            ("long", torch.arange(7)),
            ("int", torch.arange(3, dtype=torch.int32)),
            ("bytes", torch.arange(3, dtype=torch.uint8)),
            ("flags", torch.tensor([True, False])),
            ("scalar", torch.tensor(3.5)),
            ("empty", torch.zeros(0, 3)),
            ("parameter", torch.nn.Parameter(torch.randn(2, 2))),
        ]
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_the_tensors_are_those_of_torchs_own_reader(zipped: bool, tmp_path: Path) -> None:
    source, out = tmp_path / "model.ckpt", tmp_path / "model.safetensors"
    torch.save(benign(), source, _use_new_zipfile_serialization=zipped)
    report = convert(source, out)
    theirs = torch.load(source, weights_only=True)
    ours = load_file(out)
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert ours[key].dtype == tensor.dtype
        assert torch.equal(ours[key], tensor.detach())
    assert (report.format, report.tensors) == ("zip" if zipped else "legacy", len(theirs))
    assert (report.dropped, report.called) == ((), ())


@pytest.mark.parametrize("zipped", [True, False])
def test_of_a_trainers_checkpoint_the_weights_stay_and_the_rest_is_listed(zipped: bool, tmp_path: Path) -> None:
    source, out = tmp_path / "last.ckpt", tmp_path / "last.safetensors"
    state = {"model.out.weight": torch.ones(2), "model_ema.out.weight": torch.zeros(2)}
    whole = {
        "epoch": 3,
        "state_dict": state,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        "callbacks": {Path("x"): 1},
    }
    torch.save(whole, source, _use_new_zipfile_serialization=zipped)
    report = convert(source, out)
    assert list(load_file(out)) == ["model.out.weight"]
    assert any(each.startswith("optimizer_states") for each in report.dropped)
    assert any("model_ema.*" in each for each in report.dropped)
    assert report.called == ("pathlib.PosixPath",)


def test_an_embedding_of_a1111_becomes_one_that_is_read(tmp_path: Path) -> None:
    rows = torch.randn(2, 8)
    whole = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.nn.Parameter(rows)},
        "name": "my-cat",
        "step": 9,
    }
    torch.save(whole, tmp_path / "my-cat.pt")
    report = convert(tmp_path / "my-cat.pt", tmp_path / "my-cat.safetensors")
    assert torch.equal(load_file(tmp_path / "my-cat.safetensors")["emb_params"], rows)
    assert (report.name, report.tensors) == ("my-cat", 1)


@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize("kind", hostile.KINDS)
def test_no_payload_runs_and_the_weights_beside_it_are_saved_or_all_of_it_is_refused(
    kind: str, container: str, tmp_path: Path
) -> None:
    """Whatever opcode it hides behind, beside a real tensor; and the report names what it wanted."""
    canary, out = tmp_path / "canary", tmp_path / "out.safetensors"
    data = hostile.pickled(hostile.payload(kind, canary), beside=hostile.TENSOR)
    write = hostile.in_zip if container == "zip" else hostile.in_legacy
    source = write(data, tmp_path / "model.ckpt")
    if kind in ("persistent", "rebuild"):
        outcome = refused_or_converted(source, out)
    else:
        outcome = convert(source, out)
        assert torch.equal(load_file(out)["weight"], torch.tensor([1.0, 2.0]))
        wanted = " ".join(outcome.called)
        assert any(name in wanted for name in ("os.system", "subprocess.Popen", "extension 1"))
        assert any(each.startswith("evil") for each in outcome.dropped)
    assert not canary.exists()


def refused_or_converted(source: Path, out: Path) -> Any:
    try:
        return convert(source, out)
    except ModelError as error:
        assert not out.exists()
        return error


def test_the_payloads_are_real(tmp_path: Path) -> None:
    """Loaded the usual way, most of them run; else the test above would prove nothing."""
    ran = []
    for kind in hostile.KINDS:
        canary = tmp_path / kind
        data = hostile.pickled(hostile.payload(kind, canary))
        code = f"import pickle; pickle.loads({data!r})"
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        if canary.exists():
            ran.append(kind)
    assert {"reduce", "global", "build", "inst", "obj", "nested"} <= set(ran)


def test_a_payload_alone_is_refused_by_its_name(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for name in ("model.ckpt", "model.safetensors", "model.bin"):
        source = tmp_path / name
        source.write_bytes(b"\x80\x02" + hostile.payload("reduce", canary) + b".")
        with pytest.raises(ModelError, match=r"is a pickle, but not one of torch's"):
            convert(source, tmp_path / "out.safetensors")
    hostile.in_zip(b"\x80\x02" + hostile.payload("reduce", canary) + b".", tmp_path / "z.ckpt")
    with pytest.raises(ModelError, match=r"there is no tensor in it: all of it \(a os.system\)"):
        convert(tmp_path / "z.ckpt", tmp_path / "out.safetensors")
    assert not canary.exists()


def bomb(path: Path) -> Path:
    return hostile.in_zip(b"\x80\x02" + b"]" * 10 + b"." + bytes(10_000_000), path, compress=True)


def patched(path: Path, old: bytes, new: bytes) -> Path:
    data = hostile.pickled(b"N", beside=hostile.TENSOR)
    assert data.count(old) == 1
    return hostile.in_zip(data.replace(old, new), path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bomb, "compressed or encrypted"),
        (lambda path: patched(path, b"K\x02t(K\x01t", b"K\x03t(K\x01t"), r"reaches beyond its numbers \(3 of 2\)"),
        (lambda path: patched(path, b"K\x02t(K\x01t", b"J\xff\xff\xff\x7ft(K\x00t"), "would be 8,589,934,588 bytes"),
        (lambda path: patched(path, b"K\x02t(K\x01t", b"J\xff\xff\xff\xfft(K\x01t"), "reaches beyond|negative|numbers"),
        (lambda path: patched(path, b"FloatStorage", b"EvilyStorage"), "numbers are a torch.EvilyStorage"),
        (lambda path: patched(path, b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x001"), "numbers '1' that are not in it"),
        (lambda path: hostile.in_zip(b"\x80\x02(", path), "damaged|no end"),
        (lambda path: hostile.in_zip(b"\x80\x02h\x07.", path), "damaged"),
        (lambda path: hostile.in_zip(b"\x80\x05\x97.", path), "NEXT_BUFFER, which no checkpoint has"),
        (lambda path: hostile.in_zip(b"\x80\x02N.", path, more={"archive/constants.pkl": b"x"}), "TorchScript"),
        (lambda path: hostile.in_zip(b"\x80\x02N.", path, more={"other/data.pkl": b"x"}), "2 data.pkl"),
        (lambda path: hostile.in_zip(b"\x80\x02" + b"(" * 20_000 + b"t" * 20_000 + b".", path), "no tensor in it"),
    ],
)
def test_what_is_damaged_or_a_bomb_is_refused(make: Any, message: str, tmp_path: Path) -> None:
    source = make(tmp_path / "model.ckpt")
    with pytest.raises(ModelError, match=message):
        convert(source, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_names_in_a_zip_are_never_paths(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    data = hostile.pickled(b"N", beside=hostile.TENSOR)
    more = {"../outside": b"x", "archive/data/../../../outside": b"x"}
    source = hostile.in_zip(data, folder / "model.ckpt", more=more)
    convert(source, folder / "out.safetensors")
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["here", "model.ckpt", "out.safetensors"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>login</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of git-lfs"),
        (b"\x1f\x8b\x08rest", "is gzipped"),
        (b'{"error": "not found"}', "is JSON"),
        (b"GGUF\x03", "GGUF"),
        (b"\x00\x01\x02\x03nothing", "neither a pickle nor a zip"),
    ],
)
def test_a_file_is_known_by_its_first_bytes_not_by_its_name(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        convert(tmp_path / "model.ckpt", tmp_path / "out.safetensors")


def test_safetensors_under_a_wrong_name_are_checked_and_copied(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "model.ckpt")
    assert convert(tmp_path / "model.ckpt", tmp_path / "out.safetensors").format == "safetensors"
    assert (tmp_path / "out.safetensors").read_bytes() == (tmp_path / "model.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "model.ckpt").read_bytes()[:-3])
    with pytest.raises(ModelError, match="looks like safetensors but is damaged"):
        convert(tmp_path / "cut.ckpt", tmp_path / "other.safetensors")


def in_worker(code: str) -> str:
    """Run code where a file is read: with the limits set and everything else forbidden."""
    start = "import sys; sys.path[:0] = [sys.argv[1]]; from pathlib import Path; import socket, os; "
    start += "from brushwork.formats.pickles import worker\n"
    start += "worker._limit({'memory': 1 << 30, 'seconds': 5, 'written': 1 << 20, 'files': 16})\n"
    start += "worker._leave_the_network(); worker._forbid(Path(sys.argv[2]))\n"
    package = str(Path(worker.__file__).parents[3])
    command = [sys.executable, "-I", "-S", "-c", start + code, package, "/nowhere/out"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={}).stderr


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import urllib.request", "(import)"),
        ("os.system('true')", "(os.system)"),
        ("open('/tmp/other', 'w')", "(open)"),
        ("os.open('/tmp/other', os.O_CREAT | os.O_WRONLY)", "(open)"),
        ("eval('1')", "(compile)"),
        ("bytes(1 << 31)", "MemoryError"),
        ("[open('/dev/null') for _ in range(20)]", "Too many open files"),
    ],
)
def test_the_reading_process_can_do_nothing_else(code: str, message: str) -> None:
    assert message in in_worker(code)


def test_the_reading_process_reaches_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "(socket.__new__)" in in_worker(f"socket.socket().connect(('127.0.0.1', {port}))")


def test_limits_grow_with_the_file() -> None:
    small, large = parent.limits_for(1 << 20), parent.limits_for(8 << 30)
    assert small["memory"] > 1 << 30
    assert large["memory"] > 8 << 30
    assert large["seconds"] > small["seconds"] >= 60


def test_the_command_says_what_was_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "model.ckpt", tmp_path / "model.safetensors"
    hostile.in_zip(hostile.pickled(hostile.payload("reduce", tmp_path / "canary"), beside=hostile.TENSOR), source)
    assert run(["convert-ckpt", str(source), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "not run, though the file asks for it: os.system" in said.err
    assert "dropped: evil (a os.system)" in said.err
    assert "1 tensors" in said.out
    assert run(["convert-ckpt", str(source), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(["convert-ckpt", str(source), "--out", str(tmp_path / "b.safetensors"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["called"] == ["os.system"]


def test_a_pickled_stable_diffusion_becomes_a_folder_that_draws_the_same(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffusers import StableDiffusionPipeline
    from original import write_single_file

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None, requires_safety_checker=False)
    state = load_file(write_single_file(pipeline, tmp_path / "x.safetensors"))
    torch.save({"state_dict": state, "global_step": 7}, tmp_path / "old.ckpt")
    folder = tmp_path / "old"
    assert run(["convert-ckpt", str(tmp_path / "old.ckpt"), "--out", str(folder), "--config", str(tiny_sd)]) == 0
    assert "dropped: global_step" in capsys.readouterr().err
    ours = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    for part in ("unet", "vae", "text_encoder"):
        theirs = getattr(pipeline, part).state_dict()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in getattr(ours, part).state_dict().items())
