"""What OMP_WAIT_POLICY=PASSIVE is worth, which the ``brushwork`` command sets, on a quiet and on a busy machine.

    python benchmarks/threads.py

Torch's threads meet after every small piece of work. By default the first ones there wait by spinning: quick when each
thread has a core, and a waste of the very time that the last one needs when another process holds its core. A small
LoRA training runs with 2 threads under either policy, in turn; once as the machine is, once beside a process of this
benchmark that keeps 2 threads busy for as long as that takes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import materials
import measure

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__)
POLICIES = {"spinning": {}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}}
ENOUGH = 15
"""Seconds of training after which no further step is begun: spinning threads can be slow without limit."""
LONGEST = 300
"""Seconds after which the competing process ends by itself, whatever happened to this one."""


def keep_busy(threads: int) -> None:
    """Keep ``threads`` threads at work (hashing lets go of Python's lock) for LONGEST seconds at most."""
    end = time.monotonic() + LONGEST
    block = bytes(1 << 20)

    def work() -> None:
        while time.monotonic() < end:
            hashlib.sha256(block).digest()

    for _ in range(threads):
        threading.Thread(target=work).start()


@contextlib.contextmanager
def competitor(threads: int) -> Iterator[None]:
    """Within this context another process keeps ``threads`` threads busy; none for 0."""
    command = [sys.executable, str(HERE), "--keep-busy", str(threads)]
    busy = subprocess.Popen(command) if threads else None  # noqa: S603  (this very file)
    try:
        yield
    finally:
        if busy:
            busy.kill()
            busy.wait()


def time_steps(base: Path, pictures: Path, steps: int) -> None:
    """Train and print the seconds, wall and CPU, of a step after the first; fewer steps if they take too long."""
    from brushwork import config as configs
    from brushwork import progress
    from brushwork.train import prepare

    progress.silence()
    tree = {
        "base": str(base),
        "method": {"type": "lora", "rank": 4},
        "data": {"path": str(pictures), "resolution": 64, "validation_split": 0},
        "train": {"max_train_steps": steps + 1, "train_batch_size": 4, "device": "cpu"},
        "validation": {"prompts": ["a red boat"], "samples_during_training": 0},
    }
    trained = prepare(configs.load(tree)).steps()
    next(trained)
    wall, cpu, done = time.perf_counter(), time.process_time(), 0
    for _ in trained:
        done += 1
        if time.perf_counter() - wall > ENOUGH:
            break
    print(json.dumps({"wall": (time.perf_counter() - wall) / done, "cpu": (time.process_time() - cpu) / done}))


def child(folder: Path, policy: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Run ``time_steps`` in a process of its own with 2 threads: the policy is read when torch is imported."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_NUM_THREADS": "2", "BRUSHWORK_CACHE": str(folder / "cache"), **POLICIES[policy]}
    command = [sys.executable, str(HERE), "--time-steps", str(folder), "--steps", str(arguments.steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603  (this very file)
    if done.returncode:
        raise measure.ChildError(done.stderr[-measure.SHOWN :])
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return the seconds of a step for each state of the machine, policy, clock and round."""
    figures: dict[str, dict[str, dict[str, list[float]]]] = {}
    for state, threads in (("as it is", 0), ("beside 2 busy threads", 2)):
        figures[state] = {policy: {"wall": [], "cpu": []} for policy in POLICIES}
        for _ in range(arguments.rounds):
            for policy in POLICIES:
                with competitor(threads):
                    seconds = child(folder, policy, arguments)
                print(f"{state}, {policy}: {seconds['wall']:.3f} s a step", file=sys.stderr, flush=True)
                for clock, value in seconds.items():
                    figures[state][policy][clock].append(value)
    return figures


def report(figures: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """Return how many times as fast a step is with PASSIVE, by either clock."""
    rows = []
    for state, by_policy in figures.items():
        cells = [state]
        for clock in ("wall", "cpu"):
            pairs = zip(by_policy["spinning"][clock], by_policy["passive"][clock], strict=True)
            ratio = measure.summary([spinning / passive for spinning, passive in pairs])
            cells.append(f"x{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
        rows.append(cells)
    return measure.table(["the machine", "wall: speed-up with PASSIVE", "CPU: speed-up with PASSIVE"], rows)


def main() -> None:
    """Measure and print; the hidden options are for the processes that this one starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--keep-busy", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--time-steps", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.keep_busy:
        keep_busy(asked.keep_busy)
        return
    if asked.time_steps:
        time_steps(asked.time_steps / "base", asked.time_steps / "pictures", asked.steps)
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        materials.make_base(folder / "base", width=40)
        materials.make_pictures(folder / "pictures", count=8, size=64)
        figures = compare(folder, asked)
    print(report(figures))
    if asked.json:
        asked.json.write_text(json.dumps({"machine": measure.machine(), "seconds": figures}, indent=2), "utf-8")


if __name__ == "__main__":
    main()
