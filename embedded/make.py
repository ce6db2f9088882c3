"""Make everything that ships: `python -m embedded.make`. Every stage resumes or is skipped when its product is there.

    python -m embedded.make                        # about two hours on two quiet cores
    python -m embedded.make --hours 5              # longer for the diffusion stage: clearly better pictures
    python -m embedded.make --from export          # stages from this one on

The stages, each a program of its own, write to embedded/work/ and log to embedded/work/make.log.
"""

import argparse
import platform
import subprocess
import sys
import time
from typing import NamedTuple

from embedded.paths import HERE, WORK


class Stage(NamedTuple):
    """A program and the file that shows it was run."""

    name: str
    command: tuple[str, ...]
    product: str | None


def stages(hours: float) -> tuple[Stage, ...]:
    """Return all stages in order; the diffusion stage gets what the others leave of the hours."""
    base = max(2.0, hours * 60 - 50)
    return (
        Stage("datasets", ("datasets",), None),
        Stage("tokenizer", ("tokenizer",), "tokenizer/tokenizer.json"),
        Stage("pictures", ("pictures_for_vae",), "vae-test.npy"),
        Stage("vae", ("vae", "--minutes", "20"), "vae.pt"),
        Stage("latents", ("latents", "--count", "12000"), "latents.npy"),
        Stage("views", ("views",), "views-test.npy"),
        Stage("text", ("text", "--minutes", "2"), "text.pt"),
        Stage("base", ("base", "--minutes", f"{base * 0.8:.0f}"), None),
        Stage("anneal", ("base", "--anneal", "--minutes", f"{base * 0.2:.0f}"), None),
        Stage("decoder", ("vae", "--decoder-only", "--minutes", "8"), None),
        Stage("export", ("export",), None),
        Stage("clip", ("clip", "--minutes", "15"), "clip.pt"),
        Stage("export-clip", ("clip", "--export"), None),
        Stage("judge", ("judge", "--minutes", "5"), "judge.pt"),
        Stage("card", ("card",), None),
    )


def main() -> None:
    """Run the stages that are still to do."""
    parser = argparse.ArgumentParser(description="Make the embedded model, judge and data sets.")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--from", dest="first")
    options = parser.parse_args()
    todo = stages(options.hours)
    names = [stage.name for stage in todo]
    start = names.index(options.first) if options.first else 0
    WORK.mkdir(exist_ok=True)
    for stage in todo[start:]:
        if stage.product and (WORK / stage.product).exists():
            continue
        began = time.time()
        subprocess.run(
            [sys.executable, "-m", f"embedded.{stage.command[0]}", *stage.command[1:]], cwd=HERE.parent, check=True
        )
        line = f"{time.strftime('%F %T')} {stage.name}: {time.time() - began:.0f} s on {platform.platform()}"
        with (WORK / "make.log").open("a") as log:
            log.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
