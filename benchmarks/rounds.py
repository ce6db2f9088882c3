"""Two trainers in turn: CPU seconds a step and of the whole process, and their ratios.

    result = compare({"theirs": side, "ours": other}, work, steps=(4, 24), rounds=3)
    print(to_table(result))

A side has ``run(work, steps) -> Cost``. Each runs twice in a round, for few and for more steps; the difference of the
two processes' CPU times, divided by the difference of the steps, is the time of one step: what comes before and after
the steps, and the first steps that warm up, are in both and fall out. The rounds are interleaved (A B A B), so that a
machine that grows slower does so for both.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import materials
import measure

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


class Side(Protocol):
    """A trainer that can be measured."""

    def run(self, work: Any, steps: int) -> measure.Cost:
        """Train for ``steps`` optimizer steps in a process of its own."""


def add_options(parser: argparse.ArgumentParser, *, pictures: int, batch: int) -> None:
    """Add the options that every comparison of two trainers has, with its own usual numbers."""
    parser.add_argument("--pythonpath", help="a folder that only the script finds modules in (torchvision)")
    parser.add_argument(
        "--width",
        type=int,
        default=materials.QUARTER,
        choices=range(40, 321, 40),
        metavar="W",
        help="channels of the first block: 40, 80 ... 320 (full)",
    )
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--pictures", type=int, default=pictures)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--steps", type=int, nargs=2, default=(4, 24), metavar=("FEW", "MORE"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write all figures")


def environment(folder: Path) -> dict[str, str]:
    """Return what both sides are told: one thread, no network, caches of their own."""
    return {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "huggingface"),
        "BRUSHWORK_CACHE": str(folder / "brushwork"),
    }


def per_step(few: measure.Cost, more: measure.Cost, steps: tuple[int, int]) -> float:
    """Return the CPU seconds of one step."""
    return (more.cpu - few.cpu) / (steps[1] - steps[0])


def compare(sides: Mapping[str, Side], work: Any, steps: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Run all sides in turn, ``rounds`` times.

    Returns:
        For each side: CPU seconds a step and of the longer process, both as ratios to the first side too, peak memory.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    whole: dict[str, list[float]] = {name: [] for name in sides}
    memory: dict[str, list[int]] = {name: [] for name in sides}
    for number in range(1, rounds + 1):
        few = {name: side.run(work, steps[0]) for name, side in sides.items()}
        more = {name: side.run(work, steps[1]) for name, side in sides.items()}
        for name in sides:
            seconds[name].append(per_step(few[name], more[name], steps))
            whole[name].append(more[name].cpu)
            memory[name].append(more[name].memory)
        figures = "; ".join(f"{name} {seconds[name][-1]:.3f} s a step, {whole[name][-1]:.1f} s" for name in sides)
        print(f"round {number} of {rounds}: {figures}", file=sys.stderr, flush=True)
    return {
        "seconds_per_step": seconds,
        "speed_up": _ratios(seconds),
        "whole_process": whole,
        "whole_speed_up": _ratios(whole),
        "peak_memory": {name: max(values) for name, values in memory.items()},
    }


def _ratios(seconds: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    first = next(iter(seconds.values()))
    return {
        name: measure.summary([a / b for a, b in zip(first, values, strict=True)]) for name, values in seconds.items()
    }


def to_table(result: Mapping[str, Any], *, whole: bool = False) -> str:
    """Return the figures as a Markdown table; ``whole``: with those of the whole process."""
    header = ["", "CPU s a step", "speed-up: median (least to greatest)", "peak memory, MB"]
    if whole:
        header[3:3] = ["CPU s in all", "speed-up"]
    rows = []
    for name in result["speed_up"]:
        row = [name, *_pair(result["seconds_per_step"][name], result["speed_up"][name])]
        if whole:
            row += _pair(result["whole_process"][name], result["whole_speed_up"][name])
        rows.append([*row, f"{result['peak_memory'][name] / 1e6:.0f}"])
    return measure.table(header, rows)


def _pair(seconds: list[float], ratio: Mapping[str, float]) -> list[str]:
    speed_up = f"x{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
    return [f"{measure.summary(seconds)['median']:.3f}", speed_up]
