"""One training run of a bake-off, in a process of its own so that its peak memory is its own.

    python -m brushwork.compare.training PLAN.yaml RUN

Whatever is there of the run is gone on with; a finished one is left as it is. When the process that started this one is
gone, it stops after its step, so that the same command can go on at once.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from brushwork.errors import BrushworkError, RunFailed, UserError
from brushwork.runs import RunFolder, replacing

LOOK_EVERY = 0.5
"""Seconds between two looks whether the parent is there."""
PATIENCE = 120.0
"""Seconds to wait for one that is stopping."""
INTERRUPTED = 130


def is_done(path: Path) -> bool:
    """Return whether a run was trained to its end."""
    if not (path / "config.yaml").is_file():
        return False
    run = RunFolder(path)
    return run.record["status"] in ("trained", "done") and run.weights.is_dir()


def carry_out(plan: Path, out: Path) -> None:
    """Train what a plan says into ``out``, or go on with what is there; nothing is evaluated."""
    from brushwork import api, config

    if (out / "config.yaml").is_file():
        _when_free(RunFolder(out))
    if is_done(out):
        return
    if (out / "config.yaml").is_file():
        api.resume(out, evaluate=False)
    else:
        api.train(config.load(plan), out=out, evaluate=False)


def _when_free(run: RunFolder) -> None:
    """Wait for a process that an earlier, killed command left behind: it is about to stop.

    Raises:
        UserError: It does not.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with run.locked():
                return
        except UserError:
            if time.monotonic() > end:
                raise
            time.sleep(LOOK_EVERY)


def launch(plan: Path, out: Path) -> str | None:
    """Carry a plan out in a process of its own; return why it failed, None when it did not.

    Raises:
        RunFailed: It was asked to stop.
    """
    reason = _reason(out)
    reason.unlink(missing_ok=True)
    command = [sys.executable, "-m", "brushwork.compare.training", str(plan), str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:  # noqa: S603  (our own module)
        try:
            code = child.wait()
        except KeyboardInterrupt:  # which it got too: it finishes its step and writes a checkpoint
            code = child.wait() or INTERRUPTED
    if code == INTERRUPTED or -code in (signal.SIGINT, signal.SIGTERM):
        message = f"Stopped while training {out.name}. The same command goes on."
        raise Interrupted(message)
    if code == 0:
        return None
    if reason.is_file():
        return reason.read_text("utf-8").strip()
    return f"its process was killed by signal {-code} (out of memory?)" if code < 0 else "a bug; see above"


class Interrupted(RunFailed):
    """The user asked to stop."""

    exit_code = INTERRUPTED


def _reason(out: Path) -> Path:
    return out.with_name(f".{out.name}-failed.txt")


def main() -> int:
    """Be that process."""
    plan, out = map(Path, sys.argv[1:])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        carry_out(plan, out)
    except BrushworkError as error:
        with replacing(_reason(out)) as temporary:
            temporary.write_text(str(error), "utf-8")
        return error.exit_code
    return 0


def _end_with(parent: int) -> None:
    """Stop this process as Ctrl-C would when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    # What the libraries say about themselves is not for our users, here as in brushwork.cli.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    sys.exit(main())
