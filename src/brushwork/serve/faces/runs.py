"""Training runs, ``/api/v1/runs``: start from a form, watch steps and samples, stop, resume, read, download."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import re
import zipfile
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from fastapi import APIRouter, Header, HTTPException, Response
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse

from brushwork import config as configs
from brushwork import registry
from brushwork.serve.training import TrainingAsked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from brushwork.runs import RunFolder
    from brushwork.serve.engine import Engine
    from brushwork.serve.places import Places
    from brushwork.serve.training import Trainings

LOOK_EVERY = 0.5
"""Seconds between two looks at a run's log."""
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
)
"""A report may run its own scripts, but not as a page of ours: what is in it came from pictures' captions too."""
_SENTENCE = re.compile(r"(?<=\.) (?=[A-Z])")
OVER = ("done", "failed", "stopped", "diverged", "interrupted", "broken")


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api/v1", tags=["training"])
    _status(router, engine)
    _runs(router, engine.trainings)
    _files(router, engine.trainings)
    _forms(router, engine.trainings)
    return router


def _status(router: APIRouter, engine: Engine) -> None:
    @router.get("/status")
    async def status() -> dict[str, Any]:
        """Return what the server is doing: jobs that wait or are drawn, the run in training, how many wait for it."""
        jobs = sum(not live.over.is_set() for live in engine.live.values())
        return {"jobs": jobs, "training": engine.trainings.busy(), "waiting": len(engine.trainings.turns)}


def _runs(router: APIRouter, trainings: Trainings) -> None:
    @router.get("/runs")
    async def listed() -> list[dict[str, Any]]:
        """Return all runs, newest first."""
        return [*trainings.unborn(), *(trainings.shown(trainings.find(name)) for name in trainings.known())]

    @router.post("/runs", status_code=201)
    async def start(asked: TrainingAsked) -> dict[str, Any]:
        """Start a training run; one trains at a time, the others wait: ``position`` says how many are before it."""
        name = await trainings.start(asked)
        return {"name": name, "position": trainings.position(name)}

    @router.get("/runs/{name}")
    async def one(name: str) -> dict[str, Any]:
        """Return a run with its metrics, or the error of one that did not begin."""
        unborn = [each for each in trainings.unborn() if each["name"] == name]
        if unborn:
            return unborn[0]
        run = trainings.find(name)
        shown = trainings.shown(run) | {"sample_prompts": _prompts(run)}
        return shown | {"metrics": trainings.places.hide_all(run.metrics)}

    @router.post("/runs/{name}/stop")
    async def stop(name: str) -> dict[str, str]:
        """Let a run write a checkpoint and end; one that waits does not begin."""
        await trainings.stop(name)
        return {"name": name}

    @router.post("/runs/{name}/resume")
    async def resume(name: str) -> dict[str, Any]:
        """Go on with a run that was stopped, when the runs before it are over."""
        await trainings.resume(name)
        return {"name": name, "position": trainings.position(name)}

    @router.get("/runs/{name}/steps")
    async def steps(name: str, after: int = 0) -> list[dict[str, Any]]:
        """Return the logged steps after one."""
        return trainings.steps(trainings.find(name), after)

    @router.get("/runs/{name}/events")
    async def events(name: str, last_event_id: Annotated[int, Header(ge=0)] = 0) -> StreamingResponse:
        """Follow a run's steps (server-sent events; the id is the step's number)."""
        if all(each["name"] != name for each in trainings.unborn()):
            trainings.find(name)
        stream = _follow(trainings, name, last_event_id)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _follow(trainings: Trainings, name: str, after: int) -> AsyncIterator[str]:
    """Yield new steps, and the state whenever it is another one, until the run is over."""
    told = ""
    while True:
        unborn = [each for each in trainings.unborn() if each["name"] == name]
        if unborn:
            shown, steps = unborn[0], []
        elif name in trainings.known():
            run = trainings.find(name)
            shown, steps = trainings.shown(run), trainings.steps(run, after)
        else:
            return  # somebody removed it
        for step in steps:
            after = step["index"]
            yield f"id: {after}\nevent: step\ndata: {json.dumps(step)}\n\n"
        state = json.dumps({key: shown.get(key) for key in ("status", "position", "error", "samples", "report")})
        if state != told:
            told = state
            yield f"event: state\ndata: {state}\n\n"
        if shown["status"] in OVER:
            return
        await asyncio.sleep(LOOK_EVERY)


def _files(router: APIRouter, trainings: Trainings) -> None:
    @router.get("/runs/{name}/report", response_class=HTMLResponse)
    async def report(name: str) -> HTMLResponse:
        """Return the report, one self-contained page."""
        path = _there(trainings.find(name).path / "report.html")
        page = await asyncio.to_thread(_without_folders, path, trainings.places)
        return HTMLResponse(page, headers={"content-security-policy": REPORT_POLICY})

    @router.get("/runs/{name}/samples/{step}")
    async def samples(name: str, step: int) -> list[str]:
        """Return the names of the pictures that were drawn at a step."""
        return sorted(each.name for each in _samples(trainings.find(name), step))

    @router.get("/runs/{name}/samples/{step}/{picture}", response_class=FileResponse)
    async def sample(name: str, step: int, picture: str) -> FileResponse:
        """Return a picture that was drawn at a step."""
        found = [each for each in _samples(trainings.find(name), step) if each.name == picture]
        if not found:
            raise HTTPException(404, "there is no such picture")
        return FileResponse(found[0], media_type="image/png")

    @router.get("/runs/{name}/weights")
    async def weights(name: str) -> Response:
        """Return what the run made, as a zip with its model card and configuration."""
        run = trainings.find(name)
        _there(run.weights)
        data = await asyncio.to_thread(_zipped, run, trainings.places)
        disposition = f'attachment; filename="{re.sub(r"[^A-Za-z0-9 _.-]", "_", name)}.zip"'
        return Response(data, media_type="application/zip", headers={"content-disposition": disposition})


def _prompts(run: RunFolder) -> list[str]:
    """Return what the samples show, in the order of the numbers that their names begin with."""
    path = run.path / "samples" / "prompts.json"
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [str(each) for each in found] if isinstance(found, list) else []


def _samples(run: RunFolder, step: int) -> list[Path]:
    """Return the pictures of a step, none where nothing was drawn."""
    there = {each.name: each for each in (run.path / "samples").glob("*")}
    return list(there[str(step)].glob("*.png")) if str(step) in there else []


def _there(path: Path) -> Path:
    if not path.exists():
        raise HTTPException(404, f"there is no {path.name} yet")
    return path


def _without_folders(path: Path, places: Places) -> str:
    return places.cut(path.read_text("utf-8", errors="replace"))


def _zipped(run: RunFolder, places: Places) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(each for each in run.weights.rglob("*") if each.is_file()):
            archive.write(path, path.relative_to(run.weights))
        for each in ("README.md", "config.yaml", "metrics.json"):
            if (run.path / each).is_file():
                archive.writestr(each, _without_folders(run.path / each, places))
    return buffer.getvalue()


def _forms(router: APIRouter, trainings: Trainings) -> None:
    @router.get("/train/schema")
    async def schema() -> dict[str, Any]:
        """Return the JSON schema of the configuration, from which the form is made, and the methods' names."""
        methods = configs.presets()
        presets = {name: _preset(name) for name in methods}
        metrics = registry.names("metrics")
        return {"methods": methods, "presets": presets, "schema": configs.schema(), "metrics": metrics}

    @router.post("/train/estimate")
    async def estimate(asked: TrainingAsked, calibrate: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002  (a query parameter)
        """Return what a run would be: steps, rates and the reasons, memory, disk; time if a few steps may be tried."""
        return await trainings.estimate(asked, calibrate=calibrate)


def _preset(name: str) -> dict[str, str]:
    """Return what a preset is about (its file's first sentence), and which method, data and objective it chooses."""
    text = (configs.PRESETS / f"{name}.yaml").read_text("utf-8")
    tree = yaml.safe_load(text)
    comments = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    about = _SENTENCE.split(" ".join(line.lstrip("# ") for line in comments), maxsplit=1)[0]
    parts = {part: tree.get(part) or {} for part in ("method", "data", "objective")}
    return {"about": about, **{part: str(about.get("type", "")) for part, about in parts.items()}}
