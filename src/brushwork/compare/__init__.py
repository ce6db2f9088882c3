"""Compare models, sweep what they are drawn with, or train several methods alike and compare those.

    import brushwork as bw
    found = bw.compare(run, "runs/other")           # found.table, found.grid, found.page
    found = bw.compare(methods=["full", "lora"], base="mini", data="engravings", steps=300)

Everything lands in a folder: pictures, features, compare.json, grid.png and index.html, one self-contained page. What
is there already is used again, so the same call goes on where an earlier one was killed.
"""

from __future__ import annotations

import datetime
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork.errors import ConfigError, UserError
from brushwork.runs import RunFolder, replacing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from brushwork.compare.output import Comparison
    from brushwork.settings import Settings

COMPARISONS = Path("comparisons")
REQUEST = "compare.yaml"

__all__ = ["Comparison", "compare"]


def __getattr__(name: str) -> Any:
    if name == "Comparison":
        from brushwork.compare.output import Comparison

        return Comparison
    message = f"module 'brushwork.compare' has no attribute {name!r}"
    raise AttributeError(message)


def compare(
    *models: str | os.PathLike[str] | RunFolder,
    methods: Sequence[str] | Mapping[str, Any] = (),
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    **request: Any,
) -> Comparison:
    """Compare models, or with ``methods`` train each on the same data and compare what they made.

    Args:
        models: Runs, or what the command line takes as MODEL.
        methods: Presets, ``NAME=PRESET+key.path=value``, or a mapping of names to parts of a configuration.
        out: Where everything goes; an unfinished comparison there goes on. Default: a new folder in ``comparisons/``.
        overrides: ``key.path=value``; with methods any key of a configuration (``METHOD:key.path=value`` for one of
            them), else those of ``validation``.
        request: Fields of ``compare.models.Request``, or of ``compare.bakeoff.Request`` with methods.

    Raises:
        UserError: The request is wrong; nothing was drawn or trained.
        RunFailed: Something broke; the same call goes on.
    """
    if methods or "base" in request or "data" in request:
        if models:
            message = "Models are compared, or methods are trained: give one of them."
            raise ConfigError(message)
        from brushwork.compare import bakeoff

        asked = bakeoff.requested({**request, "methods": methods}, overrides)
        return bakeoff.bake_off(asked, lambda: opened(out, asked), None if out is None else Path(out))
    from brushwork.compare import models as several

    texts = tuple(str(each.path) if isinstance(each, RunFolder) else os.fspath(each) for each in models)
    wish = several.requested({**request, "models": texts}, overrides)
    return several.compare_models(wish, lambda: opened(out, wish))


def opened(out: str | Path | None, request: Settings) -> Path:
    """Return the folder of a comparison, made now or earlier by the very same request.

    Raises:
        UserError: It holds another comparison, or something else.
    """
    import yaml

    if out is None:
        day = datetime.date.today().isoformat()  # noqa: DTZ011  (the user's own day)
        out = COMPARISONS / f"{day}-{secrets.token_hex(2)}"
    folder, asked = Path(out), request.model_dump(mode="json")
    path = folder / REQUEST
    if path.is_file():
        before = yaml.safe_load(path.read_text("utf-8"))
        changed = sorted(key for key in {*before, *asked} if before.get(key) != asked.get(key))
        if changed:
            key = changed[0]
            message = (
                f"--out: {str(folder)!r} holds another comparison: {key} was {_short(before.get(key))} and is "
                f"{_short(asked.get(key))} now. Choose another folder, or ask as before."
            )
            raise UserError(message)
        return folder
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        message = f"--out: {str(folder)!r} exists and holds no comparison. Choose another."
        raise UserError(message)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(asked, sort_keys=False, allow_unicode=True, width=110), "utf-8")
    return folder


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004  (a line of a message)
