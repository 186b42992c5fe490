"""U-Net's weight map against the formula, computed pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.data.samples import MaskFile, Sample
from edgeunet.metrics import IGNORE
from edgeunet.training import weight_map
from edgeunet.training.weight_map import WeightMaps, border_term, class_weights, instances_of

Instances = npt.NDArray[np.int32]


def term_by_hand(instances: Instances) -> npt.NDArray[np.float64]:
    """The formula with the distances between all pairs of pixels."""
    rows, columns = np.indices(instances.shape)
    points = np.stack([rows.ravel(), columns.ravel()], 1).astype(float)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    flat = instances.ravel()
    to_borders = []
    for number in np.unique(flat[flat > 0]):
        inside = flat == number
        if inside.all():
            continue
        across = inside[:, None] != inside[None]  # a border is between the two pixels
        to_borders.append(np.where(across, apart, np.inf).min(1))
    if len(to_borders) < 2:
        return np.zeros(instances.shape)
    first, second = np.sort(np.stack(to_borders), axis=0)[:2]
    return np.exp(-((first + second) ** 2) / (2 * 5.0**2)).reshape(instances.shape)


@given(
    height=st.integers(1, 14),
    width=st.integers(1, 40),
    count=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_border_term_matches_the_formula(height: int, width: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    instances = np.zeros((height, width), np.int32)
    for number in range(1, count + 1):
        top, left = rng.integers(height), rng.integers(width)
        instances[top : top + rng.integers(1, 8), left : left + rng.integers(1, 12)] = 3 * number
    # Beyond 25 pixels the term is at most 3.8e-6 and is not computed.
    np.testing.assert_allclose(border_term(instances), term_by_hand(instances), atol=4e-6)


def test_gap_between_two_cells_weighs_most() -> None:
    instances = np.zeros((40, 60), np.int32)
    instances[10:30, 5:27], instances[10:30, 29:50] = 1, 2  # a gap of 2 pixels
    weights = border_term(instances)
    gap = weights[12:28, 27:29]
    assert gap.min() > 0.8  # 1 + 2 pixels: exp(-9 / 50)
    assert gap.min() > weights[instances > 0].max()
    assert weights[:3].max() < 0.01


def test_instances_are_the_components_of_each_class() -> None:
    mask = np.array(
        [[1, 1, 0, 1], [0, 1, 0, 2], [1, 0, 0, 2], [IGNORE, 0, 2, 1]],
        np.uint8,
    )
    instances = instances_of(mask)
    assert (instances[(mask == 0) | (mask == IGNORE)] == 0).all()
    groups = [{(0, 0), (0, 1), (1, 1)}, {(0, 3)}, {(2, 0)}, {(1, 3), (2, 3)}, {(3, 2)}, {(3, 3)}]
    for group in groups:
        assert len({int(instances[at]) for at in group}) == 1
    assert len(np.unique(instances[instances > 0])) == len(groups)


def test_classes_are_balanced_by_their_median() -> None:
    weights = class_weights(np.array([800, 100, 0, 50]))
    np.testing.assert_allclose(weights, [0.125, 1, 0, 2])
    assert not class_weights(np.zeros(3, np.int64)).any()


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """Two cells with a gap, and one ignored pixel."""
    mask = np.zeros((24, 24), np.uint8)
    mask[4:20, 3:11] = mask[4:20, 13:21] = 1
    mask[0, 0] = IGNORE
    path = tmp_path / "mask.png"
    assert cv2.imwrite(str(path), mask)
    return Sample(tmp_path / "image.png", MaskFile(path))


def read(path: Path) -> npt.NDArray[np.uint8]:
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    return np.asarray(mask, np.uint8)


def test_map_is_balance_plus_border_and_ignored_pixels_have_no_balance(
    sample: Sample, tmp_path: Path
) -> None:
    mask = read(sample.labels.path)
    balance = np.array([0.5, 2], np.float32)
    maps = WeightMaps(tmp_path / "maps", border=10.0, balance=balance)
    weights = maps(sample, mask)
    wanted = 10 * border_term(instances_of(mask))
    wanted[mask == 0] += 0.5
    wanted[mask == 1] += 2
    np.testing.assert_allclose(weights, wanted, atol=2e-4)  # stored in steps of 10 / 65535
    plain = WeightMaps(tmp_path / "maps", border=0.0, balance=balance)(sample, mask)
    assert plain[0, 0] == 0
    assert set(np.unique(plain)) == {0, 0.5, 2}


def test_border_terms_are_computed_once_and_stored(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = read(sample.labels.path)
    maps = WeightMaps(tmp_path / "maps", border=10.0, balance=np.ones(2, np.float32))
    first = maps(sample, mask)
    (kept,) = (tmp_path / "maps").iterdir()

    def refuse(instances: Instances) -> npt.NDArray[np.float32]:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(weight_map, "border_term", refuse)
        assert np.array_equal(maps(sample, mask), first)
    kept.write_bytes(b"torn")  # a damaged file is computed again
    assert np.array_equal(maps(sample, mask), first)


def test_given_instances_separate_touching_objects(sample: Sample, tmp_path: Path) -> None:
    mask = np.ones((16, 16), np.uint8)
    instances = np.ones((16, 16), np.uint16)
    instances[:, 8:] = 700
    assert cv2.imwrite(str(sample.labels.path), mask)
    path = tmp_path / "instances.png"
    assert cv2.imwrite(str(path), instances)
    maps = WeightMaps(tmp_path / "maps", border=1.0, balance=np.zeros(2, np.float32))
    assert not maps(sample, mask).any()
    apart = maps(Sample(sample.image, sample.labels, path), mask)
    assert apart[:, 7:9].min() > 0.9  # 1 + 1 pixels: exp(-4 / 50)
