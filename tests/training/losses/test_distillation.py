"""What a teacher's answers cost, by hand and by its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import ShapeError
from edgeunet.training.losses import distillation, presence_distillation

seeds = st.integers(0, 2**32 - 1)


def logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32))


def test_two_pixels_by_hand() -> None:
    """Teacher 3:1 and 1:1, student 1:1 and 1:1: only the first pixel costs."""
    taught = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log().view(1, 2, 1, 2)
    wanted = (0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)) / 2
    found = distillation(torch.zeros(1, 2, 1, 2), taught, temperature=1.0)
    assert found.item() == pytest.approx(wanted, rel=1e-6)
    # At T = 2 the teacher is the square root of 3 to 1.
    p = np.sqrt(3) / (1 + np.sqrt(3))
    wanted = 4 * (p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p))) / 2
    found = distillation(torch.zeros(1, 2, 1, 2), taught, temperature=2.0)
    assert found.item() == pytest.approx(wanted, rel=1e-5)


@given(seed=seeds, classes=st.integers(2, 6), temperature=st.floats(0.5, 8))
def test_equal_answers_cost_nothing_and_others_something(
    seed: int, classes: int, temperature: float
) -> None:
    student, taught = (logits(seed + n, 2, classes, 4, 6) for n in range(2))
    same = distillation(taught + 5, taught, temperature=temperature)  # softmax knows no offset
    assert same.item() == pytest.approx(0, abs=1e-4)
    assert distillation(student, taught, temperature=temperature) > 1e-2


@given(seed=seeds)
def test_gradient_at_a_high_temperature_is_that_of_the_paper(seed: int) -> None:
    """Equation 4 of the paper times T²: (z - v) / classes for logits of mean 0, over the pixels."""
    student, taught = (logits(seed + n, 1, 3, 2, 2) for n in range(2))
    student, taught = (each - each.mean(1, keepdim=True) for each in (student, taught))
    student.requires_grad_()
    distillation(student, taught, temperature=1e3).backward()
    assert student.grad is not None
    torch.testing.assert_close(
        student.grad, (student - taught).detach() / 3 / 4, atol=2e-2, rtol=2e-2
    )


def test_coarse_head_is_resized_to_the_answer() -> None:
    taught = logits(0, 1, 3, 8, 8)
    coarse = logits(1, 1, 3, 4, 4)
    enlarged = torch.nn.functional.interpolate(coarse, size=(8, 8), mode="bilinear")
    found, wanted = (distillation(each, taught, temperature=1.0) for each in (coarse, enlarged))
    torch.testing.assert_close(found, wanted)
    with pytest.raises(ShapeError, match="1, 2, 4"):
        distillation(logits(1, 1, 3, 3, 4), taught, temperature=1.0)


def test_presence_by_hand() -> None:
    found = presence_distillation(
        torch.zeros(1, 2, 1, 1), torch.tensor([[0.75, 0.5]]), temperature=1.0
    )
    wanted = (0.75 * np.log(1.5) + 0.25 * np.log(0.5)) / 2
    assert found.item() == pytest.approx(wanted, rel=1e-5)


@given(seed=seeds, temperature=st.floats(0.5, 8))
def test_presence_is_a_distillation_of_two_classes(seed: int, temperature: float) -> None:
    """A sigmoid of z is the softmax of z and 0."""
    scores, taught = logits(seed, 2, 3, 2, 2), logits(seed + 1, 2, 3).clamp(-8, 8)
    student = scores.amax((2, 3))
    found = presence_distillation(scores, taught.sigmoid(), temperature=temperature)
    two = [torch.stack([each, torch.zeros_like(each)], 1)[..., None] for each in (student, taught)]
    torch.testing.assert_close(
        found, distillation(*two, temperature=temperature), rtol=1e-3, atol=1e-4
    )


def test_presence_of_0_and_1_stays_finite() -> None:
    sure = torch.tensor([[-40.0, 40.0]])[..., None, None].requires_grad_()
    loss = presence_distillation(sure, torch.tensor([[1.0, 0.0]]), temperature=1.0)
    loss.backward()
    assert loss.isfinite()
    assert sure.grad is not None
    assert bool(sure.grad.isfinite().all())
    assert bool(sure.grad.all())  # and it learns
