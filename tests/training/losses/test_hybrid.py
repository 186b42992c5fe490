"""The hybrid loss and its parts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from edgeunet.errors import ShapeError
from edgeunet.metrics import IGNORE
from edgeunet.training.losses import Target, hybrid
from edgeunet.training.losses.hybrid import focal, ms_ssim, soft_iou
from support.logits import at_truth, plain, random_batch

seeds = st.integers(0, 2**32 - 1)


# The papers' losses, pixel by pixel in numpy


@given(seed=seeds)
def test_focal_loss_matches_its_paper(seed: int) -> None:
    logits, target = random_batch(seed)
    truth = at_truth(logits, target)
    wanted = np.mean(-((1 - truth) ** 2) * np.log(truth))
    assert focal(logits, Target(target)).item() == pytest.approx(wanted, rel=1e-4)


@given(seed=seeds, classes=st.integers(1, 5))
def test_soft_iou_matches_its_paper(seed: int, classes: int) -> None:
    logits, target = random_batch(seed, classes=classes)
    probability, ids = plain(logits, target)
    truth = np.eye(classes)[ids]
    overlap = (truth * probability).sum(0)
    union = (truth + probability - truth * probability).sum(0)
    wanted = 1 - np.mean((overlap / union)[truth.sum(0) > 0])
    found = soft_iou(logits.softmax(1), Target(target)).item()
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def gaussian_blur(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """11x11 Gaussian of sigma 1.5, only where it fits into the plane."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    rows = np.apply_along_axis(lambda line: np.convolve(line, taps, "valid"), 0, plane)
    return np.apply_along_axis(lambda line: np.convolve(line, taps, "valid"), 1, rows)


def similarity(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean structural similarity of two planes (Wang et al. 2004), and its contrast part.

    The first counts every pixel, mirrored at the borders; the second those that need no mirror.
    """
    a, b = (np.pad(plane, 5, mode="reflect") for plane in (a, b))
    mean_a, mean_b = gaussian_blur(a), gaussian_blur(b)
    variance = gaussian_blur(a * a) - mean_a**2 + gaussian_blur(b * b) - mean_b**2
    covariance = gaussian_blur(a * b) - mean_a * mean_b
    contrast = (2 * covariance + 0.03**2) / (variance + 0.03**2)
    light = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    return float((light * contrast).mean()), float(contrast[5:-5, 5:-5].mean())


@pytest.mark.parametrize(("side", "scales"), [(24, 2), (48, 3)])
def test_ms_ssim_matches_its_paper(side: int, scales: int) -> None:
    logits, target = random_batch(3, count=1, classes=2, side=side)
    a = logits.softmax(1) * (target != IGNORE)[:, None]
    b = Target(target).planes(2)
    betas = np.array([0.0448, 0.2856, 0.3001][:scales])
    betas /= betas.sum()
    wanted = 1.0
    for scale, beta in enumerate(betas):
        planes = [
            similarity(x.double().numpy(), y.double().numpy())
            for x, y in zip(a[0], b[0], strict=True)
        ]
        whole, contrast = np.mean(planes, axis=0)
        wanted *= ((1 + (whole if scale == scales - 1 else contrast)) / 2) ** beta
        a, b = functional.avg_pool2d(a, 2), functional.avg_pool2d(b, 2)
    found = ms_ssim(logits.softmax(1), Target(target)).item()
    assert found == pytest.approx(1 - wanted, abs=1e-5)


def test_hybrid_loss_is_the_sum_of_its_parts() -> None:
    logits, target = random_batch(0, side=24)
    probability, truth = logits.softmax(1), Target(target)
    wanted = focal(logits, truth) + ms_ssim(probability, truth) + soft_iou(probability, truth)
    torch.testing.assert_close(hybrid(logits, truth), wanted)


def test_refuses_targets_too_small_for_structural_similarity() -> None:
    logits, target = random_batch(0, side=10)
    with pytest.raises(ShapeError, match="needs sides of 11 pixels or more"):
        hybrid(logits, Target(target))
