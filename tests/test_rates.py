"""Each part is trained at its own rate: Adam's first step moves a weight by the rate, whatever its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from brushwork import config as configs
from brushwork.errors import ConfigError
from brushwork.train import prepare

if TYPE_CHECKING:
    from pathlib import Path

RATE = 1e-2


def first_steps(base: Path, data: Path, method: dict[str, Any], **optimizer: Any) -> dict[str, float]:
    """Return the largest movement of each part in the first step, without decay and warm-up."""
    source: dict[str, Any] = {"type": "captioned"} if method["type"] in ("lora", "full") else {"type": "templated"}
    config = configs.load(
        {
            "base": str(base), "method": method, "data": {**source, "path": str(data), "resolution": 32},
            "optimizer": {"learning_rate": RATE, "lr_warmup_steps": 0, "adam_weight_decay": 0.0, **optimizer},
            "train": {"max_train_steps": 1, "train_batch_size": 2, "device": "cpu"},
            "validation": {"prompts": ["a cat"], "samples_during_training": 0},
        }
    )  # fmt: skip
    trainer = prepare(config)
    before = {name: parameter.detach().clone() for name, parameter in trainer.named.items()}
    next(trainer.steps())
    moved: dict[str, float] = {}
    for name, parameter in trainer.named.items():
        part = name.partition(".")[0]
        moved[part] = max(moved.get(part, 0.0), float((parameter.detach() - before[name]).abs().max()))
    return moved


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (
            {"type": "lora", "rank": 2, "train_text_encoder": True, "text_encoder_lr": 1e-3},
            {"denoiser": RATE, "text_encoder": 1e-3},
        ),
        ({"type": "lora", "rank": 2, "train_text_encoder": True}, {"denoiser": RATE, "text_encoder": RATE}),
        (
            {"type": "full", "train_text_encoder": True, "text_encoder_lr": 3e-3},
            {"denoiser": RATE, "text_encoder": 3e-3},
        ),
        ({"type": "textual_inversion", "token": "<new>"}, {"embeddings": RATE}),
        (
            {
                "type": "pivotal", "token": "<new>", "embedding_lr": 5e-2,
                "lora": {"rank": 2, "train_text_encoder": True, "text_encoder_lr": 2e-3},
            },
            {"denoiser": RATE, "text_encoder": 2e-3, "embeddings": 5e-2},
        ),
        ({"type": "pivotal", "token": "<new>", "lora": {"rank": 2}}, {"denoiser": RATE, "embeddings": 5 * RATE}),
    ],
    ids=["lora", "lora one rate", "full", "word", "pivotal", "pivotal by rule"],
)  # fmt: skip
def test_every_part_moves_at_its_own_rate(
    method: dict[str, Any], expected: dict[str, float], tiny_sd: Path, tiny_data: Path
) -> None:
    assert first_steps(tiny_sd, tiny_data, method) == pytest.approx(expected, rel=2e-3)


def test_one_rate_for_everything_is_all_that_prodigy_takes(tiny_sd: Path, tiny_data: Path) -> None:
    method = {"type": "lora", "rank": 2, "train_text_encoder": True, "text_encoder_lr": 1e-3}
    with pytest.raises(ConfigError, match=r"finds one rate for everything, but this method has 0.001, 1"):
        first_steps(tiny_sd, tiny_data, method, type="prodigy", learning_rate=1.0)
