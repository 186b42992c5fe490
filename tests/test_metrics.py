"""Mask metrics, against values computed by hand and against OpenCV."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgeunet.metrics import (
    IGNORE,
    Flicker,
    Mask,
    boundary,
    boundary_f1,
    confusion_matrix,
    dice_per_class,
    dilate,
    iou_per_class,
    mean_iou,
    pixel_agreement,
    without_labels,
)

CLASSES = 4
# Truth over prediction; class 3 never appears, the last pixel is ignored.
TRUTH = np.array([[0, 0, 0, 1], [1, 1, 2, IGNORE]], np.uint8)
PREDICTED = np.array([[0, 0, 1, 1], [1, 0, 0, 2]], np.uint8)
CONFUSION = np.array([[2, 1, 0, 0], [1, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
shapes = array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=8)


def masks(shape: tuple[int, ...], *, ignore: bool = False) -> st.SearchStrategy[Mask]:
    ids = [*range(CLASSES), *([IGNORE] if ignore else [])]
    return arrays(np.uint8, shape, elements=st.sampled_from(ids))


pairs = shapes.flatmap(lambda shape: st.tuples(masks(shape, ignore=True), masks(shape)))


def half_plane(column: int) -> Mask:
    """Class 1 from `column` to the right; the boundary is two pixels wide."""
    mask = np.zeros((12, 24), np.uint8)
    mask[:, column:] = 1
    return mask


# By hand


def test_confusion_counts_true_by_predicted_without_ignored_pixels() -> None:
    assert np.array_equal(confusion_matrix(TRUTH, PREDICTED, num_classes=CLASSES), CONFUSION)


def test_iou_by_hand_and_nan_for_the_absent_class() -> None:
    # Class 0: 2 in common of 3 true and 4 predicted; 1: 2 of 3 and 3; 2: none of 1 and 0.
    np.testing.assert_array_equal(iou_per_class(CONFUSION), [2 / 5, 2 / 4, 0, np.nan])


def test_dice_by_hand_and_nan_for_the_absent_class() -> None:
    np.testing.assert_array_equal(dice_per_class(CONFUSION), [4 / 7, 4 / 6, 0, np.nan])


def test_mean_iou_is_over_the_classes_that_labels_have() -> None:
    assert mean_iou(CONFUSION) == pytest.approx((2 / 5 + 2 / 4 + 0) / 3, rel=1e-15)
    assert without_labels(CONFUSION) == (3,)


def test_class_that_is_predicted_and_never_true_does_not_change_what_is_averaged() -> None:
    truth, predicted = np.array([0, 0, 1, 1], np.uint8), np.array([0, 0, 1, 2], np.uint8)
    confusion = confusion_matrix(truth, predicted, num_classes=3)
    assert mean_iou(confusion) == pytest.approx((1 + 1 / 2) / 2)
    assert without_labels(confusion) == (2,)


def test_predicted_but_absent_class_counts_as_zero_not_as_nan() -> None:
    confusion = confusion_matrix(np.zeros(4, np.uint8), np.ones(4, np.uint8), num_classes=2)
    np.testing.assert_array_equal(iou_per_class(confusion), [0, 0])
    assert mean_iou(confusion) == 0


def test_only_ignored_pixels_give_nan_without_a_warning() -> None:
    ignored = np.full((3, 3), IGNORE, np.uint8)
    confusion = confusion_matrix(ignored, np.zeros_like(ignored), num_classes=2)
    assert not confusion.any()
    assert np.isnan(iou_per_class(confusion)).all()
    assert np.isnan(dice_per_class(confusion)).all()
    assert np.isnan(mean_iou(confusion))


def test_prediction_under_ignored_pixels_may_be_anything() -> None:
    ignored = np.full((2, 2), IGNORE, np.uint8)
    assert not confusion_matrix(ignored, ignored, num_classes=2).any()


def test_pixel_agreement_by_hand() -> None:
    assert pixel_agreement(TRUTH, PREDICTED) == 4 / 8
    assert pixel_agreement(TRUTH, TRUTH) == 1


# Properties


@given(pair=pairs)
def test_confusion_sums_to_the_counted_pixels_by_true_and_predicted_class(
    pair: tuple[Mask, Mask],
) -> None:
    truth, predicted = pair
    confusion = confusion_matrix(truth, predicted, num_classes=CLASSES)
    assert confusion.shape == (CLASSES, CLASSES)
    for c in range(CLASSES):
        assert confusion[c].sum() == np.count_nonzero(truth == c)
        assert confusion[:, c].sum() == np.count_nonzero((predicted == c) & (truth != IGNORE))


@given(pair=pairs)
def test_iou_is_at_most_dice_and_each_follows_from_the_other(pair: tuple[Mask, Mask]) -> None:
    confusion = confusion_matrix(*pair, num_classes=CLASSES)
    iou, dice = iou_per_class(confusion), dice_per_class(confusion)
    assert np.array_equal(np.isnan(iou), np.isnan(dice))
    iou, dice = iou[~np.isnan(iou)], dice[~np.isnan(dice)]
    assert ((iou >= 0) & (iou <= dice) & (dice <= 1)).all()
    np.testing.assert_allclose(dice, 2 * iou / (1 + iou), rtol=1e-14)


@given(pair=pairs)
def test_scores_do_not_change_when_truth_and_prediction_swap(pair: tuple[Mask, Mask]) -> None:
    truth, predicted = (mask[pair[0] != IGNORE] for mask in pair)
    there = confusion_matrix(truth, predicted, num_classes=CLASSES)
    back = confusion_matrix(predicted, truth, num_classes=CLASSES)
    assert np.array_equal(there, back.T)
    np.testing.assert_array_equal(iou_per_class(there), iou_per_class(back))


@given(mask=array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8).flatmap(masks))
def test_identical_masks_score_one(mask: Mask) -> None:
    confusion = confusion_matrix(mask, mask, num_classes=CLASSES)
    there = np.isin(np.arange(CLASSES), mask)
    for scores in (iou_per_class(confusion), dice_per_class(confusion)):
        np.testing.assert_array_equal(scores, np.where(there, 1, np.nan))
    assert mean_iou(confusion) == pixel_agreement(mask, mask) == 1
    assert boundary_f1(mask, mask, tolerance=0) == 1


# Boundaries


def test_boundary_is_both_sides_of_every_class_change() -> None:
    mask = np.zeros((4, 5), np.uint8)
    mask[1:, 2:] = 2
    wanted = ["00111", "01111", "01100", "01100"]
    assert ["".join(map(str, row)) for row in boundary(mask).astype(int)] == wanted


@pytest.mark.parametrize(
    ("shift", "tolerance", "score"),
    [
        # The boundary is two columns: all, one or none of them within the tolerance.
        (0, 0, 1),
        (1, 0, 0.5),
        (2, 0, 0),
        (1, 1, 1),
        (2, 1, 0.5),
        (3, 1, 0),
        (1, 2, 1),
        (2, 2, 1),
        (3, 2, 0.5),
        (4, 2, 0),
        (3, 3, 1),
    ],
)
def test_boundary_f1_of_a_shifted_edge(shift: int, tolerance: int, score: float) -> None:
    one, other = half_plane(10), half_plane(10 + shift)
    assert boundary_f1(one, other, tolerance=tolerance) == score
    assert boundary_f1(other, one, tolerance=tolerance) == score
    assert boundary_f1(one.T, other.T, tolerance=tolerance) == score


def test_boundary_f1_tolerates_two_pixels_by_default() -> None:
    scores = [boundary_f1(half_plane(10), half_plane(10 + shift)) for shift in range(5)]
    assert scores == [1, 1, 1, 0.5, 0]


def test_boundary_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    one, other = half_plane(4), half_plane(4)
    other[:, 20:] = 0  # a second edge that `one` does not have
    # All of one's 2 columns are matched, half of the other's 4.
    assert boundary_f1(one, other, tolerance=1) == pytest.approx(2 * 1 * 0.5 / 1.5, rel=1e-15)


def test_boundary_f1_without_any_boundary() -> None:
    plain = np.zeros((12, 24), np.uint8)
    assert boundary_f1(plain, plain + 1) == 1
    assert boundary_f1(plain, half_plane(10)) == 0
    assert boundary_f1(half_plane(10), plain) == 0


@given(
    pixels=arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)),
    radius=st.integers(0, 14),
)
def test_dilate_is_that_of_opencv_with_a_square(pixels: npt.NDArray[np.bool_], radius: int) -> None:
    before = pixels.copy()
    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    wanted = cv2.dilate(pixels.astype(np.uint8), square)
    assert np.array_equal(dilate(pixels, radius), wanted.astype(bool))
    assert np.array_equal(pixels, before)


# Errors


def test_differing_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"truth is \(2, 4\), predicted is \(4, 2\)"):
        confusion_matrix(TRUTH, PREDICTED.T, num_classes=CLASSES)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (3, 0, "truth holds class 3, but there are 3 classes"),
        (0, 7, "predicted holds class 7, but there are 3 classes"),
        (0, IGNORE, "predicted holds class 255, but there are 3 classes"),
    ],
)
def test_class_out_of_range_is_refused(truth: int, predicted: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(
            np.array([0, truth], np.uint8), np.array([0, predicted], np.uint8), num_classes=3
        )


# Flicker


def image(value: int = 100) -> npt.NDArray[np.uint8]:
    return np.full((4, 5, 3), value, np.uint8)


def test_flicker_counts_changes_where_the_picture_is_static() -> None:
    flicker = Flicker()
    masks = np.zeros((3, 4, 5), np.uint8)
    masks[1, 0, :2] = 1  # two pixels there and back
    for mask in masks:
        flicker.add(image(), mask)
    assert flicker.rate == 4 / 40


def test_flicker_leaves_out_what_moves() -> None:
    flicker = Flicker()
    first, second = image(), image()
    second[:, :4, 1] = 111  # one channel, one step beyond the tolerance
    mask = np.zeros((4, 5), np.uint8)
    flicker.add(first, mask)
    flicker.add(second, mask + np.uint8(1))
    assert flicker.rate == 1
    assert flicker._static == 4


@pytest.mark.parametrize(("earlier", "later"), [(250, 5), (5, 250)])
def test_flicker_does_not_wrap_around(earlier: int, later: int) -> None:
    flicker = Flicker()
    for value in (earlier, later):
        flicker.add(image(value), np.zeros((4, 5), np.uint8))
    assert math.isnan(flicker.rate)


def test_flicker_of_one_frame_or_of_other_sizes_is_unknown() -> None:
    flicker = Flicker()
    assert math.isnan(flicker.rate)
    flicker.add(image(), np.zeros((4, 5), np.uint8))
    flicker.add(np.zeros((8, 5, 3), np.uint8), np.zeros((8, 5), np.uint8))
    assert math.isnan(flicker.rate)
