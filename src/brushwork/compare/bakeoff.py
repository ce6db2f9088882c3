"""The bake-off: several methods, the same data, seeds and budget; then the same prompts, seeds and judge.

    asked = requested({"methods": "full,lora", "data": "engravings", "steps": 300})
    bake_off(asked, folder)                     # folder/runs/<method>-<seed>/, pictures/, compare.json, index.html

Everything that can be wrong for a user's reason is found before anything is trained. What is finished is used again,
what is half finished goes on: the same request in the same folder ends the same, wherever it was killed.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import api, config, contact, prompts, wording
from brushwork.compare import output, proof, training
from brushwork.compare.drawers import Opener
from brushwork.compare.judging import Judging, chosen_metrics
from brushwork.compare.request import Request, listed, read, requested
from brushwork.compare.sides import Side, Wanted, draw, prove
from brushwork.encoders import available, judge_of, own_judge_of
from brushwork.errors import ConfigError, RunFailed, UserError
from brushwork.progress import note
from brushwork.runs import RunFolder, replacing, write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from brushwork.compare.output import Comparison
    from brushwork.compare.sides import DrawnSide
    from brushwork.config import Config

__all__ = ["Request", "bake_off", "listed", "read", "requested"]

CHOSEN = "plans/chosen.json"
FALLBACK_PROMPTS = 8
"""So many captions are drawn when no prompts are given."""


def bake_off(request: Request, opened: Callable[[], Path], out: Path | None = None) -> Comparison:
    """Train every method, draw, measure, and write the page.

    Args:
        request: What to do.
        opened: Makes the folder, or finds it again.
        out: Where that is, if the user said so: an unfinished comparison there is not checked anew.

    Raises:
        UserError: Something in the request does not fit; nothing has been trained.
        RunFailed: All methods failed, or it was asked to stop.
    """
    chosen_metrics(request.metrics)
    configs = {name: request.config(name, request.seed) for name in request.methods}
    wanted = _wanted(request, configs)
    _check_words(wanted, configs)
    judge, warnings = _judge(configs)
    folder, plans = _planned(request, wanted, opened, out)
    failed = _train(request, folder)
    names = [name for name in request.methods if name not in failed]
    if not names:
        raise RunFailed("\n".join(f"{name}: {reason}" for name, reason in failed.items()))
    runs = {name: [RunFolder(_run(folder, name, seed)) for seed in _seeds(request)] for name in names}
    wanted = _resolved(wanted, runs[names[0]][0].config)
    opener = Opener(configs[names[0]].train.device)
    base, drawn = _drawn(request, wanted, runs, folder, opener)
    proofs, amiss = _proofs(drawn, base, opener)
    data = runs[names[0]][0].config.data
    judging = Judging(wanted, folder / "features", judge=judge, metrics=request.metrics, references=data)
    lines = judging.lines([base, *drawn], base)
    found = output.Findings(
        kind="methods",
        title=f"{wording.counted(len(names), 'method')} on {Path(getattr(data, 'path', data.type)).name}",
        lead=_lead(request, plans),
        wanted=wanted,
        drawn=[base, *drawn],
        reference=base.side.line,
        lines=lines,
        facts=judging.facts,
        request=request.model_dump(mode="json"),
        costs={name: _cost(each) for name, each in runs.items()},
        chosen={name: plans[name] for name in names},
        proofs=proofs,
        warnings=[*warnings, *amiss],
        failed=failed,
    )
    return output.finish(found, folder)


def _seeds(request: Request) -> range:
    return range(request.seed, request.seed + request.seeds)


def _run(folder: Path, name: str, seed: int) -> Path:
    return folder / "runs" / f"{name}-{seed}"


def _plan_file(folder: Path, name: str, seed: int) -> Path:
    return folder / "plans" / f"{name}-{seed}.yaml"


def _wanted(request: Request, configs: dict[str, Config]) -> Wanted:
    """Return the prompts: those asked for, else captions of the data.

    Raises:
        ConfigError: There are none, or one is target and control.
    """
    validation = next(iter(configs.values())).validation
    fallback = [] if validation.prompts else _captions(configs)
    target = prompts.resolve(validation.prompts, fallback)
    control = prompts.resolve(validation.control_prompts, key="validation.control_prompts")
    if not target:
        message = "--prompts: there is nothing to draw: no prompts are given and no method has captions of its own."
        raise ConfigError(message)
    both = sorted(set(target) & set(control))
    if both:
        message = f"validation: {both[0]!r} is in prompts and in control_prompts; take it out of one of them."
        raise ConfigError(message)
    return Wanted(
        tuple(target),
        tuple(control),
        validation.images_per_prompt,
        validation,
        concept=request.concept,
        means=request.means,
    )


def _resolved(wanted: Wanted, settings: Config) -> Wanted:
    """Return what to draw with the size and the settings that the training runs resolved."""
    side = settings.data.resolution  # type: ignore[attr-defined]  # every source of images has one
    return replace(wanted, validation=settings.validation, size=(side, side), said=frozenset(asdict(settings.sampling)))


def _captions(configs: dict[str, Config]) -> list[str]:
    for each in configs.values():
        if each.data.type == "captioned":
            captions = [text for text, _ in contact.pictures(each.data, FALLBACK_PROMPTS) if text]
            return list(dict.fromkeys(captions))
    return []


def _word(settings: Config) -> str | None:
    word: str | None = getattr(settings.method, "token", None)
    return word


def _check_words(wanted: Wanted, configs: dict[str, Config]) -> None:
    """Find out whether every method's word, and the concept, is in the prompts.

    Raises:
        ConfigError: With every method whose word is not.
    """
    concept = wanted.concept
    if concept and not any(concept in text for text in wanted.target):
        message = f"--concept: no prompt has the words {concept!r}. The first prompt is {wanted.target[0]!r}."
        raise ConfigError(message)
    if concept and any(concept in text for text in wanted.control):
        message = f"--concept: {concept!r} is in a control prompt, and those have nothing to do with it."
        raise ConfigError(message)
    lacking = [
        f"{name}: it learns the word {word}, which no prompt has. Say which words of the prompts it stands for, for "
        f'example --concept "old ink engraving".'
        for name, settings in configs.items()
        if (word := _word(settings)) and not concept and not any(word in text for text in wanted.target)
    ]
    if lacking:
        raise ConfigError("\n".join(lacking))


def _judge(configs: dict[str, Config]) -> tuple[str | None, list[str]]:
    """Return the CLIP model that judges all; where one method's loss optimised it, another if there is one.

    Raises:
        ConfigError: One that was asked for by name cannot be used.
    """
    every = list(configs.values())
    judge = judge_of(next((each for each in every if own_judge_of(each)), every[0]))
    reason = available(judge)
    if reason is None:
        return judge, []
    if every[0].validation.judge != "auto":
        raise ConfigError(reason)
    said = f"CLIP similarity is not measured: {reason.splitlines()[0]}"
    note(f"warning: {said}")
    return None, [said]


def _planned(
    request: Request, wanted: Wanted, opened: Callable[[], Path], out: Path | None
) -> tuple[Path, dict[str, list[str]]]:
    """Check every method as far as it goes without training, and write down what each run will do.

    Returns:
        The folder, and what was chosen by rule with the reasons, by method.

    Raises:
        ConfigError: With what is wrong with each method.
    """
    if out is not None and (out / CHOSEN).is_file():  # written last
        folder = opened()
        chosen: dict[str, list[str]] = json.loads((folder / CHOSEN).read_text("utf-8"))
        return folder, chosen
    plans = _checked(request, wanted, {})
    batches = {plan.config.train.batch for plan in plans.values()}
    if len(batches) > 1 and not _says_batch(request):
        # Equal steps are an equal budget only with equal batches; rules may have chosen different ones.
        note(f"batches of {min(batches)} for every method, so that equal steps see equally many pictures")
        plans = _checked(request, wanted, {"train_batch_size": min(batches)})
    folder = opened()
    for name, plan in plans.items():
        for seed in _seeds(request):
            with replacing(_plan_file(folder, name, seed)) as temporary:
                temporary.write_text(config.to_yaml(plan.config.model_copy(update={"seed": seed})), "utf-8")
    reasons = {name: [choice.reason for choice in plan.chosen] for name, plan in plans.items()}
    write_json(folder / CHOSEN, reasons)
    return folder, reasons


def _says_batch(request: Request) -> bool:
    every = [request.common, *request.methods.values()]
    return any("train_batch_size" in each.get("train", {}) for each in every)


def _checked(request: Request, wanted: Wanted, train: dict[str, Any]) -> dict[str, api.Plan]:
    plans, problems = {}, []
    for name in request.methods:
        settings = request.config(name, request.seed, **train)
        worded = [_draws(text, settings, wanted) for text in wanted.target]
        shown = {"prompts": tuple(worded), "control_prompts": wanted.control}
        settings = settings.model_copy(update={"validation": settings.validation.model_copy(update=shown)})
        note(f"checking {name}")
        try:
            plans[name] = api.plan(settings)
        except UserError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return plans


def _draws(text: str, settings: Config, wanted: Wanted) -> str:
    word = _word(settings)
    return text.replace(wanted.concept, word) if word and wanted.concept else text


def _train(request: Request, folder: Path) -> dict[str, str]:
    """Train every run that is not finished; return why some failed, by method."""
    failed: dict[str, str] = {}
    for seed in _seeds(request):  # all methods once, then all again
        for name in request.methods:
            out = _run(folder, name, seed)
            if name in failed:
                continue
            if training.is_done(out):
                note(f"{name}, seed {seed}: trained already")
                continue
            note(f"{name}, seed {seed}: training")
            reason = training.launch(_plan_file(folder, name, seed), out)
            if reason is not None:
                note(f"warning: {name} failed: {reason}")
                failed[name] = reason
    return failed


def _drawn(
    request: Request, wanted: Wanted, runs: dict[str, list[RunFolder]], folder: Path, opener: Opener
) -> tuple[DrawnSide, list[DrawnSide]]:
    """Draw the base, then every run."""
    settings = next(iter(runs.values()))[0].config
    base = Side("base", request.base, "base", word=wanted.means, changes=asdict(settings.base_sampling))
    sides = [
        Side(
            f"{name}, seed {run.config.seed}" if request.seeds > 1 else name,
            str(run.path),
            f"{name}-{run.config.seed}",
            word=_word(run.config),
            changes=asdict(run.config.sampling),
            row=name,
            optimised=run.record.get("optimised_judge", {}).get("revision"),
        )
        for name, every in runs.items()
        for run in every
    ]
    standing, *drawn = (draw(side, wanted, folder / "pictures" / side.key, opener) for side in [base, *sides])
    return standing, drawn


def _proofs(drawn: list[DrawnSide], base: DrawnSide, opener: Opener) -> tuple[list[str], list[str]]:
    told, amiss = [], []
    for side in drawn:
        text, dead = proof.sentence(side.side.label, prove(side, opener, base, lambda: None))
        told.append(text)
        if dead:
            note(f"warning: {text}")
            amiss.append(text)
    return told, amiss


def _cost(runs: list[RunFolder]) -> dict[str, Any]:
    """Return what a method's runs cost, means over its training seeds."""
    each = [cost_of(run) for run in runs]
    cost = {key: _mean([one[key] for one in each]) for key in each[0]}
    if len(runs) > 1:
        for key, write in (("step_seconds", wording.duration), ("peak_memory_bytes", wording.size)):
            values = [one[key] for one in each if one[key] is not None]
            cost[f"{key}_range"] = f"{write(min(values))} to {write(max(values))}" if values else None
    return cost


def _mean(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def cost_of(run: RunFolder) -> dict[str, Any]:
    """Return what a run cost: seconds of its steps and before them, bytes in memory and on disk, parameters."""
    record, settings, steps = run.record, run.config, run.steps()
    return {
        "learning_rate": settings.optimizer.learning_rate,
        "steps": len(steps),
        "pictures_seen": len(steps) * record["effective_batch"],
        "step_seconds": sum(step["seconds"] for step in steps),
        "prepare_seconds": record["seconds"].get("prepare"),
        "peak_memory_bytes": record.get("peak_memory_bytes"),
        "trainable_parameters": record.get("trainable_parameters"),
        "artefact_bytes": (record.get("artefact") or {}).get("bytes"),
    }


def _lead(request: Request, plans: dict[str, list[str]]) -> str:
    budget = f"{request.steps:,} steps" if request.steps else f"{request.seconds:g} seconds of steps"
    several = f", {request.seeds} training seeds each" if request.seeds > 1 else ""
    return (
        f"{', '.join(plans)}: {budget} on the same data{several}, from {request.base}; then the same prompts and seeds."
    )
