"""Two processes train as one does: the same losses and weights, disjoint shares, one writer, one end."""

from __future__ import annotations

import multiprocessing
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import torch

from brushwork import config as configs
from brushwork import processes
from brushwork.train import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 120.0
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["brushwork.train", "diffusers.loaders", "peft", "transformers.models.clip.modeling_clip", "torch.distributed"]
)


def tree(base: Path, data: Path, **changes: Any) -> dict[str, Any]:
    written = {
        "base": str(base),
        "method": {"type": "full"},
        "data": {"type": "captioned", "path": str(data), "resolution": 32, "validation_split": 0.3},
        "optimizer": {"learning_rate": 1e-3, "lr_scheduler": "cosine"},
        "train": {"max_train_steps": 4, "train_batch_size": 2, "checkpointing_steps": 2, "device": "cpu"},
        "validation": {"prompts": ["a cat"], "samples_during_training": 0},
    }
    return configs.merge(written, changes)


def as_rank(rank: int, size: int, port: int, cache: str, work: Callable[..., None], *args: Any) -> None:
    """Be one process of several (in a fork of a server that has imported torch)."""
    world = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in world.items()}, BRUSHWORK_CACHE=cache)
    torch.set_num_threads(1)
    work(*args)


def together(size: int, work: Callable[..., None], *args: Any) -> list[Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cache = os.environ["BRUSHWORK_CACHE"]
    ranks = [FORKS.Process(target=as_rank, args=(rank, size, port, cache, work, *args)) for rank in range(size)]
    for each in ranks:
        each.start()
    return ranks


def finish(ranks: list[Any]) -> list[int | None]:
    for each in ranks:
        each.join(PATIENCE)
    return [each.exitcode for each in ranks]


def train(written: dict[str, Any]) -> dict[str, Any]:
    trainer = prepare(configs.load(written))
    steps = list(trainer.steps())
    return {
        "losses": [step.losses for step in steps],
        "norms": [step.grad_norm for step in steps],
        "validation": [step.validation_loss for step in steps],
        "weights": {name: parameter.detach().clone() for name, parameter in trainer.named.items()},
        "average": [each.clone() for each in trainer.average.average] if trainer.average else [],
    }


def train_and_keep(trees: dict[str, dict[str, Any]], folder: Path) -> None:
    for name, written in trees.items():
        torch.save(train(written), folder / f"{name}-{os.environ['RANK']}.pt")


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    same = all(one[key] == other[key] for key in ("losses", "norms", "validation"))
    weights = all(torch.equal(one["weights"][name], other["weights"][name]) for name in one["weights"])
    return same and weights and all(map(torch.equal, one["average"], other["average"]))


@pytest.mark.slow
def test_two_processes_train_as_one_does(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    """To the last bit when the micro-batches are the same; within 1e-4 when one process does them as a larger batch."""
    ema = {"use_ema": True, "gradient_accumulation_steps": 2}
    lora = {"method": {"type": "lora", "rank": 2, "dropout": 0.2}}
    trees = {"full": tree(tiny_sd, tiny_data, train=ema), "lora": tree(tiny_sd, tiny_data, **lora)}
    assert finish(together(2, train_and_keep, trees, tmp_path)) == [0, 0]
    for name, written in trees.items():
        first, second = (torch.load(tmp_path / f"{name}-{rank}.pt") for rank in range(2))
        assert equal(first, second)
    accumulated = configs.merge(trees["lora"], {"train": {"gradient_accumulation_steps": 2}})
    assert equal(train(accumulated), torch.load(tmp_path / "lora-0.pt"))
    large = configs.merge(trees["full"], {"train": {"train_batch_size": 4}})
    alone, shared = train(large), torch.load(tmp_path / "full-0.pt")
    assert alone["losses"] == pytest.approx(shared["losses"], rel=1e-5)
    assert alone["norms"] == pytest.approx(shared["norms"], rel=1e-5)
    torch.testing.assert_close(alone["weights"], shared["weights"], rtol=1e-4, atol=1e-4)
