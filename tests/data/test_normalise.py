"""What is measured on images, against NumPy and the code that nets were trained with."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import DEPTHS, InputSpec
from edgeunet.bundle.steps import ImageStatistics, Measure, Measured
from edgeunet.data import normalise
from edgeunet.data.normalise import Normalisation, measure
from support.formats import statistics

Plane = npt.NDArray[Any]

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def planes_of(shape: tuple[int, int], depth: str, seed: int, channels: int = 3) -> list[Plane]:
    """Planes with zeros, some of them close to each other and far from 0."""
    rng = np.random.default_rng(seed)
    if depth == "float32":
        values = rng.normal(rng.integers(-9999, 9999), 2, (channels, *shape)).astype(np.float32)
    else:
        bounds = np.iinfo(depth)
        values = rng.integers(bounds.min, bounds.max, (channels, *shape), depth, endpoint=True)
    values[rng.random(values.shape) < 0.3] = 0
    return list(values)


def by_numpy(planes: list[Plane], how: ImageStatistics) -> Plane:
    """The definition: what `ImageStatistics` says, in FP64."""
    image = np.stack(planes).astype(np.float64)
    kept = np.ones(image.shape, bool)
    if how.pixels == "nonzero":
        kept = image != 0
    elif how.pixels == "content":
        kept = np.repeat((image != 0).any(0)[None], len(image), 0)
    result = np.zeros_like(image)
    for group in range(len(image)) if how.per_channel else [slice(None)]:
        if not kept[group].any():
            continue
        values = image[group][kept[group]]
        if how.measure == "zscore":
            low, spread = values.mean(), values.std()
        else:
            low, high = np.percentile(values, how.percentiles)
            spread = high - low
        divisor = spread + how.epsilon if how.adds_epsilon else max(spread, how.epsilon)
        result[group] = np.where(kept[group], (image[group] - low) / divisor, 0)
    return result


def normalised(planes: list[Plane], how: ImageStatistics) -> Plane:
    spec = InputSpec(*planes[0].shape, channels=tuple("abcdef"[: len(planes)]), statistics=how)
    return np.stack(Normalisation.of(planes, spec)(planes))


def tolerance(expected: Plane) -> float:
    return 2e-6 * max(1.0, float(np.abs(expected).max()))


@given(how=statistics(), shape=shapes, depth=st.sampled_from(DEPTHS), seed=seeds)
def test_values_are_those_of_the_definition(
    how: ImageStatistics, shape: tuple[int, int], depth: str, seed: int
) -> None:
    planes = planes_of(shape, depth, seed)
    expected = by_numpy(planes, how)
    result = normalised(planes, how)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance(expected))


@given(nonzero=st.booleans(), channel_wise=st.booleans(), shape=shapes, seed=seeds)
def test_zscore_is_that_of_monai(
    nonzero: bool, channel_wise: bool, shape: tuple[int, int], seed: int
) -> None:
    from monai.transforms import NormalizeIntensity  # seconds, for workers that run no such test

    planes = planes_of(shape, "uint8", seed)
    monai = NormalizeIntensity(nonzero=nonzero, channel_wise=channel_wise)
    expected = np.asarray(monai(np.stack(planes).astype(np.float32)))
    how = ImageStatistics(pixels="nonzero" if nonzero else "all", per_channel=channel_wise)
    np.testing.assert_allclose(normalised(planes, how), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("value", [0, 1, 77])
@pytest.mark.parametrize("kind", get_args(Measure))
def test_flat_images_become_exactly_zero(depth: str, value: int, kind: Measure) -> None:
    flat = np.full((31, 17), value, depth)
    assert (normalised([flat] * 2, ImageStatistics(measure=kind)) == 0).all()


@pytest.mark.parametrize("pixels", ["nonzero", "content"])
def test_image_of_zeros_stays_zero(pixels: Measured) -> None:
    black = np.zeros((5, 6), np.uint16)
    assert (normalised([black], ImageStatistics(pixels=pixels)) == 0).all()


def test_large_images_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    planes = planes_of((40, 33), "uint16", 0)
    how = ImageStatistics(pixels="nonzero")
    whole = measure(planes, how)
    monkeypatch.setattr(normalise, "_EXACT", 100)
    assert measure(planes, how) == whole


def test_mean_and_std_of_the_input_come_after_the_image_s_own() -> None:
    plane = np.array([[0, 4], [2, 2]], np.uint8)
    how = ImageStatistics(measure="range")
    spec = InputSpec(2, 2, channels=("a",), statistics=how, mean=(0.5,), std=(0.25,))
    (result,) = Normalisation.of([plane], spec)([plane])
    np.testing.assert_array_equal(result, [[-2, 2], [0, 0]])
