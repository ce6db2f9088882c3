"""How a model wants to be drawn: written into an adapter's header, read again with it, used unless the user says else.

describe(folder, Sampling("LCM", 4, 1.0))       # every .safetensors file in it
read(header)                                    # Sampling("LCM", 4, 1.0)
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from brushwork.checkpoints import add_to_header
from brushwork.errors import ConfigError
from brushwork.settings import Sampling

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

HEADER = "brushwork_sampling"


def describe(folder: Path, sampling: Sampling | None) -> None:
    """Write into the headers of a folder's ``.safetensors`` files how what they hold is drawn; None: nothing."""
    for path in folder.glob("*.safetensors") if sampling else ():
        add_to_header(path, {HEADER: json.dumps(dataclasses.asdict(sampling))})  # type: ignore[arg-type]  # not None here


def read(header: Mapping[str, str]) -> Sampling | None:
    """Return what a file's header says, None where it says nothing that can be understood."""
    try:
        found = json.loads(header.get(HEADER, "null"))
        return Sampling(str(found["sampler"]), int(found["steps"]), float(found["guidance_scale"]))
    except (json.JSONDecodeError, TypeError, KeyError, ValueError):
        return None


def agreed(every: Iterable[Sampling | None]) -> Sampling | None:
    """Return the one that all parts of a model want, None when none wants any.

    Raises:
        ConfigError: Two parts want to be drawn differently.
    """
    different = list(dict.fromkeys(each for each in every if each is not None))
    if len(different) > 1:
        message = (
            f"model: its adapters were made to be drawn differently: {' and '.join(map(str, different))}.\n"
            f"Say --sampler, --steps and --cfg, or leave one of them out."
        )
        raise ConfigError(message)
    return different[0] if different else None


def unsaid(wanted: Sampling | None, said: Collection[str]) -> dict[str, Any]:
    """Return the fields of a ``generate.Request`` that a model wants and nobody said."""
    fields = {} if wanted is None else dataclasses.asdict(wanted)
    return {name: value for name, value in fields.items() if name not in said}
