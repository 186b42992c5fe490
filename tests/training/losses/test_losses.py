"""What all losses have in common."""

from __future__ import annotations

import math

import pytest
import torch

from edgeunet.metrics import IGNORE
from edgeunet.training.losses import LOSSES, Target
from support.logits import certain, random_batch


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
