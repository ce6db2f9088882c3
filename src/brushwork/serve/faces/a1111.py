"""A1111's face, ``/sdapi/v1``: what its clients call, with answers that they can read.

They decode ``images`` as bare base64 and ``info`` as JSON in a string, take any status but 200 for a failure, and call
``.json()`` on everything; so lists that we have nothing for are empty, and nothing is ever answered with 204.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import ValidationError

from brushwork import infotext, samplers
from brushwork.errors import ConfigError, RunFailed
from brushwork.serve import checks, wire
from brushwork.serve.a1111 import answers, controlnet, extras, infotexts, xyz
from brushwork.serve.a1111.options import NOISE, Options, clip_skip_of
from brushwork.serve.a1111.requests import Generation, ImageRequest, TextRequest
from brushwork.serve.faces.native import client_of
from brushwork.serve.grids import Grid
from brushwork.serve.jobs import AdapterAsked, ImageToImage, TextToImage
from brushwork.serve.styles import Styles
from brushwork.serve.upscale import UPSCALERS

if TYPE_CHECKING:
    from brushwork.serve.engine import Engine
    from brushwork.serve.live import Live
    from brushwork.serve.store import JobRow

API = "/sdapi/v1"
FOUND_GONE = 0.5
"""Seconds between two looks whether the client is still there."""


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix=API, tags=["A1111"])
    face = Face(engine)
    _drawing(router, face)
    _state(router, face)
    _lists(router, face)
    _networks(router, face)
    _empty(router, face)
    router.include_router(extras.make_router(engine))
    return router


class Face:
    """What one server of this face remembers: each client's options and its newest job."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.options = engine, Options(engine)
        self.newest: dict[str, Live] = {}
        self.script = xyz.Script(engine.catalogue, engine.random)
        self.styles = Styles(engine.config.data / "styles.csv")

    async def draw(self, request: Request, asked: Generation) -> dict[str, Any]:
        """Submit, wait, answer; a client that goes away takes its job along."""
        client = client_of(request)
        asked = infotexts.filled(asked)
        asked.check()
        override = asked.override_settings or {}
        self.options.check(override)
        chosen = override.get("sd_model_checkpoint")
        model = self.options.find(str(chosen)) if chosen else self.options.model(client)
        words = self.styles.apply(asked.prompt, asked.negative_prompt, asked.styles or [])
        asked = asked.model_copy(update={"prompt": words[0], "negative_prompt": words[1]})
        noise = override.get(NOISE)
        times = self.options.noise_multiplier(client) if noise is None else float(noise)
        more = {
            "model": model,
            "clip_skip": clip_skip_of(override) or asked.clip_skip or self.options.clip_skip(client),
            "vae": self.options.vae(client, override),
        }
        mask_strength = self.options.mask_strength(client, override, model)
        image = isinstance(asked, ImageRequest)
        if image or (isinstance(asked, TextRequest) and asked.enable_hr):
            more["mask_strength"] = mask_strength  # else there is no picture to hide
        plot = self.script.asked(asked, image=image) if asked.script_name else None
        try:
            job: TextToImage | ImageToImage | Grid = self._job(asked, more, times)
            if plot is not None and not isinstance(job, Grid):
                job = plot.grid(job)
        except ValidationError as error:
            first = error.errors()[0]
            message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise ConfigError(message) from None
        starts = asked.init_images if isinstance(asked, ImageRequest) else []
        units = await asyncio.to_thread(self._units, asked, starts)
        job = job.model_copy(update={"controlnet": tuple(each.keep(self.engine) for each in units)})
        live = self.engine.submit(job, client)
        self.newest[client] = live
        while not live.over.is_set():
            try:
                await asyncio.wait_for(live.over.wait(), FOUND_GONE)
            except asyncio.TimeoutError:
                if await request.is_disconnected():
                    await self.engine.cancel(live.id)
        row = self.engine.store.job(live.id)
        assert row is not None
        if row.state == "failed" and row.error is not None:
            kind = ConfigError if row.error["type"] in ("ConfigError", "ModelError") else RunFailed
            raise kind(row.error["message"])
        return await asyncio.to_thread(self._answer, asked, row, [each.shown for each in units if each.shown], plot)

    def _units(self, asked: Generation, starts: list[str]) -> list[controlnet.Prepared]:
        """Return the ControlNets of a request."""
        if not asked.alwayson_scripts:
            return []
        size, most = (asked.width, asked.height), self.engine.config.limits
        checks.size("", asked.width or 0, asked.height or 0, most)
        given = wire.picture_of(starts[0], most.upload_pixels, "init_images") if starts else None
        return controlnet.prepare(self.engine, asked.alwayson_scripts, given, size)

    def _job(self, asked: Generation, more: dict[str, Any], noise_multiplier: float) -> TextToImage | ImageToImage:
        """Return the job that a request comes to."""
        given: dict[str, Any] = {
            **more,
            "prompt": asked.prompt,
            "negative_prompt": asked.negative_prompt if asked.cfg_scale not in (0, 1) else "",
            "seed": max(-1, asked.seed),
            "n": asked.count,
            "steps": asked.steps,
            "guidance_scale": asked.cfg_scale,
            "width": asked.width,
            "height": asked.height,
            "sampler": asked.sampler(),
            "variation_seed": max(-1, asked.subseed),
            "variation_strength": max(0.0, asked.subseed_strength),
            "seed_resize": asked.seed_resize(),
            "tiling": bool(asked.tiling),
            "adapters": [
                AdapterAsked(name=each.get("path", ""), weight=each.get("multiplier", 1)) for each in asked.lora
            ],
        }
        if not isinstance(asked, ImageRequest):
            return TextToImage(**given, hires=asked.hires() if isinstance(asked, TextRequest) else None)
        if not asked.init_images:
            message = "init_images: img2img needs one picture"
            raise ConfigError(message)
        most = self.engine.config.limits.upload_pixels
        checks.size("", asked.width or 0, asked.height or 0, self.engine.config.limits)
        start = wire.picture_of(asked.init_images[0], most, "init_images")
        partly = asked.mask is not None and asked.inpaint_full_res  # then the whole picture keeps its size
        ids = {"init": wire.keep(self.engine, start if partly else _resized(start, asked))}
        if asked.mask is not None:
            mask = wire.picture_of(asked.mask, most, "mask").convert("L")
            mask = _inverted(mask) if asked.inpainting_mask_invert else mask
            ids["mask"] = wire.keep(self.engine, mask.resize(start.size) if partly else _resized(mask, asked))
        if asked.initial_noise_multiplier is not None:
            noise_multiplier = asked.initial_noise_multiplier
        given |= {"noise_multiplier": noise_multiplier, **asked.inpainting()}
        strength = 0.75 if asked.denoising_strength is None else asked.denoising_strength
        return ImageToImage(**given, **ids, kind="inpaint" if asked.mask else "img2img", strength=strength)

    def _answer(self, asked: Generation, row: JobRow, shown: list[str], plot: xyz.Plot | None) -> dict[str, Any]:
        """Return images (a grid first, the maps of ControlNets last), the echo, and ``info``."""
        info = answers.info(asked, row)
        if plot is None:
            drawn = [self.engine.store.path(each.id).read_bytes() for each in row.pictures if each.state == "done"]
        else:
            drawn, texts = answers.plotted(row, plot, self.engine.store.path)
            info |= {"infotexts": texts, "index_of_first_image": 1 if texts else 0}
        images = [wire.base64_of(each) for each in drawn]
        echo = answers.echo(asked)
        if isinstance(asked, ImageRequest) and not asked.include_init_images:
            echo |= {"init_images": None, "mask": None}
        return {
            "images": [*images, *shown] if asked.send_images else [],
            "parameters": echo,
            "info": json.dumps(answers.sendable(info)),
        }


def _resized(image: Any, asked: ImageRequest) -> Any:
    """Bring a picture to the asked size as ``resize_mode`` says: stretch, crop, or fill the margins with its edges."""
    from PIL import Image, ImageOps

    size, lanczos = (asked.width or image.width, asked.height or image.height), Image.Resampling.LANCZOS
    if asked.resize_mode == 0:
        return image.resize(size, lanczos)
    if asked.resize_mode == 1:
        return ImageOps.fit(image, size, lanczos)
    inner = ImageOps.contain(image, size, lanczos)
    filled = ImageOps.fit(image, size, lanczos)
    filled.paste(inner, ((size[0] - inner.width) // 2, (size[1] - inner.height) // 2))
    return filled


def _inverted(mask: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.invert(mask)


def _drawing(router: APIRouter, face: Face) -> None:
    @router.post("/txt2img")
    async def txt2img(request: Request, asked: TextRequest) -> dict[str, Any]:
        """Draw from a text; answers when the pictures are there."""
        return await face.draw(request, asked)

    @router.post("/img2img")
    async def img2img(request: Request, asked: ImageRequest) -> dict[str, Any]:
        """Change a picture; with a mask (white: repaint) only there."""
        return await face.draw(request, asked)

    @router.post("/png-info")
    async def png_info(image: Annotated[str, Body(embed=True)]) -> dict[str, Any]:
        """Return what a picture says that it was made from."""
        found = await asyncio.to_thread(infotext.read_bytes, wire.bytes_of(image, "image"))
        parameters = {"Prompt": found.prompt, "Negative prompt": found.negative_prompt, **found.fields}
        return {"info": found.text, "items": {}, "parameters": parameters if found.text else {}}

    @router.post("/interrupt")
    @router.post("/skip")
    async def interrupt(request: Request) -> dict[str, Any]:
        """End the newest job of this client, and of no other."""
        live = face.newest.get(client_of(request))
        if live is not None:
            await face.engine.cancel(live.id)
        return {}


def _state(router: APIRouter, face: Face) -> None:
    @router.get("/progress")
    async def progress(request: Request, skip_current_image: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002  (a query parameter)
        """Say how far this client's newest job is."""
        live = face.newest.get(client_of(request))
        running = live is not None and not live.over.is_set()
        state: dict[str, Any] = {
            "skipped": False, "interrupted": False, "stopping_generation": False, "job": "", "job_count": 0,
            "job_timestamp": "0", "job_no": 0, "sampling_step": 0, "sampling_steps": 0,
        }  # fmt: skip
        if live is None or not running:
            return {"progress": 0.0, "eta_relative": 0.0, "state": state, "current_image": None, "textinfo": None}
        steps = live.planned[0].steps
        drawing = max((each for each in live.steps.values() if each < 1), default=0.0)
        state |= {"job": live.id, "job_count": len(live.planned), "job_no": len(live.finished)}
        state |= {"sampling_step": round(drawing * steps), "sampling_steps": steps}
        image = None if skip_current_image else live.preview
        eta = live.eta or 0.0
        return {
            "progress": live.progress,
            "eta_relative": eta,
            "state": state,
            "current_image": image,
            "textinfo": None,
        }

    @router.get("/options")
    async def options(request: Request) -> dict[str, Any]:
        """Return this client's options."""
        return await asyncio.to_thread(face.options.shown, client_of(request))

    @router.post("/options")
    async def set_options(request: Request, given: dict[str, Any]) -> None:
        """Set options for later requests of this client."""
        face.options.set(client_of(request), given)

    @router.get("/memory")
    async def memory() -> dict[str, Any]:
        """Return how much memory the machine has."""
        import psutil

        ram = psutil.virtual_memory()
        return {"ram": {"free": ram.available, "used": ram.used, "total": ram.total}, "cuda": {"error": "not asked"}}


def _lists(router: APIRouter, face: Face) -> None:
    catalogue = face.engine.catalogue

    @router.get("/sd-models")
    async def sd_models() -> list[dict[str, Any]]:
        """Return the checkpoints, with their hashes where there is a single file."""
        entries = await asyncio.to_thread(lambda: [catalogue.hash(each) for each in catalogue.all("model")])
        return [
            {"title": each.title, "model_name": each.name, "hash": each.sha256[:10] if each.sha256 else None,
             "sha256": each.sha256, "filename": each.name, "config": None}
            for each in entries
        ]  # fmt: skip

    @router.get("/samplers")
    async def all_samplers() -> list[dict[str, Any]]:
        """Return the samplers."""
        return [{"name": name, "aliases": samplers.aliases(name), "options": {}} for name in samplers.names()]

    @router.get("/schedulers")
    async def schedulers() -> list[dict[str, Any]]:
        """Return the noise schedules."""
        return [
            {"name": label.lower().replace(" ", "_"), "label": label, "aliases": None, "default_rho": -1,
             "need_inner_model": False}
            for label in ("Automatic", *samplers.EVERY)
        ]  # fmt: skip


def _networks(router: APIRouter, face: Face) -> None:
    catalogue = face.engine.catalogue

    @router.get("/sd-vae")
    async def sd_vae() -> list[dict[str, str]]:
        """Return the VAEs that can take the place of a model's own."""
        return [{"model_name": each.name, "filename": each.name} for each in catalogue.all("vae")]

    @router.get("/loras")
    async def loras() -> list[dict[str, Any]]:
        """Return the adapters."""
        return [
            {"name": each.name, "alias": each.about.get("ss_output_name", each.name), "path": each.name,
             "metadata": each.about}
            for each in catalogue.all("adapter")
        ]  # fmt: skip

    @router.get("/embeddings")
    async def embeddings() -> dict[str, Any]:
        """Return the embeddings."""
        empty = {"step": None, "sd_checkpoint": None, "sd_checkpoint_name": None, "shape": None, "vectors": None}
        return {"loaded": {each.name: empty for each in catalogue.all("embedding")}, "skipped": {}}

    @router.get("/scripts")
    async def scripts() -> dict[str, list[str]]:
        """Return the scripts, ControlNet among them where there are any; clients ask for this first."""
        names = [xyz.SCRIPT, *([controlnet.SCRIPT] if catalogue.all("controlnet") else [])]
        return {"txt2img": names, "img2img": names}

    @router.get("/script-info")
    async def script_info() -> list[dict[str, Any]]:
        """Return the arguments of the X/Y/Z plot; an axis is its place among the choices."""
        return [face.script.info(image=image) for image in (False, True)]

    @router.get("/upscalers")
    async def upscalers() -> list[dict[str, Any]]:
        """Return the upscalers; clients expect None first."""
        empty = {"model_name": None, "model_path": None, "model_url": None, "scale": 4}
        return [{"name": name, **empty} for name in UPSCALERS]

    @router.get("/latent-upscale-modes")
    async def latent_upscale_modes() -> list[dict[str, str]]:
        """Return how a second pass can enlarge latents."""
        return [{"name": "Latent"}]

    @router.get("/prompt-styles")
    async def prompt_styles() -> list[dict[str, str]]:
        """Return the styles of ``styles.csv`` in the server's data folder."""
        return [each._asdict() for each in face.styles.all().values()]


def _empty(router: APIRouter, face: Face) -> None:
    @router.get("/hypernetworks")
    @router.get("/face-restorers")
    @router.get("/realesrgan-models")
    @router.get("/extensions")
    async def nothing() -> list[Any]:
        """Return that there are none."""
        return []

    @router.post("/refresh-checkpoints")
    @router.post("/refresh-loras")
    @router.post("/refresh-embeddings")
    @router.post("/refresh-vae")
    async def refresh() -> None:
        """Look for models and adapters again."""
        await asyncio.to_thread(face.engine.catalogue.refresh)

    @router.post("/unload-checkpoint")
    @router.post("/reload-checkpoint")
    async def unload() -> dict[str, Any]:
        """Let go of loaded models; the next job loads what it needs."""
        await face.engine.hand.send({"do": "unload"})
        return {}
