"""The server under mixed load for minutes: is it as large at the end as it was when everything was loaded?

    python benchmarks/soak.py --minutes 30          # a line a minute, then the growth; exits with 1 beyond --most

Several clients submit, follow, look at and cancel jobs of all kinds, upload pictures, leave event streams half read,
and list the history. Printed are the resident memory of the server and of its worker, and pictures a second. Growth is
the difference of the means of the first and the last quarter after the first tenth, which loads everything once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """One look at the processes: MiB."""

    seconds: float
    server: float
    worker: float
    pictures: int


@contextlib.contextmanager
def running(folder: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server and end it."""
    command = [sys.executable, "-m", "brushwork", "serve", "--port", "0", "--json", "--device", "cpu"]
    places = ["--data", f"{folder}/served", "--runs", f"{folder}/runs", "--datasets", f"{folder}/datasets"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, *places], stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603  (ourselves)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def client(url: str, number: int, until: float) -> None:
    """Do what clients do, until a time."""
    import httpx

    choose = random.Random(number)  # noqa: S311  (what a client does is no secret)
    transport = httpx.HTTPTransport(local_address=f"127.0.0.{2 + number}")
    with httpx.Client(base_url=url, timeout=300, transport=transport) as asked:
        while time.monotonic() < until:
            job = asked.post("/api/v1/jobs", json=some_job(asked, choose))
            if job.status_code == 429:  # noqa: PLR2004  (the queue is full)
                time.sleep(0.5)
                continue
            follow(asked, job.json()["id"], choose)


def some_job(asked: Any, choose: random.Random) -> dict[str, Any]:
    """Return a request of some kind."""
    common = {"prompt": f"a dog {choose.random()}", "steps": choose.choice((4, 8, 12)), "seed": choose.randrange(999)}
    kind = choose.choice(("txt2img", "txt2img", "img2img", "compare", "grid"))
    if kind == "img2img":
        return {"kind": kind, **common, "init": uploaded(asked)}
    if kind == "compare":
        return {"kind": kind, **common, "models": ["mini", "mini"]}
    if kind == "grid":
        return {"kind": kind, **common, "axes": [{"name": "guidance_scale", "values": [3, 7]}]}
    return {"kind": kind, **common, "n": choose.choice((1, 2, 8))}


def uploaded(asked: Any) -> str:
    """Send a picture and return its id."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "PNG")
    return str(asked.post("/api/v1/images", files={"file": ("x.png", buffer.getvalue())}).json()["id"])


def follow(asked: Any, job: str, choose: random.Random) -> None:
    """Watch a job: to its end, not to its end, or cancel it."""
    fate = choose.random()
    if fate < 0.2:  # noqa: PLR2004  (a fifth)
        asked.delete(f"/api/v1/jobs/{job}")
        return
    with asked.stream("GET", f"/api/v1/jobs/{job}/events") as events:
        for number, _ in enumerate(events.iter_lines()):
            if fate < 0.4 and number > 5:  # noqa: PLR2004  (another fifth)
                return
    shown = asked.get(f"/api/v1/jobs/{job}").json()
    asked.get("/api/v1/jobs?limit=20")
    for picture in shown["pictures"]:
        if picture["id"]:
            asked.get(f"/api/v1/images/{picture['id']}/thumb")


def look(process: subprocess.Popen[str], url: str, began: float) -> Sample:
    """Return how large server and worker are."""
    import httpx
    import psutil

    own = psutil.Process(process.pid)
    sizes = [each.memory_info().rss / MIB for each in (own, *own.children())]
    lines = dict(line.rsplit(" ", 1) for line in httpx.get(f"{url}metrics", timeout=300).text.splitlines())
    pictures = int(float(lines["brushwork_pictures_total"]))
    return Sample(time.monotonic() - began, sizes[0], sum(sizes[1:]), pictures)


def growth(samples: list[Sample], who: str) -> float:
    """Return by how many MiB the last quarter is larger than the first, after the first tenth."""
    sizes = [float(getattr(each, who)) for each in samples[max(1, len(samples) // 10) :]]
    quarter = max(1, len(sizes) // 4)
    return sum(sizes[-quarter:]) / quarter - sum(sizes[:quarter]) / quarter


def main() -> None:
    """Soak, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--most", type=float, default=50, help="MiB that either process may grow")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    every = min(60.0, options.minutes * 60 / 20)
    with tempfile.TemporaryDirectory() as folder, running(folder) as (process, url):
        began, samples = time.monotonic(), []
        until = began + options.minutes * 60
        clients = [threading.Thread(target=client, args=(url, n, until), daemon=True) for n in range(options.clients)]
        for each in clients:
            each.start()
        while time.monotonic() < until:
            time.sleep(min(every, max(0.0, until - time.monotonic())))
            samples.append(look(process, url, began))
            told = samples[-1]
            speed = told.pictures / told.seconds
            print(
                f"{told.seconds / 60:6.1f} min  server {told.server:6.0f} MiB  worker {told.worker:6.0f} MiB  "
                f"{told.pictures} pictures, {speed:.1f}/s",
                flush=True,
            )
        for each in clients:
            each.join(300)  # those that still follow a job
    grown = {who: growth(samples, who) for who in ("server", "worker")}
    print(f"growth: server {grown['server']:+.1f} MiB, worker {grown['worker']:+.1f} MiB (allowed {options.most:g})")
    if options.json:
        figures = {"machine": measure.machine(), "growth_mib": grown, "samples": [vars(each) for each in samples]}
        options.json.write_text(json.dumps(figures, indent=2), "utf-8")
    sys.exit(int(max(grown.values()) > options.most))


if __name__ == "__main__":
    main()
