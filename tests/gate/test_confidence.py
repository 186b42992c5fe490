"""Exact bounds on a share, against the binomial distribution."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.gate.confidence import CONFIDENCE, images_needed, least_share, most_lost

SHARES = st.floats(0.5, 0.999)


def at_most(lost: int, images: int, rate: float) -> float:
    """Probability that no more than `lost` are lost, term by term."""
    return sum(comb(images, k) * rate**k * (1 - rate) ** (images - k) for k in range(lost + 1))


@given(images=st.integers(1, 300), data=st.data(), confidence=st.floats(0.5, 0.999))
def test_bound_is_where_so_many_are_kept_by_chance_alone(
    images: int, data: st.DataObject, confidence: float
) -> None:
    kept = data.draw(st.integers(1, images))
    share = least_share(kept, images, confidence=confidence)
    assert 0 <= share <= kept / images
    assert at_most(images - kept, images, 1 - share) == pytest.approx(1 - confidence, rel=1e-6)


def test_nothing_kept_promises_nothing() -> None:
    assert least_share(0, 5) == 0


@given(images=st.integers(1, 300), share=SHARES)
def test_what_may_be_lost_is_the_most_that_keeps_the_promise(images: int, share: float) -> None:
    lost = most_lost(images, share)
    if lost is None:
        assert least_share(images, images) < share + 1e-9
        assert images < images_needed(share)
    else:
        assert least_share(images - lost, images) > share - 1e-9
        assert lost == images or least_share(images - lost - 1, images) < share + 1e-9


@given(share=SHARES)
def test_images_needed_is_the_least_number_that_promises(share: float) -> None:
    images = images_needed(share)
    assert share**images <= 1 - CONFIDENCE + 1e-12
    assert images == 1 or share ** (images - 1) > 1 - CONFIDENCE - 1e-12


# Clopper and Pearson's bounds by another way: scipy.stats.beta.ppf(0.05, kept, lost + 1).
@pytest.mark.parametrize(
    ("kept", "images", "bound"), [(71, 79, 0.824695), (59, 60, 0.923360), (10, 10, 0.741134)]
)
def test_known_bounds(kept: int, images: int, bound: float) -> None:
    assert least_share(kept, images) == pytest.approx(bound, abs=1e-6)


def test_many_images_take_no_time() -> None:
    assert most_lost(100_000, 0.95) == 4886


@pytest.mark.parametrize(("kept", "images"), [(1, 0), (0, 0), (3, 2), (-1, 2)])
def test_refuses_counts_that_cannot_be(kept: int, images: int) -> None:
    with pytest.raises(ValueError, match=f"{kept} of {images} images are kept"):
        least_share(kept, images)
