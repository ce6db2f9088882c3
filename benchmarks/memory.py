"""The memory forecast beside what processes really took: one process for each configuration.

    python benchmarks/memory.py                     # about 16 short runs; prints a table
    python benchmarks/memory.py --only 3 7

Each process prepares a run, forecasts, trains three steps with a sample sheet, and says both numbers: the forecast's
peak and the operating system's (ru_maxrss).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from materials import make_pictures

STEPS = 3
NONE: dict[str, Any] = {}
CONFIGURATIONS: list[tuple[int, int, str, int, dict[str, Any]]] = [
    (80, 128, "lora", 2, NONE),
    (80, 128, "lora", 8, NONE),
    (80, 256, "lora", 2, NONE),
    (80, 256, "lora", 4, {"gradient_checkpointing": True}),
    (80, 128, "full", 1, NONE),
    (80, 128, "full", 4, {"use_ema": True}),
    (80, 256, "full", 2, {"gradient_checkpointing": True}),
    (80, 256, "full", 4, NONE),
    (80, 128, "lora", 4, {"mixed_precision": "bf16"}),
    (80, 256, "full", 2, {"mixed_precision": "bf16"}),
    (160, 128, "lora", 2, NONE),
    (160, 128, "full", 1, NONE),
    (160, 128, "full", 2, {"use_ema": True, "gradient_checkpointing": True}),
    (160, 256, "lora", 2, {"gradient_checkpointing": True}),
    (160, 256, "lora", 4, NONE),
    (40, 256, "full", 8, NONE),
]
"""Width of the base (Stable Diffusion 1.5: 320), resolution, method, batch, further settings of ``train``."""


def measure(base: Path, pictures: Path, row: tuple[int, int, str, int, dict[str, Any]]) -> dict[str, Any]:
    """Run one configuration in this process; return both numbers."""
    import resource

    from brushwork import config, forecast
    from brushwork.runs import RunFolder
    from brushwork.train import prepare

    _, resolution, method, batch, settings = row
    asked = config.load(
        method=method,
        base=str(base),
        data={"path": str(pictures), "resolution": resolution, "center_crop": True},
        train={
            "max_train_steps": STEPS,
            "train_batch_size": batch,
            "device": "cpu",
            "validation_steps": STEPS,
            **settings,
        },
        validation={"prompts": ["a boat"], "samples_during_training": 1, "num_inference_steps": 2},
    )
    trainer = prepare(asked)
    said = forecast.of(trainer)
    with tempfile.TemporaryDirectory() as folder:
        list(trainer.steps(RunFolder.create(trainer.config, Path(folder) / "run")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"forecast": said.peak.total, "phase": said.peak.name, "measured": peak, "parts": dict(said.peak.parts)}


def main() -> None:
    """Measure every configuration in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", type=int, nargs="*")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "brushwork-memory")
    parser.add_argument("--child", type=int)
    arguments = parser.parse_args()
    pictures = make_pictures(arguments.folder / "pictures", count=8, size=256)
    if arguments.child is not None:
        row = CONFIGURATIONS[arguments.child]
        print(json.dumps(measure(arguments.folder / f"base-{row[0]}", pictures, row)))
        return
    print("| width | pixels | method | batch | settings | forecast, MB | measured, MB | error | peak while |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    errors = []
    for place, row in enumerate(CONFIGURATIONS):
        if arguments.only and place not in arguments.only:
            continue
        subprocess.run(  # noqa: S603  (our own)
            [sys.executable, "-c", _MAKE, str(arguments.folder / f"base-{row[0]}"), str(row[0])],
            check=True,
            cwd=Path(__file__).parent,
        )
        command = [sys.executable, __file__, "--folder", str(arguments.folder), "--child", str(place)]
        done = subprocess.run(  # noqa: S603  (this very script)
            command, check=True, stdout=subprocess.PIPE, text=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        error = found["forecast"] / found["measured"] - 1
        errors.append(error)
        settings = ", ".join(f"{key}={value}" for key, value in row[4].items())
        numbers = f"{found['forecast'] / 1e6:.0f} | {found['measured'] / 1e6:.0f} | {error:+.1%} | {found['phase']}"
        print(f"| {row[0]} | {row[1]} | {row[2]} | {row[3]} | {settings} | {numbers} |", flush=True)
    worst = max(errors, key=abs)
    print(
        f"\n{len(errors)} configurations, worst error {worst:+.1%}, "
        f"mean of sizes {sum(map(abs, errors)) / len(errors):.1%}"
    )


_MAKE = "import sys, pathlib, materials; materials.make_base(pathlib.Path(sys.argv[1]), int(sys.argv[2]))"

if __name__ == "__main__":
    main()
