"""Training runs from the studio: each is a process, ``brushwork train``, and its run folder says how far it is.

    trainings = Trainings(config, catalogue, datasets)
    name = await trainings.start(TrainingAsked(method="lora", data="engravings", steps=300))
    trainings.position(name)                        # how many runs are before it: one trains at a time
    await trainings.stop(name)                      # it writes a checkpoint and ends
    await trainings.resume(name)

What the server knows of a run is what lies in its folder, so a restart, or a run that somebody started in a terminal,
makes no difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import fcntl
import json
import os
import secrets
import signal
import sys
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt

from brushwork import config as configs
from brushwork import runs
from brushwork.errors import BrushworkError, RunFailed, UserError
from brushwork.serve import names, permitted, surroundings
from brushwork.serve.places import Places
from brushwork.serve.turns import Turns
from brushwork.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config
    from brushwork.serve.catalogue import Catalogue
    from brushwork.serve.datasets import Datasets
    from brushwork.serve.settings import ServeConfig

LOG = "train.log"
LOOK_EVERY = 1.0
"""Seconds between two looks whether the run before has ended."""


class TrainingAsked(Settings):
    """What the studio's form sends."""

    name: str | None = Field(None, description="Of the run's folder; null: made from date and method.")
    method: str = "lora"
    base: str = Field("mini", description="A model of the catalogue.")
    data: str = Field(description="A data set of the studio, or an embedded one.")
    steps: PositiveInt | None = Field(None, description="null: by rule.")
    settings: dict[str, Any] = Field({}, description="Other keys of the configuration: {'method.rank': 8}.")


class Trainings:
    """The runs in the folder of runs, and the processes of those that were started here."""

    def __init__(self, config: ServeConfig, catalogue: Catalogue, datasets: Datasets) -> None:
        self.config, self.catalogue, self.datasets = config, catalogue, datasets
        self.places = Places(config)
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.turns = Turns(config.data / "waiting.json", config.limits.trainings)
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining: asyncio.Task[None] | None = None
        self._entering = asyncio.Lock()

    async def begin(self) -> None:
        """Go on with the runs that waited when the server ended."""
        self._drain_soon()

    def known(self) -> list[str]:
        """Return the names of all runs, newest first."""
        return [run.path.name for run in reversed(runs.find(self.config.runs))]

    def find(self, name: str) -> runs.RunFolder:
        """Return a run by its name.

        Raises:
            UserError: With the nearest name.
        """
        return runs.RunFolder(names.inside(self.config.runs, name, "run", self.known()))

    def configuration(self, asked: TrainingAsked) -> Config:
        """Return the configuration that a request comes to, checked.

        Raises:
            UserError: A key, a value or a name is wrong, or a setting opens something.
        """
        tree = permitted.tree(asked.settings)
        train = {} if asked.steps is None else {"train": {"max_train_steps": asked.steps}}
        base = self.catalogue.find("model", asked.base).path
        data = self.datasets.path_of(asked.data)
        return configs.load(configs.merge(tree, train), method=asked.method, base=base, data=data)

    async def start(self, asked: TrainingAsked) -> str:
        """Start a run, or let it wait for those before it, and return its name.

        Raises:
            UserError: The request is wrong.
            Full: Too many runs wait.
        """
        config = self.configuration(asked)
        if asked.name is not None:
            name = names.check(asked.name, "name")
        else:
            name = f"{datetime.date.today().isoformat()}-{asked.method}-{secrets.token_hex(2)}"  # noqa: DTZ011  (the user's own day)
        if name in self.turns.names():
            message = f"name: a run {name} waits already; choose another name"
            raise UserError(message)
        folder = runs.check_free(self.config.runs / name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        recipe = self._recipe(name)
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(configs.to_yaml(config), "utf-8")
        await self._enter(name, [str(recipe), "--out", str(folder)])
        self.datasets.used(asked.data)
        return name

    async def resume(self, name: str) -> None:
        """Go on with a run that was stopped, when the runs before it are over.

        Raises:
            UserError: It is done, in training, or waits already.
            Full: Too many runs wait.
        """
        run = self.find(name)
        status = self._status(run, str(run.record.get("status")))
        if status in ("done", "running", "queued"):
            message = f"run: {name} is {status}; there is nothing to go on with"
            raise UserError(message)
        await self._enter(name, ["--resume", "--out", str(run.path)])

    def position(self, name: str) -> int:
        """Return how many runs are before this one: 0 of one that does not wait."""
        waiting = self.turns.names()
        return waiting.index(name) + bool(self.busy()) if name in waiting else 0

    def busy(self) -> str | None:
        """Return the run that is in training, by this server, one before it, or a command."""
        mine = [name for name, process in self.processes.items() if process.returncode is None]
        others = (run.path.name for run in runs.find(self.config.runs) if _worker_of(run) is not None)
        return mine[0] if mine else next(others, None)

    async def stop(self, name: str) -> None:
        """Ask a run to write a checkpoint and end; one that waits does not begin.

        Raises:
            UserError: It was not started here, or has ended.
        """
        if self.turns.leave(name):
            if name not in self.known():
                self._recipe(name).unlink(missing_ok=True)
            return
        process = self.processes.get(name)
        pid = process.pid if process is not None and process.returncode is None else None
        if pid is None and name in self.known():
            pid = _worker_of(self.find(name))  # of a server that is gone
        if not pid:
            message = f"run: {name[:80]!r} is not in training here"
            raise UserError(message)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)

    async def estimate(self, asked: TrainingAsked, *, calibrate: bool = False) -> dict[str, Any]:
        """Return what ``brushwork train --dry-run`` says: the plan, the rules' choices, memory, disk, whether it fits.

        With ``calibrate`` a few steps are timed, so that it says how long it will take.

        Raises:
            UserError: The request is wrong; what the command said.
        """
        config = self.configuration(asked)
        recipe = self.config.data / "recipes" / f"estimate-{secrets.token_hex(4)}.yaml"
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(configs.to_yaml(config), "utf-8")
        try:
            pipe = asyncio.subprocess.PIPE
            command: tuple[str, ...] = ("-m", "brushwork", "train", str(recipe), "--dry-run", "--json")
            command += ("--calibrate",) if calibrate else ()
            environment = surroundings.for_children()
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=pipe, stderr=pipe, env=environment
            )
            out, said = await process.communicate()
        finally:
            recipe.unlink(missing_ok=True)
        if process.returncode == 2:  # noqa: PLR2004  (the request was wrong)
            raise UserError(last_error(said.decode(errors="replace")))
        if process.returncode:
            raise RunFailed(last_error(said.decode(errors="replace")))
        plan: dict[str, Any] = json.loads(out)
        return dict(self.places.hide_all({name: plan.get(name) for name in ("plan", "chosen", "forecast")}))

    def shown(self, run: runs.RunFolder) -> dict[str, Any]:
        """Return how far a run is; of a folder that somebody broke, only that."""
        name = run.path.name
        try:
            return self._shown(run)
        except (BrushworkError, OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            empty: dict[str, Any] = dict.fromkeys(("method", "base", "data", "steps", "loss"))
            error = "What lies in its folder cannot be read; it was changed, or another program wrote it."
            rest = {"status": "broken", "step": 0, "seconds": {}, "report": False, "samples": []}
            return {"name": name, **empty, **rest, "error": error}

    def _shown(self, run: runs.RunFolder) -> dict[str, Any]:
        record, steps, name = run.record, self.steps(run), run.path.name
        config = run.config
        status = self._status(run, str(record.get("status", "created")))
        return {
            "name": name,
            "method": config.name or config.method.type,
            "base": _short(config.base),
            "data": _short(str(getattr(config.data, "path", ""))),
            "status": status,
            "position": self.position(name),
            "step": steps[-1]["index"] if steps else 0,
            "steps": config.train.max_train_steps,
            "loss": steps[-1]["loss"] if steps else None,
            "seconds": record.get("seconds", {}),
            "error": self._why(name) if status not in ("running", "done", "stopped", "created") else None,
            "report": (run.path / "report.html").is_file(),
            "samples": sorted(int(each.name) for each in (run.path / "samples").glob("*") if each.name.isdigit()),
        }

    def steps(self, run: runs.RunFolder, after: int = 0) -> list[dict[str, Any]]:
        """Return a run's logged steps after one."""
        logged: list[Any] = run.steps()  # of whoever wrote the file
        steps = [each for each in logged if isinstance(each, dict) and isinstance(each.get("index"), int)]
        return [each for each in steps if each["index"] > after]

    def _status(self, run: runs.RunFolder, said: str) -> str:
        """Return what a run is doing; a process that was killed cannot say so itself."""
        process = self.processes.get(run.path.name)
        if (process is not None and process.returncode is None) or _worker_of(run) is not None:
            return "running"
        if run.path.name in self.turns.names():
            return "queued"
        return "failed" if said == "running" else said

    def _why(self, name: str) -> str:
        process = self.processes.get(name)
        code = process.returncode if process is not None else None
        ended = f"it was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else "it ended"
        return self.said(name) or f"The process that trained is gone: {ended} without a word. Resume the run."

    def said(self, name: str) -> str | None:
        """Return the last error that a run's process printed."""
        path = self.log(name)
        if not path.is_file():
            return None
        return self.places.hide(last_error(path.read_text("utf-8", errors="replace"))) or None

    def log(self, name: str) -> Path:
        """Return where the output of a run's process goes."""
        return self.config.data / "logs" / f"{name}.{LOG}"

    def unborn(self) -> list[dict[str, Any]]:
        """Return the runs that were started and have no folder yet: waiting, preparing, or refused."""
        there = set(self.known())
        found: list[dict[str, Any]] = [
            {"name": name, "status": "queued", "position": self.position(name), "error": None}
            for name in self.turns.names()
            if name not in there
        ]
        for name, process in self.processes.items():
            if name not in there:
                running = process.returncode is None
                status = "preparing" if running else "failed"
                found.append({"name": name, "status": status, "error": None if running else self.said(name)})
        return found

    async def end(self) -> None:
        """Stop all runs, which write their checkpoints; those that wait do so until a server starts again."""
        async with self._entering:  # not while a process is being started
            if self._draining is not None:
                self._draining.cancel()
        for name, process in self.processes.items():
            if process.returncode is None:
                await self.stop(name)
        await asyncio.gather(*(process.wait() for process in self.processes.values()))

    async def _enter(self, name: str, arguments: list[str]) -> None:
        """Let a run begin, at once if nothing else trains or waits."""
        async with self._entering:
            draining = self._draining is not None and not self._draining.done()
            if self.turns or draining or self.busy():
                self.turns.add(name, arguments)
                self._drain_soon()
            else:
                await self._spawn(name, arguments)

    def _drain_soon(self) -> None:
        if self.turns and (self._draining is None or self._draining.done()):
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        """Let those that wait begin, one after another."""
        while self.turns:
            if self.busy():
                await asyncio.sleep(LOOK_EVERY)
                continue
            async with self._entering:
                if self.turns:  # it may have left meanwhile
                    await self._spawn(*self.turns.take())

    def _recipe(self, name: str) -> Path:
        return self.config.data / "recipes" / f"{name}.yaml"

    async def _spawn(self, name: str, arguments: list[str]) -> None:
        log = self.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = surroundings.for_children()
        with log.open("wb") as file:
            self.processes[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "brushwork", "train", *arguments, "--json",
                stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True,
            )  # fmt: skip
        task = asyncio.create_task(self._refresh(self.processes[name]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refresh(self, process: asyncio.subprocess.Process) -> None:
        """Put what a run made into the catalogue."""
        await process.wait()
        self.catalogue.refresh()


def _worker_of(run: runs.RunFolder) -> int | None:
    """Return the process that holds a run's lock, 0 if it does not say which; None when nobody works on it."""
    with contextlib.suppress(OSError), (run.path / ".lock").open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read().strip()
            return int(text) if text.isdecimal() else 0
    return None


def _short(text: str) -> str:
    return text.rstrip("/").rsplit("/", 1)[-1] if text.startswith(("/", ".", "~")) else text


def last_error(text: str) -> str:
    """Return what follows the last ``error:``."""
    _, found, rest = text.rpartition("error: ")
    return rest.strip()[:2000] if found else ""
