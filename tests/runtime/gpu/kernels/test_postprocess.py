"""Post-processing in CUDA, compiled for the host, against the CPU's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import InputSpec
from edgeunet.runtime.backends.postprocess import Postprocessor
from support.device_arrays import Placed, place
from support.host_kernels import make_kernels, where_ipp_resizes

TIE = 1e-4
"""Upsampled logits, of a spread of 4, that are nearer than this may swap."""
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 100)
float_types = st.sampled_from([np.float32, np.float16])
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """Logits (R, C, h, w) of a net at 1/`stride` of its input, for frames of `size`."""

    spec: InputSpec
    size: tuple[int, int]
    logits: Array
    rows: tuple[int, ...] | None = None
    presence: Array | None = None
    thresholds: tuple[float, ...] | None = None
    shift: int = 0

    @property
    def count(self) -> int:
        return len(self.logits) if self.rows is None else len(self.rows)

    def masks(self, *, confidence: bool = False) -> tuple[Array, Array]:
        """What the kernel makes of it: masks, and how sure they are."""
        classes, *logits_size = self.logits.shape[1:]
        kernels = make_kernels(self.spec, classes, self.thresholds)
        logits = place(self.logits, self.logits.dtype, shift=self.shift)
        rows = None if self.rows is None else place(self.rows, np.int32)
        gate = None if self.presence is None else place(self.presence, self.presence.dtype)
        masks, sure = (
            Placed((self.count, *self.size), np.uint8, shift=self.shift) for _ in range(2)
        )
        kernels.postprocess(
            logits.address, self.logits.dtype, rows=rows.address if rows else 0,
            presence=gate.address if gate else 0,
            presence_dtype=np.float32 if self.presence is None else self.presence.dtype,
            logits_size=(logits_size[0], logits_size[1]), count=self.count, masks=masks.address,
            size=self.size, stream=None, confidence=sure.address if confidence else 0,
        )  # fmt: skip
        return masks.written(), sure.written()

    def reference(self) -> tuple[Array, Array]:
        """The same from the CPU's post-processing, with zeros where the decoder was spared."""
        logits = self.logits.astype(np.float32)
        if self.rows is not None:
            logits = np.stack([logits[row] * (row >= 0) for row in self.rows])
        presence = None if self.presence is None else self.presence.astype(np.float32)
        postprocess = Postprocessor(self.spec, self.thresholds)
        wanted = postprocess(logits, presence, self.size)
        return wanted, postprocess.confidence(logits, presence, self.size)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    eighths = st.integers(1, 9).map(lambda count: 8 * count)
    spec = InputSpec(draw(eighths), draw(eighths), resize=draw(st.sampled_from(["stretch", "pad"])))
    stride = draw(st.sampled_from([1, 2, 4, 8]))
    # The net's own size takes another path, with loads of four logits at once.
    size = draw(st.tuples(sides, sides) | st.just((spec.height // stride, spec.width // stride)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(2, 32)))
    rng = np.random.default_rng(draw(seeds))
    logits = rng.normal(scale=4, size=(*shape, spec.height // stride, spec.width // stride))
    return Case(
        spec, size, logits.astype(draw(float_types)), shift=draw(st.sampled_from([0, 0, 1, 2, 3]))
    )


@st.composite
def gated_cases(draw: st.DrawFn) -> Case:
    """Frames in any order of rows; a spared decoder (-1) where at most one class is open."""
    case = draw(cases())
    count, classes = draw(st.integers(1, 4)), case.logits.shape[1]
    shares = st.lists(
        st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=classes, max_size=classes
    )  # fmt: skip
    presence = np.array([draw(shares) for _ in range(count)], draw(float_types))
    thresholds = tuple(draw(shares))
    if draw(st.booleans()):
        presence[0] *= np.arange(classes) == draw(st.integers(0, classes))  # one open, or none
    opened = (presence >= np.array(thresholds, np.float32)).sum(1)
    rows = tuple(
        -1 if some <= 1 and draw(st.booleans()) else draw(st.integers(0, len(case.logits) - 1))
        for some in opened
    )
    return Case(
        case.spec, case.size, case.logits, rows, presence, thresholds, shift=case.shift
    )  # fmt: skip


def assert_equal_but_for_ties(case: Case) -> None:
    """A pixel that differs has two open classes on top that are as good as equal."""
    masks, untouched = case.masks()
    wanted, _ = case.reference()
    assert (untouched == 255).all()
    for index in np.unique(np.nonzero(masks != wanted)[0]):
        row = case.rows[index] if case.rows else index
        only = Postprocessor(case.spec, None)
        for here, there in set(zip(masks[index].flat, wanted[index].flat, strict=True)):
            pair = case.logits[row, [here, there]].astype(np.float32)
            rows, columns = _covered(case)
            gap = np.abs(only.enlarged(pair[0, :rows, :columns] - pair[1, :rows, :columns],
                                       case.size))  # fmt: skip
            swapped = (masks[index] == here) & (wanted[index] == there) & (here != there)
            assert (gap[swapped] < TIE).all()


def _covered(case: Case) -> tuple[int, int]:
    fitted = case.spec.fitted_size(*case.size)
    height, width = case.logits.shape[2:]
    return height * fitted[0] // case.spec.height, width * fitted[1] // case.spec.width


@given(case=cases())
def test_masks_are_those_of_the_postprocessor(case: Case) -> None:
    assert_equal_but_for_ties(case)


@given(case=gated_cases())
def test_gated_masks_are_those_of_the_postprocessor(case: Case) -> None:
    assert_equal_but_for_ties(case)


def many_pixels() -> Case:
    logits = np.random.default_rng(0).normal(scale=4, size=(1, 19, 136, 240)).astype(np.float32)
    return Case(InputSpec(272, 480), (360, 641), logits)


def test_ties_are_rare() -> None:
    case = many_pixels()
    assert (case.masks()[0] != case.reference()[0]).mean() < 1e-4


@where_ipp_resizes
def test_masks_are_bit_for_bit_those_of_ipp() -> None:
    case = many_pixels()
    assert np.array_equal(case.masks()[0], case.reference()[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 3), (16, 24), (32, 48), (8, 12), (131, 133)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_masks_at_odd_sizes(size: tuple[int, int], dtype: Any) -> None:
    logits = np.random.default_rng(1).normal(scale=4, size=(2, 5, 16, 24)).astype(dtype)
    assert_equal_but_for_ties(Case(InputSpec(16, 24), size, logits))


@pytest.mark.parametrize("width", range(1, 10))
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_masks_of_the_logits_own_narrow_size(width: int, dtype: Any) -> None:
    """As many classes as there are ways to end while the next ones are being loaded."""
    rng = np.random.default_rng(width)
    for classes in range(2, 6):
        logits = rng.normal(scale=4, size=(2, classes, 3, width)).astype(dtype)
        presence = rng.integers(0, 2, (2, classes)).astype(dtype)
        for shift in range(4):
            plain = Case(InputSpec(3, width), (3, width), logits, shift=shift)
            gated = replace(plain, presence=presence, thresholds=(0.5,) * classes)
            for case in (plain, gated):
                masks, sure = case.masks(confidence=True)
                wanted, wanted_sure = case.reference()
                assert np.array_equal(masks, wanted)
                assert np.abs(sure.astype(int) - wanted_sure).max() <= 1


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (8, 8)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_masks_beside_padding(size: tuple[int, int], dtype: Any) -> None:
    logits = np.random.default_rng(2).normal(scale=4, size=(2, 5, 16, 32)).astype(dtype)
    logits[..., 16:] = np.nan
    assert_equal_but_for_ties(Case(InputSpec(16, 32, resize="pad"), size, logits))


@pytest.mark.parametrize("size", [(16, 16), (5, 41), (64, 48)])
def test_of_equal_logits_the_lower_class_wins(size: tuple[int, int]) -> None:
    one = np.random.default_rng(0).normal(size=(1, 1, 16, 16)).astype(np.float32)
    tied = np.concatenate([one - 1, one, one, one], 1)
    assert (Case(InputSpec(16, 16), size, tied).masks()[0] == 1).all()


@pytest.mark.parametrize("classes", [150, 256])
def test_class_ids_go_up_to_255(classes: int) -> None:
    rising = np.arange(classes, dtype=np.float32)[None, :, None, None].repeat(8, 2).repeat(8, 3)
    presence = np.ones((2, classes), np.float32)
    presence[1, -1] = 0.4
    case = Case(InputSpec(8, 8), (9, 9), rising, (0, 0), presence, (0.5,) * classes)
    masks, _ = case.masks()
    assert (masks[0] == classes - 1).all()
    assert (masks[1] == classes - 2).all()


@pytest.mark.parametrize(
    ("presence", "winner"),
    [
        ([1, 1, 1, 1], 3),
        ([1, 1, 1, 0.49], 2),
        ([1, 1, 1, 0.5], 3),  # at the threshold a class is open
        ([0, 1, 0, 0], 1),
        ([0, 0, 0, 0], 0),
        ([1, 1, np.nan, np.nan], 1),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gate_closes_classes(presence: list[float], winner: int, dtype: Any) -> None:
    rising = np.arange(4, dtype=np.float32)[None, :, None, None].repeat(8, 2).repeat(8, 3)
    case = Case(InputSpec(8, 8), (8, 8), rising, None, np.array([presence], dtype), (0.5,) * 4)
    masks, sure = case.masks(confidence=True)
    assert (masks == winner).all()
    assert np.array_equal(sure, case.reference()[1])


def test_presence_without_thresholds_closes_nothing() -> None:
    rising = np.arange(3, dtype=np.float32)[None, :, None, None].repeat(8, 2).repeat(8, 3)
    case = Case(InputSpec(8, 8), (8, 8), rising, None, np.zeros((1, 3), np.float32))
    assert (case.masks()[0] == 2).all()


@pytest.mark.parametrize(
    ("presence", "winner"), [([0.0, 0.0, 0.9], 2), ([0.9, 0.0, 0.0], 0), ([0.0] * 3, 0)]
)
def test_spared_frame_is_its_open_class_and_sure(presence: list[float], winner: int) -> None:
    logits = np.full((1, 3, 8, 8), np.nan, np.float32)
    gate = np.array([presence] * 2, np.float32)
    case = Case(InputSpec(8, 8), (11, 13), logits, (-1, -1), gate, (0.5,) * 3)
    masks, sure = case.masks(confidence=True)
    assert (masks == winner).all()
    assert (sure == 255).all()


def test_spared_frame_never_reads_logits_even_with_every_class_open() -> None:
    logits = np.arange(3, dtype=np.float32)[None, :, None, None].repeat(8, 2).repeat(8, 3)
    masks, _ = Case(InputSpec(8, 8), (8, 8), logits, (0, -1)).masks()
    assert [np.unique(mask).tolist() for mask in masks] == [[2], [0]]


@given(case=st.one_of(cases(), gated_cases()))
def test_confidence_is_that_of_the_postprocessor(case: Case) -> None:
    masks, sure = case.masks(confidence=True)
    assert np.array_equal(masks, case.masks()[0])
    wanted = case.reference()[1]
    assert np.abs(sure.astype(int) - wanted).max() <= 1


def test_confidence_by_hand() -> None:
    shares = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    logits = shares[None, :, None, None].repeat(8, 2).repeat(8, 3)
    gate = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1]], np.float32)
    case = Case(InputSpec(8, 8), (8, 8), logits, (0, 0, 0), gate, (0.5,) * 3)
    for masks, sure in (case.masks(confidence=True), case.reference()):
        assert [np.unique(mask).tolist() for mask in masks] == [[0], [1], [2]]
        # round(255 * 0.5) is a tie that the last bit decides
        assert set(np.unique(sure[0])) <= {127, 128}
        assert [np.unique(plane).tolist() for plane in sure[1:]] == [[153], [255]]
