"""The native API, asked over HTTP of a real server that draws with mini."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from PIL import Image
from served import serving

from brushwork import families, generate
from brushwork.infotext import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from served import Server
    from warm import Server as Warm

QUICK: dict[str, Any] = {"prompt": "a dog", "steps": 4, "seed": 5}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("native"), warm=warm) as running:
        yield running


def picture(server: Server, name: str) -> bytes:
    with server.client() as client:
        return client.get(f"/api/v1/images/{name}").content


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"), int)


def test_a_job_draws_the_picture_that_generate_draws(server: Server) -> None:
    job = server.draw(kind="txt2img", n=2, guidance_scale=5, sampler="Euler a", **QUICK)
    assert job["state"] == "done"
    family = families.load("mini")
    requests = [generate.Request("a dog", seed=seed, steps=4, guidance_scale=5, sampler="Euler a") for seed in (5, 6)]
    for drawn, expected in zip(job["pictures"], generate.draw(family, requests, label="mini"), strict=True):
        data = picture(server, drawn["id"])
        assert np.abs(pixels(data) - np.asarray(expected.image, int)).max() <= 1
        assert read_bytes(data).fields["Seed"] == str(expected.request.seed)


def test_events_tell_the_whole_story_and_go_on_after_any_of_them(server: Server) -> None:
    job = server.submit(kind="txt2img", **{**QUICK, "steps": 12})["id"]
    events = followed(server, job)
    assert [kind for _, kind, _ in events if kind != "progress"] in (
        ["queued", "started", "picture", "done"],
        ["queued", "loading", "started", "picture", "done"],
    )
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    fractions = [data["progress"] for _, kind, data in events if kind == "progress"]
    assert fractions == sorted(fractions)
    assert len(fractions) == 12
    assert followed(server, job, after=5) == events[5:]


def followed(server: Server, job: str, after: int = 0) -> list[tuple[int, str, dict[str, Any]]]:
    with server.client() as client:
        text = client.get(f"/api/v1/jobs/{job}/events", headers={"Last-Event-ID": str(after)}).text
    blocks = [block.split("\n") for block in text.strip().split("\n\n") if not block.startswith(":")]
    events = [(int(a[4:]), b[7:], json.loads(c[6:])) for a, b, c in blocks]
    for _, _, data in events:
        data.pop("preview", None)  # only the newest is kept for whoever comes later
    return events


def test_a_comparison_has_the_same_seed_in_each_row_and_a_grid_every_cell(server: Server) -> None:
    job = server.draw(kind="compare", models=["mini", "mini"], prompts=["a dog", "a car"], steps=2, seed=1)
    assert [(each["label"], each["seed"]) for each in job["pictures"]] == [("mini", 1)] * 4
    first, second, third, _ = (picture(server, each["id"]) for each in job["pictures"])
    assert (pixels(first) == pixels(second)).all()
    assert (pixels(first) != pixels(third)).any()
    axes = [{"name": "prompt", "values": ["dog", "cat"]}, {"name": "steps", "values": [1, 2]}]
    grid = server.draw(kind="grid", prompt="a dog", axes=axes, seed=1)
    assert [each["label"] for each in grid["pictures"]] == [
        "steps 1, prompt dog", "steps 1, prompt cat", "steps 2, prompt dog", "steps 2, prompt cat",
    ]  # fmt: skip


def test_a_picture_that_was_sent_is_changed_only_where_the_mask_is_white(server: Server) -> None:
    start, mask = Image.new("RGB", (64, 64), "red"), Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    ids = [upload(server, each) for each in (start, mask)]
    job = server.draw(kind="inpaint", init=ids[0], mask=ids[1], strength=0.9, **QUICK)
    drawn = pixels(picture(server, job["pictures"][0]["id"]))
    assert (drawn[:, 32:] == (255, 0, 0)).all()
    assert (drawn[:, :32] != (255, 0, 0)).any()


def upload(server: Server, image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    with server.client() as client:
        answer = client.post("/api/v1/images", files={"file": ("x.png", buffer.getvalue())})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_running_and_a_waiting_job_can_be_cancelled(server: Server) -> None:
    long = server.submit(kind="txt2img", **{**QUICK, "steps": 150, "n": 30})["id"]
    waiting = server.submit(kind="txt2img", **QUICK)["id"]
    server.wait(long, until=("running",))
    with server.client() as client:
        assert client.delete(f"/api/v1/jobs/{long}").json()["cancelled"]
        assert not client.delete(f"/api/v1/jobs/{long}").json()["cancelled"]
    assert server.wait(long)["state"] == "cancelled"
    assert server.wait(waiting)["state"] == "done"


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"model": "mimi"}, "Did you mean mini?"),
        ({"model": "../../etc/passwd"}, "there is no"),
        ({"steps": 100_000}, "100000 is more than the limit of this server, 150"),
        ({"n": 1000}, "1000 is more than the limit of this server, 100"),
        ({"width": 64000, "height": 64}, "64000 is more than the limit of this server, 2048"),
        ({"prompt": "x" * 9000}, "9000 is more than the limit"),
        ({"sampler": "Eulr"}, "Did you mean"),
        ({"prompt": "a <lora:ink:1>"}, "adapter: there is no 'ink'"),
        ({"colour": "red"}, "colour"),
        ({"kind": "img2img", "init": "../secret"}, "there is no picture"),
    ],
)
def test_what_cannot_be_drawn_is_refused_at_once(server: Server, job: dict[str, Any], said: str) -> None:
    with server.client() as client:
        answer = client.post("/api/v1/jobs", json={"kind": "txt2img", **QUICK, **job})
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]


def test_what_only_the_model_knows_is_told_by_the_job(server: Server) -> None:
    job = server.draw(kind="txt2img", **QUICK, width=62, height=64)
    assert (job["state"], job["error"]["type"]) == ("failed", "ConfigError")
    assert "62 is not a multiple of" in job["error"]["message"]


def test_a_worker_that_is_killed_once_is_replaced_and_the_job_finished(server: Server) -> None:
    job = server.submit(kind="txt2img", **{**QUICK, "steps": 80})["id"]
    server.wait(job, until=("running",))
    for child in psutil.Process(server.process.pid).children():
        child.kill()
    shown = server.wait(job)
    assert shown["state"] == "done", shown
    assert (
        any("SIGKILL" in note for note in shown["notes"])
        or "worker_deaths_total 1" in server.client().get("/metrics").text
    )


def test_the_queue_is_bounded(tmp_path: Path, warm: Warm) -> None:
    with serving(tmp_path, "--queue", "2", warm=warm) as small, small.client() as client:
        first = [client.post("/api/v1/jobs", json={"kind": "txt2img", **QUICK, "n": 30}) for _ in range(2)]
        late = client.post("/api/v1/jobs", json={"kind": "txt2img", **QUICK})
        assert [each.status_code for each in first] == [202, 202]
        assert late.status_code == 429
        assert late.headers["retry-after"]
        assert "2 jobs wait already" in late.json()["error"]["message"]


def test_after_a_kill_the_history_is_there_and_what_ran_is_marked(tmp_path: Path, warm: Warm) -> None:
    with serving(tmp_path, warm=warm) as first:
        done = first.draw(kind="txt2img", **QUICK)
        running = first.submit(kind="txt2img", **{**QUICK, "steps": 150, "n": 20})["id"]
        data = picture(first, done["pictures"][0]["id"])
        first.kill()
    with serving(tmp_path, warm=warm) as second:
        assert second.job(done["id"])["state"] == "done"
        assert picture(second, done["pictures"][0]["id"]) == data
        ended = second.job(running)
        assert (ended["state"], ended["error"]["type"]) == ("failed", "server_restarted")
        assert second.draw(kind="txt2img", **QUICK)["state"] == "done"
