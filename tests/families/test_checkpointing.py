"""Gradient checkpointing of every transformer: so many layers are computed twice, and no gradient changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import tiny_families
import torch

from brushwork import execution, families

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.values import Family

LAYERS: dict[str, dict[str, int]] = {
    "sd3": {"num_layers": 3},
    "flux": {"num_layers": 2, "num_single_layers": 2},
    "flux2": {"num_layers": 2, "num_single_layers": 2},
    "sana": {"num_layers": 3},
    "qwen_image": {"num_layers": 3},
    "z_image": {"n_layers": 3},
}


def gradients(family: Family) -> dict[str, torch.Tensor]:
    """Return the gradient of everything after one prediction."""
    denoiser = family.denoiser.requires_grad_(True)
    latents = torch.randn(2, family.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        text = family.encode_text(["a cat", "a dog"])
    family.predict(latents, torch.tensor([250.0, 750.0]), text).square().mean().backward()
    found = {name: each.grad for name, each in denoiser.named_parameters() if each.grad is not None}
    denoiser.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("name", LAYERS)
def test_every_so_manieth_layer_is_computed_again(name: str, tmp_path: Path) -> None:
    family = families.load(str(tiny_families.make(name, tmp_path / name, **LAYERS[name])), device="cpu")
    lists: list[Any] = [each for each in family.denoiser.children() if isinstance(each, torch.nn.ModuleList)]
    layers = [layer for each in lists for layer in each]
    computed = dict.fromkeys(range(len(layers)), 0)

    def count(place: int) -> None:
        computed[place] += 1

    for place, layer in enumerate(layers):
        layer.register_forward_pre_hook(lambda *_, place=place: count(place))
    plain = gradients(family)
    once = dict(computed)
    assert set(once.values()) <= {0, 1}  # nought: what only pictures to edit would go through
    for interval in (1, 2, 3):
        computed.update(dict.fromkeys(computed, 0))
        execution.checkpoint(family.denoiser, interval)
        torch.testing.assert_close(gradients(family), plain)
        expected = {place: times * (2 if place % interval == 0 else 1) for place, times in once.items()}
        assert computed == expected
    assert sum(once.values()) >= 3
