"""Exports from the studio: a run's result as a file for another program, made by ``brushwork export``, which proves it.

    exporter = Exporter(config, trainings)
    made = await exporter.make("2026-11-21-lora-1a2b", ExportAsked(to="kohya"))
    exporter.file("2026-11-21-lora-1a2b", made["file"])

What was made is kept for ``keep.exports_hours``: it can be made again at any time.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from brushwork.errors import RunFailed, UserError
from brushwork.serve import surroundings
from brushwork.serve.keeping import EXPORTS
from brushwork.serve.training import last_error
from brushwork.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.runs import RunFolder
    from brushwork.serve.settings import ServeConfig
    from brushwork.serve.training import Trainings

WRONG = 2
"""How the command ends when the request was wrong."""


class ExportAsked(Settings):
    """Who is to read the file."""

    to: Literal["kohya", "comfyui", "single-file", "diffusers"] = Field(
        "kohya",
        description="kohya: sd-scripts, A1111, Forge. A single file or a diffusers folder holds the whole model.",
    )
    dtype: Literal["fp32", "fp16", "bf16"] | None = Field(None, description="Of the numbers; null: as they are.")


class Exporter:
    """Makes one file at a time."""

    def __init__(self, config: ServeConfig, trainings: Trainings) -> None:
        self.config, self.trainings, self.folder = config, trainings, config.data / EXPORTS
        self._one = asyncio.Lock()

    async def make(self, name: str, asked: ExportAsked) -> dict[str, Any]:
        """Make a file of a run, or find the one that is there; return its name and what the proof showed.

        Raises:
            UserError: There is no such run, it is not done, or the program could not use what it made.
            RunFailed: What was written does not read back as it was.
        """
        run = self.trainings.find(name)
        if run.record.get("status") != "done":
            message = f"run: {name} is not done; there is nothing to export yet"
            raise UserError(message)
        whole = asked.to in ("single-file", "diffusers")
        stem = "-".join(each for each in (name, asked.to, asked.dtype) if each)
        target = self.folder / f"{stem}{'.zip' if asked.to == 'diffusers' else '.safetensors'}"
        async with self._one:
            said = self.folder / f"{stem}.json"
            if not (target.is_file() and said.is_file() and target.stat().st_mtime > _changed(run)):
                said.unlink(missing_ok=True)
                written = await self._made(run, asked, target, merge=whole and _is_adapter(run))
                said.write_text(json.dumps(written), "utf-8")
        about = json.loads(said.read_text("utf-8"))
        return {
            "file": target.name,
            "bytes": target.stat().st_size,
            "what": about["what"],
            "verified": about["verified"],
        }

    def file(self, name: str, file: str) -> Path:
        """Return a file that was made of a run.

        Raises:
            UserError: There is none of that name (any more).
        """
        run = self.trainings.find(name).path.name
        there = {each.name: each for each in self.folder.glob("*") if each.suffix in (".safetensors", ".zip")}
        if file not in there or not file.startswith(f"{run}-"):
            message = f"file: there is no {file[:120]!r} of {run} (any more); make it: POST /api/v1/runs/{run}/exports"
            raise UserError(message)
        return there[file]

    async def _made(self, run: RunFolder, asked: ExportAsked, target: Path, *, merge: bool) -> dict[str, Any]:
        await asyncio.to_thread(_make_room, target)
        out = target.with_suffix("") if asked.to == "diffusers" else target
        options = ["--to", asked.to, "--out", str(out), "--device", self.config.device, "--json"]
        options += ["--merge"] if merge else []
        options += ["--dtype", asked.dtype] if asked.dtype else []
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "brushwork", "export", str(run.path), *options,
            stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=surroundings.for_children(),
        )  # fmt: skip
        written, told = await process.communicate()
        if process.returncode:
            kind = UserError if process.returncode == WRONG else RunFailed
            raise kind(last_error(told.decode(errors="replace")) or "export: it ended without a word")
        if asked.to == "diffusers":
            await asyncio.to_thread(shutil.make_archive, str(out), "zip", str(out))
            await asyncio.to_thread(shutil.rmtree, out)
        found: dict[str, Any] = json.loads(written)[0]
        return found


def _make_room(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)


def _is_adapter(run: RunFolder) -> bool:
    """Return whether a run made something that belongs to a base."""
    return not (run.weights / "model_index.json").is_file()


def _changed(run: RunFolder) -> float:
    return max((each.stat().st_mtime for each in run.weights.rglob("*")), default=0.0)
