"""A bake-off that kills itself, for ``compare/test_bakeoff.py``: in a process of its own, at an exact moment."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any


def live(tree: dict[str, Any], out: str, end: str) -> None:
    """Do what is left of a comparison, or as much as ``end`` allows: ``training`` or ``drawing``; "" lets it finish."""
    import brushwork as bw
    from brushwork import infotext, progress
    from brushwork.compare import training
    from brushwork.train import Trainer

    progress.silence()
    training.launch = training.carry_out  # type: ignore[assignment]  # here, where it can be killed at a moment
    step, save = Trainer.step, infotext.save_png
    left = iter(range(5))

    def dying_step(self: Any, index: int, feed: Any) -> Any:
        if "full-0" in {each.name for each in Path(out, "runs").iterdir()} and index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, index, feed)

    def dying_save(picture: Any, path: Any) -> Path:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return save(picture, path)

    if end == "training":
        Trainer.step = dying_step  # type: ignore[method-assign]
    if end == "drawing":
        infotext.save_png = dying_save
    bw.compare(**tree, out=out)
