"""Losses against plain implementations, and ignored pixels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from edgeunet.errors import ShapeError, UnknownNameError
from edgeunet.metrics import IGNORE
from edgeunet.training.config import TrainConfig
from edgeunet.training.losses import LOSSES, Target
from edgeunet.training.losses.dice import (
    cross_entropy_dice,
    cross_entropy_pixel_dice,
    soft_dice,
    weighted_cross_entropy,
)
from edgeunet.training.losses.hybrid import focal, gate_loss, hybrid, ms_ssim, soft_iou

seeds = st.integers(0, 2**32 - 1)


def random_batch(
    seed: int, *, count: int = 2, classes: int = 4, side: int = 6, ignored: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Logits (N, C, side, side) and a target with a share of ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, side, side, generator=generator)
    target = torch.randint(0, classes, (count, side, side), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE
    return logits, target


def one_hot_dice(probability: Tensor, target: Tensor) -> Tensor:
    """1 - mean over present classes of 2 sum(p t) / (sum p² + sum t²), on one-hot planes t."""
    scores = []
    counted = target != IGNORE
    for c in range(probability.shape[1]):
        truth = (target == c).double()[counted]
        guess = probability[:, c].double()[counted]
        if truth.any():
            scores.append(2 * (guess * truth).sum() / (guess**2).sum().add((truth**2).sum()))
    return 1 - torch.stack(scores).mean()


def certain(target: Tensor, classes: int, *, shift: int = 0) -> Tensor:
    """Logits (N, C, H, W) that are certain of the target, or of the class `shift` after it."""
    ids = (target.where(target != IGNORE, 0) + shift) % classes
    return 100 * functional.one_hot(ids, classes).movedim(-1, 1).float()


# Dice


@given(seed=seeds, classes=st.integers(1, 6), ignored=st.sampled_from([0, 0.3, 0.9]))
def test_soft_dice_matches_one_hot_planes(seed: int, classes: int, ignored: float) -> None:
    logits, target = random_batch(seed, classes=classes, ignored=ignored)
    target[0, 0, 0] = 0  # at least one pixel counts
    probability = logits.softmax(1)
    wanted = one_hot_dice(probability, target)
    torch.testing.assert_close(
        soft_dice(probability, Target(target)).double(), wanted, rtol=0, atol=1e-6
    )


def test_soft_dice_by_hand() -> None:
    probability = torch.tensor([[0.75, 0.5], [0.25, 0.5]]).view(1, 2, 1, 2)
    target = torch.tensor([[[0, 0]]])
    # Class 0: 2 (0.75 + 0.5) / (0.5625 + 0.25 + 2); class 1 is not in the batch.
    wanted = 1 - 2 * 1.25 / 2.8125
    assert soft_dice(probability, Target(target)).item() == pytest.approx(wanted, abs=1e-7)


def test_soft_dice_sums_over_the_whole_batch() -> None:
    logits, target = random_batch(0, count=3)
    probability = logits.softmax(1)
    side_by_side = torch.cat(list(probability), 2)[None], Target(torch.cat(list(target), 1)[None])
    torch.testing.assert_close(
        soft_dice(probability, Target(target)), soft_dice(*side_by_side), rtol=0, atol=1e-6
    )


# Cross entropy and Dice


@given(seed=seeds)
def test_perfect_prediction_costs_zero_and_the_opposite_much(seed: int) -> None:
    _, target = random_batch(seed, ignored=0.2)
    perfect = certain(target, 4)
    assert soft_dice(perfect.softmax(1), Target(target)).item() == pytest.approx(0, abs=1e-6)
    assert cross_entropy_dice(perfect, Target(target)).item() == pytest.approx(0, abs=1e-6)
    opposite = certain(target, 4, shift=1)
    assert soft_dice(opposite.softmax(1), Target(target)).item() == pytest.approx(1, abs=1e-6)
    assert cross_entropy_dice(opposite, Target(target)).item() == pytest.approx(101, abs=1e-4)


@given(seed=seeds)
def test_cross_entropy_dice_is_the_sum_of_its_parts(seed: int) -> None:
    logits, target = random_batch(seed)
    entropy = functional.cross_entropy(logits, target, ignore_index=IGNORE)
    wanted = entropy + soft_dice(logits.softmax(1), Target(target))
    torch.testing.assert_close(
        cross_entropy_dice(logits, Target(target)), wanted, rtol=0, atol=1e-5
    )


def test_head_of_lower_resolution_is_upsampled_to_the_target() -> None:
    logits, _ = random_batch(0, side=6)
    _, target = random_batch(1, side=12)
    upsampled = functional.interpolate(logits, size=(12, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        cross_entropy_dice(logits, Target(target)), cross_entropy_dice(upsampled, Target(target))
    )


def test_half_precision_logits_are_evaluated_in_fp32() -> None:
    logits, target = random_batch(0)
    loss = cross_entropy_dice(logits.half(), Target(target))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy_dice(logits.half().float(), Target(target)))


# Ignored pixels


@given(seed=seeds, scale=st.sampled_from([1.0, 100.0]))
def test_ignored_pixels_do_not_count(seed: int, scale: float) -> None:
    logits, target = random_batch(seed)
    noise = scale * torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed + 1))
    other = logits.where((target != IGNORE)[:, None], noise)
    torch.testing.assert_close(
        cross_entropy_dice(logits, Target(target)),
        cross_entropy_dice(other, Target(target)),
        rtol=0,
        atol=1e-6,
    )
    torch.testing.assert_close(
        soft_dice(logits.softmax(1), Target(target)),
        soft_dice(other.softmax(1), Target(target)),
        rtol=0,
        atol=1e-6,
    )


@given(seed=seeds)
def test_ignored_pixels_get_no_gradient_and_the_others_do(seed: int) -> None:
    logits, target = random_batch(seed)
    logits.requires_grad_()
    cross_entropy_dice(logits, Target(target)).backward()
    assert logits.grad is not None
    ignored = target == IGNORE
    per_pixel = logits.grad.abs().sum(1)
    assert not bool(per_pixel[ignored].any())
    assert bool((per_pixel[~ignored] > 0).all())


def test_batch_of_ignored_pixels_costs_zero_and_has_a_finite_gradient() -> None:
    logits, target = random_batch(0, ignored=1.1)
    assert bool((target == IGNORE).all())
    logits.requires_grad_()
    loss = cross_entropy_dice(logits, Target(target))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not bool(logits.grad.any())  # finite: NaN would be true


# The papers' losses, pixel by pixel in numpy


def plain(logits: Tensor, target: Tensor) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Probabilities (M, C) and true ids (M,) of the pixels that count, FP64."""
    counted = (target != IGNORE).numpy()
    values = logits.double().movedim(1, -1).numpy()[counted]
    powers = np.exp(values - values.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True), target.numpy()[counted]


def at_truth(logits: Tensor, target: Tensor) -> npt.NDArray[np.float64]:
    probability, ids = plain(logits, target)
    return probability[np.arange(len(ids)), ids]


@given(seed=seeds)
def test_weighted_cross_entropy_matches_its_paper(seed: int) -> None:
    logits, target = random_batch(seed)
    weights = torch.rand(target.shape, generator=torch.Generator().manual_seed(seed)) * 10
    terms = weights.numpy()[(target != IGNORE).numpy()] * -np.log(at_truth(logits, target))
    found = weighted_cross_entropy(logits, Target(target, weights)).item()
    assert found == pytest.approx(terms.mean(), rel=1e-4)


@given(seed=seeds)
def test_weights_of_one_do_not_change_the_loss(seed: int) -> None:
    logits, target = random_batch(seed)
    ones = torch.ones(target.shape)
    for loss in (weighted_cross_entropy, cross_entropy_dice):
        torch.testing.assert_close(loss(logits, Target(target, ones)), loss(logits, Target(target)))


@given(seed=seeds)
def test_pixel_dice_matches_its_paper(seed: int) -> None:
    logits, target = random_batch(seed)
    probability, ids = plain(logits, target)
    truth = np.eye(4)[ids]
    ratio = 2 * truth * probability / (truth**2 + probability**2)
    wanted = -(truth * np.log(probability) + ratio).sum() / len(ids)
    found = cross_entropy_pixel_dice(logits, Target(target)).item()
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)


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


# All losses


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ids", [[0], [1], [0, 1], [IGNORE], [2, IGNORE]])
def test_degenerate_targets_give_finite_losses_and_gradients(name: str, ids: list[int]) -> None:
    """Background only, one class, only ignored pixels; logits random, certain, certainly wrong."""
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor(ids)[torch.randint(0, len(ids), (2, 32, 32), generator=generator)]
    noise = torch.randn(2, 3, 32, 32, generator=generator)
    for logits in (noise, certain(target, 3), certain(target, 3, shift=1)):
        logits = logits.clone().requires_grad_()
        loss = LOSSES[name](logits, Target(target))
        loss.backward()
        assert math.isfinite(loss.item())
        assert logits.grad is not None
        assert bool(logits.grad.isfinite().all())
        if ids == [IGNORE]:
            assert not bool(logits.grad.any())


@pytest.mark.parametrize("name", LOSSES)
def test_truth_has_the_lowest_loss(name: str) -> None:
    _, target = random_batch(0, side=32)
    loss = LOSSES[name]
    best, worst = (loss(certain(target, 4, shift=s), Target(target)).item() for s in (0, 1))
    floor = -1 if name == "cross_entropy_pixel_dice" else 0
    assert best == pytest.approx(floor, abs=1e-5)
    assert worst > 1


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_depends_on_ignored_pixels(name: str) -> None:
    logits, target = random_batch(1, side=32)
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    other = logits.where((target != IGNORE)[:, None], noise)
    loss = LOSSES[name]
    torch.testing.assert_close(loss(logits, Target(target)), loss(other, Target(target)))


def test_unknown_loss_lists_the_known_names() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown loss 'lovasz'.*hybrid"):
        TrainConfig(loss="lovasz")


# Gate


def test_gate_loss_by_hand() -> None:
    presence = torch.tensor([[0.9, 0.2, 0.5], [0.25, 0.8, 0.1]])
    target = torch.tensor([[[0, 1], [1, IGNORE]], [[2, 2], [2, IGNORE]]])
    shares = [0.9, 0.2, 1 - 0.5, 1 - 0.25, 1 - 0.8, 0.1]  # of what is true
    wanted = -sum(math.log(share) for share in shares) / 6
    assert gate_loss(presence, Target(target)).item() == pytest.approx(wanted, rel=1e-6)


@given(seed=seeds)
def test_gate_loss_is_the_cross_entropy_with_the_classes_in_the_image(seed: int) -> None:
    _, target = random_batch(seed, side=2)
    presence = torch.rand(2, 4, generator=torch.Generator().manual_seed(seed))
    held = [[float(c in image.unique().tolist()) for c in range(4)] for image in target]
    wanted = functional.binary_cross_entropy(presence, torch.tensor(held))
    torch.testing.assert_close(gate_loss(presence, Target(target)), wanted)


def test_correct_gate_costs_zero() -> None:
    target = torch.tensor([[[0, 2]], [[IGNORE, IGNORE]]])
    presence = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    assert gate_loss(presence, Target(target)).item() == 0
