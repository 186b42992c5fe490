"""Plain NumPy gives what PyTorch gives, from the frame to the mask."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import BYTE_FILTERS, Filter, InputSpec, Resize
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.models import reference
from edgeunet.parity.plain import to_input, to_mask, to_whole
from edgeunet.runtime.backends.preprocess import Preprocessor
from support.formats import statistics, windows

SIDE = st.integers(1, 70)


@pytest.mark.parametrize("how", get_args(Filter))
@given(SIDE, SIDE, st.sampled_from(get_args(Resize)), st.sampled_from([None, 0.0, 114.0]))
def test_input_is_that_of_pytorch(
    how: Filter, height: int, width: int, resize: Resize, fill: float | None
) -> None:
    spec = InputSpec(32, 48, resize=resize, filter=how, fill=None if resize == "stretch" else fill)
    frame = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    found, wanted = to_input(frame, spec), reference.to_input(frame, spec).numpy()
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    level = 1 / (255 * min(spec.std))  # torchvision's halves are rounded to either side
    atol = 1.01 * level if how == "torchvision" else 2e-5
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(32, 48, channels=("gray",), mean=(0.4,), std=(0.2,)),
        InputSpec(32, 48, channels=("blue", "green", "red")),
        InputSpec(32, 48, levels=(-100.0, 3000.0), depth="int16"),
    ],
    ids=["gray", "bgr", "int16"],
)
def test_channels_and_levels_are_those_of_pytorch(spec: InputSpec) -> None:
    numbers = np.random.default_rng(0)
    frame = numbers.integers(0, 256, (50, 70, 3)).astype(spec.depth)
    wanted = reference.to_input(frame, spec).numpy()
    np.testing.assert_allclose(to_input(frame, spec), wanted, rtol=0, atol=2e-5)


@given(
    SIDE, SIDE, statistics(), st.sampled_from(get_args(Resize)), st.sampled_from(get_args(Filter))
)
def test_images_are_measured_as_by_pytorch(
    height: int, width: int, how: ImageStatistics, resize: Resize, filtered: Filter
) -> None:
    assume(filtered not in BYTE_FILTERS or not how.masks)
    assume(filtered != "torchvision")  # it rounds halves to either side
    spec = InputSpec(32, 48, resize=resize, filter=filtered, statistics=how, mean=(0.5,) * 3)
    frame = np.random.default_rng(height).integers(0, 9, (height, width, 3), np.uint8)
    wanted = reference.to_input(frame, spec).numpy()
    atol = 2e-5 * max(1, np.abs(wanted).max())
    np.testing.assert_allclose(to_input(frame, spec), wanted, rtol=0, atol=atol)


@given(SIDE, SIDE, st.none() | statistics(), windows, st.sampled_from([None, 7.0]))
def test_windows_are_cut_from_what_pytorch_cuts_them_from(
    height: int, width: int, how: ImageStatistics | None, window: Window, fill: float | None
) -> None:
    spec = InputSpec(32, 48, statistics=how, window=window, fill=None if how else fill)
    frame = np.random.default_rng(height).integers(0, 2, (height, width, 3), np.uint8)
    for found, wanted in (
        (to_whole(frame, spec), reference.to_whole(frame, spec)[0].numpy()),
        (to_input(frame, spec), reference.to_input(frame, spec).numpy()),
        (Preprocessor(spec).whole(frame), reference.to_whole(frame, spec)[0].numpy()),
        (Preprocessor(spec)([frame]), reference.to_input(frame, spec).numpy()),
    ):
        atol = 2e-5 * max(1, np.abs(wanted).max())
        np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@given(SIDE, SIDE, st.sampled_from(get_args(Resize)), st.booleans())
def test_mask_is_that_of_pytorch(height: int, width: int, resize: Resize, gated: bool) -> None:
    spec = InputSpec(32, 48, resize=resize)
    numbers = np.random.default_rng(width)
    logits = numbers.normal(size=(1, 4, 16, 24)).astype(np.float32)
    presence = numbers.uniform(size=(1, 4)).astype(np.float32) if gated else None
    thresholds = (0.5,) * 4 if gated else None
    wanted = reference.to_mask(
        torch.from_numpy(logits),
        None if presence is None else torch.from_numpy(presence),
        spec,
        (height, width),
        thresholds=thresholds,
    )
    found = to_mask(logits, presence, spec, (height, width), thresholds=thresholds)
    assert (found.shape, found.dtype) == ((height, width), np.uint8)
    assert np.mean(found == wanted) >= 0.999


def test_a_gate_that_closes_all_leaves_the_first_class() -> None:
    logits = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
    presence = np.array([[np.nan, 0.1, 0.2]], np.float32)
    spec = InputSpec(4, 4)
    assert not to_mask(logits, presence, spec, (8, 8), thresholds=(0.5,) * 3).any()
