"""The target: its size, and pixels that are ignored."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from edgeunet.metrics import IGNORE
from edgeunet.training.losses import Target, cross_entropy_dice
from edgeunet.training.losses.dice import soft_dice
from support.logits import random_batch

seeds = st.integers(0, 2**32 - 1)


# Cross entropy and Dice


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
