"""The diffusion stage: `brushwork train embedded/base.yaml`, of any length, going on where it was stopped.

    python -m embedded.base --steps 9000 --processes 2     # the last quarter of the steps with the rate falling to zero
    python -m embedded.base --finish 2000                  # a stopped run: after 2000 more steps it is done

The run folder is scratch/base: its steps.jsonl is the log, its report/ shows the drawings, its weights/ are exported.
What is random depends on the sample's number and the rate on the step alone, so a run that is prolonged while its rate
is still constant is the run that had been asked for that long.
"""

import argparse
import subprocess
import sys
from typing import Any

import yaml

from embedded.paths import HERE, WORK
from embedded.speed import restart_with_malloc

RUN = WORK / "base"
RECIPE = HERE / "base.yaml"


def length(config: dict[str, Any], steps: int, decay: int) -> dict[str, Any]:
    """Return the configuration with this many steps, the last ``decay`` of them with a falling rate."""
    return {
        **config,
        "train": {**config["train"], "max_train_steps": steps},
        "optimizer": {**config["optimizer"], "lr_decay_steps": decay},
    }


def done() -> int:
    """Return how many steps the run has made."""
    folder = RUN / "checkpoints"
    return (
        max((int(each.name) for each in folder.iterdir() if each.name.isdigit()), default=0) if folder.exists() else 0
    )


def run(options: argparse.Namespace) -> None:
    """Start the run, or go on with it."""
    command = [sys.executable, "-m", "brushwork", "train", "--processes", str(options.processes)]
    if not RUN.exists():
        train, optimizer = f"train.max_train_steps={options.steps}", f"optimizer.lr_decay_steps={options.steps // 4}"
        subprocess.run([*command, str(RECIPE), train, optimizer, "--out", str(RUN)], check=True, cwd=HERE.parent)
        return
    path = RUN / "config.yaml"
    config = yaml.safe_load(path.read_text("utf-8"))
    if options.finish is not None:
        total = config["train"]["max_train_steps"]
        if done() > total - config["optimizer"]["lr_decay_steps"]:
            message = f"{RUN}: the rate has begun to fall; another end would be another run"
            raise SystemExit(message)
        path.write_text(
            yaml.safe_dump(length(config, done() + options.finish, options.finish), sort_keys=False), "utf-8"
        )
    subprocess.run([*command, "--resume", "--out", str(RUN)], check=True, cwd=HERE.parent)


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description="Train the UNet of mini with brushwork.")
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument(
        "--finish", type=int, help="end a stopped run after so many more steps, its rate falling to zero"
    )
    parser.add_argument("--processes", type=int, default=2)
    run(parser.parse_args())


if __name__ == "__main__":
    restart_with_malloc()
    main()
