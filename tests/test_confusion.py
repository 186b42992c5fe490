"""Confusion matrices on pages: no pixel is lost, and the worst classes are shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.confusion import confusion_of


@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_matrix_keeps_all_pixels_and_the_worst_classes(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 50, (count, count)) + 1000 * np.eye(count, dtype=np.int64)
    worst = int(rng.integers(count))
    pixels[worst, worst] = 0
    names = [f"c{index}" for index in range(count)]
    found = confusion_of(pixels, names)
    assert len(found.names) == len(found.rows) == min(count, 24)
    assert f"c{worst}" in found.names
    assert all(sum(shares) == pytest.approx(1) for _, shares in found.rows)
    for name, shares in found.rows:
        if name in names:
            row = pixels[names.index(name)]
            assert shares[found.names.index(f"c{worst}")] == row[worst] / row.sum()
    if count > 24:
        assert found.names[-1] == f"{count - 23} others"


def test_label_without_a_pixel_has_no_shares() -> None:
    rows = confusion_of(np.array([[4, 0], [0, 0]]), ["sea", "ship"]).rows
    assert rows == (("sea", (1.0, 0.0)), ("ship", (None, None)))
