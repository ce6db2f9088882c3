"""Plug-ins by file name: ``methods/lora.py`` is the method ``lora``. There is no list to edit.

    >>> "lora" in names("methods")
    True

Names are found without importing anything; a module is imported when it is asked for. Third parties register
modules of the same form as entry points in the group ``brushwork.<axis>`` (for example ``brushwork.methods``).
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from brushwork.errors import ConfigError, nearest

if TYPE_CHECKING:
    from types import ModuleType

Axis = Literal["families", "methods", "sources", "objectives", "metrics"]


@functools.cache
def _modules(axis: Axis) -> dict[str, str]:
    """Map each registered name to the module that holds it."""
    folder = Path(__file__).parent / axis
    own = {info.name: f"brushwork.{axis}.{info.name}" for info in pkgutil.iter_modules([str(folder)])}
    found = importlib.metadata.entry_points(group=f"brushwork.{axis}")
    return {entry.name: entry.value for entry in found} | own


def names(axis: Axis) -> list[str]:
    """Return the registered names of an axis, sorted."""
    return sorted(_modules(axis))


def load(axis: Axis, name: str) -> ModuleType:
    """Import the module registered under a name.

    Raises:
        ConfigError: There is no such name; the message offers the nearest one.
    """
    modules = _modules(axis)
    if name not in modules:
        kind = {"families": "family"}.get(axis, axis[:-1])
        message = f"There is no {kind} named {name!r}.{nearest(name, modules)}"
        raise ConfigError(message)
    return importlib.import_module(modules[name])
