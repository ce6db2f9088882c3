"""The memory forecast beside what processes really took: one process for each configuration.

    python benchmarks/memory.py                     # about 20 short runs; prints a table
    python benchmarks/memory.py --only 3 7
    python benchmarks/memory.py --write             # and puts the table into README.md
    python benchmarks/memory.py --kept --write      # the table anew, of what was measured before

Each process loads torch and the libraries and computes a little with them, prepares a run, forecasts, trains two steps,
and says the forecast's peak and the operating system's (VmHWM). The error is said of the whole, and of what lies above
the libraries, for which no forecast deserves praise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from materials import make_base, make_pictures

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
STEPS = 2
MEGA = 1e6
LIMIT = 0.15
"""What the error must stay below."""
BEGIN, END = "<!-- benchmarks/memory.py writes this -->", "<!-- to here -->"

BASES: dict[str, dict[str, Any]] = {
    "sd 54M": {"width": 80},
    "sd 215M": {"width": 160},
    "sdxl 112M": {
        "block_out_channels": (192, 384),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 6),
        "attention_head_dim": (3, 6),
        "norm_num_groups": 32,
        "sample_size": 32,
    },
    "sd3 97M": {
        "num_layers": 10,
        "num_attention_heads": 8,
        "attention_head_dim": 64,
        "caption_projection_dim": 512,
        "pos_embed_max_size": 64,
        "sample_size": 32,
    },
    "flux 70M": {
        "num_layers": 4,
        "num_single_layers": 8,
        "num_attention_heads": 8,
        "attention_head_dim": 64,
        "axes_dims_rope": (16, 24, 24),
    },
}
"""By family and size of the denoiser. ``sd`` is Stable Diffusion 1.5's architecture with all parts in proportion; of
the others the denoiser has some width, VAE and text encoders are tiny."""


@dataclass(frozen=True)
class Case:
    """One configuration; ``fitted``: the forecast's two constants were found on it, so it proves nothing."""

    base: str
    pixels: int
    method: str
    batch: int
    train: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    fitted: bool = False
    samples: int = 0
    """Pictures drawn before the first step and after the last."""

    @property
    def settings(self) -> str:
        """What is not usual."""
        said = [key if value is True else f"{key}={value}" for key, value in self.train.items()]
        return ", ".join([*said, *([self.optimizer["type"]] if self.optimizer else [])])


CHECKPOINTING: dict[str, Any] = {"gradient_checkpointing": True}
BF16: dict[str, Any] = {"mixed_precision": "bf16"}
EMA: dict[str, Any] = {"use_ema": True}
ADAFACTOR: dict[str, Any] = {"type": "adafactor"}
CASES = [
    Case("sd 54M", 128, "lora", 8, fitted=True, samples=1),
    Case("sd 54M", 256, "lora", 2, fitted=True, samples=1),
    Case("flux 70M", 64, "lora", 2, fitted=True),
    Case("sdxl 112M", 64, "lora", 4, fitted=True),
    Case("flux 70M", 64, "lora", 1, BF16),
    Case("flux 70M", 64, "lora", 2, CHECKPOINTING),
    Case("sd 54M", 256, "lora", 4, CHECKPOINTING),
    Case("sd 54M", 128, "full", 4, EMA),
    Case("sd 54M", 128, "dreambooth", 2, optimizer=ADAFACTOR),
    Case("sd3 97M", 64, "lora", 4),
    Case("sd3 97M", 64, "full", 1, samples=1),
    Case("sdxl 112M", 64, "full", 1, EMA, ADAFACTOR),
    Case("flux 70M", 64, "full", 1, CHECKPOINTING),
    Case("sd 54M", 256, "lora", 2, BF16),
    Case("sd3 97M", 128, "lora", 1, BF16 | CHECKPOINTING),
    Case("sdxl 112M", 128, "dreambooth-lora", 2, CHECKPOINTING),
    Case("flux 70M", 64, "full", 1, {"fused_backward": True}, ADAFACTOR | {"max_grad_norm": None}),
    Case("sd 215M", 128, "lora", 2),
    Case("sd 215M", 64, "full", 1, optimizer=ADAFACTOR),
]


def make(name: str, folder: Path) -> Path:
    """Write a base."""
    if (folder / "model_index.json").is_file():
        return folder
    family = name.split(maxsplit=1)[0]
    if family == "sd":
        return make_base(folder, **BASES[name])
    import tiny_families

    return tiny_families.make(family, folder, **BASES[name])


def baseline() -> int:
    """Load what every run loads, compute a little forward and back, and return what this process then takes."""
    import diffusers  # noqa: F401
    import peft  # noqa: F401
    import torch
    import transformers  # noqa: F401
    from diffusers import DiffusionPipeline  # noqa: F401
    from transformers import CLIPTextModel  # noqa: F401

    from brushwork import memory

    small = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.GroupNorm(2, 8), torch.nn.Linear(14, 8))
    small(torch.randn(1, 3, 16, 16)).sum().backward()
    return memory.used("cpu")


def measure(case: Case, base: Path, pictures: Path) -> dict[str, Any]:
    """Run one configuration in this process; return both numbers."""
    from brushwork import config, forecast, memory
    from brushwork.runs import RunFolder
    from brushwork.train import prepare

    libraries = baseline()
    data: dict[str, Any] = {"path": str(pictures), "resolution": case.pixels, "center_crop": True}
    if case.method.startswith("dreambooth"):
        data |= {"instance_prompt": "a sks boat"}
    train = {"max_train_steps": STEPS, "train_batch_size": case.batch, "device": "cpu", "validation_steps": STEPS}
    asked = config.load(
        method=case.method,
        base=str(base),
        data=data,
        train={**train, **case.train},
        optimizer={"learning_rate": 1e-4, **case.optimizer},
        validation={"prompts": ["a boat"], "samples_during_training": case.samples, "num_inference_steps": 2},
    )
    trainer = prepare(asked)
    said = forecast.of(trainer)
    with tempfile.TemporaryDirectory() as folder:
        list(trainer.steps(RunFolder.create(trainer.config, Path(folder) / "run")))
    return {
        "measured": memory.peak("cpu"),
        "libraries": libraries,
        "mapped": memory.gives_back(),
        "phases": {phase.name: dict(phase.parts) for phase in said.phases},
    }


def peak(found: dict[str, Any]) -> tuple[str, int]:
    """Return the forecast's peak phase and its bytes, with the workspace as it is reckoned now."""
    from brushwork.forecast import estimate

    phases = dict(found["phases"])
    training = phases["training"]
    phases["training"] = {
        **training,
        estimate.KERNELS: estimate.workspace(training["activations"], mapped=found["mapped"]),
    }
    totals = {name: sum(parts.values()) for name, parts in phases.items()}
    name = max(totals, key=lambda each: totals[each])
    return name, totals[name]


def in_a_process(place: int, folder: Path) -> dict[str, Any]:
    """Return what a process of its own measured."""
    base = folder / CASES[place].base.replace(" ", "-")
    child = "import sys, pathlib, memory; memory.make(sys.argv[1], pathlib.Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", child, CASES[place].base, str(base)], check=True, cwd=HERE)  # noqa: S603
    command = [sys.executable, __file__, "--folder", str(folder), "--child", str(place)]
    done = subprocess.run(  # noqa: S603  (this very script)
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "BRUSHWORK_CACHE": str(folder / "cache")},
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


HEAD = (
    "| base | pixels | method | batch | settings | forecast, MB | measured, MB | error | of it libraries, MB | "
    "error of the rest | peak while |\n|" + " --- |" * 11
)


def errors(found: dict[str, Any]) -> tuple[float, float]:
    """Return the error of the whole, and of what lies above the libraries."""
    _, forecast = peak(found)
    rest = found["measured"] - found["libraries"]
    return forecast / found["measured"] - 1, (forecast - found["measured"]) / rest


def row(case: Case, found: dict[str, Any]) -> str:
    """Return a line of the table."""
    (whole, rest), (phase, forecast) = errors(found), peak(found)
    cells = (
        case.base,
        case.pixels,
        case.method,
        case.batch,
        case.settings + (" (fitted on)" if case.fitted else ""),
        f"{forecast / MEGA:.0f}",
        f"{found['measured'] / MEGA:.0f}",
        f"{whole:+.1%}",
        f"{found['libraries'] / MEGA:.0f}",
        f"{rest:+.1%}",
        phase,
    )
    return f"| {' | '.join(map(str, cells))} |"


def summary(every: list[tuple[Case, dict[str, Any]]]) -> str:
    """Return how good the forecast is where its constants were not found."""
    judged = [errors(found) for case, found in every if not case.fitted]
    said = []
    for name, values in zip(("the peak", "what lies above the libraries"), zip(*judged, strict=True), strict=True):
        within = sum(abs(each) <= LIMIT for each in values)
        mean = sum(map(abs, values)) / len(values)
        said.append(
            f"{name}: {within} of {len(values)} within {LIMIT:.0%}, worst {max(values, key=abs):+.1%}, mean {mean:.1%}"
        )
    return f"{len(judged)} configurations on which nothing was fitted. Of " + "; of ".join(said) + "."


def main() -> None:
    """Measure every configuration in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", type=int, nargs="*")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "brushwork-memory")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--kept", action="store_true", help="measure only what measured.json in --folder lacks")
    parser.add_argument("--child", type=int)
    arguments = parser.parse_args()
    pictures = make_pictures(arguments.folder / "pictures", count=8, size=256)
    if arguments.child is not None:
        case = CASES[arguments.child]
        print(json.dumps(measure(case, arguments.folder / case.base.replace(" ", "-"), pictures)))
        return
    print(HEAD)
    file = arguments.folder / "measured.json"
    kept: dict[str, Any] = json.loads(file.read_text("utf-8")) if arguments.kept and file.is_file() else {}
    every = []
    for place, case in enumerate(CASES):
        if arguments.only is None or place in arguments.only:
            if repr(case) not in kept:
                kept[repr(case)] = in_a_process(place, arguments.folder)
                file.write_text(json.dumps(kept, indent=1), "utf-8")
            every.append((case, kept[repr(case)]))
            print(row(*every[-1]), flush=True)
    print(f"\n{summary(every)}")
    if arguments.write:
        page = HERE / "README.md"
        before, _, rest = page.read_text("utf-8").partition(BEGIN)
        table = "\n".join([HEAD, *(row(case, found) for case, found in every)])
        text = f"{before}{BEGIN}\n\n{table}\n\n{summary(every)}\n\n{END}{rest.partition(END)[2]}"
        page.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
