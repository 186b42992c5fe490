"""Class mixing: pixels move with their labels, and only some crops change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import UsageError
from edgeunet.metrics import IGNORE
from edgeunet.training.mixing import check_mixing, mix_classes


def batch(count: int, margin: int, rng: np.random.Generator) -> list[torch.Tensor]:
    """Images whose pixels tell the crop and the class, its classes, and its weights."""
    labels = torch.from_numpy(rng.integers(0, 4, (count, 8, 12)))
    labels[rng.random(labels.shape) < 0.1] = IGNORE
    crop = torch.arange(count)[:, None, None]
    images = torch.full((count, 2, 8 + 2 * margin, 12 + 2 * margin), -1.0)
    images[:, 0, margin : margin + 8, margin : margin + 12] = crop.float()
    images[:, 1, margin : margin + 8, margin : margin + 12] = labels.float()
    return [images, labels, crop * 1000.0 + labels]


@given(
    count=st.integers(1, 6),
    margin=st.integers(0, 3),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_pixels_labels_and_weights_move_together(
    count: int, margin: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    given_batch = batch(count, margin, rng)
    before = [tensor.clone() for tensor in given_batch]
    images, labels, weights = mix_classes(given_batch, share, rng)
    assert all(torch.equal(*pair) for pair in zip(given_batch, before, strict=True))
    inner = images[..., margin : margin + 8, margin : margin + 12]
    assert torch.equal(inner[:, 1], labels.float())
    assert torch.equal(weights, inner[:, 0] * 1000 + labels)
    # A crop keeps its pixels or takes those of its neighbour.
    origin, own = inner[:, 0].long(), torch.arange(count)[:, None, None]
    assert ((origin == own) | (origin == (own - 1) % count)).all()
    assert (labels[origin != own] != IGNORE).all()
    if margin:
        assert (images[..., 0, :] == -1).all() and (images[..., -1] == -1).all()


def test_half_of_the_classes_are_pasted_whole() -> None:
    labels = torch.arange(4).repeat(2, 3, 1)  # two crops, a column for each of four classes
    images = torch.arange(2.0)[:, None, None, None].expand(2, 1, 3, 4).clone()
    mixed, _ = mix_classes([images, labels], 1.0, np.random.default_rng(0))
    taken = mixed[1, 0] == 0
    assert taken.any(0).sum() == 2
    assert torch.equal(taken.any(0), taken.all(0))


@pytest.mark.parametrize(("share", "count"), [(0.0, 4), (1.0, 1)])
def test_nothing_to_mix_gives_the_same_tensors(share: float, count: int) -> None:
    given_batch = batch(count, 0, np.random.default_rng(0))
    assert mix_classes(given_batch, share, np.random.default_rng(0)) is given_batch


def test_share_of_the_crops_is_mixed() -> None:
    rng, mixed = np.random.default_rng(0), 0
    for _ in range(50):
        images, *_ = mix_classes(batch(8, 0, rng), 0.25, rng)
        mixed += sum(len(images[index, 0].unique()) > 1 for index in range(8))
    assert mixed == pytest.approx(100, abs=30)


def test_a_step_of_one_crop_cannot_be_mixed() -> None:
    check_mixing(2)
    with pytest.raises(UsageError, match=r"a step has 1 labelled crop on each device; .* at least"):
        check_mixing(1)
