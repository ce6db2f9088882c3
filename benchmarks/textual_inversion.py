"""The CPU time of Textual Inversion: brushwork beside diffusers' own unmodified script.

    python benchmarks/textual_inversion.py --script DIFFUSERS/examples/textual_inversion/textual_inversion.py

Both learn a word of the same random model from the same pictures, timed as ``rounds.py`` says. Every run of brushwork
starts with empty caches, so the whole process includes filling them. See benchmarks/README.md.
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
WORD, INITIAL = "<thing>", "a"
RATE = 5e-4


@dataclass(frozen=True)
class Work:
    """What both sides do."""

    base: Path
    pictures: Path
    folder: Path
    resolution: int
    batch: int
    vectors: int


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
            "placeholder_token": WORD,
            "initializer_token": INITIAL,
            "num_vectors": work.vectors,
            "learnable_property": "object",
            "resolution": work.resolution,
            "train_batch_size": work.batch,
            "max_train_steps": steps,
            "learning_rate": RATE,
            "lr_scheduler": "constant",
            "lr_warmup_steps": 0,
            "save_steps": NEVER,
            "checkpointing_steps": NEVER,
            "seed": 0,
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        environment = rounds.environment(work.folder) | ({"PYTHONPATH": self.pythonpath} if self.pythonpath else {})
        cost = measure.run_child([sys.executable, self.path, "--center_crop", *arguments], environment)
        shutil.rmtree(out)
        return cost


@dataclass(frozen=True)
class Brushwork:
    """brushwork, through the function behind ``brushwork train``."""

    def run(self, work: Work, steps: int) -> measure.Cost:
        """Train for ``steps`` optimizer steps, from empty caches."""
        out = work.folder / "brushwork-out"
        environment = rounds.environment(work.folder)
        shutil.rmtree(environment["BRUSHWORK_CACHE"], ignore_errors=True)
        tree: dict[str, Any] = {
            "base": str(work.base),
            "method": {
                "type": "textual_inversion",
                "token": WORD,
                "initial_word": INITIAL,
                "num_vectors": work.vectors,
            },
            "data": {
                "type": "templated",
                "path": str(work.pictures),
                "resolution": work.resolution,
                "center_crop": True,
                "random_flip": True,
                "validation_split": 0,
            },
            "optimizer": {"learning_rate": RATE, "lr_scheduler": "constant", "max_grad_norm": None},
            "train": {
                "max_train_steps": steps,
                "train_batch_size": work.batch,
                "checkpointing_steps": NEVER,
                "validation_steps": NEVER,
                "device": "cpu",
            },
            "validation": {"prompts": [f"a {WORD}"], "samples_during_training": 0},
        }
        cost = measure.run_child([sys.executable, HERE / "brushwork_steps.py", out, json.dumps(tree)], environment)
        shutil.rmtree(out)
        return cost


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, required=True, help="diffusers' textual_inversion.py, as it is")
    rounds.add_options(parser, pictures=5, batch=1)
    parser.add_argument("--vectors", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Make the materials, measure, print."""
    asked = arguments()
    sides: dict[str, rounds.Side] = {
        "diffusers": Script(asked.script, asked.pythonpath),
        "brushwork": Brushwork(),
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Path(folder)
        base = materials.make_base(place / "base", asked.width)
        pictures = materials.make_pictures(place / "pictures", asked.pictures, asked.resolution, captions=False)
        work = Work(base, pictures, place, asked.resolution, asked.batch, asked.vectors)
        result = rounds.compare(sides, work, tuple(asked.steps), asked.rounds)
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(asked).items()}
    settings["script"], settings["pythonpath"] = asked.script.name, bool(asked.pythonpath)
    print(rounds.to_table(result, whole=True))
    if asked.json:
        asked.json.write_text(
            json.dumps({"settings": settings, "machine": measure.machine(), **result}, indent=2), "utf-8"
        )


if __name__ == "__main__":
    main()
