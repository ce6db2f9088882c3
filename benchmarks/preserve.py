"""What ``--preserve`` is worth: how far prompts that have nothing to do with the data drift, with and without it.

    python benchmarks/preserve.py

Two LoRAs learn the embedded engravings at the same seed for the same number of steps, one of them with ``--preserve``.
Both draw the embedded control prompts, beside the base, at the same seeds. Drift is the distance of tuned from base in
units of what another seed changes (``src/brushwork/metrics/drift.py``); the interval of the ratio comes from a
bootstrap over prompts, each with its pictures of both runs. What the target prompts gained is printed too: a run that
learnt nothing would not drift either.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure
import numpy as np

import brushwork
from brushwork import prompts
from brushwork.evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.metrics import Result
    from brushwork.runs import RunFolder

RESAMPLES = 10_000
TARGETS = 6
"""So many target prompts are drawn: enough to see that something was learnt."""


def ratio(one: Sequence[float], other: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return mean(one) / mean(other) of values by prompt, paired, with the ends of its 95 % interval over prompts."""
    pairs = np.stack([np.asarray(one, np.float64), np.asarray(other, np.float64)])
    drawn = np.random.default_rng(seed).integers(pairs.shape[1], size=(RESAMPLES, pairs.shape[1]))
    above, below = pairs[:, drawn].mean(axis=2)
    low, high = np.quantile(above / below, (0.025, 0.975))
    return float(pairs[0].mean() / pairs[1].mean()), float(low), float(high)


def train(asked: argparse.Namespace, out: Path, preserve: dict[str, Any] | None, base: Path | None) -> list[Result]:
    """Train one LoRA and measure it; ``base``: a run whose pictures by the base are these too."""
    tree: dict[str, Any] = {
        "base": "mini",
        "method": {"type": "lora", "rank": 16},
        "data": {"path": "engravings", "random_flip": True},
        "optimizer": {"learning_rate": asked.learning_rate, "lr_scheduler": "cosine"},
        "train": {"max_train_steps": asked.steps, "train_batch_size": asked.batch, "checkpointing_steps": asked.steps},
        "validation": {
            "prompts": prompts.resolve("target")[:TARGETS],
            "control_prompts": "control",
            "images_per_prompt": asked.images,
            "num_inference_steps": asked.inference_steps,
            "samples_during_training": 0,
        },
        "seed": asked.seed,
    }
    config = brushwork.load_config(tree, preserve=preserve)
    run: RunFolder = brushwork.train(config, out=out, evaluate=False)
    if base:
        shutil.copytree(base / "evaluation" / "base", run.path / "evaluation" / "base")
    return evaluate(run, ["clip", "drift"])


def by_prompt(results: Sequence[Result]) -> list[float]:
    """Return the drift of each control prompt."""
    (drift,) = (each for each in results if each.name == "drift")
    return [row["drift"] for row in drift.details["prompts"]]


def row(name: str, results: Sequence[Result]) -> list[str]:
    """Return a run's line of the table."""
    (drift,) = (each for each in results if each.name == "drift")
    (gained,) = (each for each in results if each.of == "difference" and each.prompt_set == "target")
    return [name, *(f"{each.value:.3f} ({_interval(each)})" for each in (drift, gained))]


def _interval(result: Result) -> str:
    return "no interval" if result.interval is None else "{:.3f} to {:.3f}".format(*result.interval)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--images", type=int, default=3, help="of each prompt; each has a seed of its own")
    parser.add_argument("--inference-steps", type=int, default=20)
    parser.add_argument("--preserved", type=int, default=32, help="pictures that the base draws to be trained on")
    parser.add_argument("--weight", type=float, default=1.0, help="what each of them counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write all figures")
    return parser.parse_args()


def main() -> None:
    """Train both, measure, print."""
    asked = arguments()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Path(folder)
        without = train(asked, place / "without", None, None)
        preserve = {"num_images": asked.preserved, "weight": asked.weight}
        with_it = train(asked, place / "with", preserve, place / "without")
    value, low, high = ratio(by_prompt(with_it), by_prompt(without))
    header = ["", "drift of control prompts (95 %)", "CLIP similarity gained on target prompts (95 %)"]
    print(measure.table(header, [row("without", without), row("--preserve", with_it)]))
    print(f"\ndrift with / without: {value:.2f} ({low:.2f} to {high:.2f}), {len(by_prompt(without))} prompts")
    if asked.json:
        settings = {name: str(each) if isinstance(each, Path) else each for name, each in vars(asked).items()}
        results = {"without": without, "with": with_it}
        figures = {name: [each.to_dict() for each in every] for name, every in results.items()}
        found = {"settings": settings, "machine": measure.machine(), "ratio": [value, low, high], **figures}
        asked.json.write_text(json.dumps(found, indent=2), "utf-8")


if __name__ == "__main__":
    main()
