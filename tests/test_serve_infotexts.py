"""An infotext as a request of A1111's face, in the old spelling and the new."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from pretending import pretending

from brushwork.errors import ConfigError
from brushwork.serve.a1111.infotexts import filled
from brushwork.serve.a1111.requests import ImageRequest, TextRequest

if TYPE_CHECKING:
    from pathlib import Path

NEW = (
    "a red dog\nNegative prompt: a cat\nSteps: 12, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.5, Seed: 77, "
    "Size: 64x48, Model: mini, Denoising strength: 0.4, Clip skip: 2, Hires upscale: 2, Hires upscaler: Lanczos"
)
OLD = "a red dog\nSteps: 12, Sampler: DPM++ 2M Karras, CFG scale: 4.5, Seed: 77, Size: 64x48, Model hash: 540e663c24"


def test_both_spellings_are_the_same_request() -> None:
    new, old = filled(TextRequest(infotext=NEW)), filled(TextRequest(infotext=OLD))
    for each in (new, old):
        assert (each.prompt, each.steps, each.cfg_scale, each.seed) == ("a red dog", 12, 4.5, 77)
        assert (each.width, each.height) == (64, 48)
    assert (new.sampler(), old.sampler()) == ("DPM++ 2M Karras", "DPM++ 2M Karras")
    assert (new.negative_prompt, new.clip_skip) == ("a cat", 2)
    assert new.override_settings == {"sd_model_checkpoint": "mini"}
    hires = new.hires()
    assert hires is not None
    assert (hires.scale, hires.upscaler, hires.strength) == (2, "Lanczos", 0.4)
    assert old.hires() is None


def test_what_the_request_says_itself_holds() -> None:
    asked = filled(ImageRequest(infotext=NEW, prompt="a cow", seed=1, override_settings={"sd_model_checkpoint": "x"}))
    assert (asked.prompt, asked.seed, asked.steps, asked.denoising_strength) == ("a cow", 1, 12, 0.4)
    assert asked.override_settings == {"sd_model_checkpoint": "x"}
    assert filled(asked.model_copy(update={"infotext": None})).prompt == "a cow"


def test_an_infotext_with_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="infotext: steps"):
        filled(TextRequest(infotext="a\nSteps: many, Sampler: Euler, Seed: 1"))


def test_the_server_draws_by_it(tmp_path: Path) -> None:
    with pretending(tmp_path) as server:
        answer = server.ask("POST", "/sdapi/v1/txt2img", json={"infotext": OLD})
        assert answer.status_code == 200, answer.text
        (row,) = server.within(server.engine.store.jobs)
        planned = row.pictures[0].planned
        assert (planned["seed"], planned["steps"], planned["sampler"]) == (77, 12, "DPM++ 2M Karras")
        assert json.loads(answer.json()["info"])["seed"] == 77
        for field in ({"refiner_checkpoint": "other"}, {"disable_extra_networks": True}):
            refused = server.ask("POST", "/sdapi/v1/txt2img", json={"prompt": "a", **field})
            assert (refused.status_code, next(iter(field)) in refused.text) == (422, True)
