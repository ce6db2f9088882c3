"""A run that overfits on purpose: few pictures, many steps. Is it recognised, and is the best checkpoint not the last?

    python benchmarks/overfitting.py --out runs/overfitted             # about ten minutes on two cores
    python benchmarks/overfitting.py --out runs/overfitted --steps 200 --every 40

Half of a few engravings are trained on, the other half is held out; the prompts ask for the same manner of other
things. It leaves an ordinary run folder with ``checkpoints.json`` and ``report.html``, and prints the table.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import brushwork as bw
from brushwork import curves, sources
from brushwork.evaluate import evaluate_subject, subjects
from brushwork.report import write_report

THINGS = ("a castle", "a dog", "a rocket", "an owl", "a guitar", "a horse", "a tree", "a ship")
ENGRAVINGS = Path(sources.__file__).parent.parent / "assets" / "datasets" / "engravings"


def main() -> None:
    """Train, evaluate every checkpoint, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--every", type=int, default=60, help="steps between two checkpoints")
    parser.add_argument("--pictures", type=int, default=16, help="half of them are held out")
    asked = parser.parse_args()
    data = asked.out.with_name(f"{asked.out.name}-data")
    few(data, asked.pictures)
    run = bw.train(
        base="mini",
        method="lora",
        data={
            "path": str(data), "validation_split": 0.5, "center_crop": True, "allow_bad_captions": True,
        },
        steps=asked.steps,
        out=asked.out,
        evaluate=False,
        overrides=[
            f"validation.prompts={[f'{thing}, old ink engraving' for thing in THINGS]}",
            "validation.control_prompts=[a bicycle, a pizza, a cactus, a house, a car, a tree]",
            "validation.images_per_prompt=2",
            "validation.guidance_scale=2",
            "objective.rescale_betas_zero_snr=true", "validation.samples_during_training=0",
            "method.rank=32", "method.alpha=32",
            "method.targets=[to_q, to_k, to_v, to_out.0, ff.net.0.proj, ff.net.2, proj_in, proj_out]",
            "optimizer.learning_rate=1e-3", "train.train_batch_size=8",
            f"train.checkpointing_steps={asked.every}", "train.checkpoints_total_limit=null",
            f"train.validation_steps={asked.every}",
        ],
    )  # fmt: skip
    subject = subjects.find(str(run.path))
    evaluate_subject(subject)
    told = curves.measure(subject)
    print(f"{'step':>6}{'fit':>8}{'clip':>8}{'drift':>8}{'copies':>8}{'loss':>9}")
    for point in told["points"]:
        numbers = "".join(f"{point[key]:8.3f}" for key in ("fit", "clip", "drift", "copied"))
        print(f"{point['step']:6}{numbers}{point['loss']:9.4f}")
    print(told["told"])
    print(write_report(subject))


def few(folder: Path, count: int) -> None:
    """Copy so many engravings with their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in sorted(ENGRAVINGS.glob("*.png"))[:count]:
        shutil.copy(picture, folder)
        shutil.copy(picture.with_suffix(".txt"), folder)


if __name__ == "__main__":
    main()
