"""A finished run made without training: pictures drawn with Pillow, curves from formulas, numbers from random features.

    run = make_run(tmp_path / "run")

The base's pictures are coloured shapes; the tuned ones are the same shapes, hatched in ink.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from brushwork import config as configs
from brushwork import encoders, metrics, registry
from brushwork.runs import RunFolder, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TARGET = ("a castle, old book engraving", "a dog, old book engraving", "an owl, old book engraving")
CONTROL = ("a bicycle on a red background", "a cactus on a yellow background")
COLOURS = ("tomato", "gold", "teal", "orchid", "steelblue", "yellowgreen", "salmon")
STEPS = 300
NEEDS = ("clip", "captions", "colour", "luminance", "pixels", "technical")
"""What a run on the embedded model is measured by."""


def make_run(
    out: Path,
    *,
    target: Sequence[str] = TARGET,
    control: Sequence[str] = CONTROL,
    seeds: int = 4,
    side: int = 64,
    captions: Sequence[str] | None = None,
    **settings: Any,
) -> RunFolder:
    """Write a run folder with everything that training and evaluation leave in one."""
    data = out.with_name(f"{out.name}-data")
    make_data(data, captions or [f"a thing number {number}, old book engraving" for number in range(12)], side)
    config = configs.load(
        {"data": {"path": str(data), "resolution": side}, "method": "lora"},
        base="mini",
        validation={"prompts": tuple(target), "control_prompts": tuple(control), "images_per_prompt": seeds},
        train={"max_train_steps": STEPS, "train_batch_size": 4},
        **settings,
    )
    run = RunFolder.create(config, out)
    _log(run)
    _sample(run, target, side)
    _evaluate(run, target, control, seeds, side)
    _record(run)
    return run


def shape(prompt: str, seed: int, side: int, *, inked: bool, progress: float = 1.0) -> Image.Image:
    """Draw something that depends on prompt and seed: coloured, or hatched on paper."""
    rng = np.random.default_rng([seed, *prompt.encode()[:40]])
    big = 4 * side
    ground, colour = (COLOURS[int(index)] for index in rng.choice(len(COLOURS), 2, replace=False))
    image = Image.new("RGB", (big, big), ground)
    draw = ImageDraw.Draw(image)
    corners = int(rng.integers(3, 9))
    radius, turn = big * rng.uniform(0.28, 0.4), rng.uniform(0, math.tau)
    middle = big * rng.uniform(0.42, 0.58, 2)
    points = [
        (
            middle[0] + radius * math.cos(turn + math.tau * k / corners),
            middle[1] + radius * math.sin(turn + math.tau * k / corners),
        )
        for k in range(corners)
    ]
    draw.polygon(points, fill=colour, outline="black", width=big // 60)
    if inked:
        paper = Image.new("RGB", image.size, "#efe6d3")
        hatching = ImageDraw.Draw(paper)
        inside = Image.new("L", image.size)
        ImageDraw.Draw(inside).polygon(points, fill=255)
        for offset in range(-big, big, big // 26):
            hatching.line([(offset, big), (offset + big, 0)], fill="#3a342b", width=big // 90)
        drawn = Image.new("RGB", image.size, "#efe6d3")
        drawn.paste(paper, mask=inside)
        ImageDraw.Draw(drawn).polygon(points, outline="#2b261f", width=big // 40)
        image = Image.blend(image, drawn, progress)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def make_data(folder: Path, captions: Sequence[str], side: int) -> None:
    """Write an image folder with captions."""
    folder.mkdir(parents=True)
    for number, caption in enumerate(captions):
        shape(caption, number, side, inked=True).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(caption, "utf-8")


def _log(run: RunFolder) -> None:
    rng = np.random.default_rng(0)
    for index in range(1, STEPS + 1):
        loss = 0.08 + 0.14 * math.exp(-index / 60)
        step = {
            "index": index,
            "loss": loss * float(rng.lognormal(0, 0.35)),
            "lr": 1e-3 * min(1, index / 20) * (0.5 + 0.5 * math.cos(math.pi * index / STEPS)),
            "grad_norm": 0.3 * float(rng.lognormal(0, 0.4)),
            "images_per_second": 38.0,
            "memory_bytes": 1_050_000_000 + 20_000_000 * (index > 40),
            "seconds": 0.11,
        }
        if index % 50 == 0:
            step["validation_loss"] = loss * 1.05 + (0.004 if index == STEPS else 0)
        run.log(step)


def _sample(run: RunFolder, prompts: Sequence[str], side: int) -> None:
    for index in range(0, STEPS + 1, 50):
        folder = run.path / "samples" / str(index)
        folder.mkdir(parents=True)
        for place, text in enumerate(prompts[:4]):
            progress = min(1, index / 200)
            shape(text, place, side, inked=True, progress=progress).save(folder / f"{place:05}-{place}.png")
    write_json(run.path / "samples" / "prompts.json", list(prompts[:4]))


def _evaluate(run: RunFolder, target: Sequence[str], control: Sequence[str], seeds: int, side: int) -> None:
    folder, every = run.path / "evaluation", [*target, *control]
    for name in ("base", "tuned"):
        (folder / name).mkdir(parents=True)
        listed = []
        for place, text in enumerate(every):
            for number in range(seeds):
                seed = place * seeds + number
                listed.append({"file": f"{place:05}-{seed}.png", "prompt": text, "seed": seed})
                changed = name == "tuned" and text in target
                shape(text, seed, side, inked=changed).save(folder / name / listed[-1]["file"])
        write_json(folder / name / "pictures.json", {"model": name, "pictures": listed})
    results = [
        result.to_dict()
        for prompt_set, texts in (("target", target), ("control", control))
        if texts
        for metric in registry.names("metrics")
        if registry.load("metrics", metric).NEEDS in NEEDS
        for result in registry.load("metrics", metric).measure(_features(metric, texts, prompt_set, seeds))
    ]
    write_json(run.path / "metrics.json", results)
    settings = {
        "negative_prompt": "",
        "steps": 20,
        "guidance_scale": 5.0,
        "width": side,
        "height": side,
        "sampler": "DPM++ 2M",
    }
    told = {"target": list(target), "control": list(control), "images_per_prompt": seeds, "first_seed": 0}
    judge = {"name": "mini-clip", "revision": "00c0ffee00c0ffee", "preprocessing": "5eed5eed5eed5eed"}
    write_json(
        folder / "evaluation.json", {**told, "settings": settings, "judge": judge, "no_judge": None, "texts_cut": []}
    )


def _features(metric: str, texts: Sequence[str], prompt_set: str, seeds: int) -> metrics.Drawn:
    rng, needs = np.random.default_rng(7), registry.load("metrics", metric).NEEDS
    if needs == "captions":
        base, tuned = np.full((len(texts), seeds), "a thing"), np.full((len(texts), seeds), "an engraving of a thing")
        said = metrics.Drawn(tuple(texts), prompt_set, base, tuned, None, None, "mini-captioner", "1")  # type: ignore[arg-type]
        return replace(said, words=("engraving",))
    if needs == "technical":
        base, tuned = (rng.uniform(0.02, high, (len(texts), seeds, 3)) for high in (0.1, 0.4))
        return metrics.Drawn(
            tuple(texts), prompt_set, base, tuned, None, rng.uniform(0, 0.3, (12, 3)), "technical", "1"
        )  # type: ignore[arg-type]
    if registry.load("metrics", metric).NEEDS == "colour":
        base, tuned = (rng.uniform(low, high, (len(texts), seeds, 2)) for low, high in ((0.4, 0.7), (0.05, 0.12)))
        references = rng.uniform(0.04, 0.1, (12, 2))
        return metrics.Drawn(tuple(texts), prompt_set, base, tuned, None, references, "colour", "1")  # type: ignore[arg-type]
    if registry.load("metrics", metric).NEEDS == "luminance":
        grey = rng.uniform(0, 255, (len(texts), seeds, 16, 16))
        tuned = np.clip(grey + 40 * rng.normal(size=grey.shape), 0, 255)
        return metrics.Drawn(tuple(texts), prompt_set, grey, tuned, None, None, "luminance", "1")  # type: ignore[arg-type]
    if registry.load("metrics", metric).NEEDS == "pixels":
        base, tuned = rng.uniform(0, 1, (2, len(texts), seeds, 48))
        return metrics.Drawn(tuple(texts), prompt_set, base, tuned, None, None, "pixels", "1")  # type: ignore[arg-type]
    read = _unit(rng.normal(size=(len(texts), 32)))
    base = _unit(0.25 * read[:, None] + 0.2 * rng.normal(size=(len(texts), seeds, 32)))
    tuned = _unit(base + 0.03 * read[:, None] + 0.08 * rng.normal(size=base.shape))
    references = _unit(rng.normal(size=(12, 32)))
    return metrics.Drawn(tuple(texts), prompt_set, base, tuned, read, references, "mini-clip", "00c0ffee00c0ffee")  # type: ignore[arg-type]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _record(run: RunFolder) -> None:
    run.update(
        status="done",
        started="2026-11-21T09:00:00+00:00",
        finished="2026-11-21T09:03:41+00:00",
        command="brushwork train --method lora --base mini --data engravings --steps 300",
        seconds={"prepare": 6.2, "train": 142.4, "evaluate": 61.0},
        versions={
            "brushwork": "0.1.0",
            "torch": "2.13.0",
            "diffusers": "0.42.0",
            "transformers": "5.23.0",
            "peft": "0.20.0",
            "python": "3.11.2",
        },
        git={"commit": "0123456789abcdef0123456789abcdef01234567", "changed": False},
        device={"type": "cpu", "machine": "x86_64", "system": "Linux", "threads": 2},
        seed=0,
        data={"path": run.config.data.path, "count": 12, "held_out": 2, "fingerprint": "ab12cd34ef56ab12"},  # type: ignore[attr-defined]
        base={"name": "mini", "hash": "c0ffee00c0ffee00c0ffee00c0ffee00", "family": "sd"},
        base_validation_loss=0.231,
        total_steps=STEPS,
        peak_memory_bytes=1_310_000_000,
        images_per_second=38.4,
        trainable_parameters=446_464,
        total_parameters=8_370_000,
        artefact={"path": "weights/pytorch_lora_weights.safetensors", "bytes": 1_802_344},
        warnings=[],
    )


__all__ = ["CONTROL", "STEPS", "TARGET", "encoders", "make_run", "shape"]
