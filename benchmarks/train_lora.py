"""The CPU time of a LoRA training step: brushwork beside diffusers' own unmodified script.

    python benchmarks/train_lora.py --script DIFFUSERS/examples/text_to_image/train_text_to_image_lora.py

Both train the same random model on the same pictures, timed as ``rounds.py`` says. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import materials
import measure
import rounds

HERE = Path(__file__).parent
NEVER = 1_000_000


@dataclass(frozen=True)
class Work:
    """What both sides do."""

    base: Path
    pictures: Path
    folder: Path
    resolution: int
    batch: int
    accumulation: int
    rank: int

    def environment(self) -> dict[str, str]:
        """Return what both sides are told: one thread, no network, caches of their own."""
        return rounds.environment(self.folder)


@dataclass(frozen=True)
class Script:
    """diffusers' script, as it is."""

    path: Path
    pythonpath: str | None

    def run(self, work: Work, steps: int) -> measure.Cost:
        """Train for ``steps`` optimizer steps."""
        out = work.folder / "diffusers-out"
        options = {
            "pretrained_model_name_or_path": work.base,
            "train_data_dir": work.pictures,
            "output_dir": out,
            "resolution": work.resolution,
            "train_batch_size": work.batch,
            "gradient_accumulation_steps": work.accumulation,
            "rank": work.rank,
            "max_train_steps": steps,
            "learning_rate": 1e-4,
            "lr_scheduler": "constant",
            "lr_warmup_steps": 0,
            "checkpointing_steps": NEVER,
            "seed": 0,
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        environment = work.environment() | ({"PYTHONPATH": self.pythonpath} if self.pythonpath else {})
        command = [sys.executable, self.path, "--center_crop", "--random_flip", *arguments]
        cost = measure.run_child(command, environment)
        shutil.rmtree(out)
        return cost


@dataclass(frozen=True)
class Brushwork:
    """brushwork, through the function behind ``brushwork train``."""

    cached: bool = True
    merged: bool = False
    """The accumulated batches in one pass instead: the same samples in each step."""

    def run(self, work: Work, steps: int) -> measure.Cost:
        """Train for ``steps`` optimizer steps."""
        out = work.folder / "brushwork-out"
        times = work.accumulation if self.merged else 1
        tree: dict[str, Any] = {
            "base": str(work.base),
            "method": {"type": "lora", "rank": work.rank},
            "data": {
                "path": str(work.pictures),
                "resolution": work.resolution,
                "center_crop": True,
                "random_flip": True,
                "validation_split": 0,
            },
            "optimizer": {"learning_rate": 1e-4, "lr_scheduler": "constant", "max_grad_norm": None},
            "train": {
                "max_train_steps": steps,
                "train_batch_size": work.batch * times,
                "gradient_accumulation_steps": work.accumulation // times,
                "checkpointing_steps": NEVER,
                "validation_steps": NEVER,
                "cache_latents": self.cached,
                "cache_text": self.cached,
                "device": "cpu",
            },
            "validation": {"prompts": ["a red boat"], "samples_during_training": 0},
        }
        command = [sys.executable, HERE / "brushwork_steps.py", out, json.dumps(tree)]
        cost = measure.run_child(command, work.environment())
        shutil.rmtree(out)
        return cost


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, required=True, help="diffusers' train_text_to_image_lora.py, as it is")
    rounds.add_options(parser, pictures=24, batch=2)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--also-uncached", action="store_true", help="a third side: brushwork without its caches")
    parser.add_argument("--also-merged", action="store_true", help="one more: --accumulation batches in one pass")
    return parser.parse_args()


def main() -> None:
    """Make the materials, fill the caches, measure, print."""
    asked = arguments()
    sides: dict[str, Script | Brushwork] = {
        "diffusers": Script(asked.script, asked.pythonpath),
        "brushwork": Brushwork(),
    }
    if asked.also_uncached:
        sides["brushwork, caches off"] = Brushwork(cached=False)
    if asked.also_merged:
        sides[f"brushwork, {asked.accumulation} batches in one pass"] = Brushwork(merged=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Path(folder)
        base = materials.make_base(place / "base", asked.width)
        pictures = materials.make_pictures(place / "pictures", asked.pictures, asked.resolution)
        work = Work(base, pictures, place, asked.resolution, asked.batch, asked.accumulation, asked.rank)
        # Both sides' caches are filled before anything counts; what filling costs is reported.
        cold = {name: side.run(work, 1).cpu for name, side in sides.items()}
        warm = sides["brushwork"].run(work, 1).cpu
        result = rounds.compare(sides, work, tuple(asked.steps), asked.rounds)
    result["filling_caches_cpu"] = cold["brushwork"] - warm
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(asked).items()}
    settings["script"], settings["pythonpath"] = asked.script.name, bool(asked.pythonpath)
    print(rounds.to_table(result))
    steps_worth = result["filling_caches_cpu"] / measure.summary(result["seconds_per_step"]["brushwork"])["median"]
    print(f"\nfilling brushwork's caches, once: {result['filling_caches_cpu']:.1f} CPU s = {steps_worth:.0f} steps")
    if asked.json:
        asked.json.write_text(
            json.dumps({"settings": settings, "machine": measure.machine(), **result}, indent=2), "utf-8"
        )


if __name__ == "__main__":
    main()
