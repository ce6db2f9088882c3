"""OpenAI's face, ``/v1``: images from its unmodified client with ``base_url`` changed.

    client = OpenAI(base_url="http://127.0.0.1:7860/v1", api_key="the token, or anything without one")
    client.images.generate(model="mini", prompt="a dog", size="64x64", extra_body={"seed": 7})

Pictures come as ``b64_json``, with ``seed`` and ``infotext`` beside them. Its client tries again by itself what failed
with 409, 429 or 5xx; after drawing began that would be the same work again, so then the answer says not to.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeFloat, PositiveInt, ValidationError

from brushwork.errors import ConfigError, DataError
from brushwork.serve import uploads, wire
from brushwork.serve.controls import ControlAsked
from brushwork.serve.faces.native import client_of
from brushwork.serve.jobs import SEEDS, AdapterAsked, ImageToImage, TextToImage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.datastructures import FormData

    from brushwork.serve.engine import Engine
    from brushwork.serve.live import Live
    from brushwork.serve.store import PictureRow

FOUND_GONE = 0.5


class Loras(BaseModel):
    """An adapter of a request."""

    model_config = ConfigDict(extra="forbid")

    name: str
    weight: float = 1.0


def _parsed(value: object) -> object:
    """Read a list that came as a form's text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except RecursionError:
        message = "nested too deeply"
        raise ValueError(message) from None


class Generate(BaseModel):
    """``POST /v1/images/generations``; the last block are extensions, which go into ``extra_body``."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    model: str | None = None
    n: int | None = Field(1, ge=1, le=10)
    size: str | None = "auto"
    output_format: Literal["png", "webp", "jpeg"] | None = None
    output_compression: int | None = Field(None, ge=0, le=100)
    response_format: Literal["b64_json"] | None = None
    stream: bool | None = False
    partial_images: int | None = Field(0, ge=0, le=3)
    background: Literal["opaque", "auto"] | None = None
    quality: str | None = None
    style: str | None = None
    moderation: str | None = None
    user: str | None = None
    safety_identifier: str | None = None

    negative_prompt: str = ""
    num_inference_steps: PositiveInt | None = None
    guidance_scale: NonNegativeFloat | None = None
    seed: int = Field(-1, ge=-1, lt=SEEDS)
    sampler: str | None = None
    clip_skip: int = Field(1, ge=1, le=12)
    vae: str | None = None
    loras: Annotated[list[Loras], BeforeValidator(_parsed)] = []
    controlnet: Annotated[list[ControlAsked], BeforeValidator(_parsed)] = []
    strength: float = Field(0.75, gt=0, le=1)

    def check(self) -> None:
        """Refuse what cannot be answered, before anything is drawn.

        Raises:
            ConfigError: With the field.
        """
        if self.stream and (self.n or 1) > 1:
            message = "n: one picture at a time can be streamed"
            raise ConfigError(message)

    @property
    def ignored(self) -> list[str]:
        """The fields that were given and that no model here can follow."""
        return [name for name in ("quality", "style", "moderation") if getattr(self, name) is not None]


class Edit(Generate):
    """``POST /v1/images/edits``, whose form fields arrive as text."""

    input_fidelity: str | None = None

    @property
    def ignored(self) -> list[str]:
        """The fields that were given and that no model here can follow."""
        return [*super().ignored, *(["input_fidelity"] if self.input_fidelity is not None else [])]


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.post("/images/generations")
    async def generations(request: Request, asked: Generate) -> Response:
        """Draw from a text."""
        asked.check()
        live = engine.submit(TextToImage(**_job(engine, asked)), client_of(request))
        return await _answered(engine, request, asked, live, "image_generation")

    @router.post("/images/edits")
    async def edits(request: Request) -> Response:
        """Change a picture; where a mask is transparent, and only there, if there is one."""
        async with request.form() as form:
            asked, given = await _read(engine, form)
        live = engine.submit(ImageToImage(**_job(engine, asked), **given, strength=asked.strength), client_of(request))
        return await _answered(engine, request, asked, live, "image_edit")

    @router.get("/models")
    async def all_models() -> dict[str, Any]:
        """Return the models, and every adapter on the first of them."""
        return {"object": "list", "data": [_model(name) for name in _names(engine)]}

    @router.get("/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        """Return a model by its id, which may have slashes in it."""
        try:
            _chosen(engine, name)
        except ConfigError as error:
            raise HTTPException(404, str(error)) from None
        return _model(name)

    return router


def _names(engine: Engine) -> list[str]:
    models = [each.name for each in engine.catalogue.all("model")]
    return [*models, *(f"{models[0]}+{each.name}" for each in engine.catalogue.all("adapter"))]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "brushwork"}


def _chosen(engine: Engine, name: str | None) -> tuple[str, list[AdapterAsked]]:
    """Return model and adapters of an id: ``mini``, or ``mini+ink@0.8``."""
    if name is None:
        return engine.catalogue.all("model")[0].name, []
    base, *rest = name.split("+")
    adapters = []
    try:
        found = engine.catalogue.find("model", base).name
        for each in rest:
            adapter, _, weight = each.partition("@")
            adapters.append(
                AdapterAsked(name=engine.catalogue.find("adapter", adapter).name, weight=float(weight or 1))
            )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return found, adapters


def _job(engine: Engine, asked: Generate) -> dict[str, Any]:
    model, adapters = _chosen(engine, asked.model)
    width, height = _size(asked.size)
    return {
        "model": model,
        "adapters": [*adapters, *(AdapterAsked(name=each.name, weight=each.weight) for each in asked.loras)],
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "seed": asked.seed,
        "n": asked.n or 1,
        "steps": asked.num_inference_steps,
        "guidance_scale": asked.guidance_scale,
        "sampler": asked.sampler,
        "clip_skip": asked.clip_skip,
        "vae": asked.vae,
        "controlnet": asked.controlnet,
        "width": width,
        "height": height,
    }


def _size(text: str | None) -> tuple[int | None, int | None]:
    if text in (None, "auto"):
        return None, None
    width, _, height = str(text).partition("x")
    if not (width.isdecimal() and height.isdecimal() and len(text or "") < 12 and int(width) and int(height)):  # noqa: PLR2004
        message = f"size: {text!r} is neither auto nor WIDTHxHEIGHT"
        raise ConfigError(message)
    return int(width), int(height)


async def _read(engine: Engine, form: FormData) -> tuple[Edit, dict[str, Any]]:
    """Return what a form asks for, and the ids of its pictures.

    Raises:
        ConfigError: A field is wrong, or there is not exactly one picture.
    """
    files = [value for key, value in form.multi_items() if key in ("image", "image[]")]
    scalars = {key: value for key, value in form.items() if key not in ("image", "image[]", "mask")}
    try:
        asked = Edit(**scalars)
    except ValidationError as error:
        first = error.errors()[0]
        message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError(message) from None
    asked.check()
    if len(files) != 1 or isinstance(files[0], str) or isinstance(form.get("mask"), str):
        message = f"image: {len(files)} pictures; exactly one can be edited, sent as a file, and so its mask"
        raise ConfigError(message)
    return asked, await _edited(engine, files[0], form.get("mask"), asked)


async def _edited(engine: Engine, file: Any, mask: Any, asked: Edit) -> dict[str, Any]:
    """Store picture and mask; transparent is what is to be drawn, the opposite of A1111's white."""
    most = engine.config.limits.upload_pixels
    image = uploads.decode(await file.read(), most)
    width, height = _size(asked.size)
    if width is not None and (width, height) != image.size:
        message = f"size: {asked.size}, but the picture is {image.width}x{image.height}; they must be the same"
        raise ConfigError(message)
    given: dict[str, Any] = {"kind": "img2img", "init": wire.keep(engine, image.convert("RGB"))}
    if mask is not None:
        shape = uploads.decode(await mask.read(), most, "mask")
        if shape.size != image.size:
            size = f"{shape.width}x{shape.height}"
            message = f"mask: it is {size} but the picture is {image.width}x{image.height}; they must be of one size"
            raise DataError(message)
        if shape.mode != "RGBA":
            message = "mask: it has no transparency; what is to be drawn anew is transparent"
            raise DataError(message)
        opaque = shape.getchannel("A").point([255] * 128 + [0] * 128)
        given |= {"kind": "inpaint", "mask": wire.keep(engine, opaque)}
    return given


async def _answered(engine: Engine, request: Request, asked: Generate, live: Live, event: str) -> Response:
    if asked.stream:
        return StreamingResponse(_streamed(engine, asked, live, event), media_type="text/event-stream")
    while not live.over.is_set():
        try:
            await asyncio.wait_for(live.over.wait(), FOUND_GONE)
        except asyncio.TimeoutError:
            if await request.is_disconnected():
                await engine.cancel(live.id)
    row = engine.store.job(live.id)
    assert row is not None
    if row.state != "done":
        return _failure(row.state, row.error)
    data = [_one(engine, asked, each) for each in row.pictures]
    body: dict[str, Any] = {"created": int(time.time()), "data": data, "output_format": asked.output_format or "png"}
    if asked.ignored:
        body["ignored"] = asked.ignored
    return JSONResponse(body)


def _failure(state: str, error: dict[str, Any] | None) -> JSONResponse:
    """Say what went wrong, and not to try again."""
    told = error or {"type": state, "message": f"the job was {state}"}
    status = 400 if told["type"] in ("ConfigError", "ModelError") else 500
    kind = "invalid_request_error" if status == 400 else "server_error"  # noqa: PLR2004  (Bad Request)
    body = {"error": {"message": told["message"], "type": kind, "param": None, "code": told["type"]}}
    return JSONResponse(body, status, headers={"x-should-retry": "false"})


def _one(engine: Engine, asked: Generate, drawn: PictureRow) -> dict[str, Any]:
    data = _encoded(engine.store.path(drawn.id).read_bytes(), asked)
    return {"b64_json": wire.base64_of(data), "seed": drawn.planned["seed"], "infotext": drawn.infotext}


def _encoded(png: bytes, asked: Generate) -> bytes:
    """Return a picture in the format that was asked for."""
    if asked.output_format in (None, "png"):
        return png
    import PIL.Image

    buffer = io.BytesIO()
    quality = {} if asked.output_compression is None else {"quality": asked.output_compression}
    with PIL.Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(buffer, format=str(asked.output_format).upper(), **quality)
    return buffer.getvalue()


async def _streamed(engine: Engine, asked: Generate, live: Live, event: str) -> AsyncIterator[str]:
    """Yield previews and then the picture, as server-sent events."""
    try:
        async for told in _told(engine, asked, live, event):
            yield told
    finally:  # the client is gone, or has its picture: then there is nothing to end
        await engine.cancel(live.id)


async def _told(engine: Engine, asked: Generate, live: Live, event: str) -> AsyncIterator[str]:
    sent, wanted, shown = 0, asked.partial_images or 0, {"background": "opaque", "quality": "auto"}
    async for each in live.follow():
        about = {**shown, "created_at": int(time.time()), "size": asked.size or "auto"}
        if each.type == "progress" and "preview" in each.data and sent < wanted:
            told = {"type": f"{event}.partial_image", "b64_json": each.data["preview"], "partial_image_index": sent}
            sent += 1
            yield _event({**told, **about, "output_format": "jpeg"})
        elif each.type == "done":
            row = engine.store.job(live.id)
            assert row is not None
            drawn = _one(engine, asked, row.pictures[0])
            usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
                     "input_tokens_details": {"image_tokens": 0, "text_tokens": 0}}  # fmt: skip
            told = {"type": f"{event}.completed", **drawn, "usage": usage}
            yield _event({**told, **about, "output_format": asked.output_format or "png"})
        elif each.type in ("failed", "cancelled"):
            error = each.data.get("error", {"type": each.type, "message": f"the job was {each.type}"})
            yield _event({"type": "error", "error": {**error, "param": None, "code": error["type"]}})


def _event(data: dict[str, Any]) -> str:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"
