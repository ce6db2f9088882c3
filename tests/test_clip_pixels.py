"""What a loss shows to CLIP is what CLIP's own processor would, and its gradient leads back into the range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_encoders import make_tiny_clip
from transformers import CLIPImageProcessorPil

from brushwork.clip_pixels import Preparation, held
from brushwork.critic import Critic
from brushwork.encoders import load_clip
from brushwork.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

LEVELS = 255


def smooth(height: int, width: int) -> np.ndarray:
    """Return a picture as a model would draw it: shapes with edges, some noise, black and white at places."""
    rng = np.random.default_rng(height * width)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(coarse, np.int16) * 2 - 128 + rng.integers(-9, 9, (height, width, 3)), 0, 255).astype(
        np.uint8
    )


def as_pixels(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / LEVELS * 2 - 1


@pytest.mark.parametrize("resample", [2, 3], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(64, 64), (24, 24), (16, 16), (40, 56), (50, 31)])
def test_it_equals_the_processors_own_but_for_rounding(shape: tuple[int, int], resample: int) -> None:
    """Smaller, larger and oblong pictures; Pillow rounds to a level after each of its two passes."""
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, resample=resample
    )
    array = smooth(*shape)
    expected = processor(images=[Image.fromarray(array)], return_tensors="pt")["pixel_values"]
    ours = Preparation.of(processor)(as_pixels(array))
    assert ours.shape == expected.shape
    levels = (ours - expected).abs() * torch.tensor(processor.image_std).view(1, 3, 1, 1) * LEVELS
    assert levels.max() < 1.3
    assert levels.mean() < 0.35


def test_without_resizing_there_is_nothing_to_round() -> None:
    processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 20, "width": 16})
    array = smooth(24, 24)
    expected = processor(images=[Image.fromarray(array)], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(Preparation.of(processor)(as_pixels(array)), expected, rtol=0, atol=1e-5)


def test_mini_clip_sees_the_same_picture_either_way() -> None:
    clip = load_clip("mini-clip")
    array = smooth(64, 64)
    features = Critic(clip).images(as_pixels(array)).numpy()
    np.testing.assert_allclose(features, clip.encode_images([Image.fromarray(array)]), atol=1e-5)


def test_a_resized_picture_has_nearly_the_same_features(tmp_path: Path) -> None:
    clip = load_clip(str(make_tiny_clip(tmp_path)))
    array = smooth(64, 64)
    features = Critic(clip).images(as_pixels(array)).numpy()
    assert float((features * clip.encode_images([Image.fromarray(array)])).sum()) > 0.9999


def test_values_beyond_white_and_black_are_seen_as_white_and_black() -> None:
    inside = torch.tensor([-1.0, -0.4, 0.7, 1.0])
    torch.testing.assert_close(held(torch.tensor([-1.3, -0.4, 0.7, 2.0])), inside)


def test_the_gradient_leads_back_into_the_range_and_never_out_of_it() -> None:
    pixels = torch.tensor([1.2, 1.2, -1.2, -1.2, 0.5, 0.5], requires_grad=True)
    slope = torch.tensor([3.0, -3.0, 3.0, -3.0, 3.0, -3.0])  # a step goes against it
    held(pixels).backward(slope)  # type: ignore[no-untyped-call]
    assert pixels.grad is not None
    assert pixels.grad.tolist() == [3.0, 0.0, 0.0, -3.0, 3.0, -3.0]


def test_the_gradient_is_that_of_finite_differences() -> None:
    processor = CLIPImageProcessorPil(size={"shortest_edge": 5}, crop_size={"height": 5, "width": 5})
    prepare = Preparation.of(processor)
    pixels = as_pixels(smooth(8, 8)).mul(0.8).requires_grad_()
    weights = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    (prepare(pixels) * weights).sum().backward()  # type: ignore[no-untyped-call]
    moved = pixels.detach().clone()
    moved[0, 1, 3, 4] += 1e-2
    change = ((prepare(moved) - prepare(pixels.detach())) * weights).sum() / 1e-2
    assert pixels.grad is not None
    assert pixels.grad[0, 1, 3, 4].item() == pytest.approx(change.item(), rel=1e-2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resample": 1}, "filter 1 of Pillow"),
        ({"size": {"height": 24, "width": 24}}, "size {'height': 24, 'width': 24}"),
        ({"do_rescale": False}, "values of 0 to 255"),
        ({"rescale_factor": 1 / 127.5}, "values of 0 to 2"),
    ],
)
def test_what_has_no_gradient_here_is_refused(settings: dict[str, Any], message: str) -> None:
    processor = CLIPImageProcessorPil(**({"size": {"shortest_edge": 24}} | settings))
    with pytest.raises(ModelError, match=message):
        Preparation.of(processor)


def test_a_crop_larger_than_the_picture_is_refused() -> None:
    processor = CLIPImageProcessorPil(do_resize=False, crop_size={"height": 24, "width": 24})
    with pytest.raises(ModelError, match=r"crops pictures to \(24, 24\)"):
        Preparation.of(processor)(torch.zeros(1, 3, 16, 16))
