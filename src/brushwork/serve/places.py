"""What neither answers nor logs may tell: the folders of this machine, and the token.

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
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import brushwork

if TYPE_CHECKING:
    from brushwork.serve.settings import ServeConfig

_PATH = re.compile(r"(?<![\w/:.])/[^\s'\"`:,;()<>|]+")


class Places:
    """The folders of one server."""

    def __init__(self, config: ServeConfig) -> None:
        own = [*config.models, *config.controlnet, config.runs, config.data, config.datasets]
        package, home, here = Path(brushwork.__file__).parent, Path.home(), Path.cwd()
        every = [*own, package, home, here, Path(sys.prefix), Path(tempfile.gettempdir())]
        texts = {str(form) for each in every for form in (each.absolute(), each.resolve())} - {"/"}
        self.folders = sorted(texts, key=len, reverse=True)
        self.token = config.token

    def hide(self, text: str) -> str:
        """Return a text in which each path that begins at the root has only its last part, and without the token."""
        return _PATH.sub(lambda found: _last(found.group()), self.cut(text))

    def cut(self, text: str) -> str:
        """Return a text without our own folders and the token; other paths stay, so it may be a whole page."""
        for folder in self.folders:
            text = text.replace(f"{folder}/", "").replace(folder, Path(folder).name)
        return text.replace(self.token, "***") if self.token else text

    def hide_all(self, value: Any) -> Any:
        """Return what goes into JSON with every text in it hidden."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {self.hide(str(key)): self.hide_all(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide_all(each) for each in value]
        return value


def _last(path: str) -> str:
    """Return a path's last part if it begins at a folder that is there; an API's route does not."""
    parts = [each for each in path.split("/") if each]
    return parts[-1] if len(parts) > 1 and _is_folder(parts[0]) else path


@functools.lru_cache(maxsize=256)
def _is_folder(name: str) -> bool:
    try:
        return Path("/", name).is_dir()
    except (OSError, ValueError):
        return False
