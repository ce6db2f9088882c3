"""How long each command takes to say what it can do: start-up, as a user feels it.

    python benchmarks/help.py

Each command runs in turn, several times; the least time counts, because whatever else the machine does only adds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import measure

COMMANDS = {
    "brushwork --help": ("brushwork", "--help"),
    "diffusers-cli --help": ("diffusers-cli", "--help"),
    "accelerate launch --help": ("accelerate", "launch", "--help"),
}


def measured(rounds: int) -> dict[str, list[measure.Cost]]:
    """Run all commands in turn, ``rounds`` times after one that fills the disk's cache."""
    scripts = Path(sys.executable).parent
    costs: dict[str, list[measure.Cost]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, (program, *arguments) in COMMANDS.items():
            cost = measure.run_child([scripts / program, *arguments], os.environ)
            if number:
                costs[name].append(cost)
    return costs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write all figures")
    asked = parser.parse_args()
    costs = measured(asked.rounds)
    least = {name: (min(cost.cpu for cost in each), min(cost.wall for cost in each)) for name, each in costs.items()}
    first = least["brushwork --help"]
    rows = [
        [name, f"{cpu:.2f}", f"{wall:.2f}", f"x{cpu / first[0]:.0f}", f"x{wall / first[1]:.0f}"]
        for name, (cpu, wall) in least.items()
    ]
    print(measure.table(["", "CPU s", "wall s", "CPU, ratio", "wall, ratio"], rows))
    if asked.json:
        figures = {name: {"cpu": cpu, "wall": wall} for name, (cpu, wall) in least.items()}
        asked.json.write_text(json.dumps({"machine": measure.machine(), "least": figures}, indent=2), "utf-8")


if __name__ == "__main__":
    main()
