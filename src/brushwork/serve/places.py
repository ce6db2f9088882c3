"""What answers must not tell: the folders of this machine.

    places = Places(config)
    places.hide("/usr/models/ink.safetensors is broken")       # "ink.safetensors is broken"

Errors of the command line name files by their paths, as their user needs them; the same errors reach a client through
here.
"""

from __future__ import annotations

import functools
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import brushwork

if TYPE_CHECKING:
    from brushwork.serve.settings import ServeConfig

_PATH = re.compile(r"(?<![\w/:.])/[^\s'\"`:,;()<>|]+")


class Places:
    """The folders of one server."""

    def __init__(self, config: ServeConfig) -> None:
        own = [*config.models, config.runs, config.data, config.datasets]
        package, home, here = Path(brushwork.__file__).parent, Path.home(), Path.cwd()
        every = [*own, package, home, here, Path(sys.prefix), Path(tempfile.gettempdir())]
        texts = {str(form) for each in every for form in (each.absolute(), each.resolve())} - {"/"}
        self.folders = sorted(texts, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """Return a text in which each path that begins at the root has only its last part."""
        for folder in self.folders:
            text = text.replace(f"{folder}/", "").replace(folder, Path(folder).name)
        return _PATH.sub(lambda found: _last(found.group()), text)


def _last(path: str) -> str:
    """Return a path's last part if it begins at a folder that is there; an API's route does not."""
    parts = [each for each in path.split("/") if each]
    return parts[-1] if len(parts) > 1 and _is_folder(parts[0]) else path


@functools.cache
def _is_folder(name: str) -> bool:
    try:
        return Path("/", name).is_dir()
    except (OSError, ValueError):
        return False
