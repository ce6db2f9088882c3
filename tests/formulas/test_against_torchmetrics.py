"""The numbers of whole sets are torchmetrics' with the same features; where conventions differ, it is known how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from brushwork.metrics import clip_score, frechet_distance, inception_score, kernel_distance

if TYPE_CHECKING:
    from torch import Tensor

RNG = np.random.default_rng(0)
REAL, DRAWN = RNG.normal(size=(90, 6)), RNG.normal(size=(70, 6)) * 1.2 + 0.3


def rows(width: int) -> Any:
    """Return the network that hands on what it is given: features (N, d) shown as pictures (N, d, 1, 1)."""
    import torch

    class Rows(torch.nn.Module):
        num_features = width

        def forward(self, pictures: Tensor) -> Tensor:
            return pictures.flatten(1)

    return Rows()


def shown(features: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(features)[:, :, None, None]


def test_the_frechet_distance_is_torchmetrics_fid() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=rows(6), normalize=True, input_img_size=(6, 1, 1)).set_dtype(_double())
    metric.update(shown(REAL), real=True)
    metric.update(shown(DRAWN), real=False)
    assert frechet_distance(REAL, DRAWN) == pytest.approx(float(metric.compute()), rel=1e-6)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all")
def test_the_kernel_distance_is_torchmetrics_kid_over_one_subset_of_all() -> None:
    """Its subsets are equally large on both sides, so 70 of each."""
    from torchmetrics.image.kid import KernelInceptionDistance

    metric = KernelInceptionDistance(feature=rows(6), subsets=1, subset_size=70, normalize=True)
    metric.update(shown(REAL[:70]), real=True)
    metric.update(shown(DRAWN), real=False)
    mean, _ = metric.compute()
    assert kernel_distance(REAL[:70], DRAWN) == pytest.approx(float(mean), rel=1e-6)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save all", r"ignore:std\(\)")
def test_the_inception_score_of_one_split_is_torchmetrics_and_the_deviation_differs_by_ddof() -> None:
    import torch
    from torchmetrics.image.inception import InceptionScore

    logits = RNG.normal(size=(60, 5)) * 3
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    metric = InceptionScore(feature=rows(5), splits=1)
    metric.update(shown(logits))
    mean, deviation = metric.compute()
    assert inception_score(probabilities).mean == pytest.approx(float(mean), rel=1e-6)
    assert np.isnan(float(deviation))  # ddof 1 of a single split
    assert inception_score(probabilities).std == 0
    torch.manual_seed(0)
    order = torch.randperm(60).numpy()
    split = InceptionScore(feature=rows(5), splits=3)
    split.update(shown(logits))
    torch.manual_seed(0)
    mean, deviation = split.compute()
    ours = inception_score(probabilities[order], splits=3)  # in the order that it shuffles to
    assert ours.mean == pytest.approx(float(mean), rel=1e-6)
    assert ours.std * np.sqrt(3 / 2) == pytest.approx(float(deviation), rel=1e-5)


def test_the_percent_scaling_is_torchmetrics_formula() -> None:
    """``CLIPScore`` itself does not run with transformers 5: 100 cos, and 0 for a mean below it."""
    cosines = np.array([0.31, 0.18, -0.2])
    assert clip_score(cosines, "percent").tolist() == pytest.approx([31, 18, 0])
    assert clip_score(cosines, "hessel").tolist() == pytest.approx([0.775, 0.45, 0])


def _double() -> Any:
    import torch

    return torch.float64
