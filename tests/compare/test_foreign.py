"""Models of other architectures beside Stable Diffusion: a flow family, and a pipeline that diffusers draws itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import tiny_families
from tiny import make_tiny_sd

import brushwork as bw

if TYPE_CHECKING:
    from pathlib import Path


def test_any_architecture_can_be_compared_and_pairs_by_prompt_are_said(tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline, LatentConsistencyModelPipeline, LCMScheduler

    sd, flow = make_tiny_sd(tmp_path / "sd"), tiny_families.make("flux", tmp_path / "flux")
    parts = DiffusionPipeline.from_pretrained(make_tiny_sd(tmp_path / "parts", time_cond_proj_dim=8)).components
    parts |= {"scheduler": LCMScheduler.from_config(parts["scheduler"].config), "requires_safety_checker": False}
    LatentConsistencyModelPipeline(**parts).save_pretrained(tmp_path / "lcm")

    models = [str(each) for each in (sd, flow, tmp_path / "lcm")]
    drawn = ["prompts=[a cat, a dog]", "images_per_prompt=2", "num_inference_steps=2"]
    overrides = [f"validation.{each}" for each in drawn]
    found = bw.compare(*models, size=(32, 32), overrides=overrides, out=tmp_path / "out")
    told = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert [each["label"] for each in told["lines"]] == ["sd", "flux", "lcm"]
    paired = {line["label"]: {each["paired"] for each in line["numbers"]} for line in told["lines"][1:]}
    assert all("seed" not in kinds for kinds in paired.values()), paired
    assert found.page.is_file()
    assert len(list((tmp_path / "out" / "pictures").rglob("*.png"))) == 3 * 2 * 2
