"""Nothing fills the disk in silence: what goes by itself, what is refused with the limit, what a user can remove."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from pretending import png, pretending

from brushwork.errors import UserError
from brushwork.infotext import read_bytes
from brushwork.serve.datasets import MARK, Datasets
from brushwork.serve.line import Full
from brushwork.serve.live import Live
from brushwork.serve.settings import Keep, Limits, ServeConfig
from brushwork.serve.turns import Turns

if TYPE_CHECKING:
    from pathlib import Path

    from pretending import Pretended


def sweep(server: Pretended) -> dict[str, int]:
    """Sweep in the server's own thread."""
    return asyncio.run_coroutine_threadsafe(server.engine.keeper.sweep(), server.loop).result(30)


def draw(server: Pretended, **job: Any) -> dict[str, Any]:
    made = server.ask("POST", "/api/v1/jobs", json={"kind": "txt2img", "prompt": "a dog", **job})
    assert made.status_code == 202, made.text
    server.until(server.engine.live[made.json()["id"]].over.is_set)
    return dict(server.ask("GET", f"/api/v1/jobs/{made.json()['id']}").json())


def send(server: Pretended, size: int = 8) -> str:
    answer = server.ask("POST", "/api/v1/images", files={"file": ("x.png", png(size))})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def age(server: Pretended, picture: str, hours: float) -> None:
    when = time.time() - 3600 * hours
    server.within(
        lambda: server.engine.store._database.execute("update uploads set created = ? where id = ?", (when, picture))
    )


def test_sent_pictures_go_when_no_job_names_them_and_the_others_with_their_last_job(tmp_path: Path) -> None:
    with pretending(tmp_path) as server:
        used, unused, fresh = (send(server) for _ in range(3))
        job = draw(server, kind="img2img", init=used)
        age(server, used, 25)
        age(server, unused, 25)
        assert sweep(server)["uploads"] == 1
        found = [server.ask("GET", f"/api/v1/images/{each}").status_code for each in (used, unused, fresh)]
        assert found == [200, 404, 200]
        assert server.ask("POST", f"/api/v1/jobs/{job['id']}/forget").status_code == 200
        assert server.ask("GET", f"/api/v1/images/{job['pictures'][0]['id']}").status_code == 404
        assert sweep(server)["uploads"] == 1
        assert [each.stem for each in server.engine.store.images.iterdir()] == [fresh]


def test_the_oldest_jobs_go_beyond_the_number_or_the_bytes_that_are_kept(tmp_path: Path) -> None:
    with pretending(tmp_path, keep=Keep(pictures=3)) as server:
        jobs = [draw(server, n=2)["id"] for _ in range(3)]
        assert sweep(server)["jobs"] == 2
        assert [each["id"] for each in server.ask("GET", "/api/v1/jobs").json()] == jobs[2:]
        assert server.ask("GET", f"/api/v1/jobs/{jobs[0]}/events").status_code == 404
        used = server.ask("GET", "/api/v1/storage").json()
        assert used["pictures"]["count"] == 2
        assert used["pictures"]["bytes"] == sum(each.stat().st_size for each in server.engine.store.images.iterdir())
    with pretending(tmp_path, keep=Keep(bytes=1)) as server:
        server.until(lambda: not server.engine.store.ended())  # the sweep at the start


def test_a_job_that_is_not_over_is_neither_forgotten_nor_robbed_of_its_start(tmp_path: Path) -> None:
    with pretending(tmp_path, seconds=30, keep=Keep(pictures=1)) as server:
        start = send(server)
        made = server.ask("POST", "/api/v1/jobs", json={"kind": "img2img", "init": start, "n": 3}).json()
        assert sweep(server)["jobs"] == 0
        for method, path in (("POST", f"/api/v1/jobs/{made['id']}/forget"), ("DELETE", f"/api/v1/images/{start}")):
            answer = server.ask(method, path)
            assert (answer.status_code, "cancel" in answer.json()["error"]["message"]) == (422, True)
        server.ask("DELETE", f"/api/v1/jobs/{made['id']}")
        assert server.ask("DELETE", f"/api/v1/images/{start}").status_code == 200
        assert server.ask("DELETE", f"/api/v1/images/{start}").status_code == 404


def test_beyond_the_limits_a_picture_is_refused_with_the_limit_and_the_way_out(tmp_path: Path) -> None:
    limits = Limits(uploads=len(png()) + 10, datasets=len(png()) + 200)
    with pretending(tmp_path, limits=limits) as server:
        send(server)
        answer = server.ask("POST", "/api/v1/images", files={"file": ("x.png", png(9))})
        assert answer.status_code == 422
        assert f"{limits.uploads:,}" in answer.json()["error"]["message"]
        assert server.ask("DELETE", "/api/v1/storage/uploads").json() == {"removed": 1}
        send(server, 9)
        noise = Image.frombytes("RGB", (16, 16), os.urandom(768))
        buffer = io.BytesIO()
        noise.save(buffer, "PNG")
        answers = [
            server.ask("POST", "/api/v1/datasets/bear", files={"file": ("x.png", data)})
            for data in (png(), buffer.getvalue())
        ]
        assert [each.status_code for each in answers] == [201, 422]
        assert f"{limits.datasets:,}" in answers[1].json()["error"]["message"]


def test_only_data_sets_that_were_made_here_and_never_used_are_abandoned(tmp_path: Path) -> None:
    datasets = Datasets(ServeConfig(datasets=tmp_path / "sets"))
    for name in ("old", "trained", "fresh"):
        datasets.add(name, png(), "a dog")
    (tmp_path / "sets" / "by hand").mkdir()
    (tmp_path / "sets" / "by hand" / "x.png").write_bytes(png())
    datasets.used("trained")
    for name in ("old", "trained"):
        os.utime(tmp_path / "sets" / name / MARK, (0, 0))
    assert datasets.abandoned(3600) == ["old"]
    datasets.describe("old", datasets.items("old")[0]["picture"], "a red dog")
    assert datasets.abandoned(3600) == []


def test_a_picture_is_turned_and_cut_and_keeps_its_caption(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10), "red")
    image.paste("blue", (10, 0, 20, 10))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    datasets = Datasets(ServeConfig(datasets=tmp_path))
    first = datasets.add("bear", buffer.getvalue(), "half and half")
    turned = datasets.change("bear", first, 90, (0, 0, 1, 0.5))
    (item,) = datasets.items("bear")
    assert (item["picture"], item["caption"]) == (turned, "half and half")
    with Image.open(datasets.picture("bear", turned)) as found:
        assert found.size == (10, 10)
        assert found.getpixel((5, 5)) == (255, 0, 0)  # clockwise, the left half is on top
    for turn, crop in ((45, None), (0, (0.5, 0, 0.5, 1)), (0, (0, 0, 1, 2))):
        with pytest.raises(UserError, match=r"turn: 45|crop: "):
            datasets.change("bear", turned, turn, crop)  # type: ignore[arg-type]


def test_a_sheet_has_the_grid_with_its_axes_in_the_infotext(tmp_path: Path) -> None:
    axes = [{"name": "prompt", "values": ["dog", "cat"]}, {"name": "seed", "values": [1, 12345678]}]
    with pretending(tmp_path) as server:
        job = draw(server, kind="grid", axes=axes)
        (table,) = job["tables"]
        assert (table["columns"], table["rows"]) == (["dog", "cat"], ["seed 1", "seed 12345678"])
        answer = server.ask("GET", f"/api/v1/jobs/{job['id']}/sheet")
        fields = read_bytes(answer.content).fields
        assert (fields["X Type"], fields["X Values"], fields["Y Values"]) == ("Prompt S/R", "dog, cat", "1, 12345678")
        with Image.open(io.BytesIO(answer.content)) as sheet:
            colours = sheet.convert("RGB").getcolors(1 << 20) or []
        assert max(count for count, colour in colours if colour == (255, 0, 0)) == 4 * 128 * 128
        plain = draw(server, n=3)
        assert plain["tables"] == []
        assert server.ask("GET", f"/api/v1/jobs/{plain['id']}/sheet").status_code == 200


def test_an_upscaled_picture_keeps_what_it_was_made_from(tmp_path: Path) -> None:
    with pretending(tmp_path) as server:
        path = server.engine.store.path(draw(server)["pictures"][0]["id"])
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        chunks.add_text("parameters", "a dog\nSteps: 1, Sampler: Euler, Seed: 1")
        Image.new("RGB", (8, 8)).save(path, pnginfo=chunks)
        answer = server.ask("POST", f"/api/v1/images/{path.stem}/upscale", json={"scale": 3, "upscaler": "Nearest"})
        with Image.open(io.BytesIO(answer.content)) as larger:
            assert larger.size == (24, 24)
        assert read_bytes(answer.content).fields["Postprocess upscale by"] == "3"
        wrong = server.ask("POST", f"/api/v1/images/{path.stem}/upscale", json={"upscaler": "Lanzos"})
        assert (wrong.status_code, "Did you mean Lanczos" in wrong.text) == (422, True)


def test_styles_are_kept_in_the_file_that_a1111s_face_reads(tmp_path: Path) -> None:
    with pretending(tmp_path) as server:
        ink = {"prompt": "{prompt}, old ink", "negative_prompt": "colour"}
        assert server.ask("PUT", "/api/v1/styles/ink", json=ink).json() == {"name": "ink", **ink}
        assert server.ask("GET", "/sdapi/v1/prompt-styles").json() == server.ask("GET", "/api/v1/styles").json()
        assert "Did you mean ink" in server.ask("DELETE", "/api/v1/styles/inc").text
        assert server.ask("DELETE", "/api/v1/styles/ink").status_code == 200
        assert server.ask("GET", "/api/v1/styles").json() == []
        text = "a dog\nNegative prompt: cat\nSteps: 4, Sampler: Euler, Seed: 7"
        read = server.ask("POST", "/api/v1/metadata/text", json={"text": text}).json()
        assert (read["prompt"], read["negative_prompt"], read["fields"]["Seed"]) == ("a dog", "cat", "7")


def test_findings_name_the_pictures_of_the_data_set_and_no_folder(tmp_path: Path) -> None:
    with pretending(tmp_path) as server:
        for size, caption in ((8, "a dog"), (9, ""), (10, "a cat")):
            colour = Image.frombytes("RGB", (size, size), os.urandom(3 * size * size))
            buffer = io.BytesIO()
            colour.save(buffer, "PNG")
            form = {"file": ("x.png", buffer.getvalue())}
            server.ask("POST", "/api/v1/datasets/bear", files=form, data={"caption": caption})
        report = server.ask("GET", "/api/v1/datasets/bear/report?resolution=64")
        found = {each["kind"]: each for each in report.json()["findings"]}
        assert found["uncaptioned"]["level"] == "error"
        names = {each["picture"] for each in server.ask("GET", "/api/v1/datasets/bear").json()}
        assert set(found["uncaptioned"]["pictures"]) < names
        assert set(found["small"]["pictures"]) == names
        page = server.ask("GET", "/api/v1/datasets/bear/report/page?resolution=64")
        assert "sandbox" in page.headers["content-security-policy"]
        assert str(tmp_path) not in report.text + page.text


def test_who_follows_a_job_misses_nothing_that_is_told_meanwhile() -> None:
    async def heard() -> list[str]:
        live, kinds = Live("j", "me", "txt2img", [], [], deque()), []
        live.tell("queued")
        async for event in live.follow():
            kinds.append(event.type)
            if event.type == "queued":
                live.tell("started")
                live.tell("done")
        return kinds

    assert asyncio.run(asyncio.wait_for(heard(), 5)) == ["queued", "started", "done"]


def test_waiting_runs_outlive_the_process_and_are_bounded(tmp_path: Path) -> None:
    turns = Turns(tmp_path / "waiting.json", most=2)
    turns.add("a", ["x"])
    turns.add("b", ["y"])
    with pytest.raises(Full, match="2 training runs wait already"):
        turns.add("c", [])
    again = Turns(tmp_path / "waiting.json", most=2)
    assert again.names() == ["a", "b"]
    assert again.take() == ("a", ["x"])
    assert again.leave("b")
    assert not again.leave("b")
    assert len(Turns(tmp_path / "waiting.json", most=2)) == 0
