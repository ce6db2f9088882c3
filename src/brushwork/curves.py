"""Every checkpoint of a run, measured: which one is best, and from when on it overfits or copies.

    told = measure(subjects.find("runs/2026-11-21-lora-1a2b"))
    told["best"], told["overfits_from"], told["copies_from"], told["told"]

The rule (``RULE``) is written down with the numbers. What is decided goes into ``checkpoints.json`` and, as ``best``,
into ``run.json``; ``RUN@best`` is then a MODEL everywhere.

Copies show first where the captions of the training pictures are drawn, so some of these are drawn besides the run's
own prompts. The held-out loss of each checkpoint is measured anew, picture by picture at the same noise and timesteps,
so that two checkpoints can be compared by a paired test; what the log of the run has are means.
"""

from __future__ import annotations

import gc
import statistics
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import checkpoints, contact, models, processes, registry, snapshots, states
from brushwork.best import is_worse
from brushwork.errors import DataError, ModelError, RunFailed
from brushwork.measuring import load_judges
from brushwork.measuring import measure as measure_pictures
from brushwork.metrics import find
from brushwork.pairs import draw_side, hash_files, plan
from brushwork.progress import note
from brushwork.runs import write_json
from brushwork.statistics import smallest_p
from brushwork.train import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.evaluate.subjects import Subject
    from brushwork.metrics import Result
    from brushwork.pairs import Plan
    from brushwork.processes import World
    from brushwork.runs import RunFolder
    from brushwork.snapshots import Snapshot
    from brushwork.train import Trainer

FILE = "checkpoints.json"
COPIES = "memorisation"
MEASURED = ("clip", "drift", "uptake", COPIES)
CAPTIONS = "captions"
"""The folder of what is drawn from training captions."""
MOST_CAPTIONS = 8
LEVEL = 0.05
MANY = 0.5
"""With so few prompts that no test can say anything, this share of copies more than the base's counts as copying."""
RULE = (
    "A checkpoint copies when of the pictures that it draws from training captions more are flagged as copies of "
    "training pictures than of the base's, by an exact sign-flip test over captions (p at most 0.05); with fewer than "
    "six captions, when the share is higher by one half. A checkpoint overfits when its loss on the held-out pictures "
    "is higher than that of an earlier one by more than noise (the same test, over pictures). Of the checkpoints that "
    "do neither, the best is the one whose target pictures are most like the training pictures, or the earliest that "
    "is not less like them by more than noise. Drift is shown but decides nothing: how much of it is worth the fit is "
    "for people to say."
)


@dataclass(frozen=True)
class Point:
    """What was measured of one checkpoint; what could not be measured is None."""

    step: int
    fit: float | None = None
    fits: tuple[float, ...] = ()
    """By target prompt."""
    clip: float | None = None
    drift: float | None = None
    leak: float | None = None
    copied: float | None = None
    """Share of the pictures of training captions that are flagged."""
    copied_by_base: float | None = None
    copied_p: float | None = None
    captions: int = 0
    """So many were drawn."""
    loss: float | None = None
    losses: tuple[float, ...] = field(default=(), repr=False)
    """By held-out picture."""

    @property
    def copies(self) -> bool:
        """Whether it copies, by the rule."""
        if self.copied is None or self.copied_by_base is None or self.copied <= self.copied_by_base:
            return False
        if smallest_p(max(1, self.captions)) > LEVEL:
            return self.copied - self.copied_by_base >= MANY
        return self.copied_p is not None and self.copied_p <= LEVEL


@dataclass(frozen=True)
class Verdict:
    """What the rule says of a run's checkpoints."""

    best: int
    overfits_from: int | None
    copies_from: int | None
    told: str


def decide(points: Sequence[Point]) -> Verdict:
    """Apply the rule to checkpoints in the order of their steps; there must be one at least."""
    assert points
    overfit = {point.step for place, point in enumerate(points) if _overfits(point, points[:place])}
    copying = {point.step for point in points if point.copies}
    sound = [point for point in points if point.step not in overfit | copying]
    best = _best(sound) if sound else min(points, key=lambda point: (point.copied or 0.0, point.step))
    overfits_from, copies_from = _from(points, overfit), _from(points, copying)
    return Verdict(best.step, overfits_from, copies_from, _told(points, best, sound, overfits_from, copies_from))


def _overfits(point: Point, earlier: Sequence[Point]) -> bool:
    measured = [each for each in earlier if each.losses]
    if not point.losses or not measured:
        return False
    lowest = min(measured, key=lambda each: statistics.fmean(each.losses))
    return is_worse(point.losses, lowest.losses)


def _best(sound: Sequence[Point]) -> Point:
    fitted = [point for point in sound if point.fits]
    if not fitted:  # nobody could look at the pictures
        return min(sound, key=lambda point: (point.loss if point.loss is not None else 0.0, -point.step))
    highest = max(fitted, key=lambda point: statistics.fmean(point.fits))
    if smallest_p(len(highest.fits)) > LEVEL:
        return highest
    return next(point for point in fitted if not is_worse(_negated(point), _negated(highest)))


def _negated(point: Point) -> list[float]:
    return [-value for value in point.fits]


def _from(points: Sequence[Point], flagged: set[int]) -> int | None:
    """Return the step from which on every checkpoint is flagged; None when the last one is not."""
    first = None
    for point in reversed(points):
        if point.step not in flagged:
            break
        first = point.step
    return first


def _told(
    points: Sequence[Point], best: Point, sound: Sequence[Point], overfits_from: int | None, copies_from: int | None
) -> str:
    last = points[-1].step
    which = "the last one" if best.step == last else f"the run went on to step {last}"
    told = [f"The best of {len(points)} checkpoints is that of step {best.step} ({which})."]
    if not sound:
        told = [f"Every one of {len(points)} checkpoints overfits or copies; step {best.step} copies least."]
    if overfits_from is not None:
        told.append(
            f"From step {overfits_from} on the loss on held-out pictures is higher by more than noise: it overfits."
        )
    if copies_from is not None:
        told.append(f"From step {copies_from} on it draws copies of training pictures.")
    if overfits_from is None and copies_from is None:
        told.append("None overfits or copies at the end." if sound else "")
    unseen = [
        text
        for text, missing in (
            ("nothing was held out, so overfitting could not be seen", not any(point.losses for point in points)),
            ("copies could not be looked for", all(point.copied is None for point in points)),
        )
        if missing
    ]
    if unseen:
        told.append(f"But {' and '.join(unseen)}.")
    return " ".join(each for each in told if each)


def measure(subject: Subject, *, world: World | None = None) -> dict[str, Any]:
    """Draw and measure every checkpoint of a run whose base pictures are drawn, decide, and write it down.

    Args:
        subject: A run in its own folder, evaluated already.
        world: Processes that share the work and all call this; default: this one alone.

    Raises:
        ModelError: The run has no checkpoints.
    """
    world = world or processes.World()
    run = subject.run
    assert run is not None, "only a run has checkpoints"
    every = [snapshots.Snapshot(run, step) for step in snapshots.steps(run)]
    if not every:
        message = (
            f"{run.path}: there is no checkpoint to look at. train.checkpointing_steps says how often one is written, "
            f"train.checkpoints_total_limit=null keeps all of them."
        )
        raise ModelError(message)
    look = _look(run, every)
    planned = plan(run.config)
    probes = _of_captions(run, look.captions) if look.captions else None
    home = subject.path / "evaluation"
    folders = [home / snapshots.FOLDER / str(each.step) for each in every]
    if probes is not None:
        _draw_base(subject, probes, home / CAPTIONS, world)
    for each, folder in zip(every, folders, strict=True):
        _draw(subject, each, planned, folder, world)
        if probes is not None:
            _draw(subject, each, probes, folder / CAPTIONS, world)
    told = {}
    if world.is_main:
        told = _write(run, _points(subject, (planned, probes), every, folders, look.losses))
    world.exchange()
    return told


def _of_captions(run: RunFolder, captions: Sequence[str]) -> Plan:
    """Return the plan of drawing training captions, with the settings of the run's own prompts."""
    config = run.config
    changes = {"prompts": tuple(captions), "content_prompts": (), "control_prompts": ()}
    return plan(config.model_copy(update={"validation": config.validation.model_copy(update=changes)}))


def _draw_base(subject: Subject, planned: Plan, folder: Path, world: World) -> None:
    device = world.device(subject.device) if world.size > 1 else subject.device
    for side in (each for each in planned.sides if each != "tuned"):
        asked = replace(planned, requests=planned.usual) if side != "base" else planned
        draw_side(folder / side, asked, lambda: subject.open_base(device), key=subject.base_key, world=world)


def _draw(subject: Subject, snapshot: Snapshot, planned: Plan, folder: Path, world: World) -> None:
    """Draw one checkpoint, and put the base's pictures beside: links to those that are there."""
    home = subject.path / "evaluation"
    device = world.device(subject.device) if world.size > 1 else subject.device
    text = f"{snapshot.run.path}@{snapshot.step}"
    key = f"{subject.base_key}+{hash_files(snapshot.path)}" if subject.base_key else None
    draw_side(folder / "tuned", planned, lambda: models.open_model(text, device=device), key=key, world=world)
    steps = folder.relative_to(home).parts  # checkpoints, 300 and perhaps captions
    for side in (each for each in planned.sides if each != "tuned" and world.is_main):
        if not (folder / side).is_symlink():
            target = Path(*[".."] * len(steps), *steps[2:], side)
            (folder / side).symlink_to(target, target_is_directory=True)


@dataclass(frozen=True)
class _Look:
    """What only the trainer of a run knows."""

    losses: dict[int, tuple[float, ...]] = field(default_factory=dict)
    """Of each held-out picture, by step; empty where there is none to compare."""
    captions: tuple[str, ...] = ()
    """Of pictures that were trained on, spread evenly."""


def _look(run: RunFolder, every: Sequence[Snapshot]) -> _Look:
    """Measure the held-out loss of each checkpoint; the processes of a run share it.

    Raises:
        RunFailed: A checkpoint does not fit what the configuration makes.
    """
    try:
        trainer = prepare(run.config)
    except DataError as error:
        note(f"warning: the held-out loss is not measured: {str(error).splitlines()[0]}")
        return _Look()
    own = trainer.data.own
    texts = dict.fromkeys(trainer.data.source[index].caption for index in own)
    known = [text for text in texts if text]
    captions = tuple(known[place] for place in contact.spread(len(known), MOST_CAPTIONS))
    if not trainer.data.held_out or not getattr(trainer.objective, "comparable", False):
        return _Look(captions=captions)
    found = {}
    for each in every:
        state = checkpoints.load(each.path)
        if state["data"] != trainer.data.fingerprint:
            note("warning: the held-out loss is not measured: the training data changed since")
            return _Look()
        _put(trainer, state, each)
        losses = trainer.held_out()
        found[each.step] = losses.losses if losses is not None else ()
    del trainer
    gc.collect()  # the checkpoints' models come next
    return _Look(found, captions)


def _put(trainer: Trainer, state: dict[str, Any], snapshot: Snapshot) -> None:
    if state["trained"].keys() != trainer.named.keys():
        message = f"{snapshot.path} does not fit the run's configuration: it holds other weights."
        raise RunFailed(message)
    states.put_weights(trainer, state)


def _points(
    subject: Subject, plans: tuple[Plan, Plan | None], every: Sequence[Snapshot], folders: Sequence[Path],
    losses: dict[int, tuple[float, ...]],
) -> list[Point]:  # fmt: skip
    chosen = [(name, registry.load("metrics", name)) for name in MEASURED]
    judges, problems = load_judges(subject, [module for _, module in chosen])
    for problem in problems:
        note(f"warning: {problem}")
    planned, probes = plans
    points = []
    for each, folder in zip(every, folders, strict=True):
        results: list[Result] = []
        copied: list[Result] = []
        if judges.every:
            results, _ = measure_pictures(subject, planned, folder, chosen, judges)
            copied = [result for result in results if result.name == COPIES]
            if probes is not None:
                of_copies = [(name, metric) for name, metric in chosen if name == COPIES]
                copied, _ = measure_pictures(subject, probes, folder / CAPTIONS, of_copies, judges)
        points.append(_point(each.step, results, copied, losses.get(each.step, ())))
    return points


def _point(step: int, results: Sequence[Result], copies: Sequence[Result], losses: tuple[float, ...]) -> Point:
    fit, clip = (find(results, name, "tuned") for name in ("uptake", "clip"))
    by_prompt = find(results, "uptake", "difference")
    drift, leak = find(results, "drift", "ratio", "control"), find(results, "uptake", "difference", "control")
    copied, before, change = (find(copies, COPIES, of) for of in ("tuned", "base", "difference"))
    return Point(
        step,
        fit=fit.value if fit else None,
        fits=tuple(row["tuned"] for row in by_prompt.details["prompts"]) if by_prompt else (),
        clip=clip.value if clip else None,
        drift=drift.value if drift else None,
        leak=leak.value if leak else None,
        copied=copied.value if copied else None,
        copied_by_base=before.value if before else None,
        copied_p=change.p if change else None,
        captions=len(change.details["prompts"]) if change else 0,
        loss=statistics.fmean(losses) if losses else None,
        losses=losses,
    )


def _write(run: RunFolder, points: Sequence[Point]) -> dict[str, Any]:
    verdict = decide(points)
    told = {**asdict(verdict), "rule": RULE, "points": [asdict(point) for point in points]}
    write_json(run.path / FILE, told)
    decided = {"step": verdict.best, **{key: value for key, value in asdict(verdict).items() if key != "best"}}
    run.update(best={**(run.record.get("best") or {}), "checkpoint": decided})
    note(verdict.told)
    return told
