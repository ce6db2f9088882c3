"""A hub that cannot be reached costs one question, and what is in its cache is used without another."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

import brushwork
from brushwork import families, hub
from brushwork.captioners import load_captioner
from brushwork.errors import ModelError

QUICK = 5.0
"""Seconds; the hub's own client takes some 23 before it gives up."""


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Point the hub's client to a port where nobody listens, with an empty cache."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return endpoint


def test_what_is_nowhere_is_refused_at_once(nobody: str) -> None:
    began = time.monotonic()
    with pytest.raises(ModelError, match=rf"base: 'foo/bar' is neither .* the hub \({nobody}\) cannot be reached"):
        families.load("foo/bar")
    with pytest.raises(ModelError, match=rf"'foo/blip' cannot be loaded: the hub \({nobody}\) cannot be reached"):
        load_captioner("foo/blip")
    assert time.monotonic() - began < QUICK
    assert not constants.HF_HUB_OFFLINE, "it is as it was"


def test_what_is_in_the_cache_is_used_at_once(nobody: str, tmp_path: Path) -> None:
    assert nobody in (hub.unreachable() or "")
    commit = "0" * 40
    repository = tmp_path / "cache" / "models--someone--mini"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(Path(brushwork.__file__).parent / "assets" / "mini", repository / "snapshots" / commit)
    began = time.monotonic()
    assert families.load("someone/mini").fingerprint == families.load("mini").fingerprint
    assert time.monotonic() - began < QUICK


def test_a_hub_that_answers_is_asked(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(address: str, answers: list[str]) -> None:
        assert address == nobody
        answers.append("")

    monkeypatch.setattr(hub, "_ask", ask)
    with hub.access() as lacking:
        assert lacking is None
        assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.unreachable() == "HF_HUB_OFFLINE is set"
