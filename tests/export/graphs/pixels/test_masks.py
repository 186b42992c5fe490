"""Masks, gate and confidence of the graph are those of the runtime's post-processing."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.bundle.manifest import Flavour, InputSpec
from edgeunet.exporting.graphs.pixels import PixelsForm
from support.graphs import ops
from support.pixels import Small, assert_runtime_masks, noise, run_pixels

SPEC = InputSpec(16, 24)


@settings(deadline=None, max_examples=40)
@given(
    thresholds=st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), min_size=1, max_size=8),
    flavour=st.sampled_from(get_args(Flavour)),
    stride=st.sampled_from([1, 2]),
)
def test_the_gate_closes_classes(thresholds: list[float], flavour: Flavour, stride: int) -> None:
    small = Small.of(SPEC, len(thresholds), tuple(thresholds), stride=stride)
    assert_runtime_masks(small, small.pixels(flavour=flavour), noise(SPEC))


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_a_gate_that_closes_all_leaves_the_background(classes: int) -> None:
    small = Small.of(SPEC, classes, (1.0,) * classes)
    assert not run_pixels(small.pixels(), noise(SPEC))["masks"].any()


@pytest.mark.parametrize("flavour", get_args(Flavour))
@pytest.mark.parametrize("classes", [1, 2, 3, 5, 6, 200])
def test_the_largest_logit_wins(flavour: Flavour, classes: int) -> None:
    small = Small.of(SPEC, classes, stride=2)
    found = assert_runtime_masks(small, small.pixels(flavour=flavour), noise(SPEC))
    assert classes == 1 or len(np.unique(found["masks"])) > 1, "nothing to test"


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_equal_logits_give_the_lower_id(classes: int) -> None:
    small = Small.of(SPEC, classes, stride=2)
    for constant in small.model.graph.initializer:
        if constant.name in ("head", "offset"):
            constant.raw_data = bytes(len(constant.raw_data))
    assert not run_pixels(small.pixels(), noise(SPEC))["masks"].any()


def test_two_classes_enlarge_one_plane_and_few_classes_need_no_argmax() -> None:
    assert "ArgMax" not in ops(Small.of(SPEC, 2, stride=2).pixels())
    assert "ArgMax" not in ops(Small.of(SPEC, 5, stride=2).pixels())
    assert "Where" not in ops(Small.of(SPEC, 5, stride=2).pixels(flavour="fp16"))


@pytest.mark.parametrize("any_size", [False, True])
@pytest.mark.parametrize("gate", [None, (0.0, 0.55, 0.45), (0.0, 1.0, 1.0)])
def test_confidence_is_the_softmax_of_open_classes(
    gate: tuple[float, ...] | None, any_size: bool
) -> None:
    small = Small.of(SPEC, 3, gate, stride=2)
    frames = noise(SPEC, size=(21, 30) if any_size else None)
    found = run_pixels(small.pixels(PixelsForm(any_size, confidence=True)), frames)
    expected = small.finish().confidence(*small.outputs(frames), frames[0].shape[:2])
    assert list(found) == ["masks", "presence", "confidence"]
    assert found["confidence"].dtype == np.uint8
    assert np.abs(found["confidence"].astype(int) - expected).max() <= 1
    assert gate != (0.0, 1.0, 1.0) or (expected == 255).all()
