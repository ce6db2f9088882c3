"""A run: a folder that describes itself and reproduces itself.

    run = RunFolder.create(config)              # runs/<date>-<name>-<id>/ with config.yaml and run.json
    run = RunFolder("runs/2026-11-21-lora-1a2b")
    run.config, run.record["status"], run.steps()

Everything is written to a temporary name and renamed, so a kill leaves either the old file or the new one.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import config as configs
from brushwork.errors import ModelError, UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brushwork.config import Config

RUNS = Path("runs")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an error.

    Works for files and for folders; a folder already there is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent)) / path.name
    try:
        yield temporary
        _sync(temporary)
        if path.is_dir():
            path.rename(temporary.with_name("old"))
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary.parent, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flush a file, or every file in a folder, to the disk."""
    for each in path.rglob("*") if path.is_dir() else [path]:
        if each.is_file():
            with each.open("rb") as file:
                os.fsync(file.fileno())


def write_json(path: Path, value: object) -> None:
    """Write JSON in one step; NaN and infinity are refused by the format and become null."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n", "utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124
        return None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value


class RunFolder:
    """The run in a folder: its paths, its configuration, its record and its log of steps."""

    def __init__(self, path: str | Path) -> None:
        """Open an existing run.

        Raises:
            ModelError: The folder is not there or holds no run.
        """
        self.path = Path(path)
        if not (self.path / "config.yaml").is_file():
            known = [str(each.path) for each in find(self.path.parent)] if self.path.parent.is_dir() else []
            message = f"{str(self.path)!r} is not a run folder (no config.yaml in it).{nearest(str(path), known)}"
            raise ModelError(message)

    @classmethod
    def create(cls, config: Config, out: str | Path | None = None) -> RunFolder:
        """Make the folder of a new run.

        Raises:
            UserError: ``out`` exists already and is not empty.
        """
        if out is None:
            name = config.name or config.method.type
            out = RUNS / f"{datetime.date.today().isoformat()}-{name}-{secrets.token_hex(2)}"  # noqa: DTZ011  (the user's own day)
        path = check_free(out)
        with replacing(path) as temporary:
            temporary.mkdir(parents=True)
            (temporary / "config.yaml").write_text(configs.to_yaml(config), "utf-8")
        return cls(path)

    @property
    def config(self) -> Config:
        """The resolved configuration."""
        return configs.load(self.path / "config.yaml")

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says: versions, device, data, base, status, times, peak memory."""
        path = self.path / "run.json"
        return json.loads(path.read_text("utf-8")) if path.is_file() else {"status": "created"}

    def update(self, **changes: Any) -> None:
        """Change keys of run.json."""
        write_json(self.path / "run.json", {**self.record, **changes})

    def steps(self) -> list[dict[str, Any]]:
        """Return the logged steps in order; a last line cut short by a kill is left out."""
        path = self.path / "steps.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        steps = []
        for line in lines:
            try:
                steps.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return steps

    def log(self, step: dict[str, Any]) -> None:
        """Append a line to steps.jsonl."""
        with (self.path / "steps.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(step)) + "\n")

    def forget_after(self, index: int) -> None:
        """Drop logged steps after ``index`` (they will be done again)."""
        kept = [step for step in self.steps() if step["index"] <= index]
        with replacing(self.path / "steps.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(step) + "\n" for step in kept), "utf-8")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within this context no other process may work on the run; the lock goes with the process that holds it.

        Raises:
            UserError: Another process does.
        """
        with (self.path / ".lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                who = file.read().strip() or "?"
                message = f"{self.path}: process {who} is working on this run. Wait for it, or stop it."
                raise UserError(message) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    @property
    def weights(self) -> Path:
        """Where the method's artefact lies."""
        return self.path / "weights"

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What metrics.json says."""
        path = self.path / "metrics.json"
        return json.loads(path.read_text("utf-8")) if path.is_file() else []


def check_free(out: str | Path) -> Path:
    """Return ``out`` as a path that a new run may take.

    Raises:
        UserError: Something is there already.
    """
    path = Path(out)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        hint = (
            " Add --resume to go on with it, or choose another folder."
            if (path / "config.yaml").is_file()
            else " Choose another."
        )
        message = f"--out: {str(path)!r} exists and is not empty.{hint}"
        raise UserError(message)
    return path


def named(text: str) -> RunFolder | None:
    """Return the run that a text names by its folder, or by its name in ``runs/``; None where there is none."""
    for path in (Path(text).expanduser(), RUNS / text):
        if (path / "config.yaml").is_file():
            return RunFolder(path)
    return None


def find(folder: str | Path = RUNS) -> list[RunFolder]:
    """Return the runs in a folder, oldest first."""
    folder = Path(folder)
    paths = [each.parent for each in folder.glob("*/config.yaml")] if folder.is_dir() else []
    return [RunFolder(each) for each in sorted(paths, key=lambda each: (each / "config.yaml").stat().st_mtime)]
