"""Losses against plain implementations, and pixels that must not count."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from edgeunet.metrics import IGNORE
from edgeunet.training.losses import cross_entropy_dice, gate_loss, soft_dice

seeds = st.integers(0, 2**32 - 1)


def random_batch(
    seed: int, *, count: int = 2, classes: int = 4, side: int = 6, ignored: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Logits (N, C, side, side) and a target of which a share is ignored."""
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
    """Logits (N, C, H, W) that are sure of the target, or of the class `shift` further on."""
    ids = (target.where(target != IGNORE, 0) + shift) % classes
    return 100 * functional.one_hot(ids, classes).movedim(-1, 1).float()


# Dice


@given(seed=seeds, classes=st.integers(1, 6), ignored=st.sampled_from([0, 0.3, 0.9]))
def test_soft_dice_is_that_of_one_hot_planes(seed: int, classes: int, ignored: float) -> None:
    logits, target = random_batch(seed, classes=classes, ignored=ignored)
    target[0, 0, 0] = 0  # at least one pixel counts
    probability = logits.softmax(1)
    wanted = one_hot_dice(probability, target)
    torch.testing.assert_close(soft_dice(probability, target).double(), wanted, rtol=0, atol=1e-6)


def test_soft_dice_by_hand() -> None:
    probability = torch.tensor([[0.75, 0.5], [0.25, 0.5]]).view(1, 2, 1, 2)
    target = torch.tensor([[[0, 0]]])
    # Class 0: 2 (0.75 + 0.5) / (0.5625 + 0.25 + 2); class 1 is not in the batch.
    wanted = 1 - 2 * 1.25 / 2.8125
    assert soft_dice(probability, target).item() == pytest.approx(wanted, abs=1e-7)


def test_soft_dice_sums_over_the_whole_batch() -> None:
    logits, target = random_batch(0, count=3)
    probability = logits.softmax(1)
    side_by_side = torch.cat(list(probability), 2)[None], torch.cat(list(target), 1)[None]
    torch.testing.assert_close(
        soft_dice(probability, target), soft_dice(*side_by_side), rtol=0, atol=1e-6
    )


# Both


@given(seed=seeds)
def test_perfect_prediction_costs_nothing_and_the_opposite_much(seed: int) -> None:
    _, target = random_batch(seed, ignored=0.2)
    perfect = certain(target, 4)
    assert soft_dice(perfect.softmax(1), target).item() == pytest.approx(0, abs=1e-6)
    assert cross_entropy_dice(perfect, target).item() == pytest.approx(0, abs=1e-6)
    opposite = certain(target, 4, shift=1)
    assert soft_dice(opposite.softmax(1), target).item() == pytest.approx(1, abs=1e-6)
    assert cross_entropy_dice(opposite, target).item() == pytest.approx(101, abs=1e-4)


@given(seed=seeds)
def test_cross_entropy_dice_is_the_sum_of_its_parts(seed: int) -> None:
    logits, target = random_batch(seed)
    entropy = functional.cross_entropy(logits, target, ignore_index=IGNORE)
    wanted = entropy + soft_dice(logits.softmax(1), target)
    torch.testing.assert_close(cross_entropy_dice(logits, target), wanted, rtol=0, atol=1e-5)


def test_head_of_lower_resolution_is_upsampled_to_the_target() -> None:
    logits, _ = random_batch(0, side=6)
    _, target = random_batch(1, side=12)
    upsampled = functional.interpolate(logits, size=(12, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        cross_entropy_dice(logits, target), cross_entropy_dice(upsampled, target)
    )


def test_half_precision_logits_are_judged_in_fp32() -> None:
    logits, target = random_batch(0)
    loss = cross_entropy_dice(logits.half(), target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy_dice(logits.half().float(), target))


# Ignored pixels


@given(seed=seeds, scale=st.sampled_from([1.0, 100.0]))
def test_ignored_pixels_do_not_count(seed: int, scale: float) -> None:
    logits, target = random_batch(seed)
    noise = scale * torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed + 1))
    other = logits.where((target != IGNORE)[:, None], noise)
    torch.testing.assert_close(
        cross_entropy_dice(logits, target), cross_entropy_dice(other, target), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        soft_dice(logits.softmax(1), target), soft_dice(other.softmax(1), target), rtol=0, atol=1e-6
    )


@given(seed=seeds)
def test_ignored_pixels_get_no_gradient_and_the_others_do(seed: int) -> None:
    logits, target = random_batch(seed)
    logits.requires_grad_()
    cross_entropy_dice(logits, target).backward()
    assert logits.grad is not None
    ignored = target == IGNORE
    per_pixel = logits.grad.abs().sum(1)
    assert not bool(per_pixel[ignored].any())
    assert bool((per_pixel[~ignored] > 0).all())


def test_batch_of_ignored_pixels_costs_nothing_and_has_a_finite_gradient() -> None:
    logits, target = random_batch(0, ignored=1.1)
    assert bool((target == IGNORE).all())
    logits.requires_grad_()
    loss = cross_entropy_dice(logits, target)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not bool(logits.grad.any())  # finite: NaN would be true


# Gate


def test_gate_loss_by_hand() -> None:
    presence = torch.tensor([[0.9, 0.2, 0.5], [0.25, 0.8, 0.1]])
    target = torch.tensor([[[0, 1], [1, IGNORE]], [[2, 2], [2, IGNORE]]])
    shares = [0.9, 0.2, 1 - 0.5, 1 - 0.25, 1 - 0.8, 0.1]  # of what is true
    wanted = -sum(math.log(share) for share in shares) / 6
    assert gate_loss(presence, target).item() == pytest.approx(wanted, rel=1e-6)


@given(seed=seeds)
def test_gate_loss_is_the_cross_entropy_with_the_held_classes(seed: int) -> None:
    _, target = random_batch(seed, side=2)
    presence = torch.rand(2, 4, generator=torch.Generator().manual_seed(seed))
    held = [[float(c in image.unique().tolist()) for c in range(4)] for image in target]
    wanted = functional.binary_cross_entropy(presence, torch.tensor(held))
    torch.testing.assert_close(gate_loss(presence, target), wanted)


def test_right_gate_costs_nothing() -> None:
    target = torch.tensor([[[0, 2]], [[IGNORE, IGNORE]]])
    presence = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    assert gate_loss(presence, target).item() == 0
