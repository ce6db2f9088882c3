"""brushwork: teach a text-to-image model your style, subject or domain, and know what it learned.

    import brushwork as bw
    run = bw.train(base="mini", method="lora", data="photos/", steps=300)
    run.generate("a cat", seed=1)

The names below are imported when they are first used, so ``import brushwork`` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brushwork.api import Run, plan, resume, train
    from brushwork.compare import Comparison, compare
    from brushwork.config import Config
    from brushwork.config import load as load_config
    from brushwork.models import open_model
    from brushwork.train import Step, steps

__version__ = "0.1.0"

_EXPORTS = {
    "Comparison": "brushwork.compare:Comparison",
    "Config": "brushwork.config:Config",
    "Run": "brushwork.api:Run",
    "Step": "brushwork.train:Step",
    "compare": "brushwork.compare:compare",
    "load_config": "brushwork.config:load",
    "open_model": "brushwork.models:open_model",
    "plan": "brushwork.api:plan",
    "resume": "brushwork.api:resume",
    "steps": "brushwork.train:steps",
    "train": "brushwork.api:train",
}


class _Package(types.ModuleType):
    """Keeps ``bw.train`` the function: importing the submodule of that name would otherwise take its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _EXPORTS and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        message = f"module 'brushwork' has no attribute {name!r}"
        raise AttributeError(message)
    module, _, attribute = _EXPORTS[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})


__all__ = [
    "Comparison",
    "Config",
    "Run",
    "Step",
    "__version__",
    "compare",
    "load_config",
    "open_model",
    "plan",
    "resume",
    "steps",
    "train",
]
