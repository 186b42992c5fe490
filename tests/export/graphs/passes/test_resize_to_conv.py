"""Bilinear upsampling as a convolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.export.graphs.passes.resize_to_conv import resize_to_conv
from support.graphs import ops, run
from support.passes import resized


@settings(deadline=None, max_examples=20)
@given(channels=st.integers(1, 5), height=st.integers(1, 6), width=st.integers(1, 6))
def test_upsampling_as_a_convolution_computes_the_same(
    channels: int, height: int, width: int
) -> None:
    model = resized((channels, height, width))
    rewritten = resize_to_conv(model)
    assert "Resize" not in ops(rewritten)
    image = np.random.default_rng(1).normal(size=(2, channels, height, width)).astype("f")
    np.testing.assert_allclose(run(rewritten, image)[0], run(model, image)[0], atol=1e-6)


def test_upsampling_of_an_unsized_map_stays_a_resize() -> None:
    model = resized((3, None, None))
    assert resize_to_conv(model).graph.node == model.graph.node


@pytest.mark.parametrize(
    ("scales", "changed"),
    [
        ((1, 1, 2, 4), {}),
        ((1, 2, 2, 2), {}),
        ((1, 1, 2, 2), {"mode": "nearest"}),
        ((1, 1, 2, 2), {"coordinate_transformation_mode": "align_corners"}),
        ((1, 1, 2, 2), {"coordinate_transformation_mode": "asymmetric"}),
    ],
)
def test_other_resizes_stay(scales: tuple[float, ...], changed: dict[str, str]) -> None:
    model = resized((2, 4, 4), scales=scales, **changed)
    assert resize_to_conv(model).graph.node == model.graph.node
