"""Losses of overlap and cross-entropy, plain and weighted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from edgeunet.metrics import IGNORE
from edgeunet.training.losses import (
    Target,
    cross_entropy_dice,
    cross_entropy_pixel_dice,
    weighted_cross_entropy,
)
from edgeunet.training.losses.dice import soft_dice
from support.logits import at_truth, certain, one_hot_dice, plain, random_batch

seeds = st.integers(0, 2**32 - 1)


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


# The papers' losses, pixel by pixel in numpy


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
