"""The native API, ``/api/v1``: jobs with ids, events, pictures by opaque id, the catalogue, and the server's health."""

from __future__ import annotations

import asyncio
import io
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, get_args

from fastapi import APIRouter, Body, Header, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from pydantic import Field

from brushwork import infotext, samplers
from brushwork.serve import controls, sheets, uploads
from brushwork.serve.catalogue import Kind
from brushwork.serve.grids import Grid
from brushwork.serve.jobs import Compare, ImageToImage, TextToImage
from brushwork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from brushwork.serve.engine import Engine
    from brushwork.serve.live import Event, Live
    from brushwork.serve.store import JobRow

Job = Annotated[TextToImage | ImageToImage | Compare | Grid, Field(discriminator="kind")]
KEEP_ALIVE = 15.0
"""Seconds without news after which a comment is sent, so that nobody between cuts the line."""
IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}
THUMB = 256


class Counted(Settings):
    """A prompt whose tokens are to be counted."""

    model: str = Field("mini", min_length=1, description="A name of GET /api/v1/models.")
    text: str = Field(description="In A1111's grammar.")


def client_of(request: Request) -> str:
    """Return who asks, for the queue's turns: whoever shares an address shares a turn."""
    return request.client.host if request.client is not None else "local"


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    _jobs(router, engine)
    _pictures(router, engine)
    _catalogue(router, engine)
    _health(router, engine)
    return router


def _jobs(router: APIRouter, engine: Engine) -> None:
    @router.post("/api/v1/jobs", status_code=202, tags=["jobs"])
    async def submit(request: Request, job: Annotated[Job, Body()]) -> dict[str, Any]:
        """Ask for pictures; they are drawn when it is their turn."""
        live = engine.submit(job, client_of(request))
        return {"id": live.id, "state": live.state, "position": engine.position(live.id), "pictures": live.pictures}

    @router.get("/api/v1/jobs", tags=["jobs"])
    async def listed(
        limit: Annotated[int, Query(ge=1, le=200)] = 50, before: float | None = None
    ) -> list[dict[str, Any]]:
        """Return the newest jobs, or the newest before a Unix time."""
        return [_shown(engine, row) for row in engine.store.jobs(limit, before)]

    @router.get("/api/v1/jobs/{job}", tags=["jobs"])
    async def one(job: str) -> dict[str, Any]:
        """Return a job with how far it is."""
        return _shown(engine, _found(engine, job))

    @router.delete("/api/v1/jobs/{job}", tags=["jobs"])
    async def cancel(job: str) -> dict[str, Any]:
        """End a job at its next step; what is drawn of it stays."""
        _found(engine, job)
        ended = await engine.cancel(job)
        return {"id": job, "cancelled": ended}

    @router.get("/api/v1/jobs/{job}/zip", tags=["jobs"])
    async def zipped(job: str) -> Response:
        """Return all pictures of a job in one file."""
        row = _found(engine, job)
        data = await asyncio.to_thread(_zip, engine, row)
        disposition = f'attachment; filename="brushwork-{row.id[:8]}.zip"'
        return Response(data, media_type="application/zip", headers={"content-disposition": disposition})

    @router.get("/api/v1/jobs/{job}/events", tags=["jobs"])
    async def events(job: str, last_event_id: Annotated[int, Header(ge=0)] = 0) -> StreamingResponse:
        """Follow a job (server-sent events); ``Last-Event-ID`` goes on after an event."""
        row = _found(engine, job)
        live = engine.live.get(job)
        stream = _follow(live, last_event_id) if live is not None else _told(engine, row)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-store"})


def _pictures(router: APIRouter, engine: Engine) -> None:
    @router.get("/api/v1/images/{picture}", tags=["images"], response_class=FileResponse)
    async def image(picture: str) -> FileResponse:
        """Return a picture as PNG, with what it was made from inside."""
        path = engine.store.picture(picture)
        if path is None:
            raise HTTPException(404, "there is no such picture")
        return FileResponse(path, media_type="image/png", headers=IMMUTABLE)

    @router.get("/api/v1/images/{picture}/thumb", tags=["images"])
    async def thumb(picture: str) -> Response:
        """Return a small JPEG of a picture."""
        path = engine.store.picture(picture)
        if path is None:
            raise HTTPException(404, "there is no such picture")
        return Response(await asyncio.to_thread(_thumb, path), media_type="image/jpeg", headers=IMMUTABLE)

    @router.post("/api/v1/images", status_code=201, tags=["images"])
    async def upload(file: UploadFile) -> dict[str, Any]:
        """Send a picture to start from, or a mask, and get its id."""
        data = await file.read()
        image = await asyncio.to_thread(uploads.decode, data, engine.config.limits.upload_pixels)
        encoded = await asyncio.to_thread(uploads.encode, image)
        engine.keeper.check_room(len(encoded))
        picture = engine.store.add_upload(encoded, image.width, image.height)
        return {"id": picture, "width": image.width, "height": image.height}

    @router.post("/api/v1/metadata/parse", tags=["images"])
    async def parse(file: UploadFile) -> dict[str, Any]:
        """Return what a picture says that it was made from."""
        found = await asyncio.to_thread(infotext.read_bytes, await file.read())
        return {
            "prompt": found.prompt,
            "negative_prompt": found.negative_prompt,
            "fields": dict(found.fields),
            "controlnet": controls.read(found.fields),
            "provenance": found.provenance,
        }


def _zip(engine: Engine, row: JobRow) -> bytes:
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for each in row.pictures:
            if each.state == "done":
                archive.write(engine.store.path(each.id), f"{each.place:05}-{each.planned['seed']}.png")
    return buffer.getvalue()


def _thumb(path: Any) -> bytes:
    import PIL.Image

    with PIL.Image.open(path) as image:
        image.thumbnail((THUMB, THUMB))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def _catalogue(router: APIRouter, engine: Engine) -> None:
    @router.get("/api/v1/models", tags=["catalogue"])
    async def all_models() -> list[dict[str, Any]]:
        """Return the models that a job can name; the hash of a single file is in its title once it is known."""
        engine.hash_models()
        return [
            {"name": each.name, "title": each.title, "detail": each.detail, "inpainting": each.inpainting}
            for each in engine.catalogue.all("model")
        ]

    @router.get("/api/v1/adapters", tags=["catalogue"])
    async def adapters() -> list[dict[str, Any]]:
        """Return the adapters that a job or a prompt can name."""
        return [{"name": each.name, "detail": each.detail} for each in engine.catalogue.all("adapter")]

    @router.get("/api/v1/embeddings", tags=["catalogue"])
    async def embeddings() -> list[dict[str, Any]]:
        """Return the embeddings."""
        return [{"name": each.name, "detail": each.detail} for each in engine.catalogue.all("embedding")]

    @router.get("/api/v1/vaes", tags=["catalogue"])
    async def vaes() -> list[dict[str, Any]]:
        """Return the VAEs that a job can name instead of its model's own."""
        return [{"name": each.name, "detail": each.detail} for each in engine.catalogue.all("vae")]

    @router.post("/api/v1/catalogue/refresh", tags=["catalogue"])
    async def refresh() -> dict[str, int]:
        """Look for models and adapters again."""
        await asyncio.to_thread(engine.catalogue.refresh)
        return {kind: len(engine.catalogue.all(kind)) for kind in get_args(Kind)}

    @router.get("/api/v1/samplers", tags=["catalogue"])
    async def all_samplers() -> dict[str, Any]:
        """Return samplers and noise schedules; ``NAME SCHEDULE`` is a sampler with another schedule than its own."""
        return {"samplers": samplers.names(), "schedules": ["Automatic", *samplers.EVERY]}

    @router.post("/api/v1/tokens", tags=["catalogue"])
    async def tokens(asked: Counted) -> dict[str, Any]:
        """Count a prompt's tokens as a model reads them: CLIP in chunks of 75 (``limit`` is that of all chunks)."""
        return await engine.count_tokens(asked.model, asked.text)

    @router.get("/api/v1/limits", tags=["catalogue"])
    async def limits() -> dict[str, Any]:
        """Return the most that a job may ask for."""
        return engine.config.limits.model_dump()


def _health(router: APIRouter, engine: Engine) -> None:
    @router.get("/healthz", tags=["health"])
    async def alive() -> dict[str, str]:
        """Say that the server is there."""
        return {"status": "ok"}

    @router.get("/readyz", tags=["health"])
    async def ready() -> Response:
        """Say whether the queue takes more."""
        full = len(engine.line) >= engine.config.limits.queued
        return Response(json.dumps({"ready": not full}), 503 if full else 200, media_type="application/json")

    @router.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def metrics() -> str:
        """Return the counters in Prometheus' text form."""
        figures = {
            "brushwork_pictures_total": ("counter", engine.counts["pictures"]),
            "brushwork_jobs_failed_total": ("counter", engine.counts["failed"]),
            "brushwork_worker_starts_total": ("counter", engine.counts["worker_starts"]),
            "brushwork_worker_deaths_total": ("counter", engine.counts["worker_deaths"]),
            "brushwork_drawing_seconds_total": ("counter", engine.busy_seconds),
            "brushwork_jobs_waiting": ("gauge", len(engine.line)),
            "brushwork_pictures_in_work": ("gauge", len(engine.flying)),
        }
        return "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, (kind, value) in figures.items())


def _found(engine: Engine, job: str) -> JobRow:
    row = engine.store.job(job)
    if row is None:
        raise HTTPException(404, "there is no such job")
    return row


def _shown(engine: Engine, row: JobRow) -> dict[str, Any]:
    live = engine.live.get(row.id)
    running = live is not None and not live.over.is_set()
    pictures = [
        {"id": each.id if each.state == "done" else None, "label": each.planned["label"], "state": each.state,
         "seed": each.planned["seed"], "infotext": each.infotext}
        for each in row.pictures
    ]  # fmt: skip
    return {
        "id": row.id,
        "kind": row.kind,
        "state": row.state,
        "position": engine.position(row.id) if running else None,
        "progress": live.progress if live is not None and running else float(row.state == "done"),
        "eta": live.eta if live is not None and running else None,
        "created": row.created,
        "started": row.started,
        "finished": row.finished,
        "asked": row.asked,
        "pictures": pictures,
        "tables": [asdict(each) for each in sheets.tables_of(row.kind, row.asked, len(pictures))],
        "notes": live.notes if live is not None and running else row.notes,
        "error": row.error,
    }


async def _follow(live: Live, after: int) -> AsyncIterator[str]:
    events = live.follow(after).__aiter__()
    following: asyncio.Task[Event] = asyncio.ensure_future(anext(events))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=KEEP_ALIVE)
            if not done:
                yield ": still here\n\n"
                continue
            event = following.result()
            yield f"id: {event.number}\nevent: {event.type}\ndata: {json.dumps(event.data)}\n\n"
            following = asyncio.ensure_future(anext(events))
    except StopAsyncIteration:
        return
    finally:
        following.cancel()


async def _told(engine: Engine, row: JobRow) -> AsyncIterator[str]:
    """Say in one event how a job ended that nobody follows any more."""
    yield f"id: 1\nevent: {row.state}\ndata: {json.dumps(_shown(engine, row) | {'time': time.time()})}\n\n"
