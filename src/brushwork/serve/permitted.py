"""Which settings of a training run a client may choose: none that names a file, a folder, a hub id or a program.

    permitted.tree({"method.rank": 8})                      # {"method": {"rank": 8}}
    permitted.tree({"validation": {"extractors": ["external:rm"]}})     # UserError

The command line's user may name all of these, for it is their machine; a client of the server may be anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from brushwork import config as configs
from brushwork import prompts
from brushwork.errors import UserError

FORBIDDEN = (
    "base", "base_config", "data.path", "data.class_path", "data.folder", "data.image_column", "data.mask_column",
    "data.parts", "data.background", "preserve.prompts", "objective.clip",
)  # fmt: skip
"""Settings with paths or models in them."""
PROMPTS = ("prompts", "content_prompts", "control_prompts")
"""Settings of which a text is a file's name, and a list is prompts."""
WORDS = (
    "negative_prompt", "style_template", "style_words", "token", "initial_word", "instance_prompt", "class_prompt",
    "instance_token", "targets", "text_encoder_targets", *PROMPTS,
)  # fmt: skip
"""Settings that are words or patterns and open nothing, whatever is in them."""
DEPTH = 8


def tree(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted keys as a tree.

    Raises:
        UserError: One of them opens something.
    """
    found: dict[str, Any] = {}
    for key, value in _leaves(settings, ""):
        _check(key, value)
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        found = dict(configs.merge(found, nested))
    return found


def _leaves(settings: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        name = f"{before}.{key}" if before else key
        if name.count(".") >= DEPTH:
            message = f"settings: {name[:80]} lies too deep"
            raise UserError(message)
        if isinstance(value, Mapping) and name not in FORBIDDEN:
            yield from _leaves(value, name)
        else:
            yield name, value


def _check(key: str, value: object) -> None:
    last = key.rpartition(".")[2]
    texts = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    named = last in PROMPTS and isinstance(value, str) and value not in prompts.embedded()
    inner = any(isinstance(each, Mapping | list | tuple) for each in texts)
    program = any(isinstance(each, str) and each.startswith("external") for each in texts) and last == "extractors"
    paths = last not in WORDS and any(isinstance(each, str) and _opens(each) for each in texts)
    if key in FORBIDDEN or last.endswith(("_path", "_dir")) or named or inner or program or paths:
        message = f"settings: {key[:80]} opens a file, a model or a program, which a client cannot name; leave it out"
        raise UserError(message)


def _opens(text: str) -> bool:
    return any(mark in text for mark in "/\\\0") or text.startswith(("~", "."))
