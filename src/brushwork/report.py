"""The report of a run: one self-contained page with pictures, numbers, costs, data, warnings.

    path = write_report(RunFolder("runs/2026-11-21-lora-1a2b"))

It reads the run folder (and, for the contact sheet, the training pictures) and computes nothing that is not stored.
What is missing, because a run was stopped or never evaluated, is said in a sentence.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import __version__, exhibits, findings, remarks, wording
from brushwork.config import to_yaml
from brushwork.exhibits import Sides, stored
from brushwork.metrics import Result, find
from brushwork.runs import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.config import Config
    from brushwork.metrics import PromptSet
    from brushwork.runs import RunFolder

ASSETS = Path(__file__).parent / "assets" / "report"

LARGEST = 9_500_000
"""Bytes of the page; a mail or a wiki takes 10 MB."""

SIDES = (Sides(320, 768), Sides(256, 512), Sides(192, 448), Sides(128, 320), Sides(96, 256))
"""The first whose page is small enough is taken."""

ENLARGED = 128
"""Pictures up to this side are shown larger than they are, and the page says so."""

PROMPT_SETS: tuple[PromptSet, ...] = ("target", "content", "control")


def write_report(run: RunFolder, out: Path | None = None) -> Path:
    """Write ``report.html`` into the run folder, or to ``out``, and return its path."""
    path = out or run.path / "report.html"
    page = ""
    for sides in SIDES:
        page = render(run, sides)
        if len(page.encode()) <= LARGEST:
            break
    with replacing(path) as temporary:
        temporary.write_text(page, "utf-8")
    return path


def render(run: RunFolder, sides: Sides) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = ("number", "signed", "span", "p_text", "duration", "size", "grouped", "counted", "curly")
    environment.filters |= {name: getattr(wording, name) for name in words}
    return environment.get_template("report.html.jinja").render(**_context(run, sides))


def _context(run: RunFolder, sides: Sides) -> dict[str, Any]:
    """Return everything that the template shows."""
    record, config, steps = run.record, run.config, run.steps()
    results = [Result.from_dict(each) for each in run.metrics]
    evaluation = stored(run.path / "evaluation" / "evaluation.json")
    prompts: dict[PromptSet, list[str]] = {name: (evaluation or {}).get(name, []) for name in PROMPT_SETS}
    data: Any = config.data
    trained = getattr(run, "is_own_run", True)  # otherwise the evaluation of some other model
    return {
        "trained": trained,
        **findings.found(results),
        "checkpoints": findings.over_checkpoints(run, sides) if trained else None,
        "style": (ASSETS / "report.css").read_text("utf-8"),
        "script": (ASSETS / "report.js").read_text("utf-8"),
        "version": __version__,
        "name": run.path.name,
        "title": title(config) if trained else f"{_model(evaluation, 'model')} beside {_model(evaluation, 'against')}",
        "lead": _lead(config, record, steps) if trained else _lead_of_another(evaluation or {}),
        "status": _status(record, steps) if trained else None,
        "figures": _figures(results, record),
        "enlarged": data.resolution if data.resolution and data.resolution <= ENLARGED else None,
        "heroes": exhibits.heroes(run, sides, prompts["target"]),
        **{name: exhibits.prompt_set(run, name, results, texts, sides) for name, texts in prompts.items()},
        "labels": _labels(evaluation or {}),
        "usual": wording.usual_sentences(results, evaluation) if evaluation else [],
        "drift": wording.drift_sentence(results),
        "drifts": getattr(find(results, "drift", "ratio", "control"), "details", {}).get("prompts", []),
        "method": wording.method_sentences(evaluation) if evaluation else [],
        "charts": exhibits.charts(steps, record),
        "validation": (
            exhibits.agreement_sentence(steps, record)
            if config.objective.type == "consistency"
            else exhibits.validation_sentence(steps, record)
        ),
        "samples": exhibits.samples(run, sides),
        "data": {"path": getattr(data, "path", data.type), "count": None, "held_out": None, **record.get("data", {})},
        "drawn": record.get("drawn", []),
        "contact": exhibits.training_pictures(run),
        "memorised": [said for name in PROMPT_SETS if (said := wording.memorisation_sentence(results, name))],
        "copies": exhibits.copies(run, results, sides),
        "results": results,
        "remarks": {name: remarks.sentences(results, name) for name in PROMPT_SETS},
        "not_measured": remarks.not_measured(evaluation),
        "costs": exhibits.costs(record),
        "warnings": record.get("warnings", []),
        "command": record.get("command"),
        "facts": _facts(config, record) if trained else [],
        "yaml": to_yaml(config) if trained else "",
        "again": _again(run) if not trained else "",
    }


def title(config: Config) -> str:
    """Return what was done, in a few words.

    >>> from brushwork import config
    >>> title(config.load({"data": "engravings"}))
    'mini learns engravings'
    """
    data: Any = config.data
    own = getattr(config.objective, "sampling", None)
    if own:
        return f"{_short(config.base)} learns to draw in {wording.counted(own.steps, 'step')}"
    return f"{_short(config.base)} learns {_short(getattr(data, 'path', data.type))}"


def _short(name: str) -> str:
    """Return the last part of a path, a hub id as it is."""
    return Path(name).name if Path(name).exists() or name.count("/") != 1 else name


def _lead(config: Config, record: dict[str, Any], steps: Sequence[dict[str, Any]]) -> str:
    data: Any = config.data
    count = record.get("data", {}).get("count")
    pictures = wording.counted(count, "picture") if count else "the pictures"
    method = wording.method_name(config)
    batch = record.get("effective_batch") or config.train.effective_batch
    source = _short(getattr(data, "path", data.type))
    return (
        f"{_short(config.base)} was fine-tuned with {method} on {pictures} of {source}, "
        f"{wording.counted(len(steps), 'step')} of batch {batch}, and drawn before and after at identical seeds."
    )


def _model(evaluation: dict[str, Any] | None, side: str) -> str:
    """Return the short name of one of the two models that were compared."""
    return "+".join(map(_short, (evaluation or {}).get(side, "a model").split("+")))


def _lead_of_another(evaluation: dict[str, Any]) -> str:
    return (
        f"{_model(evaluation, 'model')} and {_model(evaluation, 'against')} drew the same prompts at identical seeds "
        f"and settings; what differs between the pictures is what the one was changed by."
    )


def _labels(evaluation: dict[str, Any]) -> dict[str, str]:
    """Name the sides of a comparison, with their steps where these differ."""
    usual = evaluation.get("usual")
    if not usual:
        return {"base": "base", "tuned": "tuned", "usual": ""}
    few, many = evaluation["settings"]["steps"], usual["steps"]
    return {"base": f"base, {few} steps", "tuned": f"tuned, {few} steps", "usual": f"base, {many} steps"}


def _status(record: dict[str, Any], steps: Sequence[dict[str, Any]]) -> str | None:
    """Say how a run ended that did not end well; None for one that did."""
    status, total = record.get("status", "created"), record.get("total_steps")
    if status in ("done", "trained"):
        return None
    done = steps[-1]["index"] if steps else 0
    words = {"stopped": "was stopped", "failed": "failed", "running": "is not finished"}
    of = f" of {total}" if total else ""
    told = f"This run {words.get(status, 'has not begun')}: it is at step {done}{of}."
    return f"{told} {record['failure']}" if record.get("failure") else told


def _again(run: RunFolder) -> str:
    """Return the command that evaluates another model as it was done."""
    asked = stored(run.path / "subject.json")["asked"]
    options = [f"--{name} {asked[name]}" for name in ("against", "prompts", "references") if asked[name]]
    return " ".join(["brushwork evaluate", asked["model"], *asked["overrides"], *options])


def _figures(results: Sequence[Result], record: dict[str, Any]) -> list[dict[str, str]]:
    """Return the few numbers that stand at the top."""
    figures = []
    similarity, saturation = (find(results, name, "difference") for name in ("clip", "saturation"))
    drift = find(results, "drift", "ratio", "control")
    if similarity:
        between = (
            f"95\N{NARROW NO-BREAK SPACE}% {wording.span(similarity.interval)}" if similarity.interval else "one prompt"
        )
        remark = similarity.caveat or between
        figures.append(_figure("CLIP similarity", wording.signed(similarity.value), remark))
    if saturation:
        base, tuned = (find(results, "saturation", of) for of in ("base", "tuned"))
        moved = (
            f"{wording.number(base.value, 2)} \N{RIGHTWARDS ARROW} {wording.number(tuned.value, 2)}"
            if base and tuned
            else ""
        )
        figures.append(
            _figure("Colour saturation", moved, f"p\N{NARROW NO-BREAK SPACE}={wording.p_text(saturation.p)}")
        )
    if drift:
        unit = drift.caveat or "1: as much as another seed"
        figures.append(_figure("Drift on controls", wording.number(drift.value, 2), unit))
    seconds = record.get("seconds", {}).get("train")
    if seconds is not None:
        size = (record.get("artefact") or {}).get("bytes")
        figures.append(
            _figure("Training", wording.duration(seconds), f"for {wording.size(size)} of weights" if size else "")
        )
    return figures


def _figure(label: str, value: str, remark: str) -> dict[str, str]:
    return {"label": label, "value": value, "remark": remark}


def _facts(config: Config, record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the numbers depend on, for whoever wants to see them again."""
    base, data, device, git = (record.get(key) or {} for key in ("base", "data", "device", "git"))
    told = {
        "Base": f"{config.base} {base.get('hash', '')}".strip(),
        "Data": f"{getattr(config.data, 'path', '')} {data.get('fingerprint', '')}".strip(),
        "Seed": str(config.seed),
        "Device": ", ".join(str(value) for value in device.values()) if isinstance(device, dict) else str(device),
        "Commit": f"{git['commit']}{' with changes' if git.get('changed') else ''}" if git.get("commit") else "",
        "Versions": ", ".join(f"{name} {version}" for name, version in (record.get("versions") or {}).items()),
        "Chosen by rule": "; ".join(choice["reason"] for choice in record.get("chosen", [])),
        "Started": record.get("started") or "",
        "Finished": record.get("finished") or "",
    }
    return [(label, value) for label, value in told.items() if value]
