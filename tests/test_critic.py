"""The two CLIP losses against their closed forms, and features of texts that are read once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from test_encoders import make_tiny_clip

from brushwork.critic import Critic, directional_loss, global_loss
from brushwork.encoders import load_clip

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def at(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees) * math.pi / 180
    return torch.stack([radians.cos(), radians.sin()], dim=-1)


def test_the_global_loss_is_one_minus_the_cosine() -> None:
    losses = global_loss(at(60, 0, 180, 90), at(0, 0, 0, 0))
    torch.testing.assert_close(losses, torch.tensor([0.5, 0.0, 2.0, 1.0]), atol=1e-6, rtol=0)


def test_the_directional_loss_compares_changes_and_not_places() -> None:
    """From 0 to 90 degrees is the direction 135; so is from 90 to 180, turned by 90, and 0 to 90 of the texts."""
    images, references = at(90, 180, 0, 90), at(0, 90, 90, 0)
    targets, sources = at(90, 90, 90, 180), at(0, 0, 0, 90)
    losses = directional_loss(images, references, targets, sources)
    # The changes point to 135, 225, 315 and 135 degrees; the texts' to 135, 135, 135 and 225.
    torch.testing.assert_close(losses, torch.tensor([0.0, 1.0, 2.0, 1.0]), atol=1e-5, rtol=0)


def test_the_directional_loss_is_torchs_cosine_of_the_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(4, 6, 16, generator=generator), dim=-1)
    images, references, targets, sources = vectors
    expected = 1 - torch.nn.functional.cosine_similarity(images - references, targets - sources)
    torch.testing.assert_close(directional_loss(images, references, targets, sources), expected, rtol=1e-5, atol=1e-5)


def test_where_nothing_changed_yet_the_gradient_leads_along_the_texts_change() -> None:
    images = at(30.0).requires_grad_()
    loss = directional_loss(images, at(30.0), at(90), at(0))
    assert loss.item() == 1.0
    loss.sum().backward()  # type: ignore[no-untyped-call]
    wanted = torch.nn.functional.normalize(at(90) - at(0), dim=-1)
    assert images.grad is not None
    assert images.grad.isfinite().all()
    torch.testing.assert_close(torch.nn.functional.normalize(-images.grad, dim=-1), wanted)


def test_each_text_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = load_clip(str(make_tiny_clip(tmp_path)))
    asked: list[str] = []
    encode = type(clip).encode_texts

    def counting(self: Any, texts: Any) -> Any:
        asked.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(type(clip), "encode_texts", counting)
    critic = Critic(clip)
    first = critic.texts(["a cat", "a dog", "a cat"], "ink of {caption}")
    second = critic.texts(["a dog"], "ink of {caption}")
    assert asked == ["ink of a cat", "ink of a dog"]
    torch.testing.assert_close(first[0], first[2])
    torch.testing.assert_close(first[1:2], second)
    torch.testing.assert_close(first.norm(dim=-1), torch.ones(3))
