"""Muon against the singular value decomposition and torch's own Muon and AdamW."""

from __future__ import annotations

import pytest
import torch

from brushwork import muon, optim
from brushwork.config import OptimizerConfig
from brushwork.values import ParameterGroup


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_singular_values_come_near_one_and_the_directions_stay(shape: tuple[int, int]) -> None:
    u, _, v = torch.linalg.svd(random(*shape), full_matrices=False)
    spectrum = torch.linspace(1.0, 0.1, min(shape))
    update = muon.orthogonalized((u @ torch.diag(spectrum) @ v)[None])[0]
    values = torch.linalg.svdvals(update)
    assert values.min() > 0.6
    assert values.max() < 1.3
    cosine = torch.nn.functional.cosine_similarity(update.flatten(), (u @ v).flatten(), dim=0)
    assert cosine > 0.97


def test_matrices_are_updated_as_by_torch() -> None:
    """Torch's Muon with the same scaling; both work in bfloat16, so to its precision."""
    ours, theirs = torch.nn.Parameter(random(24, 40)), torch.nn.Parameter(random(24, 40))
    mine = muon.build([{"params": [ours], "muon": True}], lr=1e-2, weight_decay=0.1)
    torchs = torch.optim.Muon([theirs], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        gradient = random(24, 40).roll(step)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        torchs.step()
    moved = (theirs - random(24, 40)).norm()
    assert (ours - theirs).norm() < 0.03 * moved


def test_the_rest_is_updated_by_adamw() -> None:
    ours, theirs = torch.nn.Parameter(random(7)), torch.nn.Parameter(random(7))
    settings = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
    mine = muon.build([{"params": [ours], "muon": False}], **settings)
    torchs = torch.optim.AdamW([theirs], **settings)
    for step in range(5):
        ours.grad = theirs.grad = random(7).roll(step)
        mine.step()
        torchs.step()
    torch.testing.assert_close(ours, theirs)


def test_a_convolution_is_a_matrix() -> None:
    kernel = torch.nn.Parameter(random(6, 4, 3, 3))
    flat = torch.nn.Parameter(random(6, 4, 3, 3).reshape(6, 36))
    for parameter in (kernel, flat):
        parameter.grad = random(6, 36).reshape(parameter.shape)
        muon.build([{"params": [parameter], "muon": True}]).step()
    assert torch.equal(kernel.reshape(6, 36), flat)


def test_queries_keys_vectors_and_ends_are_adamws() -> None:
    weights = {
        "blocks.0.to_q.weight": random(8, 8),
        "blocks.0.to_v.weight": random(8, 8),
        "blocks.0.norm1.weight": random(8),
        "blocks.0.conv1.weight": random(8, 8, 3, 3),
        "conv_in.weight": random(8, 4, 3, 3),
    }
    part = ParameterGroup("denoiser", {name: torch.nn.Parameter(tensor) for name, tensor in weights.items()})
    optimizer = optim.build(OptimizerConfig(type="muon", learning_rate=1e-2), [part])
    names = {id(parameter): name for name, parameter in part.parameters.items()}
    split = {
        (group["muon"], group["initial_lr"]): [names[id(each)] for each in group["params"]]
        for group in optimizer.param_groups
    }
    assert split == {
        (True, 1e-2): ["blocks.0.to_v.weight", "blocks.0.conv1.weight"],
        (False, 1e-2): ["blocks.0.norm1.weight", "conv_in.weight"],
        (False, 2e-3): ["blocks.0.to_q.weight"],
    }
