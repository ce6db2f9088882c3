"""Change is a distance of pixels in units of what another seed changes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from brushwork.encoders import Pixels
from brushwork.metrics import Drawn
from brushwork.metrics.change import measure, root_mean_square


def drawn(base: np.ndarray, tuned: np.ndarray, prompt_set: str = "target") -> Drawn:
    prompts = tuple(f"prompt {number}" for number in range(len(base)))
    return Drawn(prompts, prompt_set, base, tuned, None, None, "pixels", "1")  # type: ignore[arg-type]


def flat(*levels: list[float]) -> np.ndarray:
    """Return pictures of one level each, (P, N, 4)."""
    return np.repeat(np.array(levels, np.float32)[..., None], 4, axis=2)


def test_the_distance_is_the_root_of_the_mean_square() -> None:
    assert root_mean_square(np.array([0.0, 0.0, 3.0, 4.0]), np.zeros(4)) == pytest.approx(2.5)


def test_what_another_seed_changes_is_the_unit() -> None:
    """Seeds differ by 0.2 and 0.4, so the floor is 0.3; training moved the first prompt by 0.3, the second by 0.15."""
    base = flat([0.2, 0.4], [0.2, 0.6])
    (result,) = measure(drawn(base, base + np.array([0.3, 0.15], np.float32)[:, None, None]))
    assert result.value == pytest.approx(0.75, abs=1e-6)
    assert [row["change"] for row in result.details["prompts"]] == pytest.approx([1.0, 0.5], abs=1e-6)
    assert result.details["seed_floor"] == pytest.approx(0.3, abs=1e-6)
    assert result.interval is not None
    assert result.interval[0] <= 0.75 <= result.interval[1]


def test_the_same_pictures_have_changed_by_exactly_nothing() -> None:
    base = flat([0.2, 0.4])
    (result,) = measure(drawn(base, base, "control"))
    assert (result.value, result.prompt_set, result.interval) == (0.0, "control", None)


def test_without_a_second_seed_there_is_no_unit() -> None:
    assert measure(drawn(flat([0.2], [0.4]), flat([0.3], [0.4]))) == []
    assert measure(drawn(flat([0.2, 0.2]), flat([0.3, 0.4]))) == []


def test_pixels_are_the_picture_made_small() -> None:
    image = Image.new("RGB", (64, 64), (255, 0, 51))
    features = Pixels().encode_images([image, image.resize((40, 96))])
    assert features.shape == (2, 3072)
    np.testing.assert_allclose(features.reshape(2, 1024, 3), np.broadcast_to([1, 0, 0.2], (2, 1024, 3)), atol=1e-6)
