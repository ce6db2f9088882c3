"""What the worker is told of a picture: every name looked up, pictures as files, the prompt without its tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.generate import LATER
from brushwork.grammar import take_out
from brushwork.serve import controls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brushwork.serve.catalogue import Catalogue
    from brushwork.serve.jobs import Planned

OWN = ("hires", "controls")
"""Of ``generate``'s later settings, those that have names and pictures of their own."""
DRAWN = (
    "negative_prompt", "seed", "steps", "guidance_scale", "width", "height", "sampler", "strength", "clip_skip",
    *(name for name in LATER if name not in OWN),
)  # fmt: skip


def of(picture: str, planned: Planned, catalogue: Catalogue, path: Callable[[str], Path]) -> dict[str, Any]:
    """Return the order for a picture.

    Args:
        picture: Its id.
        planned: What was asked for.
        catalogue: Knows where the models lie.
        path: Knows where a picture lies, or will lie.

    Raises:
        UserError: Something is not there any more.
    """
    model = catalogue.find("model", planned.model)
    adapters = [(catalogue.find("adapter", each.name), each.weight) for each in planned.adapters]
    words, _ = take_out(planned.prompt)
    pictures = {name: getattr(planned, name) for name in ("init", "mask")}
    draw = {name: getattr(planned, name) for name in DRAWN} | {"prompt": words.strip(), "grammar": True}
    draw["hires"] = None if planned.hires is None else planned.hires.model_dump()
    return {
        "id": picture,
        "base": model.path,
        "name": model.name,
        "adapters": [[entry.path, weight] for entry, weight in adapters],
        "vae": catalogue.find("vae", planned.vae).path if planned.vae else None,
        "controls": controls.told(planned, catalogue, path),
        "draw": draw,
        "out": str(path(picture)),
        **{name: str(path(value)) for name, value in pictures.items() if value is not None},
    }


def with_tags(infotext: str, prompt: str) -> str:
    """Return an infotext with the prompt as it was typed, tags and all."""
    words, networks = take_out(prompt)
    if not networks or not infotext.startswith(words.strip()):
        return infotext
    return prompt + infotext[len(words.strip()) :]
