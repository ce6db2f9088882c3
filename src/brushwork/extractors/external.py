r"""``external:COMMAND``: a program of your own that looks at pictures, one JSON object a line in and out.

The command is started once, without a shell. It says first what it is, then answers each request in order:

    < {"name": "my-scorer", "revision": "2", "gives": "scores"}
    > {"id": 0, "image": "/tmp/x/0.png", "text": "a dog"}
    < {"id": 0, "score": 0.71}

``gives`` is ``features`` (answers ``{"id": 0, "features": [0.1, ...]}``; requests have no text) or ``scores``. A
``preprocessing`` may be added to the first line. An answer ``{"id": 0, "error": "why"}`` ends the evaluation with these
words, and so does a program that ends, is silent for longer than ``validation.extractor_seconds``, or writes anything
else. Pictures are PNG files that are gone after the answer. When its input ends, the program should end.
"""

from __future__ import annotations

import collections
import json
import math
import queue
import shlex
import subprocess
import tempfile
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.encoders import EVERY_REFERENCE
from brushwork.errors import ConfigError, ModelError, RunFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from brushwork.encoders import Features, Serves

GIVES: dict[str, tuple[Serves, ...]] = {"features": ("features",), "scores": ("score",)}
LAST_WORDS = 3
"""Lines of a program's stderr that an error repeats."""
GRACE = 5.0
"""Seconds that a program has to end when its input does."""
SHOWN = 120


class External:
    """A program in another process."""

    def __init__(self, name: str, command: str, *, seconds: float, key: str) -> None:
        """Start the program and hear what it is.

        Raises:
            ConfigError: It cannot be started.
            ModelError: Its first line does not say what it is.
        """
        self.name, self.seconds, self._key = name, seconds, key
        try:
            self._process = subprocess.Popen(  # noqa: S603  (the user's own command, without a shell)
                shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                encoding="utf-8",
            )  # fmt: skip
        except (OSError, ValueError) as error:
            message = f"{key}: {name!r} cannot be started: {error}"
            raise ConfigError(message) from error
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._complaints: collections.deque[str] = collections.deque(maxlen=LAST_WORDS)
        listeners = [
            threading.Thread(target=_listen, args=(self._process, self._lines), daemon=True),
            threading.Thread(target=_overhear, args=(self._process, self._complaints), daemon=True),
        ]
        for each in listeners:
            each.start()
        self._folder = tempfile.TemporaryDirectory(prefix="brushwork-external-")
        self.close = weakref.finalize(self, _end, self._process, listeners, self._folder)
        self._asked = 0
        self._introduce()

    def _introduce(self) -> None:
        try:
            about = self._answer()
        except RunFailed as error:
            self.close()
            raise ModelError(str(error)) from error
        gives, revision = about.get("gives"), about.get("revision")
        if gives not in GIVES or not revision:
            self.close()
            message = (
                f'{self._key}: {self.name!r}: its first line must be like {{"name": ..., "revision": ..., "gives": '
                f'"features" or "scores"}}, but is {json.dumps(about)[:SHOWN]}'
            )
            raise ModelError(message)
        self.serves, self.references = GIVES[gives], EVERY_REFERENCE if gives == "features" else 0
        self.reads_pairs = gives == "scores"
        self.name = f"external:{about.get('name', self.name.removeprefix('external:'))}"
        self.revision, self.preprocessing = str(revision), str(about.get("preprocessing", "its-own"))

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return the program's features (N, D).

        Raises:
            RunFailed: It did not answer as it should.
        """
        rows = [self._ask(image)["features"] for image in images]
        if len({len(row) if isinstance(row, list) else -1 for row in rows}) != 1:
            message = f"{self.name}: its features are not of one length."
            raise RunFailed(message)
        features = np.array(rows, np.float32)
        if features.ndim != 2 or not np.isfinite(features).all():  # noqa: PLR2004  (rows and columns)
            message = f"{self.name}: its features are not rows of finite numbers."
            raise RunFailed(message)
        return features

    def encode_pairs(self, images: Sequence[Image], texts: Sequence[str]) -> Features:
        """Return the program's score (N,) of each picture for its text.

        Raises:
            RunFailed: It did not answer as it should.
        """
        scores = [self._ask(image, text)["score"] for image, text in zip(images, texts, strict=True)]
        for score in scores:
            if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
                message = f"{self.name}: a score must be a finite number, but is {score!r}."
                raise RunFailed(message)
        return np.array(scores, np.float32)

    def _ask(self, image: Image, text: str | None = None) -> dict[str, Any]:
        number, wanted = self._asked, "features" if text is None else "score"
        self._asked += 1
        path = Path(self._folder.name) / f"{number}.png"
        image.convert("RGB").save(path)
        request = {"id": number, "image": str(path)} | ({} if text is None else {"text": text})
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request, ensure_ascii=False) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._ended() from error
        answer = self._answer()
        path.unlink()
        if "error" in answer:
            message = f"{self.name}: {answer['error']}"
            raise RunFailed(message)
        if answer.get("id") != number or wanted not in answer:
            message = f"{self.name}: request {number} needs an answer with its id and {wanted!r}, not {_short(answer)}"
            raise RunFailed(message)
        return answer

    def _answer(self) -> dict[str, Any]:
        """Return the next line that the program writes."""
        try:
            line = self._lines.get(timeout=self.seconds)
        except queue.Empty:
            self._process.kill()
            self.close()
            message = (
                f"{self.name}: no answer for {self.seconds:g} seconds. If that is how long it takes, raise "
                f"validation.extractor_seconds."
            )
            raise RunFailed(message) from None
        if line is None:
            raise self._ended()
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            message = f"{self.name}: it must write one JSON object a line, but wrote {line.strip()[:SHOWN]!r}"
            raise RunFailed(message)
        return answer

    def _ended(self) -> RunFailed:
        try:
            code: int | str = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            code = "no code: it closed its output"
        words = "".join(f"\n{line.rstrip()}" for line in list(self._complaints)[-2:])
        return RunFailed(f"{self.name}: the program ended (exit code {code}) before it answered.{words}")


# Functions and no methods: a thread that held the object would keep it, and so the program, alive.
def _listen(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _overhear(process: subprocess.Popen[str], complaints: collections.deque[str]) -> None:
    assert process.stderr is not None
    complaints.extend(process.stderr)


def _end(
    process: subprocess.Popen[str], listeners: Sequence[threading.Thread], folder: tempfile.TemporaryDirectory[str]
) -> None:
    """End the program: by the end of its input, and if that is not enough, by force."""
    assert process.stdin is not None
    try:
        process.stdin.close()
    except BrokenPipeError:
        process.kill()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for each, pipe in zip(listeners, (process.stdout, process.stderr), strict=True):
        each.join(GRACE)  # it ends with the program, unless a child of that keeps the pipe
        if pipe is not None and not each.is_alive():
            pipe.close()
    folder.cleanup()


def _short(answer: dict[str, Any]) -> str:
    return json.dumps(answer)[:SHOWN]
