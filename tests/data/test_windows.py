"""Where windows lie and what they weigh, as in nnU-Net."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.steps import SMALLEST_STEP, Window
from edgeunet.data.windows import content, decided, starts, weights
from support.formats import windows
from support.sliding import even_steps, gaussian_importance

lengths = st.integers(1, 400)
sides = st.integers(10, 90)
shares = st.sampled_from([0.5, 0.25, 0.75, 0.3, 1.0]) | st.floats(SMALLEST_STEP, 1)


@given(length=lengths, side=sides, share=shares)
def test_windows_are_spread_as_nnunet_does(length: int, side: int, share: float) -> None:
    assume(length >= side)
    assert starts(length, side, Window(step=share)) == even_steps(length, side, share)


@given(rows=sides, columns=sides)
def test_weights_are_nnunets_and_positive(rows: int, columns: int) -> None:
    found = weights((rows, columns))
    np.testing.assert_allclose(found, gaussian_importance((rows, columns)), rtol=1e-5)
    assert found.min() > 0 and found.max() == 1


@given(length=lengths, side=sides, window=windows)
def test_windows_cover_an_axis_in_order(length: int, side: int, window: Window) -> None:
    found = decided(length, side, window)
    assert found[0][1] == 0 and found[-1][2] == length
    for start, first, stop in found:
        assert max(start, 0) <= first < stop <= min(start + side, length)
    for (start, first, stop), (next_start, follows, end) in pairwise(found):
        assert start < next_start and first <= follows <= stop <= end


@given(length=lengths, side=sides, step=st.floats(SMALLEST_STEP, 1))
def test_unblended_windows_decide_where_they_are_farthest_from_the_border(
    length: int, side: int, step: float
) -> None:
    assume(length >= side)
    found = decided(length, side, Window(step=step, blend="none"))
    assert sum(stop - first for _, first, stop in found) == length
    pixels = np.arange(length)
    distances = np.array([np.minimum(pixels - at, at + side - 1 - pixels) for at, _, _ in found])
    for index, (_, first, stop) in enumerate(found):
        assert (distances[index] == distances.max(0))[first:stop].all()


def test_windows_with_a_halo_lie_at_multiples_of_what_is_inside_it() -> None:
    window = Window(step=(64 - 2 * 8) / 64, blend="none")
    assert starts(200, 64, window) == [0, 48, 96, 136]


@pytest.mark.parametrize("crop", [False, True])
def test_frame_without_content_stays_whole(crop: bool) -> None:
    spec = InputSpec(4, 4, window=Window(crop=crop))
    assert content(np.zeros((5, 6, 3), np.uint8), spec) == (slice(0, 5), slice(0, 6))
