"""Steps of processing: what NumPy computes of them, and the same said as an input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.bundle.steps import ImageStatistics
from edgeunet.errors import CheckpointError
from edgeunet.exporting.origins.bioimageio_steps import (
    Cast,
    Clip,
    Linear,
    Measured,
    Step,
    applied,
    prepared,
    steps_of,
)
from edgeunet.parity import plain

gains = st.sampled_from([0.01, 0.5, 1.0, 3.0])
offsets = st.sampled_from([-30.0, 0.0, 0.25, 7.0])
linear = st.builds(lambda gain, offset: Linear((gain,), (offset,)), gains, offsets)
each = st.builds(
    lambda gain, offset: Linear(gain, offset), st.tuples(gains, gains), st.tuples(offsets, offsets)
)
measured = st.builds(
    lambda measure, per_channel, low: Measured(
        ImageStatistics(
            measure=measure,
            per_channel=per_channel,
            percentiles=(low, 99.0) if measure == "range" else (0.0, 100.0),
            epsilon=1e-6,
            adds_epsilon=True,
        )
    ),
    st.sampled_from(["zscore", "range"]),
    st.booleans(),
    st.sampled_from([0.0, 5.0]),
)
clips = st.sampled_from([Clip(0, 1), Clip(-1, 0.5), Clip(10, 200), Clip(-1e9, 1e9)])
casts = st.sampled_from([Cast("float32"), Cast("uint8")])


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.one_of(linear, each, measured, clips, casts), max_size=4),
    levels=st.sampled_from([(0.0, 255.0), (10.0, 100.0)]),
)
def test_input_computes_what_the_steps_do_or_they_are_refused(
    steps: list[Step], levels: tuple[float, float]
) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    try:
        found, clip = prepared(steps, 2, levels, "uint8", "raw")
    except CheckpointError:
        return
    said = replace(found, channels=("red", "blue"), levels=levels)
    image = plain.to_input(frame, said.input(Path(), (6, 7), 2, None))[0]
    if clip is not None:
        image = np.clip(image, clip.low, clip.high)
    wanted = applied(steps, np.moveaxis(frame[..., [0, 2]], 2, 0)[None], "bcyx")[0]
    np.testing.assert_allclose(image, wanted.astype(np.float64), rtol=1e-4, atol=1e-4)


def test_clip_that_changes_nothing_is_left_out() -> None:
    scaled = [Linear((1 / 255,), (0.0,)), Clip(0, 1)]
    assert prepared(scaled, 1, (0, 255), "uint8", "raw")[1] is None
    assert prepared(scaled, 1, (0, 1), "float32", "raw")[1] == Clip(0, 1)


def test_softmax_and_sigmoid_are_probabilities() -> None:
    values = np.array([[-800.0], [0.0], [800.0]])
    (softmax,) = steps_of([{"id": "softmax"}], "cx", "map")
    assert softmax.apply(values, "cx").ravel().tolist() == pytest.approx([0, 0, 1])
    (sigmoid,) = steps_of([{"name": "sigmoid"}], "cx", "map")
    assert sigmoid.apply(values, "cx").ravel().tolist() == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"id": "clip", "kwargs": {"min_percentile": 2}}, "by clip by percentiles"),
        ({"id": "scale_range", "kwargs": {"axes": ["x"]}}, "of other axes or tensors"),
        ({"id": "scale_range", "kwargs": {"reference_tensor": "other"}}, "of other axes or"),
        (
            {"name": "zero_mean_unit_variance", "kwargs": {"mode": "per_dataset", "axes": "xy"}},
            "over a whole data set, which an image does not show. Write its values",
        ),
        ({"id": "binarize", "kwargs": {"threshold": [1, 2]}}, "a threshold of each channel"),
        ({"id": "gaussian_blur"}, "raw is processed by gaussian_blur"),
    ],
)
def test_steps_that_cannot_be_done_are_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        steps_of([entry], "bcyx", "raw")
