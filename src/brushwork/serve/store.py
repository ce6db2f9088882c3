"""Jobs and pictures that outlive the process: SQLite for what is known of them, files for the pixels.

    store = Store(Path("served"))
    store.add_job("a1b2", client="me", asked={...}, planned=[...])
    store.recover()                                 # after a restart: what was running then has failed

A picture's file has its opaque id as its name and appears whole or not at all.
"""

from __future__ import annotations

import errno
import json
import math
import secrets
import sqlite3
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from brushwork.errors import RunFailed
from brushwork.runs import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from brushwork.serve.jobs import Planned

_SCHEMA = """
create table if not exists jobs (
    id text primary key, number integer, kind text not null, client text not null, state text not null,
    asked text not null, created real not null, started real, finished real, error text,
    notes text not null default '[]'
);
create table if not exists pictures (
    id text primary key, job text not null references jobs(id), place integer not null, planned text not null,
    state text not null, infotext text, seconds real
);
create table if not exists uploads (id text primary key, created real not null, width integer, height integer);
create table if not exists uses (upload text not null, job text not null, primary key (upload, job));
create index if not exists uses_of_jobs on uses(job);
create index if not exists pictures_of_jobs on pictures(job, place);
create index if not exists jobs_by_time on jobs(created);
"""


class DiskFull(RunFailed):
    """The history or a picture cannot be written down."""


def is_full(error: OSError | sqlite3.OperationalError) -> bool:
    """Return whether an error says that nothing more can be written."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
    return any(word in str(error) for word in ("disk is full", "disk I/O error", "readonly database"))


FULL = "The disk of the server is full, or cannot be written. Free some space and ask again; nothing was lost."


@dataclass(frozen=True)
class _Ending:
    """How a job ended, until it can be written down."""

    state: str
    finished: float
    error: dict[str, Any] | None
    notes: list[str]


@dataclass(frozen=True)
class PictureRow:
    """A picture of a job."""

    id: str
    place: int
    planned: dict[str, Any]
    state: str
    infotext: str | None
    seconds: float | None


@dataclass(frozen=True)
class JobRow:
    """A job as it was last written down. Times are Unix seconds."""

    id: str
    kind: str
    client: str
    state: str
    asked: dict[str, Any]
    created: float
    started: float | None
    finished: float | None
    error: dict[str, Any] | None
    notes: list[str]
    pictures: list[PictureRow] = field(default_factory=list)


def new_id() -> str:
    """Return an id that nobody can guess."""
    return secrets.token_hex(16)


class Store:
    """The history. Used from one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.images = folder, folder / "images"
        self.images.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / "history.sqlite", check_same_thread=False, isolation_level=None)
        self._database.execute("pragma journal_mode=wal")
        self._database.execute("pragma synchronous=normal")
        self._database.executescript(_SCHEMA)
        self._unwritten: dict[str, _Ending] = {}

    def close(self) -> None:
        """Write everything and let go of the file."""
        self._write_endings()
        self._database.close()

    def add_job(self, job: str, kind: str, client: str, asked: dict[str, Any], planned: Sequence[Planned]) -> list[str]:
        """Write a new job down and return its pictures' ids.

        Raises:
            DiskFull: It cannot be; nothing of it is there then.
        """
        self._write_endings()
        ids = [new_id() for _ in planned]
        rows = [
            (one, job, place, json.dumps(each.model_dump()), "queued")
            for place, (one, each) in enumerate(zip(ids, planned, strict=True))
        ]
        with self._transaction():
            self._database.execute(
                "insert into jobs (id, number, kind, client, state, asked, created) "
                "values (?, (select coalesce(max(number), 0) + 1 from jobs), ?, ?, 'queued', ?, ?)",
                (job, kind, client, json.dumps(asked), time.time()),
            )
            self._database.executemany(
                "insert into pictures (id, job, place, planned, state) values (?, ?, ?, ?, ?)", rows
            )
            named = ((one.init, one.mask, *(each.image for each in one.controlnet)) for one in planned)
            used = {each for pictures in named for each in pictures if each is not None}
            self._database.executemany("insert into uses values (?, ?)", [(each, job) for each in used])
        return ids

    def start(self, job: str) -> None:
        """Write down that its first picture is being drawn."""
        with self._transaction():
            self._database.execute(
                "update jobs set state = 'running', started = ? where id = ? and state = 'queued'", (time.time(), job)
            )

    def picture_done(self, picture: str, infotext: str, seconds: float) -> None:
        """Write down that a picture's file is there."""
        with self._transaction():
            self._database.execute(
                "update pictures set state = 'done', infotext = ?, seconds = ? where id = ?",
                (infotext, seconds, picture),
            )

    def finish(self, job: str, state: str, error: dict[str, Any] | None = None, notes: Sequence[str] = ()) -> None:
        """Write down how a job ended, as soon as that is possible; what was not drawn by then shares its fate."""
        self._unwritten[job] = _Ending(state, time.time(), error, list(notes))
        self._write_endings()

    def _write_endings(self) -> None:
        for job, end in list(self._unwritten.items()):
            told = (end.state, end.finished, json.dumps(end.error) if end.error else None, json.dumps(end.notes), job)
            try:
                with self._transaction():
                    columns = "state = ?, finished = ?, error = ?, notes = ?"
                    self._database.execute(f"update jobs set {columns} where id = ?", told)  # noqa: S608  (our own words)
                    remaining = "update pictures set state = ? where job = ? and state != 'done'"
                    self._database.execute(remaining, (end.state, job))
            except DiskFull:
                return
            del self._unwritten[job]

    def recover(self) -> int:
        """Mark what was queued or running when the server last ended, and return how many jobs that were."""
        ended = {"type": "server_restarted", "message": "The server ended before this job was done. Submit it again."}
        rows = self._database.execute("select id from jobs where state in ('queued', 'running')").fetchall()
        for (job,) in rows:
            self.finish(job, "failed", ended)
        return len(rows)

    def job(self, job: str) -> JobRow | None:
        """Return a job with its pictures."""
        rows = self._jobs("where id = ?", (job,))
        return rows[0] if rows else None

    def jobs(self, limit: int = 50, before: float | None = None, client: str | None = None) -> list[JobRow]:
        """Return the newest jobs, or the newest before a time."""
        wheres = [text for text, given in (("created < ?", before), ("client = ?", client)) if given is not None]
        given = [value for value in (before, client) if value is not None]
        where = f"where {' and '.join(wheres)}" if wheres else ""
        return self._jobs(f"{where} order by created desc, number desc limit ?", (*given, limit))

    def picture(self, picture: str) -> Path | None:
        """Return the file of a finished or uploaded picture by its id."""
        known = self._database.execute(
            "select 1 from pictures where id = ? and state = 'done' union select 1 from uploads where id = ?",
            (picture, picture),
        ).fetchone()
        path = self.path(picture) if known else None
        return path if path is not None and path.is_file() else None

    def path(self, picture: str) -> Path:
        """Return where a picture lies or will lie; only for ids of our own."""
        return self.images / f"{picture}.png"

    def add_upload(self, png: bytes, width: int, height: int) -> str:
        """Keep a picture that a client sends and return its id.

        Raises:
            DiskFull: It cannot be written; nothing of it is there then.
        """
        picture = new_id()
        try:
            with replacing(self.path(picture)) as temporary:
                temporary.write_bytes(png)
        except OSError as error:
            if not is_full(error):
                raise
            raise DiskFull(FULL) from error
        with self._transaction():
            self._database.execute("insert into uploads values (?, ?, ?, ?)", (picture, time.time(), width, height))
        return picture

    def forget(self, job: str) -> None:
        """Remove a job with its pictures."""
        ids = [row[0] for row in self._database.execute("select id from pictures where job = ?", (job,))]
        with self._transaction():
            self._database.execute("delete from pictures where job = ?", (job,))
            self._database.execute("delete from uses where job = ?", (job,))
            self._database.execute("delete from jobs where id = ?", (job,))
        for each in ids:
            self.path(each).unlink(missing_ok=True)

    def ended(self) -> list[tuple[str, list[str]]]:
        """Return the jobs that are over with their finished pictures, the oldest first."""
        rows = self._database.execute(
            "select jobs.id, pictures.id from jobs left join pictures on pictures.job = jobs.id and "
            "pictures.state = 'done' where jobs.state not in ('queued', 'running') order by jobs.created, jobs.number"
        )
        found: dict[str, list[str]] = {}
        for job, picture in rows:
            found.setdefault(job, []).extend([picture] if picture else [])
        return list(found.items())

    def uploads(self, *, used: bool, before: float | None = None) -> list[str]:
        """Return the pictures that were sent before a time and are named by a job, or by none; the oldest first."""
        there = "exists" if used else "not exists"
        rows = self._database.execute(
            f"select id from uploads where created < ? and {there} (select 1 from uses where upload = uploads.id) "  # noqa: S608  (our own words)
            "order by created",
            (math.inf if before is None else before,),
        )
        return [row[0] for row in rows]

    def waiting_for(self, upload: str) -> list[str]:
        """Return the jobs that are not over and start from a picture that was sent."""
        rows = self._database.execute(
            "select jobs.id from uses join jobs on jobs.id = uses.job where uses.upload = ? and "
            "jobs.state in ('queued', 'running')",
            (upload,),
        )
        return [row[0] for row in rows]

    def remove_upload(self, upload: str) -> bool:
        """Remove a picture that was sent and return whether it was there."""
        with self._transaction():
            found = self._database.execute("delete from uploads where id = ?", (upload,)).rowcount
            self._database.execute("delete from uses where upload = ?", (upload,))
        if found:
            self.path(upload).unlink(missing_ok=True)
        return bool(found)

    def _jobs(self, where: str, given: Sequence[object]) -> list[JobRow]:
        columns = "id, kind, client, state, asked, created, started, finished, error, notes"
        rows = self._database.execute(f"select {columns} from jobs {where}", tuple(given)).fetchall()  # noqa: S608  (our own words)
        return [self._job(*row) for row in rows]

    def _job(self, job: str, *row: Any) -> JobRow:
        kind, client, state, asked, created, started, finished, error, notes = row
        told, said = json.loads(error) if error else None, json.loads(notes)
        pictures = list(self._pictures(job))
        end = self._unwritten.get(job)
        if end is not None:
            state, finished, told, said = end.state, end.finished, end.error, end.notes
            pictures = [each if each.state == "done" else replace(each, state=state) for each in pictures]
        return JobRow(job, kind, client, state, json.loads(asked), created, started, finished, told, said, pictures)

    def _pictures(self, job: str) -> Iterator[PictureRow]:
        rows = self._database.execute(
            "select id, place, planned, state, infotext, seconds from pictures where job = ? order by place", (job,)
        )
        for row in rows:
            yield PictureRow(row[0], row[1], json.loads(row[2]), *row[3:])

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database)


class _Transaction:
    """All of it or nothing.

    Raises:
        DiskFull: It cannot be written; then it is nothing.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    def __enter__(self) -> None:
        try:
            self.database.execute("begin immediate")
        except sqlite3.OperationalError as error:
            self._undone(error)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, sqlite3.OperationalError):
            self._undone(error)
        try:
            self.database.execute("commit" if kind is None else "rollback")
        except sqlite3.OperationalError as failed:
            self._undone(failed)

    def _undone(self, error: sqlite3.OperationalError) -> NoReturn:
        if self.database.in_transaction:  # SQLite itself has ended it already after some errors
            self.database.execute("rollback")
        if is_full(error):
            raise DiskFull(FULL) from error
        raise error
