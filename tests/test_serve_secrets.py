"""Nothing that the server says, in answers, headers or its log, has the token or a folder of this machine in it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from click.testing import CliRunner
from pretending import png, pretending
from served import Server, serving

from brushwork.cli import cli
from brushwork.serve import surroundings
from brushwork.serve.app import make_app, url_of
from brushwork.serve.easel import EaselConfig
from brushwork.serve.hand import Hand
from brushwork.serve.listen import UVICORN, journal
from brushwork.serve.places import Places
from brushwork.serve.settings import LEAST_TOKEN, ServeConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "a-token-that-nobody-guesses"  # noqa: S105


class Heard:
    """A client that keeps everything it was told."""

    def __init__(self, url: str) -> None:
        self.said: dict[str, str] = {}
        hooks = {"response": [self._keep]}
        headers = {"authorization": f"Bearer {TOKEN}"}
        self.client = httpx.Client(base_url=url, timeout=120, headers=headers, event_hooks=hooks)

    def _keep(self, answer: httpx.Response) -> None:
        answer.read()
        head = "\n".join(f"{key}: {value}" for key, value in answer.headers.multi_items())
        where = f"{answer.request.method} {answer.request.url.path} {answer.status_code} {len(self.said)}"
        self.said[where] = f"{head}\n{answer.content.decode('latin-1')}"

    def json(self, method: str, path: str, **options: Any) -> Any:
        return self.client.request(method, path, **options).json()

    def job(self, **asked: Any) -> dict[str, Any]:
        job = self.json("POST", "/api/v1/jobs", json={"kind": "txt2img", "prompt": "a cat", "steps": 2, **asked})["id"]
        end = time.monotonic() + 120
        while (shown := self.json("GET", f"/api/v1/jobs/{job}"))["state"] in ("queued", "running"):
            assert time.monotonic() < end
            time.sleep(0.1)
        self.client.get(f"/api/v1/jobs/{job}/events")
        return dict(shown)


@pytest.fixture
def models(tiny_sd: Path, tmp_path: Path) -> Path:
    """Return a folder with a model, one that is broken, and an adapter that fits nothing."""
    folder = tmp_path / "models"
    shutil.copytree(tiny_sd, folder / "good")
    shutil.copytree(tiny_sd, folder / "bad")
    (folder / "bad" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    header = json.dumps({"x.lora_up.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "odd.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"0000")
    return folder


@pytest.fixture
def server(models: Path, tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, "--models", str(models), "--token", TOKEN) as running:
        yield running


def secrets(folder: Path) -> list[str]:
    return [TOKEN, str(folder), str(folder.resolve()), str(Path.home()), str(Path(__file__).parent)]


def test_jobs_errors_and_deaths_tell_neither_token_nor_folders(server: Server, tmp_path: Path) -> None:
    heard = Heard(server.url)
    good = heard.job(model="good")
    assert good["state"] == "done", good
    heard.client.get(f"/api/v1/images/{good['pictures'][0]['id']}")
    heard.client.get(f"/api/v1/jobs/{good['id']}/zip")
    assert heard.job(model="bad")["state"] == "failed"
    assert heard.job(model="good", adapters=[{"name": "odd"}])["state"] == "failed"
    heard.json("POST", "/api/v1/jobs", json={"kind": "txt2img", "model": f"{tmp_path}/models/good"})
    for upload in (b"nothing", png()[:40]):
        assert heard.client.post("/api/v1/images", files={"file": upload}).status_code == 422
        assert heard.client.post("/api/v1/metadata/parse", files={"file": upload}).status_code == 422
    bad = {"override_settings": {"sd_model_checkpoint": "bad"}}
    assert heard.client.post("/sdapi/v1/txt2img", json={"prompt": "a", **bad}).status_code == 422
    assert heard.client.post("/v1/images/generations", json={"prompt": "a", "model": "bad"}).status_code == 400
    for path in ("/sdapi/v1/options", "/sdapi/v1/sd-models", "/sdapi/v1/loras", "/v1/models", "/api/v1/models"):
        assert heard.client.get(path).status_code == 200
    for path in ("/openapi.json", "/metrics", "/api/v1/limits", "/api/v1/train/schema", "/readyz", "/"):
        assert heard.client.get(path).status_code == 200
    assert httpx.get(server.url).status_code == 401
    login = httpx.get(f"{server.url}?token={TOKEN}")
    assert login.status_code == 303
    heard.said["login"] = str(login.headers)

    (tmp_path / "datasets" / "empty").mkdir(parents=True)
    run = heard.json("POST", "/api/v1/runs", json={"data": "empty", "steps": 1, "base": "bad", "name": "lost"})
    assert run["name"] == "lost", run
    end = time.monotonic() + 120
    while heard.json("GET", "/api/v1/runs/lost")["status"] not in ("failed", "broken"):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert heard.json("GET", "/api/v1/runs")[0]["error"]
    heard.json("POST", "/api/v1/train/estimate", json={"data": "empty", "steps": 1, "base": "bad"})

    job = heard.json("POST", "/api/v1/jobs", json={"kind": "txt2img", "model": "good", "prompt": "a", "steps": 150})
    for child in psutil.Process(server.process.pid).children():
        child.kill()
    assert heard.client.delete(f"/api/v1/jobs/{job['id']}").status_code == 200

    heard.client.close()
    told = {**heard.said, "log": server.log.read_text()}
    found = [(where, secret) for where, text in told.items() for secret in secrets(tmp_path) if secret in text]
    assert found == []
    assert len(told) > 30


def test_what_a_run_left_is_read_and_downloaded_without_folders(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine"
    (run / "weights").mkdir(parents=True)
    data = tmp_path / "datasets" / "photos"
    (run / "config.yaml").write_text(f"base: mini\ndata: {{path: '{data}'}}\n")
    (run / "run.json").write_text('{"status": "done"}')
    (run / "README.md").write_text(f"trained on `{data}`")
    (run / "report.html").write_text(f"<p>from {data}</p>")
    (run / "metrics.json").write_text(json.dumps([{"name": "fid", "references": str(data)}]))
    with pretending(tmp_path) as server:
        said = [server.ask("GET", f"/api/v1/runs/mine{rest}") for rest in ("", "/report", "/weights", "/events")]
    assert [each.status_code for each in said] == [200] * 4
    import io
    import zipfile

    archive = zipfile.ZipFile(io.BytesIO(said[2].content))
    texts = [each.text for each in (said[0], said[1], said[3])]
    texts += [archive.read(name).decode() for name in archive.namelist()]
    assert "trained on `photos`" in texts
    assert "<p>from photos</p>" in texts
    assert not [text for text in texts if str(tmp_path) in text]


def test_what_a_worker_prints_reaches_the_log_without_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = Places(ServeConfig(data=tmp_path, models=(tmp_path / "models",), token=TOKEN))

    async def go() -> None:
        hand = Hand(EaselConfig(), lambda _: None, lambda _: None, places.hide)
        stream = asyncio.StreamReader(limit=1000)
        stream.feed_data(f"OSError: {tmp_path}/models/ink.safetensors is broken\n".encode())
        stream.feed_data(f'  File "{sys.prefix}/lib/x.py", line 3, in load {TOKEN}\n'.encode())
        stream.feed_eof()
        await hand.relay(stream)

    asyncio.run(go())
    said = capsys.readouterr().err
    assert "ink.safetensors is broken" in said
    assert not [each for each in (*secrets(tmp_path), sys.prefix) if each in said]


def test_the_servers_own_log_has_no_folders_in_its_tracebacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = [(each, each.handlers[:], each.propagate) for each in (root, *map(logging.getLogger, UVICORN))]
    level = root.level
    try:
        journal(Places(ServeConfig(data=tmp_path, token=TOKEN)))
        try:
            (tmp_path / "nothing").read_text()
        except OSError:
            logging.getLogger("uvicorn.error").exception("of %s with %s", tmp_path / "images" / "a.png", TOKEN)
    finally:
        logging.captureWarnings(capture=False)
        for each, handlers, propagate in before:
            each.handlers[:], each.propagate = handlers, propagate
        root.setLevel(level)
    said = capsys.readouterr().err
    assert "FileNotFoundError" in said
    assert "of a.png with ***" in said.replace("images/", "")
    assert not [secret for secret in secrets(tmp_path) if secret in said]


def test_making_the_application_turns_the_libraries_telemetry_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in surroundings.QUIET:
        monkeypatch.setenv(name, "0")
    folders = {"data": tmp_path / "served", "runs": tmp_path / "runs", "datasets": tmp_path / "datasets"}
    app: Any = make_app(ServeConfig(**folders))
    app.app.state.engine.store.close()
    assert os.environ.items() >= surroundings.QUIET.items()


def test_a_token_that_was_given_is_not_printed_and_one_that_was_made_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def listening(config: ServeConfig, started: Callable[[str], None]) -> None:
        started(url_of(config, 7860))

    monkeypatch.setattr("brushwork.serve.listen.listen", listening)
    monkeypatch.setenv("BRUSHWORK_TOKEN", "")
    given = CliRunner().invoke(cli, ["serve", "--token", TOKEN])
    assert (given.exit_code, given.output.strip()) == (0, "brushwork studio: http://127.0.0.1:7860/")
    made = CliRunner().invoke(cli, ["serve", "--token", "auto", "--host", "0.0.0.0", "--json"])  # noqa: S104
    assert json.loads(made.output)["url"].startswith("http://0.0.0.0:7860/?token=")
    assert len(json.loads(made.output)["url"].partition("token=")[2]) >= LEAST_TOKEN
