"""The gate's losses, by hand, by their formula, and what each of them teaches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from edgeunet.metrics import IGNORE
from edgeunet.training.losses import Target, gate_loss, place_loss
from support.logits import random_batch

seeds = st.integers(0, 2**32 - 1)


def at_one_place(presence: torch.Tensor) -> torch.Tensor:
    """Scores (N, C, 1, 1) of these presences."""
    return presence.logit()[..., None, None]


# The whole image


def test_gate_loss_by_hand() -> None:
    presence = torch.tensor([[0.9, 0.2, 0.5], [0.25, 0.8, 0.1]])
    target = torch.tensor([[[0, 1], [1, IGNORE]], [[2, 2], [2, IGNORE]]])
    shares = [0.9, 0.2, 1 - 0.5, 1 - 0.25, 1 - 0.8, 0.1]  # of what is true
    wanted = -sum(math.log(share) for share in shares) / 6
    found = gate_loss(at_one_place(presence), Target(target))
    assert found.item() == pytest.approx(wanted, rel=1e-6)


@given(seed=seeds)
def test_gate_loss_is_the_cross_entropy_with_the_classes_in_the_image(seed: int) -> None:
    _, target = random_batch(seed, side=2)
    scores = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(seed))
    held = [[float(c in image.unique().tolist()) for c in range(4)] for image in target]
    presence = scores.amax((2, 3)).sigmoid()
    wanted = functional.binary_cross_entropy(presence, torch.tensor(held))
    torch.testing.assert_close(gate_loss(scores, Target(target)), wanted)


def test_correct_gate_costs_zero() -> None:
    target = torch.tensor([[[0, 2]], [[IGNORE, IGNORE]]])
    scores = torch.tensor([[200.0, -200, 200], [-200, -200, -200]])[..., None, None]
    assert gate_loss(scores, Target(target)).item() == 0


def test_sure_and_wrong_gate_still_learns_in_bf16() -> None:
    """A presence that BF16 rounds to 1 would have no gradient."""
    scores = torch.full((1, 1, 1, 1), 9.0, dtype=torch.bfloat16, requires_grad=True)
    gate_loss(scores, Target(torch.full((1, 2, 2), IGNORE))).backward()
    assert scores.grad is not None
    assert scores.grad.item() == pytest.approx(1, abs=1e-3)


# Places


def test_place_loss_by_hand() -> None:
    """Of four places of 2x2 pixels the first holds class 1, and of the last nothing is known."""
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    target[0, 0, 1] = 1
    target[0, 2:, 2:] = IGNORE
    share = torch.tensor([[0.8, 0.3], [0.1, 0.6]])
    scores = torch.stack([torch.full((2, 2), math.inf), share.logit()])[None]
    held, lacks = -4 * math.log(0.8), -math.log(0.7) - math.log(0.9)
    found = place_loss(scores.nan_to_num(posinf=50), Target(target))
    assert found.item() == pytest.approx((held + lacks) / 6, rel=1e-5)  # class 0 costs nothing


def test_place_that_is_ignored_in_part_counts_for_what_it_holds() -> None:
    target = torch.tensor([[[1, IGNORE], [1, 1]]])
    scores = torch.tensor([0.0, 0.0]).view(1, 2, 1, 1)
    assert place_loss(scores, Target(target)).item() == pytest.approx(4 * math.log(2))
    assert place_loss(scores, Target(torch.full((1, 2, 2), IGNORE))).item() == 0


def test_every_place_learns_where_the_class_is() -> None:
    """The paper's loss moves the highest score only, here one that is far from the class."""
    target = torch.zeros(1, 8, 8, dtype=torch.long)
    target[0, 6:, 6:] = 1
    scores = torch.zeros(1, 2, 4, 4)
    scores[0, 1, 0, 0] = 1.0
    moved = {}
    for loss in (gate_loss, place_loss):
        leaf = scores.clone().requires_grad_()
        loss(leaf, Target(target)).backward()
        assert leaf.grad is not None
        moved[loss] = -leaf.grad[0, 1]
    assert moved[gate_loss].count_nonzero() == 1
    assert moved[gate_loss][0, 0] > 0
    assert moved[place_loss][3, 3] > 0
    assert moved[place_loss].gt(0).sum() == 1
    assert moved[place_loss].lt(0).sum() == 15
