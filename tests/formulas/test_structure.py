"""SSIM and PSNR agree with scikit-image, MS-SSIM with its definition on scipy's filters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from brushwork.errors import UserError
from brushwork.formulas.structure import SCALE_WEIGHTS, ssim_of_planes
from brushwork.metrics import ms_ssim, psnr, ssim

RNG = np.random.default_rng(4)
WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def pair(*shape: int, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    a = scipy.ndimage.gaussian_filter(RNG.random(shape), [2, 2, 0][: len(shape)])
    a = (a - a.min()) / (a.max() - a.min())
    return a, np.clip(a + noise * RNG.normal(size=shape), 0, 1)


@pytest.mark.parametrize("shape", [(11, 11), (40, 53), (64, 64, 3), (20, 30, 1)])
def test_ssim_equals_scikit_images_with_wangs_settings(shape: tuple[int, ...]) -> None:
    a, b = pair(*shape)
    channels = -1 if len(shape) == 3 else None
    assert ssim(a, b) == pytest.approx(
        structural_similarity(a, b, data_range=1.0, channel_axis=channels, **WANG), abs=1e-12
    )


def test_bytes_need_their_range_and_give_the_same_as_floats() -> None:
    a, b = (np.round(255 * each).astype(np.uint8) for each in pair(32, 32, 3))
    expected = structural_similarity(a, b, data_range=255, channel_axis=-1, **WANG)
    assert ssim(a, b, 255) == pytest.approx(expected, abs=1e-12)
    assert ssim(a, b, 255) == pytest.approx(ssim(a / 255, b / 255), abs=1e-12)
    with pytest.raises(UserError, match="pass 255"):
        ssim(a, b)


def test_equal_pictures_have_exactly_one_and_inverted_ones_less_than_zero() -> None:
    a, _ = pair(48, 48)
    assert ssim(a, a.copy()) == 1.0
    assert ssim(a, 1 - a) < 0
    assert ms_ssim(np.tile(a, (4, 4)), np.tile(a, (4, 4))) == 1.0


def test_ssim_is_symmetric_and_falls_with_noise() -> None:
    a, _ = pair(40, 40)
    noise = RNG.normal(size=a.shape)
    values = [ssim(a, a + strength * noise) for strength in (0.02, 0.05, 0.2)]
    assert values == sorted(values, reverse=True)
    assert ssim(a, a + noise) == ssim(a + noise, a)


def test_many_planes_at_once_are_each_plane_by_itself() -> None:
    a, b = RNG.random((2, 3, 16, 20)), RNG.random((2, 3, 16, 20))
    every = ssim_of_planes(a, b)
    assert every.shape == (2, 3)
    assert every[1, 2] == pytest.approx(ssim(a[1, 2], b[1, 2]), abs=1e-14)


def by_definition(a: np.ndarray, b: np.ndarray) -> float:
    def blur(z: np.ndarray) -> np.ndarray:
        return scipy.ndimage.gaussian_filter(z, 1.5, truncate=3.5)[5:-5, 5:-5]

    product = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        va, vb, cov = blur(a * a) - blur(a) ** 2, blur(b * b) - blur(b) ** 2, blur(a * b) - blur(a) * blur(b)
        value = (2 * cov + 0.0009) / (va + vb + 0.0009)
        if scale == 4:
            value = value * (2 * blur(a) * blur(b) + 0.0001) / (blur(a) ** 2 + blur(b) ** 2 + 0.0001)
        product *= value.mean() ** weight
        height, width = len(a) // 2 * 2, a.shape[1] // 2 * 2
        a, b = (z[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)) for z in (a, b))
    return float(product)


def test_ms_ssim_equals_its_definition_per_channel() -> None:
    a, b = pair(181, 200, 2, noise=0.3)
    assert ms_ssim(a, b) == pytest.approx(np.mean([by_definition(a[..., c], b[..., c]) for c in (0, 1)]), abs=1e-12)


def test_ms_ssim_of_inverted_pictures_is_zero_not_a_root_of_something_negative() -> None:
    a = RNG.random((176, 176))
    assert ms_ssim(a, 1 - a) == 0.0


def test_psnr_equals_scikit_images() -> None:
    a, b = pair(20, 24, 3)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), rel=1e-12)
    assert psnr(np.zeros((2, 2)), np.full((2, 2), 0.1)) == pytest.approx(20)
    assert psnr(a, a) == math.inf


@pytest.mark.parametrize("measure", [ssim, ms_ssim, psnr])
def test_pictures_that_are_no_pairs_are_refused(measure: object) -> None:
    assert callable(measure)
    a = RNG.random((180, 180))
    for b, words in [(a[:-1], "only equal shapes"), (a[0], "a picture is"), (a * np.nan, "only finite numbers")]:
        with pytest.raises(UserError, match=words):
            measure(a, b)
    with pytest.raises(UserError, match="data_range must be positive"):
        measure(a, a, 0)


def test_pictures_smaller_than_the_window_are_refused() -> None:
    small = RNG.random((10, 40))
    with pytest.raises(UserError, match="the picture has 40 x 10"):
        ssim(small, small)
    with pytest.raises(UserError, match="needs 176 x 176 pixels"):
        ms_ssim(RNG.random((175, 400)), RNG.random((175, 400)))
