"""The process that loads models and draws: JSON lines in on stdin, JSON lines out on a stream of its own.

    python -m brushwork.serve.worker '{"device": "cpu"}'

Nothing is pickled. Whatever else is printed goes to stderr, so that a library's word on stdout cannot break a line. The
process ends when its input does, so it never outlives the server.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import Any

from brushwork.serve.easel import Easel, EaselConfig, Question, Request


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(event: dict[str, Any]) -> None:
        answers.write(json.dumps(event) + "\n")

    easel = Easel(EaselConfig.model_validate_json(sys.argv[1]), tell)
    commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(commands,), daemon=True).start()
    tell({"event": "ready", "pid": os.getpid()})
    busy = False
    while True:
        while not (busy and commands.empty()):
            command = commands.get()
            if command is None:
                return
            _obey(easel, command)
            busy = True
        busy = easel.turn()


def _read(commands: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    commands.put(None)


def _obey(easel: Easel, command: dict[str, Any]) -> None:
    what = command["do"]
    if what == "draw":
        easel.ask(Request(**command["picture"]))
    elif what == "count":
        easel.count(Question(**command["question"]))
    elif what == "cancel":
        easel.cancel(command["id"])
    else:
        assert what == "unload", f"the engine sends no {what!r}"
        easel.unload()


if __name__ == "__main__":
    main()
