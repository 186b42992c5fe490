"""The arithmetic of one pixel in pixels.cuh, compiled for the host, against plain divisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeunet.runtime.gpu.kernels.launch import _LARGEST
from support.host_kernels import TAP, taps

Array = npt.NDArray[Any]
sizes = st.integers(1, _LARGEST)


def by_division(targets: Array, target: int, source: int) -> Array:
    """Half-pixel centres in integers; low and high are the last pixel at the end."""
    centre = (2 * targets.astype(np.int64) + 1) * source - target
    centre = centre.clip(0, (source - 1) * 2 * target)
    wanted = np.empty(len(targets), TAP)
    wanted["low"] = centre // (2 * target)
    wanted["high"] = np.minimum(wanted["low"] + 1, source - 1)
    rest = centre - wanted["low"].astype(np.int64) * 2 * target
    wanted["weight"] = rest.astype(np.float32) / np.float32(2 * target)
    return wanted


def assert_exact(target: int, source: int) -> None:
    targets = np.arange(-3, target + 4, dtype=np.int32)
    wanted = by_division(targets, target, source)
    assert np.array_equal(taps(targets, target, source), wanted)
    if source == 1:
        return
    pairs = taps(targets, target, source, pairs=True)
    at_end = wanted["low"] == source - 1
    assert np.array_equal(pairs["low"], wanted["low"] - at_end)
    assert np.array_equal(pairs["high"], pairs["low"] + 1)
    assert np.array_equal(pairs["weight"], np.where(at_end, np.float32(1), wanted["weight"]))


@given(target=sizes, source=sizes)
@example(target=_LARGEST, source=_LARGEST)
@example(target=1, source=_LARGEST)
@example(target=_LARGEST, source=1)
def test_taps_are_those_of_divisions(target: int, source: int) -> None:
    assert_exact(target, source)


@pytest.mark.parametrize("target", [1, 2, 3, 5, 7, 64, 127, 128, 129])
def test_taps_of_all_small_sizes(target: int) -> None:
    for source in range(1, 140):
        assert_exact(target, source)
