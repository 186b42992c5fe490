"""Logits to masks, against PyTorch's upsampling and argmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import FrameError
from edgeunet.metrics import Mask
from edgeunet.models.reference import to_logits, to_mask
from edgeunet.runtime.backends.postprocess import Postprocessor
from edgeunet.runtime.frames import one_size

TIE = 1e-4
"""Upsampled logits that are nearer than this may swap between FP32 implementations."""

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """Random logits of a net at 1/`stride` of its input, for a frame of `size`."""

    spec: InputSpec
    size: tuple[int, int]
    logits: Logits


@st.composite
def cases(draw: st.DrawFn, resize: Any = None, batch: int = 1) -> Case:
    sides = st.integers(1, 10).map(lambda eighths: 8 * eighths)
    height, width = draw(sides), draw(sides)
    resize = resize or draw(st.sampled_from(["stretch", "pad"]))
    stride = draw(st.sampled_from([1, 2, 4, 8]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (batch, draw(st.integers(1, 6)), height // stride, width // stride)
    size = draw(st.tuples(st.integers(1, 120), st.integers(1, 120)))
    logits = rng.normal(scale=4, size=shape).astype(np.float32)
    return Case(InputSpec(height, width, resize=resize), size, logits)


def reference(case: Case, presence: Logits | None, thresholds: tuple[float, ...] | None) -> Mask:
    return to_mask(
        torch.from_numpy(case.logits),
        None if presence is None else torch.from_numpy(presence),
        case.spec,
        case.size,
        thresholds=thresholds,
    )


def assert_equal_but_for_ties(mask: Mask, wanted: Mask, case: Case, open_: list[int]) -> None:
    """Every pixel that differs has two open classes on top that are as good as equal."""
    logits = to_logits(torch.from_numpy(case.logits), case.spec, *case.size)[0].numpy()
    closed = np.setdiff1d(np.arange(len(logits)), open_)
    logits[closed] = -np.inf
    differs = mask != wanted
    assert set(np.unique(mask)) <= set(open_)
    below_best = logits.max(0) - np.take_along_axis(logits, mask[None].astype(int), 0)[0]
    assert (below_best[differs] < TIE).all()


# Without a gate


@given(case=cases())
def test_mask_is_that_of_pytorch(case: Case) -> None:
    masks = Postprocessor(case.spec, None)(case.logits, None, case.size)
    assert masks.shape == (1, *case.size)
    assert masks.dtype == np.uint8
    open_ = list(range(case.logits.shape[1]))
    assert_equal_but_for_ties(masks[0], reference(case, None, None), case, open_)


@given(case=cases(batch=3))
def test_mask_in_a_batch_is_the_mask_alone(case: Case) -> None:
    postprocess = Postprocessor(case.spec, None)
    masks = postprocess(case.logits, None, case.size)
    alone = [postprocess(logits[None], None, case.size)[0] for logits in case.logits]
    assert np.array_equal(masks, np.stack(alone))


@given(case=cases(resize="pad"))
def test_logits_over_the_padding_are_never_seen(case: Case) -> None:
    rows, columns = case.spec.fitted_size(*case.size)
    stride = case.spec.height // case.logits.shape[2]
    other = np.full_like(case.logits, np.nan)
    inside = np.s_[:, :, : rows // stride, : columns // stride]
    other[inside] = case.logits[inside]
    postprocess = Postprocessor(case.spec, None)
    wanted = postprocess(case.logits, None, case.size)
    assert np.array_equal(postprocess(other, None, case.size), wanted)


def test_mask_by_hand_at_the_logits_own_size() -> None:
    logits = np.array([[[[3, 0, 1]], [[1, 2, 1]], [[2, 1, 4]]]], np.float32).repeat(8, 2)
    spec = InputSpec(8, 3)
    masks = Postprocessor(spec, None)(logits, None, (8, 3))
    assert masks.tolist() == [[[0, 1, 2]] * 8]


@pytest.mark.parametrize("size", [(16, 16), (5, 40), (64, 48)])
def test_of_equal_logits_the_lower_class_wins(size: tuple[int, int]) -> None:
    tied = np.zeros((1, 4, 16, 16), np.float32)
    tied[:, 0] = -1
    tied[:, 1:, :, 8:] = np.random.default_rng(0).normal(size=(16, 8))
    tied[:, 0, :, 8:] = tied[:, 1, :, 8:]
    spec = InputSpec(16, 16)
    mask = Postprocessor(spec, None)(tied, None, size)[0]
    left = size[1] * 7 // 16  # where upsampling does not yet see the right half
    right = size[1] * 9 // 16 + 1
    assert (mask[:, :left] == 1).all()
    assert (mask[:, right:] == 0).all()


# With a gate


@given(case=cases(), data=st.data())
def test_gated_mask_is_that_of_pytorch(case: Case, data: st.DataObject) -> None:
    count = case.logits.shape[1]
    shares = st.lists(
        st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1, width=32),
        min_size=count,
        max_size=count,
    )
    presence = np.array([data.draw(shares)], np.float32)
    thresholds = tuple(data.draw(shares))
    open_ = [c for c in range(count) if presence[0, c] >= thresholds[c]] or [0]
    masks = Postprocessor(case.spec, thresholds)(case.logits, presence, case.size)
    assert_equal_but_for_ties(masks[0], reference(case, presence, thresholds), case, open_)


def rising(count: int = 4, batch: int = 1) -> Logits:
    """Logits of which the last class is the best everywhere, then the one before, and so on."""
    return np.tile(np.arange(count, dtype=np.float32)[:, None, None], (batch, 1, 8, 8))


@pytest.mark.parametrize(
    ("presence", "winner"),
    [
        ([1, 1, 1, 1], 3),
        ([1, 1, 1, 0], 2),  # closed: the pixel falls to the next best
        ([0, 1, 0, 0], 1),
        ([1, 0, 0, 0], 0),
        ([0, 0, 1, 0.5], 3),  # at the threshold a class is open
        ([0, 0, 1, 0.49], 2),
        ([0, 0, 0, 0], 0),  # all closed: background
    ],
)
def test_gate_closes_classes(presence: list[float], winner: int) -> None:
    spec = InputSpec(8, 8)
    gate = np.array([presence], np.float32)
    masks = Postprocessor(spec, (0.5,) * 4)(rising(), gate, (20, 12))
    assert (masks == winner).all()


def test_every_frame_has_its_own_gate() -> None:
    gate = np.eye(4, dtype=np.float32)
    masks = Postprocessor(InputSpec(8, 8), (0.5,) * 4)(rising(batch=4), gate, (10, 10))
    assert [np.unique(mask).tolist() for mask in masks] == [[0], [1], [2], [3]]


def test_presence_without_thresholds_closes_nothing() -> None:
    gate = np.zeros((1, 4), np.float32)
    assert (Postprocessor(InputSpec(8, 8), None)(rising(), gate, (8, 8)) == 3).all()


# Confidence


@given(case=cases(), data=st.data())
def test_confidence_is_the_softmax_of_the_open_classes(case: Case, data: st.DataObject) -> None:
    count = case.logits.shape[1]
    opened = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    presence = np.array([opened], np.float32)
    logits = to_logits(torch.from_numpy(case.logits), case.spec, *case.size)[0]
    classes = [c for c in range(count) if opened[c]] or [0]
    wanted = 255 * torch.softmax(logits[classes], 0).amax(0).numpy()
    sure = Postprocessor(case.spec, (0.5,) * count).confidence(case.logits, presence, case.size)
    assert sure.shape == (1, *case.size)
    assert sure.dtype == np.uint8
    assert np.abs(sure[0] - wanted).max() < 0.51  # rounding, and that of another upsampling


def test_class_that_is_alone_is_sure() -> None:
    gate = np.array([[0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]], np.float32)
    postprocess = Postprocessor(InputSpec(8, 8), (0.5,) * 4)
    sure = postprocess.confidence(rising(batch=3), gate, (9, 7))
    assert (sure[:2] == 255).all()
    assert (sure[2] == round(255 / (1 + np.exp(-1) + np.exp(-2) + np.exp(-3)))).all()


# one_size


def frame(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)


def test_one_size_is_height_and_width() -> None:
    assert one_size([frame(4, 6), frame(4, 6)]) == (4, 6)


def test_frames_of_several_sizes_are_refused() -> None:
    with pytest.raises(FrameError, match=r"got 2x9, 4x6\. Split the batch\."):
        one_size([frame(4, 6), frame(2, 9), frame(4, 6)])


def test_no_frame_at_all_is_refused() -> None:
    with pytest.raises(FrameError, match="got none"):
        one_size([])
