"""Make everything that ships: `python -m embedded.make`. Finished stages are skipped, training ones resume.

    python -m embedded.make                        # about four hours on two quiet cores
    python -m embedded.make --hours 6              # longer for the diffusion stage
    python -m embedded.make --from export          # stages from this one on
    python -m embedded.make --rehearse             # every stage for a minute at most: does the whole way still work?

The stages, each a program of its own, write to embedded/scratch/ and log to embedded/scratch/make.log.
"""

import argparse
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from embedded.paths import HERE, WORK

STEPS_A_MINUTE = 85
"""Of the diffusion stage, 64 pictures each, on two quiet cores."""

LITTLE = {"--minutes": "0.5", "--steps": "80"}
MORE = {"corpus": ("--count", "640"), "latents": ("--count", "640"), "card": ("--quick",)}
"""What a rehearsal does with the options of its stages, and adds to them."""


class Stage(NamedTuple):
    """A program of this folder with its options."""

    name: str
    command: tuple[str, ...]


def stages(hours: float, *, rehearse: bool = False) -> tuple[Stage, ...]:
    """Return all stages in order; the diffusion stage gets what the others leave of the hours."""
    steps = max(100, round((hours * 60 - 60) * STEPS_A_MINUTE))
    every = (
        Stage("datasets", ("datasets",)),
        Stage("tokenizer", ("tokenizer",)),
        Stage("pictures", ("pictures_for_vae",)),
        Stage("vae", ("vae", "--minutes", "20")),
        Stage("latents", ("latents",)),
        Stage("views", ("views",)),
        Stage("text", ("text", "--minutes", "7", "--threads", "2")),
        Stage("corpus", ("corpus",)),
        Stage("base", ("base", "--steps", str(steps), "--processes", "2")),
        Stage("decoder", ("vae", "--decoder-only", "--squares", "10", "--minutes", "8")),
        Stage("export", ("export",)),
        Stage("clip", ("clip", "--minutes", "15")),
        Stage("export-clip", ("clip", "--export")),
        Stage("captioner", ("captioner", "--minutes", "15")),
        Stage("captioner-all", ("captioner", "--minutes", "3", "--everything")),
        Stage("export-captioner", ("captioner", "--export")),
        Stage("judge", ("judge", "--minutes", "8")),
        Stage("card", ("card",)),
    )
    return tuple(map(shortened, every)) if rehearse else every


def shortened(stage: Stage) -> Stage:
    """Return the stage with little to do, and the same path through it."""
    program, *options = stage.command
    for name, little in LITTLE.items():
        if name in options:
            options[options.index(name) + 1] = little
    return Stage(stage.name, (program, *options, *MORE.get(program, ())))


def done(name: str) -> Path:
    """Return the mark of a finished stage."""
    return WORK / "done" / name


def main() -> None:
    """Run the stages that are still to do."""
    parser = argparse.ArgumentParser(description="Make the embedded model, judge and data sets.")
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--from", dest="first", choices=[stage.name for stage in stages(1.0)])
    parser.add_argument("--rehearse", action="store_true", help="little of everything; what it makes is worthless")
    options = parser.parse_args()
    todo = stages(options.hours, rehearse=options.rehearse)
    names = [stage.name for stage in todo]
    if options.first:
        for name in names[names.index(options.first) :]:
            done(name).unlink(missing_ok=True)
    done("x").parent.mkdir(parents=True, exist_ok=True)
    for stage in todo:
        if done(stage.name).exists():
            continue
        began = time.time()
        subprocess.run(
            [sys.executable, "-m", f"embedded.{stage.command[0]}", *stage.command[1:]], cwd=HERE.parent, check=True
        )
        line = f"{time.strftime('%F %T')} {stage.name}: {time.time() - began:.0f} s on {platform.platform()}"
        with (WORK / "make.log").open("a") as log:
            log.write(line + "\n")
        print(line, flush=True)
        done(stage.name).touch()


if __name__ == "__main__":
    main()
