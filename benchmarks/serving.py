"""The server under load beside a sequential diffusers loop, on the same requests.

    python benchmarks/serving.py                    # 8 clients, 48 pictures of mini, three rounds each, in turn

Each client asks for one picture after another, with steps, guidance, prompt and seed of its own. The loop draws the
same requests one after another with a plain diffusers pipeline; so do its answers wait: a request's latency there
counts from the moment when the client could have asked. Both draw on one thread. Compared are pictures a second, the
99th percentile of the latencies, and the pictures themselves; it exits with 1 when the medians of the rounds do not
hold what is asked of them.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure

os.environ.setdefault("OMP_NUM_THREADS", "1")

LAST_BITS = 1
"""Levels of 255 by which a picture may differ: a matrix product of more rows rounds otherwise."""
PROMPTS = ("a dog", "a red car", "a castle on a blue background", "a cat to the left of a tree", "a small rocket")


@dataclass(frozen=True)
class Outcome:
    """One round of one side."""

    seconds: float
    latencies: list[float]
    pictures: dict[int, Any]


def requests(count: int) -> list[dict[str, Any]]:
    """Return mixed requests."""
    steps, guidance = (12, 16, 20, 24), (3.0, 5.0, 7.0)
    return [
        {"prompt": PROMPTS[n % 5], "seed": n, "steps": steps[n % 4], "guidance_scale": guidance[n % 3]}
        for n in range(count)
    ]


def by_loop(asked: list[dict[str, Any]], clients: int) -> Outcome:
    """Draw with diffusers, one request after another."""
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    import brushwork

    folder = Path(brushwork.__file__).parent / "assets" / "mini"
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    settings = {"use_karras_sigmas": True, "timestep_spacing": "linspace", "algorithm_type": "dpmsolver++"}
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, **settings)
    pipeline.set_progress_bar_config(disable=True)

    def draw(each: dict[str, Any]) -> Any:
        generator = torch.Generator().manual_seed(each["seed"])
        return pipeline(
            each["prompt"],
            num_inference_steps=each["steps"],
            guidance_scale=each["guidance_scale"],
            generator=generator,
        ).images[0]

    draw(asked[0])
    began, pictures, latencies, free = time.perf_counter(), {}, [], [0.0] * clients
    for place, each in enumerate(asked):
        pictures[each["seed"]] = draw(each)
        now = time.perf_counter() - began
        latencies.append(now - free[place % clients])
        free[place % clients] = now
    return Outcome(time.perf_counter() - began, latencies, pictures)


def by_server(asked: list[dict[str, Any]], clients: int) -> Outcome:
    """Ask a server that runs, with so many clients at once."""
    import httpx
    import PIL.Image

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "brushwork", "serve", "--port", "0", "--json", "--device", "cpu"]
        places = ["--data", f"{folder}/served", "--runs", f"{folder}/runs", "--datasets", f"{folder}/datasets"]
        process = subprocess.Popen([*command, *places], stdout=subprocess.PIPE, text=True)  # noqa: S603  (ourselves)
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]

        def draw(client: httpx.Client, each: dict[str, Any]) -> tuple[float, Any]:
            began = time.perf_counter()
            job = client.post("/api/v1/jobs", json={"kind": "txt2img", "model": "mini", **each}).json()["id"]
            with client.stream("GET", f"/api/v1/jobs/{job}/events") as events:
                for _ in events.iter_lines():
                    pass
            picture = client.get(f"/api/v1/jobs/{job}").json()["pictures"][0]["id"]
            data = client.get(f"/api/v1/images/{picture}").content
            with PIL.Image.open(io.BytesIO(data)) as image:
                return time.perf_counter() - began, image.convert("RGB")

        def one(number: int) -> list[tuple[int, float, Any]]:
            with httpx.Client(base_url=url, timeout=600) as client:
                return [(each["seed"], *draw(client, each)) for each in asked[number::clients]]

        with httpx.Client(base_url=url, timeout=600) as client:
            draw(client, asked[0])
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            found = [each for answers in pool.map(one, range(clients)) for each in answers]
        seconds = time.perf_counter() - began
        process.terminate()
        process.wait()
        process.stdout.close()
    return Outcome(seconds, [each[1] for each in found], {each[0]: each[2] for each in found})


def furthest(one: dict[int, Any], other: dict[int, Any]) -> int:
    """Return how far two sides' pictures are apart at most, in levels of 0 to 255."""
    import numpy as np

    return max(int(np.abs(np.asarray(one[seed], int) - np.asarray(other[seed], int)).max()) for seed in one)


def percentile(values: list[float], share: float) -> float:
    """Return a percentile by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    """Measure both in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--least", type=float, default=1.3, help="pictures a second, in those of the loop")
    parser.add_argument("--most", type=float, default=1.0, help="the 99th percentile of the latencies, likewise")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    asked, rounds = requests(options.pictures), []
    for number in range(options.rounds):
        loop, server = by_loop(asked, options.clients), by_server(asked, options.clients)
        rounds.append({
            "throughput": loop.seconds / server.seconds,
            "p99": percentile(server.latencies, 0.99) / percentile(loop.latencies, 0.99),
            "loop_seconds": loop.seconds, "server_seconds": server.seconds,
            "furthest": furthest(loop.pictures, server.pictures),
        })  # fmt: skip
        told = rounds[-1]
        print(
            f"round {number + 1}: throughput x{told['throughput']:.2f} of the loop, p99 x{told['p99']:.2f} of its, "
            f"pictures at most {told['furthest']} of 255 apart"
        )
    middle = {name: statistics.median(each[name] for each in rounds) for name in ("throughput", "p99")}
    apart = max(each["furthest"] for each in rounds)
    held = middle["throughput"] >= options.least and middle["p99"] <= options.most and apart <= LAST_BITS
    print(
        f"median of {options.rounds}: throughput x{middle['throughput']:.2f} (to hold: {options.least:g}), p99 "
        f"x{middle['p99']:.2f} (at most {options.most:g}), pictures {apart} apart (at most {LAST_BITS}): "
        f"{'held' if held else 'NOT held'}"
    )
    if options.json:
        figures = {"machine": measure.machine(), "rounds": rounds, "median": middle, "held": held}
        options.json.write_text(json.dumps(figures, indent=2), "utf-8")
    sys.exit(int(not held))


if __name__ == "__main__":
    main()
