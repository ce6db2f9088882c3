"""What every test gets: one thread, no network, a cache of its own, and small models and data."""

from __future__ import annotations

import os

# Before anything imports torch or the hub's client: they read these once.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "offline",
    "COLUMNS": "100",
}

import copy
import gc
import ipaddress
import itertools
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
import unsynced
from tiny import make_tiny_sd
from warm import Server

from brushwork import progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

unsynced.everywhere()

SUBJECTS = ("cat", "dog", "tree", "house", "boat", "fish")


@pytest.fixture(scope="module", autouse=True)
def _numbers(request: pytest.FixtureRequest) -> Any:
    """Remember where a module's own generator, ``RNG``, begins."""
    own = getattr(request.module, "RNG", None)
    return None if own is None else copy.deepcopy(own.bit_generator.state)


@pytest.fixture(autouse=True)
def _same_numbers(request: pytest.FixtureRequest, _numbers: Any) -> None:
    """Let every test of a module draw the same numbers, whichever came before it."""
    if _numbers is not None:
        request.module.RNG.bit_generator.state = copy.deepcopy(_numbers)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server that only pretends to draw, for the tests of a module that has none of its own."""
    from pretending import pretending

    with pretending(tmp_path_factory.mktemp("pages")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for the tests of a module."""
    from browser import Browser

    with Browser(width=1280) as running:
        running.patience = 60.0
        yield running


class NetworkUsedError(AssertionError):
    """A test tried to leave this machine."""


def _is_here(address: Any) -> bool:
    """Return whether an address is a Unix socket or the loopback interface."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection and every name lookup that would leave this machine."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if not _is_here(address):
            message = f"connect to {address}"
            raise NetworkUsedError(message)
        connect(self, address)

    def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host is not None and not _is_here((host,)):
            message = f"look up {host}"
            raise NetworkUsedError(message)
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


@pytest.fixture(scope="session")
def _places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders below one of our own: ``mktemp`` would look through all that there are, for every test."""
    folder = tmp_path_factory.mktemp("here")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_places(monkeypatch: pytest.MonkeyPatch, _places: Iterator[Path]) -> None:
    """Give every test a working directory and a cache of its own, so that nothing lands in the checkout."""
    here = next(_places)
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("BRUSHWORK_CACHE", str(here / "cache"))


@pytest.fixture
def shared_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cache for all tests that ask for it, where the embedded pictures are encoded once."""
    folder = shared_folder(request.config) / "cache"
    monkeypatch.setenv("BRUSHWORK_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _progress_is_on() -> Iterator[None]:
    """Undo ``progress.silence`` of a test."""
    yield
    progress.silence(False)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Keep torch on one thread: several test processes share few cores, and sums come out the same."""
    import torch

    torch.set_num_threads(1)


WARM = pytest.StashKey[Server]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the process that forks others begin to import, while tests run that do not need it.

    What was imported to collect the tests is never garbage: no collection needs to look through it.
    """
    gc.collect()
    gc.freeze()
    if (
        any("warm" in getattr(item, "fixturenames", ()) for item in session.items)
        and not session.config.option.collectonly
    ):
        session.config.stash[WARM] = Server(shared_folder(session.config) / "warm").prepare()


def shared_folder(config: pytest.Config) -> Path:
    """Return a folder that all test processes have in common."""
    places: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
    base = places.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let it end."""
    if WARM in config.stash:
        config.stash[WARM].close()


@pytest.fixture(scope="session")
def warm(request: pytest.FixtureRequest) -> Server:
    """A process that forks fresh ones with everything imported, one for all test processes."""
    return request.config.stash[WARM]


@pytest.fixture
def warm_python(warm: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let what starts Python in this test get a process that is forked."""
    monkeypatch.setattr(sys, "executable", str(warm.python))
    return warm.python


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Stable Diffusion folder that predicts the noise."""
    return make_tiny_sd(tmp_path_factory.mktemp("base") / "tiny-sd")


@pytest.fixture(scope="session")
def tiny_sd_v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Stable Diffusion folder that predicts the velocity."""
    return make_tiny_sd(tmp_path_factory.mktemp("base") / "tiny-sd-v", prediction_type="v_prediction")


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """A folder of six 40 x 36 pictures, each with its caption in a ``.txt`` file."""
    import numpy as np
    from PIL import Image

    folder = tmp_path / "tiny-data"
    folder.mkdir()
    for index, subject in enumerate(SUBJECTS):
        pixels = np.random.default_rng(index).integers(0, 256, (36, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a drawing of a {subject}", "utf-8")
    return folder
