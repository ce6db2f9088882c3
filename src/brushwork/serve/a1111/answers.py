"""What A1111 says of a batch of pictures."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from brushwork import infotext
from brushwork.serve import sheets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brushwork.serve.a1111.requests import Generation
    from brushwork.serve.a1111.xyz import Plot
    from brushwork.serve.store import JobRow


def echo(asked: Generation) -> dict[str, Any]:
    """Return a request as it is sent back; what JSON cannot hold (NaN, halves of characters) is not."""
    return {name: sendable(value) for name, value in asked.model_dump().items()}


def sendable(value: Any) -> Any:
    """Return what goes into JSON without what that cannot hold: no NaN, no infinity, no halves of characters."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {sendable(str(key)): sendable(each) for key, each in value.items()}
    return [sendable(each) for each in value] if isinstance(value, list) else value


def info(asked: Generation, row: JobRow) -> dict[str, Any]:
    """Return what A1111 says of a batch."""
    drawn = [each for each in row.pictures if each.state == "done"]
    texts = [each.infotext or "" for each in drawn]
    fields = infotext.parse(texts[0]).fields if texts else {}
    seeds = [each.planned["seed"] for each in drawn] or [asked.seed]
    subseeds = [each.planned["variation_seed"] for each in drawn] or [asked.subseed]
    prompts = [each.planned["prompt"] for each in drawn] or [asked.prompt]
    return {
        "prompt": asked.prompt,
        "all_prompts": prompts,
        "negative_prompt": asked.negative_prompt,
        "all_negative_prompts": [asked.negative_prompt] * len(prompts),
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": subseeds[0],
        "all_subseeds": subseeds,
        "subseed_strength": asked.subseed_strength,
        "width": asked.width or int(fields.get("Size", "0x0").partition("x")[0]),
        "height": asked.height or int(fields.get("Size", "0x0").partition("x")[2]),
        "sampler_name": fields.get("Sampler", asked.sampler()),
        "cfg_scale": asked.cfg_scale,
        "steps": asked.steps,
        "batch_size": asked.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": fields.get("Model", ""),
        "sd_model_hash": fields.get("Model hash", ""),
        "sd_vae_name": fields.get("VAE"),
        "sd_vae_hash": fields.get("VAE hash"),
        "seed_resize_from_w": asked.seed_resize_from_w,
        "seed_resize_from_h": asked.seed_resize_from_h,
        "denoising_strength": asked.denoising_strength,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": texts,
        "styles": asked.styles or [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(row.created)),
        "clip_skip": int(fields.get("Clip skip", 1)),
        "is_using_inpainting_conditioning": "Conditional mask weight" in fields,
        "version": fields.get("Version", ""),
    }


def plotted(row: JobRow, plot: Plot, path_of: Callable[[str], Path]) -> tuple[list[bytes], list[str]]:
    """Return the pictures of an X/Y/Z plot, the grid first, and all infotexts: the grids', then every cell's.

    Args:
        row: The grid.
        plot: What was asked for besides: grids for each value of z, the single pictures.
        path_of: Returns the file of a picture by its id.
    """
    drawn = [each for each in row.pictures if each.state == "done"]
    if not drawn:
        return [], []
    how: dict[str, Any] = {"labelled": plot.legend, "between": plot.margin}
    grids, texts = [sheets.write(row, path_of, **how)], [sheets.described(row.kind, row.asked, drawn[0].infotext or "")]
    for place, table in enumerate(sheets.tables_of(row.kind, row.asked, len(row.pictures)) if plot.sub_grids else []):
        last = table.first + len(table.columns) * len(table.rows)
        inside = [each for each in drawn if table.first <= each.place < last]
        if inside:  # the job may have been interrupted before
            grids.append(sheets.write(row, path_of, only=place, **how))
            texts.append(sheets.described(row.kind, row.asked, inside[0].infotext or ""))
    lone = [path_of(each.id).read_bytes() for each in drawn] if plot.lone else []
    return [*grids, *lone], [*texts, *(each.infotext or "" for each in drawn)]
