"""The pictures drawn while training: fixed prompts at fixed seeds, so that steps can be laid side by side."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from brushwork import generate, infotext, prompts
from brushwork.runs import replacing, write_json

if TYPE_CHECKING:
    from brushwork.config import Config
    from brushwork.runs import RunFolder
    from brushwork.values import Family


def draw(run: RunFolder, config: Config, family: Family, index: int) -> None:
    """Draw ``validation.samples_during_training`` prompts into ``samples/<index>/<prompt>-<seed>.png``."""
    validation = config.validation
    texts = prompts.resolve(validation.prompts)[: validation.samples_during_training]
    if not texts:
        return
    requests = [
        generate.Request(
            prompt=text,
            negative_prompt=validation.negative_prompt,
            seed=validation.seed + place,
            **asdict(config.sampling),
            width=config.data.resolution,  # type: ignore[attr-defined]
            height=config.data.resolution,  # type: ignore[attr-defined]
        )
        for place, text in enumerate(texts)
    ]
    with replacing(run.path / "samples" / str(index)) as temporary:
        temporary.mkdir()
        for place, picture in enumerate(generate.draw(family, requests)):
            infotext.save_png(picture, temporary / f"{place:05}-{picture.request.seed}.png")
    write_json(run.path / "samples" / "prompts.json", texts)
