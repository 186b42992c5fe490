"""Smoothing over time, and the flicker that it is there for."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeunet.bundle.manifest import InputSpec, channel_names
from edgeunet.errors import UsageError
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.backends.smoothing import Smoother
from edgeunet.runtime.frames import SourceFrame

SIZE = (32, 48)
SPEC = InputSpec(height=32, width=48)
Logits = npt.NDArray[np.float32]
weights = st.floats(0, 0.99, allow_subnormal=False)
films = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 8), st.just(3), st.just(4), st.just(6)),
    elements=st.floats(-20, 20, width=32),
)  # fmt: skip


def still(count: int, value: int = 100) -> Logits:
    """The net's input for so many frames that do not change."""
    return Preprocessor(SPEC)([np.full((*SIZE, 3), value, np.uint8)] * count)


def smooth(
    smoother: Smoother,
    logits: Logits,
    images: Logits | None = None,
    *,
    decided: list[bool] | None = None,
    size: tuple[int, int] = SIZE,
    sources: str = "",
) -> Logits:
    """sources: of each frame, a letter."""
    frame, names = np.zeros((*size, 3), np.uint8), sources or "-" * len(logits)
    return smoother(
        [SourceFrame(index, "", frame, source=name) for index, name in enumerate(names)],
        still(len(logits)) if images is None else images,
        logits,
        decided=np.array(decided or [False] * len(logits)),
    )


@given(logits=films, weight=weights)
def test_follows_the_formula(logits: Logits, weight: float) -> None:
    came = smooth(Smoother(SPEC, weight), logits)
    state = logits[0].astype(np.float64)
    for frame, found in zip(logits, came, strict=True):
        state = weight * state + (1 - weight) * frame
        np.testing.assert_allclose(found, state, atol=1e-4)


@given(logits=films)
def test_no_weight_changes_nothing(logits: Logits) -> None:
    np.testing.assert_array_equal(smooth(Smoother(SPEC, 0), logits), logits)


@given(logits=films, weight=weights, split=st.integers(0, 8))
def test_batches_do_not_matter(logits: Logits, weight: float, split: int) -> None:
    whole = smooth(Smoother(SPEC, weight), logits)
    parts = Smoother(SPEC, weight)
    came = [smooth(parts, part) for part in (logits[:split], logits[split:])]
    np.testing.assert_array_equal(np.concatenate(came), whole)


def steps(levels: list[float]) -> Logits:
    return np.array([np.full((3, 4, 6), level) for level in levels], np.float32)


@pytest.mark.parametrize(("change", "anew"), [(0, False), (15, False), (40, True), (155, True)])
def test_begins_anew_after_a_cut(change: int, anew: bool) -> None:
    """Exposure drifts by a few steps; another picture differs by many."""
    images = np.concatenate([still(2, 100), still(2, 100 + change)])
    came = smooth(Smoother(SPEC, 0.5), steps([0, 0, 8, 8]), images)
    assert came[:, 0, 0, 0].tolist() == ([0, 0, 8, 8] if anew else [0, 0, 4, 6])


def test_noise_is_no_cut() -> None:
    noise = np.random.default_rng(0).normal(100, 20, (6, *SIZE, 3)).clip(0, 255).astype(np.uint8)
    came = smooth(Smoother(SPEC, 0.5), steps([0, 8, 8, 8, 8, 8]), Preprocessor(SPEC)(list(noise)))
    assert came[:, 0, 0, 0].tolist() == [0, 4, 6, 7, 7.5, 7.75]


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
def test_cut_is_measured_in_8_bit_steps_whatever_the_net_wants(color: str) -> None:
    spec = InputSpec(
        height=32,
        width=48,
        channels=channel_names([color]),
        mean=(0.5,) if color == "gray" else (0.4, 0.5, 0.6),
        std=(4.0,) if color == "gray" else (0.01, 0.1, 4.0),
    )
    frames = [np.full((*SIZE, 3), value, np.uint8) for value in (100, 115, 155)]
    came = smooth(Smoother(spec, 0.5), steps([0, 8, 8]), Preprocessor(spec)(frames))
    assert came[:, 0, 0, 0].tolist() == [0, 4, 8]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_begins_anew_behind_what_is_not_finite(value: float, weight: float) -> None:
    logits = steps([0, 8, 4, 8])
    logits[1, 2, 3, 5] = value
    came = smooth(Smoother(SPEC, weight), logits)
    np.testing.assert_array_equal(came[1], logits[1])
    np.testing.assert_array_equal(came[2:], smooth(Smoother(SPEC, weight), logits[2:]))
    assert np.isfinite(came[2:]).all()


def test_begins_anew_where_the_size_changes() -> None:
    smoother = Smoother(SPEC, 0.5)
    smooth(smoother, steps([0, 0]))
    assert smooth(smoother, steps([8]), size=(64, 96))[0, 0, 0, 0] == 8
    assert smooth(smoother, steps([0]), size=(64, 96))[0, 0, 0, 0] == 4


def test_each_source_has_its_own_past() -> None:
    images = np.concatenate([still(1, value) for value in (100, 200, 100, 200, 100, 200)])
    smoother = Smoother(SPEC, 0.5)
    came = smooth(smoother, steps([8, 0, 0, 8, 0, 8]), images, sources="ababab")
    assert came[:, 0, 0, 0].tolist() == [8, 0, 4, 4, 2, 6]
    smoother.forget("a")
    came = smooth(smoother, steps([8, 8]), images[:2], sources="ab")
    assert came[:, 0, 0, 0].tolist() == [8, 7]


def test_frame_that_the_gate_decided_is_no_past() -> None:
    """Its logits are zeros that nobody computed."""
    came = smooth(Smoother(SPEC, 0.5), steps([8, 0, 8, 4]), decided=[False, True, False, False])
    assert came[:, 0, 0, 0].tolist() == [8, 0, 8, 6]


@pytest.mark.parametrize("weight", [-0.1, 1, 1.5, math.nan])
def test_weight_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match=r"temporal is .*; expected a share of the past from 0"):
        Smoother(SPEC, weight)
