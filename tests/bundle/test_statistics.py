"""What frames are like, and the warning about frames that are not like them."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeunet.bundle.schema import SchemaError, decode, encode
from edgeunet.bundle.statistics import FIRST, FirstFrames, FrameStatistics, statistics_of
from edgeunet.data import cells
from support.media import Frame

WARNING = "frames are unlike those that this bundle was made with"


def noise(mean: float, deviation: float, *, seed: int = 0) -> Frame:
    drawn = np.random.default_rng(seed).normal(255 * mean, 255 * deviation, (40, 60, 3))
    return drawn.clip(0, 255).astype(np.uint8)


@given(frames=st.lists(hnp.arrays(np.uint8, (5, 7, 3)), min_size=1, max_size=4))
def test_statistics_are_the_extremes_of_the_frames(frames: list[Frame]) -> None:
    found = statistics_of(frames)
    for which, function in ((found.mean, np.mean), (found.deviation, np.std)):
        wanted = [function(frame / 255, axis=(0, 1)) for frame in frames]
        for channel, (low, high) in enumerate(which):
            assert low == pytest.approx(min(value[channel] for value in wanted), abs=1e-4)
            assert high == pytest.approx(max(value[channel] for value in wanted), abs=1e-4)
    assert decode(FrameStatistics, json.loads(json.dumps(encode(found)))) == found


def test_levels_and_channels_are_the_frames_own() -> None:
    frame = np.linspace(1000, 3000, 6000, dtype=np.uint16).reshape(20, 60, 5)
    found = statistics_of([frame], levels=(1000, 3000))
    assert len(found.mean) == 5
    assert found.mean[0][0] == pytest.approx(0.5, abs=1e-2)
    assert found.deviation[0][0] == pytest.approx(1 / math.sqrt(12), abs=1e-2)


def test_large_frames_are_looked_at_in_part() -> None:
    frame = np.tile(noise(0.4, 0.1), (50, 50, 1))
    (low, _), *_ = statistics_of([frame]).mean
    assert low == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(
    "value",
    [
        {"mean": [[0, 1]], "deviation": []},
        {"mean": [[1, 0]], "deviation": [[0, 1]]},
        {"mean": [[0, math.nan]], "deviation": [[0, 1]]},
        {"mean": [[0, math.inf]], "deviation": [[0, 1]]},
    ],
)
def test_damaged_statistics_are_refused(value: object) -> None:
    with pytest.raises(SchemaError):
        decode(FrameStatistics, value)


@pytest.mark.parametrize(
    ("mean", "deviation", "words"),
    [
        (0.4, 0.1, None),
        (0.6, 0.1, None),  # exposure
        (0.4, 0.15, None),
        (0.8, 0.05, "brightness 0.80 instead of 0.40 to 0.50 (of 0 to 1)"),
        (0.05, 0.02, "brightness 0.05 instead of 0.40 to 0.50 (of 0 to 1) and contrast 0.02"),
        (0.45, 0.25, "contrast 0.24 instead of 0.10 to 0.12 (of 0 to 1)"),
        (0.45, 0.02, "contrast 0.02 instead of 0.10 to 0.12 (of 0 to 1)"),
    ],
)
def test_frames_of_another_kind_cause_one_warning(
    mean: float, deviation: float, words: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    expected = FrameStatistics(mean=((0.4, 0.5),) * 3, deviation=((0.1, 0.12),) * 3)
    first = FirstFrames(expected)
    for index in range(3 * FIRST):
        assert first.difference is None or index >= FIRST
        first.add(noise(mean, deviation, seed=index))
    first.end()
    assert caplog.text.count(WARNING) == (words is not None)
    assert (first.difference or "").startswith(words or "")
    assert (first.difference is None) is (words is None)


def test_a_single_frame_is_compared_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    expected = statistics_of([noise(0.4, 0.1)])
    first = FirstFrames(expected)
    first.add(noise(0.9, 0.01))
    assert first.difference is None
    first.end()
    assert WARNING in caplog.text


def test_one_odd_frame_among_others_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    first = FirstFrames(statistics_of([noise(0.4, 0.1)]))
    first.add(np.zeros((40, 60, 3), np.uint8))  # a camera that is starting
    for index in range(FIRST - 1):
        first.add(noise(0.4, 0.1, seed=index))
    assert first.difference is None
    assert caplog.records == []


def test_a_bundle_that_does_not_say_compares_nothing(caplog: pytest.LogCaptureFixture) -> None:
    first = FirstFrames(None)
    for _ in range(FIRST):
        first.add(noise(0.9, 0.01))
    first.end()
    assert (first.difference, caplog.records) == (None, [])


def test_frames_with_other_channels_are_unlike() -> None:
    first = FirstFrames(statistics_of([noise(0.4, 0.1)]))
    first.add(noise(0.4, 0.1)[..., :2])
    first.end()
    assert first.difference is not None
    assert "2 channels instead of 3" in first.difference


def test_other_cells_are_like_cells(caplog: pytest.LogCaptureFixture) -> None:
    """Scenes vary from sparse to dense; no eight of them, and no single one, may alarm."""

    def drawn(count: int, seed: int) -> list[Frame]:
        return [f.image for f in cells.snapshots(count, height=96, width=128, seed=seed)]

    with caplog.at_level(logging.WARNING):
        expected = statistics_of(drawn(32, seed=1))
        others = drawn(24, seed=2)
        for count in (1, FIRST):
            for at in range(0, len(others), count):
                first = FirstFrames(expected)
                for frame in others[at : at + count]:
                    first.add(frame)
                first.end()
                assert first.difference is None
