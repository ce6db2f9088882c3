"""What the worker does: keeps models warm, draws the pictures of one model together, and tells how far it is.

    easel = Easel(settings, tell=print)
    easel.ask({"id": "p1", "model": {...}, "request": {...}, "out": "served/images/p1.png"})
    while easel.turn():                             # one step of every picture that is being drawn
        pass

Whatever the user's request makes impossible is told as ``failed``. Anything else is a fault of ours and ends the
process; the engine starts another one and tries the pictures that were being drawn once more, each by itself.
"""

from __future__ import annotations

import base64
import gc
import io
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import generate, infotext, models, vaes
from brushwork.errors import BrushworkError, ModelError
from brushwork.hires import Hires
from brushwork.serve import checks, previews, tokens
from brushwork.serve.controls import Networks
from brushwork.serve.settings import Limits
from brushwork.settings import Settings
from brushwork.stepwise import Drawing, Whole, advance, begin
from brushwork.wordings import Remembered

if TYPE_CHECKING:
    from collections.abc import Callable

    import PIL.Image
    from torch import Tensor

    from brushwork.models import LoadedModel

PATIENCE = 10.0
"""Seconds that a picture of another model waits while those of the loaded one go first."""
PREVIEW_EVERY = 0.4
"""Seconds between two previews of a picture."""


class EaselConfig(Settings):
    """What the worker is started with."""

    device: str = "auto"
    precision: str = "auto"
    memory: float = 4.0
    together: int = 8
    side: int = Limits().side
    pixels: int = Limits().pixels


class Request(Settings):
    """A picture to draw, as the engine sends it: the names are resolved, pictures are files."""

    id: str
    base: str
    adapters: tuple[tuple[str, float], ...] = ()
    vae: str | None = None
    name: str = ""
    draw: dict[str, Any]
    init: str | None = None
    mask: str | None = None
    controls: tuple[dict[str, Any], ...] = ()
    """ControlNets, as ``brushwork.serve.controls`` tells them."""
    out: str
    alone: bool = False
    """Draw nothing beside it: it was there when a worker died."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What must be equal for two pictures to be of one loaded model."""
        return (self.base, self.adapters, self.vae)


class Question(Settings):
    """A text whose tokens are to be counted for a model."""

    id: str
    base: str
    name: str = ""
    text: str


@dataclass
class _Active:
    asked: Request
    drawing: Drawing | Whole
    began: float
    previewed: float


@dataclass
class _Warm:
    model: LoadedModel
    facts: dict[str, Any]
    colours: Tensor | None
    """None: the family draws by itself, so there is nothing to preview."""
    size: int
    texts: Remembered = field(default_factory=Remembered)


class Easel:
    """Pictures that wait, pictures that are being drawn, and models that are loaded."""

    def __init__(self, config: EaselConfig, tell: Callable[[dict[str, Any]], None]) -> None:
        self.config, self.tell = config, tell
        self.waiting: deque[tuple[Request, float]] = deque()
        self.active: dict[str, _Active] = {}
        self.questions: deque[Question] = deque()
        self.warm: OrderedDict[tuple[Any, ...], _Warm] = OrderedDict()
        self.networks = Networks()
        self.together = config.together

    def ask(self, asked: Request) -> None:
        """Let a picture wait for its turn."""
        if not self.active and not self.waiting:
            self.together = self.config.together  # whatever was too much together is over
        self.waiting.append((asked, time.monotonic()))

    def count(self, asked: Question) -> None:
        """Let a text wait until the model is at hand that reads it."""
        self.questions.append(asked)

    def cancel(self, picture: str) -> None:
        """Drop a picture, wherever it is."""
        self.waiting = deque(each for each in self.waiting if each[0].id != picture)
        self.active.pop(picture, None)

    def turn(self) -> bool:
        """Make one step of everything that is being drawn; return whether there is more to do."""
        self._answer()
        self._admit()
        if not self.active:
            return bool(self.waiting or self.questions)
        model = self.warm[next(iter(self.active.values())).asked.key]
        if not self._advance(model):
            return True
        for active in list(self.active.values()):
            if active.asked.id in self.active:  # not put back, since memory ran out
                self._follow(model, active)
        if not self.active and not self.waiting:
            self.together = self.config.together  # whatever was too much together is over
        return bool(self.active or self.waiting or self.questions)

    def _answer(self) -> None:
        """Count tokens, by any loaded model of the base, or a new one when nothing is being drawn."""
        for asked in list(self.questions):
            found = next((each for key, each in self.warm.items() if key[0] == asked.base), None)
            if found is None and self.active:
                continue  # loading it could take the place of the model that draws
            self.questions.remove(asked)
            try:
                family = (
                    found or self._model(Request(**asked.model_dump(exclude={"text"}), draw={}, out=""))
                ).model.family
                self.tell({"event": "counted", "id": asked.id, **tokens.count(family, asked.text)})
            except BrushworkError as error:
                self._failed(asked, type(error).__name__, str(error))

    def _advance(self, warm: _Warm) -> bool:
        """Make one step; when memory ran out, let all but one wait again and go on more lightly."""
        drawings = [each.drawing for each in self.active.values() if isinstance(each.drawing, Drawing)]
        try:
            advance(warm.model.family, drawings, at_once=2 * self.together)
            self._draw_whole()
        except _memory_errors():
            self._lighter()
            return False
        return True

    def _draw_whole(self) -> None:
        """Draw one of those whose family draws by itself; the others wait for their turns."""
        for each in list(self.active.values()):
            if isinstance(each.drawing, Whole):
                try:
                    each.drawing.draw()
                except BrushworkError as error:
                    del self.active[each.asked.id]
                    self._failed(each.asked, type(error).__name__, str(error))
                return

    def _lighter(self) -> None:
        """Start all pictures again, one at a time; a single one that does not fit has failed."""
        every = list(self.active.values())
        self.active.clear()
        gc.collect()
        if len(every) == 1 and self.together == 1:
            message = "There is not enough memory for this picture, even alone. Ask for a smaller one."
            self._failed(every[0].asked, "out_of_memory", message)
            return
        self.together = 1
        self.tell({"event": "lighter", "pictures": [each.asked.id for each in every]})
        self.waiting.extendleft((each.asked, each.began) for each in reversed(every))

    def _admit(self) -> None:
        """Begin with waiting pictures of the model at hand, or of the one that waits longest."""
        while self.waiting and len(self.active) < self.together:
            found = self._next()
            if found is None:
                return
            self.waiting = deque(each for each in self.waiting if each[0] is not found)
            self._begin(found)

    def _next(self) -> Request | None:
        if not self.active:
            return self.waiting[0][0]
        at_hand = next(iter(self.active.values())).asked
        if at_hand.alone:
            return None
        longest, since = self.waiting[0]
        if longest.key != at_hand.key and time.monotonic() - since > PATIENCE:
            return None  # it is the other model's turn once these are done
        return next((each for each, _ in self.waiting if each.key == at_hand.key and not each.alone), None)

    def _begin(self, asked: Request) -> None:
        self.tell({"event": "taken", "id": asked.id})
        try:
            warm = self._model(asked)
            request = generate.fitted(warm.model.family, self._request(asked, warm))
            if request.hires is not None:  # of the model's own size, which only we know
                wide, high = request.hires.width or 0, request.hires.height or 0
                checks.size("hires.", wide, high, Limits(side=self.config.side, pixels=self.config.pixels))
            drawing = begin(warm.model.family, request, warm.texts.encode)
        except BrushworkError as error:
            self._failed(asked, type(error).__name__, str(error))
            return
        except _memory_errors():
            self._no_room(asked)
            return
        now = time.monotonic()
        self.active[asked.id] = _Active(asked, drawing, now, now)
        self.tell({"event": "began", "id": asked.id, "total": drawing.total})

    def _no_room(self, asked: Request) -> None:
        """Try once more without the models that are warm beside those in use; then there is no room for this one."""
        kept = {each.asked.key for each in self.active.values()}
        spare = [key for key in self.warm if key not in kept]
        for key in spare:
            del self.warm[key]
        self.networks.clear()
        gc.collect()
        if spare or self.active:
            self.tell({"event": "lighter", "pictures": [asked.id]})
            self.waiting.appendleft((asked, time.monotonic()))
            self.together = 1
        else:
            message = "There is not enough memory for this model, even alone. Choose a smaller one."
            self._failed(asked, "out_of_memory", message)

    def _follow(self, warm: _Warm, active: _Active) -> None:
        """Tell how far a picture is, and save it when it is finished."""
        asked, drawing = active.asked, active.drawing
        told: dict[str, Any] = {"event": "step", "id": asked.id, "done": drawing.index, "total": drawing.total}
        now = time.monotonic()
        due = not drawing.done and now - active.previewed > PREVIEW_EVERY
        if due and isinstance(drawing, Drawing) and warm.colours is not None:
            active.previewed = now
            told["preview"] = _jpeg(previews.draw(drawing.latents, warm.colours))
        self.tell(told)
        if not drawing.done:
            return
        try:
            image = drawing.image()
        except _memory_errors():
            self._lighter()
            return
        except BrushworkError as error:
            del self.active[asked.id]
            self._failed(asked, type(error).__name__, str(error))
            return
        del self.active[asked.id]
        picture = generate.describe(image, drawing.request, warm.facts)
        try:
            infotext.save_png(picture, Path(asked.out))
        except OSError as error:
            part = Path(asked.out)
            part.with_name(f".{part.name}.part").unlink(missing_ok=True)
            self._failed(asked, "disk_full", f"The picture cannot be written: {error.strerror}.")
            return
        self.tell({"event": "done", "id": asked.id, "infotext": picture.infotext, "seconds": now - active.began})

    def _failed(self, asked: Request | Question, kind: str, message: str) -> None:
        self.tell({"event": "failed", "id": asked.id, "type": kind, "message": message})

    def _model(self, asked: Request) -> _Warm:
        """Return the model, loading it if it is not warm; the one that was unused longest goes when memory is short."""
        if asked.key in self.warm:
            self.warm.move_to_end(asked.key)
            return self.warm[asked.key]
        self.tell({"event": "loading", "id": asked.id, "model": asked.name})
        spec = models.ModelSpec(
            asked.name or asked.base, asked.base, tuple(models.AdapterSpec(*each) for each in asked.adapters)
        )
        model = models.open_model(spec, dtype=self._dtype(), device=self.config.device)
        used = None if asked.vae is None else vaes.put(model.family, Path(asked.vae))
        size = _bytes(model)
        if self.networks.bytes() + size > self._room():
            self.networks.clear()
        while self.warm and size > self._room():
            self.warm.popitem(last=False)
            gc.collect()
        facts = generate.facts_of(model.family, asked.name or model.name, model.hash, model.adapters, used)
        by_itself = getattr(model.family, "draw", None) is not None
        self.warm[asked.key] = _Warm(model, facts, None if by_itself else previews.fit(model.family), size)
        return self.warm[asked.key]

    def _room(self) -> float:
        """Return how many bytes of the budget the warm models leave."""
        return self.config.memory * 2**30 - sum(each.size for each in self.warm.values())

    def unload(self) -> None:
        """Let go of everything that is loaded and not in use."""
        used = {each.asked.key for each in self.active.values()}
        self.warm = OrderedDict((key, each) for key, each in self.warm.items() if key in used)
        self.networks.clear()

    def _request(self, asked: Request, warm: _Warm) -> generate.Request:
        """Return what is to be drawn, its pictures read and its ControlNets loaded."""
        family = warm.model.family
        given = dict(asked.draw)
        if given.get("hires") is not None:
            given["hires"] = Hires(**given["hires"])
        files = {"init": asked.init, "mask": asked.mask}
        pictures = {name: _picture(path, name) for name, path in files.items() if path is not None}
        controls = tuple(
            self.networks.control(each, family, self._room(), lambda path: _picture(path, "controlnet.image"))
            for each in asked.controls
        )
        return generate.Request(**given, **pictures, controls=controls)  # type: ignore[arg-type]  # each by its name

    def _dtype(self) -> Any:
        import torch

        from brushwork.devices import resolve_device

        on_gpu = resolve_device(self.config.device).startswith("cuda")
        precision = ("fp16" if on_gpu else "no") if self.config.precision == "auto" else self.config.precision
        return {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def _memory_errors() -> tuple[type[BaseException], ...]:
    import torch

    return (torch.OutOfMemoryError, MemoryError)


def _picture(path: str, what: str) -> PIL.Image.Image:
    """Read a picture of the store.

    Raises:
        ModelError: It is not there any more.
    """
    import PIL.Image

    try:
        with PIL.Image.open(path, formats=["PNG"]) as image:
            return image.convert("L" if what == "mask" else "RGB")
    except OSError as error:
        message = f"{what}: the picture is not there any more; send it again"
        raise ModelError(message) from error


def _bytes(model: LoadedModel) -> int:
    family = model.family
    parts = (family.denoiser, family.vae, *family.text_encoders.values())
    return sum(weight.numel() * weight.element_size() for part in parts for weight in part.parameters())


def _jpeg(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=70)
    return base64.b64encode(buffer.getvalue()).decode()
