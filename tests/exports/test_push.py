"""``brushwork push``: card, weights and samples in one commit, to a stand-in for the hub on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from hub import Hub

from brushwork import config
from brushwork.cli import run as command
from brushwork.runs import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# Said by the hub's client to its own HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    with Hub() as standin:
        monkeypatch.setenv("HF_ENDPOINT", standin.endpoint)
        yield standin


@pytest.fixture
def made(tmp_path: Path) -> RunFolder:
    """A finished LoRA run on a base and data that lie on this machine."""
    data = tmp_path / "private" / "photos"
    data.mkdir(parents=True)
    base = tmp_path / "private" / "my-base"
    base.mkdir()
    run = RunFolder.create(config.load(base=str(base), method="lora", data=str(data)), tmp_path / "style")
    run.update(
        status="done",
        total_steps=2,
        effective_batch=1,
        seed=0,
        data={"count": 3, "held_out": 0, "fingerprint": "abc"},
        base={"hash": "def"},
    )
    run.weights.mkdir()
    (run.weights / "pytorch_lora_weights.safetensors").write_bytes(b"weights" * 100)
    for step in (1, 20):
        (run.path / "samples" / str(step)).mkdir(parents=True)
        (run.path / "samples" / str(step) / "0-0.png").write_bytes(f"picture {step}".encode())
    (run.path / "samples" / "prompts.json").write_text(json.dumps(["a cat: sitting"]))
    return run


def test_card_weights_and_last_samples_arrive_in_one_commit(
    hub: Hub, made: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["push", str(made.path), "me/style", "--private"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == f"{hub.endpoint}/me/style"
    assert len(hub.commits) == 1
    held = hub.files["me/style"]
    assert set(held) == {"README.md", "pytorch_lora_weights.safetensors", "samples/0-0.png"}
    assert held["pytorch_lora_weights.safetensors"] == b"weights" * 100
    assert held["samples/0-0.png"] == b"picture 20"
    created = hub.created[0]
    assert (created["organization"], created["name"]) == ("me", "style")
    assert created.get("private") is True or created.get("visibility") == "private"
    assert "hf_right" not in said.out + said.err


def test_the_card_is_the_hubs_and_says_nothing_of_this_machine(hub: Hub, made: RunFolder, tmp_path: Path) -> None:
    assert command(["push", str(made.path), "me/style"]) == 0
    text = hub.files["me/style"]["README.md"].decode()
    header = yaml.safe_load(text.split("---")[1])
    assert header["widget"] == [{"text": "a cat: sitting", "output": {"url": "samples/0-0.png"}}]
    assert "base_model" not in header
    assert 'pipeline.load_lora_weights("me/style", weight_name="pytorch_lora_weights.safetensors")' in text
    assert "hf download me/style --local-dir style\nbrushwork generate my-base+style" in text
    assert str(tmp_path) not in text


def test_a_dry_run_speaks_to_nobody(hub: Hub, made: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["push", str(made.path), "me/style", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "pytorch_lora_weights.safetensors" in said.err
    assert "# style" in said.out
    assert command(["push", str(made.path), "me/style", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["uploaded"], told["url"]) == (False, None)
    assert told["files"][0]["path"] == "README.md"
    assert hub.created == []


def test_what_the_hub_or_the_user_got_wrong_is_said(
    hub: Hub, made: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert command(["push", str(made.path), "me/style"]) == 1
    said = capsys.readouterr().err
    assert "the hub refused (401)" in said
    assert "hf_wrong" not in said
    monkeypatch.delenv("HF_TOKEN")
    assert command(["push", str(made.path), "me/style"]) == 2
    assert "Set HF_TOKEN" in capsys.readouterr().err
    assert hub.files == {}
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert command(["push", str(made.path), "me/style"]) == 1
    assert "could not be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("repo", "message"), [("style", "has no owner"), ("me/", "is no name of a repository"), ("a/b/c", "is no name")]
)
def test_a_name_without_an_owner_is_refused(
    repo: str, message: str, made: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["push", str(made.path), repo]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_weights_is_refused(made: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for each in made.weights.iterdir():
        each.unlink()
    assert command(["push", str(made.path), "me/style"]) == 2
    assert "has no weights yet" in capsys.readouterr().err


@pytest.mark.usefixtures("hub")
def test_offline_is_offline(
    made: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert command(["push", str(made.path), "me/style"]) == 2
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err
