"""Ranges by method, against the formulas written out, and what is remembered of the values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.data.cells import snapshots
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8.calibration.calibrate import make_table
from edgeunet.exporting.int8.calibration.observe import observe
from edgeunet.exporting.int8.calibration.ranges import (
    BINS,
    METHODS,
    Histogram,
    Statistics,
    entropy,
    entropy_threshold,
    minmax,
    mse,
    percentile,
    ranges_of,
)
from edgeunet.exporting.int8.quantize import quantize_for_tensorrt
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.backends.preprocess import Preprocessor

Array = npt.NDArray[np.float32]
seeds = st.integers(0, 2**32 - 1)


def frames_of(seed: int, *, count: int = 3) -> list[Array]:
    """Values of one activation in several frames: heavy tails, half of them closed by a ReLU."""
    rng = np.random.default_rng(seed)
    scale, closed = 10.0 ** rng.uniform(-2, 3), rng.random() < 0.5
    values = [
        (scale * rng.uniform(0.3, 1) * rng.standard_t(3, (1, 4, 20, 25))).astype(np.float32)
        for _ in range(count)
    ]
    return [np.maximum(frame, 0) if closed else frame for frame in values]


def seen_in(frames: list[Array]) -> Statistics:
    statistics = Statistics()
    for frame in frames:
        assert statistics.add(frame)
    return statistics


# Formulas


@given(seeds)
def test_minmax_holds_all_values_and_zero(seed: int) -> None:
    frames = frames_of(seed)
    every = np.concatenate([np.zeros(1), *(frame.ravel() for frame in frames)])
    assert minmax(seen_in(frames)) == (every.min(), every.max())


@given(seeds)
def test_percentile_is_the_widest_of_the_frames_quantiles(seed: int) -> None:
    frames = frames_of(seed)
    low = min(0.0, *(np.quantile(frame, 1e-4) for frame in frames))
    high = max(0.0, *(np.quantile(frame, 1 - 1e-4) for frame in frames))
    assert percentile(seen_in(frames)) == pytest.approx((low, high), rel=1e-6)


@given(seeds, st.integers(1, 5000), st.integers(0, 3))
def test_quantiles_are_those_of_numpy(seed: int, size: int, digits: int) -> None:
    """Of few values and of many, with ties at either end and without."""
    rng = np.random.default_rng(seed)
    values = np.round(rng.standard_t(2, size), digits).clip(*sorted(rng.uniform(-9, 9, 2)))
    frame = values.astype(np.float32)
    low, high = min(0.0, np.quantile(frame, 1e-4)), max(0.0, np.quantile(frame, 1 - 1e-4))
    assert percentile(seen_in([frame])) == pytest.approx((low, high), rel=1e-6, abs=1e-6)


def reference_threshold(counts: list[int], span: float) -> float:
    """`entropy_threshold` as pytorch-quantization writes it, one bin at a time."""
    bins = [counts[1], *counts[1:]]
    last = max(index for index, count in enumerate(bins) if count) + 1
    best, threshold = float("inf"), span
    for kept in [*range(128, last, 16), last]:
        total, held = [0.0] * 128, [0] * 128
        for index in range(kept):
            if bins[index]:
                total[index * 128 // kept] += bins[index]
                held[index * 128 // kept] += 1
        rounded = [
            total[i * 128 // kept] / held[i * 128 // kept] if bins[i] else 0.0 for i in range(kept)
        ]
        clipped = [float(count) for count in bins[:kept]]
        clipped[-1] += sum(bins[kept:])
        p_sum, q_sum, divergence = sum(clipped), sum(rounded), 0.0
        for p, q in zip(clipped, rounded, strict=True):
            if p:
                divergence += p / p_sum * np.log(p / p_sum / (q / q_sum)) if q else float("inf")
        if divergence <= best + 1e-12:
            best, threshold = divergence, kept * span / len(bins)
    return threshold


@pytest.mark.parametrize("seed", range(3))
def test_entropy_is_the_published_formula(seed: int) -> None:
    seen = seen_in(frames_of(seed))
    histogram = seen.histogram
    wanted = reference_threshold(histogram.counts.tolist(), histogram.span)
    assert entropy_threshold(histogram) == pytest.approx(wanted)
    assert entropy(seen) == (max(seen.lowest, -wanted), min(seen.highest, wanted))


def test_entropy_clips_a_lone_outlier_and_keeps_an_even_spread() -> None:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=100_000).astype(np.float32)
    outlier = np.append(normal, np.float32(60))
    assert 2 < entropy(seen_in([outlier]))[1] < 30
    even = rng.uniform(-3, 3, 100_000).astype(np.float32)
    assert entropy(seen_in([even])) == pytest.approx((-3, 3), rel=0.02)


def squared_error(frames: list[Array], limits: tuple[float, float]) -> float:
    """What symmetric INT8 over a range makes of the values."""
    step = max(-limits[0], limits[1]) / 127
    values = np.concatenate([frame.ravel() for frame in frames]).astype(np.float64)
    return float(np.square(np.clip(np.round(values / step), -127, 127) * step - values).sum())


@given(seeds)
def test_mse_loses_the_least_squared_error_of_all_methods(seed: int) -> None:
    frames = frames_of(seed)
    seen = seen_in(frames)
    lost = {
        method: squared_error(frames, ranges_of({"x": seen}, method)["x"]) for method in METHODS
    }
    assert lost["mse"] <= 1.1 * min(lost.values())  # bins and steps are coarse


def test_mse_clips_a_lone_outlier_less_the_more_it_weighs() -> None:
    normal = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    few = mse(seen_in([np.append(normal, np.full(1, 60, np.float32))]))[1]
    many = mse(seen_in([np.append(normal, np.full(1000, 60, np.float32))]))[1]
    assert few < 0.9 * many
    assert many == pytest.approx(60, rel=0.05)


def test_mse_of_what_a_relu_closes_is_that_of_the_rest() -> None:
    opened = np.abs(np.random.default_rng(0).standard_t(3, 20_000)).astype(np.float32)
    closed = np.append(opened, np.zeros(100_000, np.float32))
    assert mse(seen_in([closed])) == mse(seen_in([opened]))


@given(seeds)
def test_every_range_holds_zero_is_no_wider_than_the_values_and_is_not_empty(seed: int) -> None:
    seen = seen_in(frames_of(seed))
    widest = ranges_of({"x": seen}, "minmax")["x"]
    for method in METHODS:
        low, high = ranges_of({"x": seen}, method)["x"]
        assert widest[0] <= low <= 0 <= high <= widest[1]
        assert low < high


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_activation_gets_a_scale_that_fp16_holds(method: str) -> None:
    seen = seen_in([np.zeros((1, 2, 3, 3), np.float32)])
    low, high = ranges_of({"x": seen}, method)["x"]  # type: ignore[arg-type]
    assert np.float16(high / 127) >= np.finfo(np.float16).tiny
    assert low == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_nearly_dead_activation_stays_on_its_side_of_zero(method: str) -> None:
    """Or ONNX Runtime would keep the Relu, and run the convolution before it in float."""
    values = np.linspace(0, 1e-4, 18, dtype=np.float32).reshape(1, 2, 3, 3)
    ranges = {
        name: ranges_of({"x": seen_in([of])}, method)["x"]  # type: ignore[arg-type]
        for name, of in (("up", values), ("down", -values), ("both", values - np.float32(5e-5)))
    }
    low, high = ranges["both"]
    assert -low == high > 1e-4
    assert ranges["up"] == (0, high)
    assert ranges["down"] == (low, 0)


# What is remembered


@given(seeds)
def test_histogram_counts_as_numpy_does(seed: int) -> None:
    frames = frames_of(seed)
    histogram = Histogram()
    for frame in frames:
        histogram.add(frame.ravel())
    every = np.abs(np.concatenate([frame.ravel() for frame in frames]))
    wanted, _ = np.histogram(every, BINS, range=(0, histogram.span))
    np.testing.assert_array_equal(histogram.counts, wanted)
    assert histogram.span / 2 < max(float(every.max()), 2.0**-7) <= histogram.span


@given(seeds)
def test_order_of_the_frames_does_not_matter(seed: int) -> None:
    frames = frames_of(seed)
    one, other = seen_in(frames), seen_in(frames[::-1])
    for method in METHODS:
        assert ranges_of({"x": one}, method) == ranges_of({"x": other}, method)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_reported_and_not_counted(value: float) -> None:
    seen = Statistics()
    assert not seen.add(np.array([[1.0, value]], np.float32))
    assert not seen.histogram.counts.any()


# On trained weights


def test_a_map_without_channels_counts_nothing() -> None:
    seen = Statistics()
    assert seen.add(np.zeros((1, 0, 3, 3), np.float32))
    assert (seen.lowest, seen.highest, seen.histogram.counts.sum()) == (0, 0, 0)


@pytest.mark.slow
def test_mse_wins_back_what_tensorrt_loses_by_the_silu_of_eff_unet(tmp_path: Path) -> None:
    """A SiLU is as low as -0.28 and as high as 26: most of its values lie in a few levels."""
    opened = Checkpoint.open("cells", "eff_unet")
    net, card = opened.net, opened.card
    spec, graph, path = card.input, tmp_path / "net.onnx", tmp_path / "int8.onnx"
    trace(net, graph, height=spec.height, width=spec.width, channels=len(spec.channels))
    drawn = [s.image for s in snapshots(10, height=spec.height, width=spec.width, seed=1)]
    observation = observe(graph, drawn[:8], spec)
    images = [Preprocessor(spec)([frame]) for frame in drawn[8:]]

    def logits(of: Path) -> Array:
        net = OrtNet(of, flavour="int8")
        return np.stack([net.infer(image).logits for image in images])

    wanted, errors = logits(graph), {}
    for method in ("mse", "percentile"):
        table = make_table(graph, observation, method, model="eff_unet", source="cells")
        quantize_for_tensorrt(graph, path, table)
        errors[method] = float(np.square(logits(path) - wanted).mean())
    assert errors["mse"] < 0.75 * errors["percentile"]


def test_the_image_is_not_clipped() -> None:
    seen = seen_in(frames_of(3))
    assert mse(seen) != minmax(seen)
    for method in METHODS:
        assert ranges_of({"image": seen}, method) == {"image": minmax(seen)}
