"""The job engine: takes requests, hands pictures to the worker, knows how far everything is.

    engine = Engine(config)
    await engine.start()
    live = engine.submit(TextToImage(prompt="a dog"), client="me")
    await live.over.wait()
    engine.store.job(live.id).pictures

One event loop, no locks: everything here runs in it. The worker is another process; what it does not survive, the
engine does. Pictures of all clients share its batches; jobs take turns by client.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from brushwork.errors import BrushworkError, ConfigError, RunFailed
from brushwork.grammar import take_out
from brushwork.serve import checks, controls, orders
from brushwork.serve.catalogue import Catalogue
from brushwork.serve.datasets import Datasets
from brushwork.serve.easel import EaselConfig
from brushwork.serve.hand import Hand
from brushwork.serve.jobs import AdapterAsked
from brushwork.serve.keeping import Keeper
from brushwork.serve.line import Line
from brushwork.serve.live import Live
from brushwork.serve.places import Places
from brushwork.serve.store import DiskFull, Store, new_id
from brushwork.serve.training import Trainings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from brushwork.serve.catalogue import Entry
    from brushwork.serve.grids import Grid
    from brushwork.serve.jobs import Compare, ImageToImage, Planned, TextToImage
    from brushwork.serve.settings import ServeConfig

    AnyJob = TextToImage | ImageToImage | Compare | Grid

COUNTED = 64
"""Texts whose tokens are counted at the same time, at most."""
MEMORY = 200
"""Jobs that are over and can still be followed from their first event."""


def random_seed() -> int:
    """Return a seed for whoever did not choose one."""
    import secrets

    return secrets.randbelow(1 << 32)


class Engine:
    """Everything between a request and its pictures."""

    def __init__(self, config: ServeConfig, random: Callable[[], int] = random_seed) -> None:
        self.config, self.random = config, random
        self.catalogue = Catalogue(config)
        self.store = Store(config.data)
        self.trainings = Trainings(config, self.catalogue, Datasets(config))
        self.line = Line(config.limits.queued)
        self.places = Places(config)
        self.live: dict[str, Live] = {}
        self.flying: dict[str, tuple[Live, int]] = {}
        """Pictures that the worker has, by id."""
        self.taken: set[str] = set()
        """Of these, the pictures that the worker has begun with; the others wait there."""
        self.retried: set[str] = set()
        """Pictures that the worker had begun with when it died."""
        self.questions: dict[str, asyncio.Future[dict[str, Any]]] = {}
        """Texts whose tokens the worker counts, by id."""
        self.counts = {"pictures": 0, "failed": 0, "worker_starts": 0, "worker_deaths": 0}
        self.busy_seconds = 0.0
        easel = EaselConfig(
            device=config.device,
            precision=config.precision,
            memory=config.memory,
            together=config.together,
            side=config.limits.side,
            pixels=config.limits.pixels,
        )
        self.hand = Hand(easel, self._heard, self._died, self.places.hide)
        self._wake = asyncio.Event()
        self._errands: set[asyncio.Task[None]] = set()
        self._forever: list[asyncio.Task[None]] = []
        self._hashing: asyncio.Task[list[Entry]] | None = None
        self.keeper = Keeper(self)

    async def start(self) -> int:
        """Begin to hand pictures out; return how many jobs an earlier server left unfinished."""
        left = self.store.recover()
        self._forever = [asyncio.create_task(self._dispatch()), asyncio.create_task(self.keeper.watch())]
        await self.trainings.begin()
        return left

    async def stop(self) -> None:
        """End the worker; what is not done is marked when a server starts again."""
        for task in self._forever:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.trainings.end()
        await self.hand.end()
        self.store.close()

    def submit(self, asked: AnyJob, client: str) -> Live:
        """Check a request and put it into the queue.

        Raises:
            UserError: It asks for something that is not there, or for too much.
            Full: Too many jobs wait.
            DiskFull: It cannot be written down.
        """
        self.line.check_free()
        checks.limit("pictures", _count(asked), self.config.limits.pictures)
        planned = [self._resolved(each) for each in asked.pictures(self.random)]
        self._check(planned)
        job = new_id()
        written = asked.model_dump(mode="json")
        ids = self.store.add_job(job, asked.kind, client, written, planned)
        self.line.join(job, client)
        live = Live(job, client, asked.kind, planned, ids, deque(range(len(planned))))
        self.live[job] = live
        self._forget()
        live.tell("queued", position=self.position(job), pictures=len(planned))
        self._wake.set()
        return live

    async def count_tokens(self, model: str, text: str) -> dict[str, Any]:
        """Return how many tokens a prompt is to a model, as its tokenizer says.

        Raises:
            UserError: There is no such model, or the prompt is not understood.
            RunFailed: The process that knows it ended.
        """
        checks.limit("text (characters)", len(text), self.config.limits.prompt)
        checks.limit("texts that are being counted", len(self.questions), COUNTED)
        found = self.catalogue.find("model", model)
        question = new_id()
        self.questions[question] = asyncio.get_running_loop().create_future()
        asked = {"id": question, "base": found.path, "name": found.name, "text": text}
        try:
            await self.hand.send({"do": "count", "question": asked})
            event = await self.questions[question]
        finally:
            del self.questions[question]
        if event["event"] == "failed":
            kind = ConfigError if event["type"] in ("ConfigError", "ModelError") else RunFailed
            raise kind(event["message"])
        return {name: event[name] for name in ("tokens", "chunks", "limit", "unread")}

    def hash_models(self) -> None:
        """Find out the hashes of single files, which takes reading them: in the background, once for each."""
        files = [each for each in self.catalogue.all("model") if each.sha256 is None and each.file]
        if files and (self._hashing is None or self._hashing.done()):
            self._hashing = asyncio.get_running_loop().create_task(
                asyncio.to_thread(lambda: [self.catalogue.hash(each) for each in files])
            )

    def position(self, job: str) -> int | None:
        """Return how many jobs go before this one; None when it is not waiting."""
        order = self.line.order()
        return order.index(job) if job in order else None

    async def cancel(self, job: str) -> bool:
        """End a job; what is drawn of it stays. Return whether there was anything to end."""
        live = self.live.get(job)
        if live is None or live.over.is_set():
            return False
        self.line.leave(job)
        flying = [picture for picture, (owner, _) in self.flying.items() if owner is live]
        for picture in flying:
            self._landed(picture)
        self._wake.set()
        self._end(live, "cancelled")
        for picture in flying:
            self._soon(self.hand.send({"do": "cancel", "id": picture}))
        return True

    def _resolved(self, planned: Planned) -> Planned:
        """Return a picture with every name looked up, the adapters of its prompt among the others."""
        _, networks = take_out(planned.prompt)
        by_name = {self.catalogue.find("adapter", each.name).name: each.weight for each in planned.adapters}
        for network in networks:
            if network.text_weight != network.weight:
                message = f"prompt: <lora:{network.name}>: one weight for text encoder and denoiser is all that works"
                raise ConfigError(message)
            by_name[self.catalogue.find("adapter", network.name).name] = network.weight
        adapters = tuple(AdapterAsked(name=name, weight=weight) for name, weight in by_name.items())
        model = self.catalogue.find("model", planned.model).name
        vae = planned.vae and self.catalogue.find("vae", planned.vae).name
        steering = controls.resolved(planned, self.catalogue)
        return planned.model_copy(update={"model": model, "adapters": adapters, "vae": vae, "controlnet": steering})

    def _check(self, planned: list[Planned]) -> None:
        """Refuse what is beyond a limit, and what no sampler could draw."""
        checks.check(planned, self.config.limits)
        for each in planned:
            named = [("init", each.init), ("mask", each.mask)]
            named += [("controlnet.image", control.image) for control in each.controlnet]
            for what, picture in named:
                if picture is not None and self.store.picture(picture) is None:
                    message = f"{what}: there is no picture {picture[:40]!r}; send it with POST /api/v1/images"
                    raise ConfigError(message)
        controls.check_pictures(planned, self.config.limits, self.store.path)

    async def _dispatch(self) -> None:
        """Hand out pictures, a few more than are drawn together, so that the worker never waits."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while len(self.flying) < 2 * self.config.together:
                job = self.line.turn()
                if job is None:
                    break
                live = self.live[job]
                place = live.left.popleft()
                if not live.left:
                    self.line.leave(job)
                await self._hand_out(live, place)

    async def _hand_out(self, live: Live, place: int, *, alone: bool = False) -> None:
        picture, planned = live.pictures[place], live.planned[place]
        self.flying[picture] = (live, place)
        try:
            told = orders.of(picture, planned, self.catalogue, self.store.path)
        except BrushworkError as error:  # it was there when the job was accepted
            self._fail(live, type(error).__name__, str(error))
            return
        try:
            await self.hand.send({"do": "draw", "picture": told | {"alone": alone}})
        except OSError as error:
            self._fail(live, "worker_failed", f"The process that draws cannot be started: {error.strerror}.")

    def _heard(self, event: dict[str, Any]) -> None:
        """Follow the worker; what it says of a cancelled picture is of no interest."""
        kind = event["event"]
        if kind == "ready":
            self.counts["worker_starts"] += 1
        elif kind == "lighter":
            still = [self.flying[each][0] for each in event["pictures"] if each in self.flying]
            for live in {id(owner): owner for owner in still}.values():
                live.notes.append("Memory ran out; drawn again one picture at a time.")
                live.tell("note", message=live.notes[-1])
        elif event["id"] in self.questions:
            if kind in ("counted", "failed") and not self.questions[event["id"]].done():
                self.questions[event["id"]].set_result(event)
        elif event["id"] in self.flying:
            live, place = self.flying[event["id"]]
            try:
                getattr(self, f"_on_{kind}")(live, place, event)
            except DiskFull as error:
                self._fail(live, "disk_full", str(error))
        if kind == "done" and self.store.picture(event["id"]) is None:  # it was cancelled meanwhile
            self.store.path(event["id"]).unlink(missing_ok=True)

    def _on_taken(self, live: Live, place: int, event: dict[str, Any]) -> None:
        del live, place
        self.taken.add(event["id"])

    def _on_loading(self, live: Live, place: int, event: dict[str, Any]) -> None:
        live.tell("loading", model=event["model"], picture=place)

    def _on_began(self, live: Live, place: int, event: dict[str, Any]) -> None:
        live.steps[place] = 0.0
        if live.state == "queued":
            live.state, live.started = "running", time.monotonic()
            self.store.start(live.id)
            live.tell("started", steps=event["total"])

    def _on_step(self, live: Live, place: int, event: dict[str, Any]) -> None:
        live.steps[place] = event["done"] / event["total"]
        told = {"picture": place, "step": event["done"], "steps": event["total"]}
        told |= {"progress": live.progress, "eta": live.eta}
        if "preview" in event:
            told["preview"] = event["preview"]
        live.tell("progress", **told)

    def _on_done(self, live: Live, place: int, event: dict[str, Any]) -> None:
        picture = live.pictures[place]
        infotext = orders.with_tags(event["infotext"], live.planned[place].prompt)
        self.store.picture_done(picture, infotext, event["seconds"])
        self._landed(picture)
        self._wake.set()
        self.counts["pictures"] += 1
        self.busy_seconds += event["seconds"]
        live.finished.add(place)
        live.steps[place] = 1.0
        live.tell("picture", picture=place, id=picture, infotext=infotext)
        if len(live.finished) == len(live.planned):
            self._end(live, "done")

    def _on_failed(self, live: Live, place: int, event: dict[str, Any]) -> None:
        del place
        self._fail(live, event["type"], event["message"])

    def _fail(self, live: Live, kind: str, message: str) -> None:
        self.counts["failed"] += 1
        self.line.leave(live.id)
        for picture in [each for each, (owner, _) in self.flying.items() if owner is live]:
            self._landed(picture)
            self._soon(self.hand.send({"do": "cancel", "id": picture}))
        self._wake.set()
        self._end(live, "failed", {"type": kind, "message": self.places.hide(message)})

    def _landed(self, picture: str) -> None:
        """Forget that the worker has a picture."""
        del self.flying[picture]
        self.taken.discard(picture)
        self.retried.discard(picture)

    def _end(self, live: Live, state: str, error: dict[str, Any] | None = None) -> None:
        self.store.finish(live.id, state, error, live.notes)
        live.tell(state, **({"error": error} if error else {}), pictures=sorted(live.finished))

    def _died(self, how: str) -> None:
        """Try what the worker had once more; what it was drawing by itself, and what it died of twice has failed."""
        self.counts["worker_deaths"] += 1
        for question in self.questions.values():
            if not question.done():
                question.set_result({"event": "failed", "type": "worker_died", "message": f"The worker ended: {how}."})
        suspects = self.taken or set(self.flying)
        self.taken = set()
        for picture in suspects & self.retried:
            live, _ = self.flying.get(picture, (None, 0))
            if live is not None:  # another picture of its job may have failed just before
                self._fail(live, "worker_died", f"The process that draws ended twice at this picture: {how}.")
        for picture, (live, place) in list(self.flying.items()):
            if picture in suspects:
                self.retried.add(picture)
                live.notes.append(f"The process that draws ended ({how}); tried once more.")
                live.tell("note", message=live.notes[-1])
            self._soon(self._hand_out(live, place, alone=picture in self.retried))

    def _soon(self, errand: Coroutine[Any, Any, None]) -> None:
        """Do something as soon as possible, not now; tasks that nobody holds may vanish."""
        task = asyncio.get_running_loop().create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    def _forget(self) -> None:
        """Keep only the newest of the jobs that are over in memory; the store has them all."""
        over = [job for job, live in self.live.items() if live.over.is_set()]
        for job in over[: max(0, len(over) - MEMORY)]:
            del self.live[job]


def _count(asked: AnyJob) -> int:
    """Return how many pictures a request comes to, before any of them is made."""
    models, prompts = len(getattr(asked, "models", ("",))), len(getattr(asked, "prompts", ())) or 1
    return asked.n * models * prompts * math.prod(len(axis.values) for axis in getattr(asked, "axes", ()))
