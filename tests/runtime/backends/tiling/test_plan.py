"""Where tiles lie: every pixel is decided, starts are aligned, borders are far."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeunet.errors import UsageError
from edgeunet.runtime.backends.tiling.band import tile_weights
from edgeunet.runtime.backends.tiling.plan import cut, mirrored, panels, spans
from edgeunet.runtime.options import Blend, Tiling

BLENDS: tuple[Blend, ...] = ("gaussian", "valid")
lengths = st.integers(1, 3000)
tiles = st.integers(1, 600)
tilings = st.builds(Tiling, overlap=st.floats(0, 0.75), blend=st.sampled_from(BLENDS))


@given(lengths, tiles, tilings)
@example(1, 2, Tiling(overlap=0.5, blend="valid"))
@example(2, 33, Tiling(overlap=0.5, blend="valid"))  # the tiles meet behind the image
def test_every_pixel_is_decided_by_a_tile_that_has_it(
    length: int, tile: int, tiling: Tiling
) -> None:
    decided = np.zeros(length, int)
    for span in spans(length, tile, tiling):
        assert span.start <= span.first < span.stop <= min(span.start + tile, length)
        decided[span.first : span.stop] += 1
    assert decided.min() >= 1
    if tiling.blend == "valid":
        assert decided.max() == 1


@given(lengths, tiles, tilings)
@example(33, 161, Tiling(overlap=0.68, blend="valid"))  # the first tile would decide on nothing
def test_tiles_are_in_order_and_none_is_in_vain(length: int, tile: int, tiling: Tiling) -> None:
    plan = spans(length, tile, tiling)
    for one, other in pairwise(plan):
        assert one.start < other.start <= one.start + tile
        assert one.first <= other.first and one.stop <= other.stop
    # Without the last one pixels would lack a tile. Of "valid" each decides on some: see above.
    if len(plan) > 1 and tiling.blend == "gaussian":
        assert plan[-2].start + tile < length


@given(lengths, st.integers(4, 20).map(lambda count: 32 * count), tilings)
def test_tiles_share_the_overlap_and_begin_at_multiples_of_32(
    length: int, tile: int, tiling: Tiling
) -> None:
    plan = spans(length, tile, tiling)
    for one, other in pairwise(plan):
        assert one.start % 32 == other.start % 32 == 0
        assert one.start + tile - other.start >= tiling.overlap * tile - 1e-9
    if len(plan) > 1 and tiling.blend == "valid":
        assert -plan[0].start >= tiling.overlap * tile / 2 - 1e-9


@given(lengths, tiles, st.floats(0, 0.75))
def test_valid_takes_each_pixel_from_the_tile_where_it_is_farthest_from_the_border(
    length: int, tile: int, overlap: float
) -> None:
    plan = spans(length, tile, Tiling(overlap=overlap, blend="valid"))
    pixels = np.arange(length)
    distances = np.stack(
        [np.minimum(pixels - span.start, span.start + tile - 1 - pixels) for span in plan]
    )
    farthest = distances.max(axis=0)
    for span, own in zip(plan, distances, strict=True):
        inside = slice(span.first, span.stop)
        assert (own[inside] == farthest[inside]).all()


@pytest.mark.parametrize("blend", BLENDS)
def test_image_of_a_tiles_size_and_less(blend: Blend) -> None:
    whole = Tiling(overlap=0, blend=blend)
    assert spans(64, 64, whole) == [(0, 0, 64)]
    assert spans(60, 64, whole) == [(-2, 0, 60)]
    assert spans(1, 64, whole) == [(-32, 0, 1)]


def test_last_tile_is_moved_inward_to_the_grid() -> None:
    tiling = Tiling(overlap=0.25)
    assert [span.start for span in spans(600, 256, tiling)] == [0, 192, 352]
    assert spans(600, 256, tiling)[-1] == (352, 352, 600)


@given(lengths, tiles, tilings, st.integers(1, 700))
def test_panels_part_the_columns(length: int, tile: int, tiling: Tiling, width: int) -> None:
    plan = spans(length, tile, tiling)
    end = 0
    decided = []
    for panel in panels(plan, width):
        left, right = panel[0].first, panel[-1].stop
        assert left == end and right - left <= width
        end = right
        decided += [(span.start, pixel) for span in panel for pixel in range(span.first, span.stop)]
    assert end == length
    wanted = [(span.start, pixel) for span in plan for pixel in range(span.first, span.stop)]
    assert sorted(decided) == sorted(wanted)


@pytest.mark.parametrize("blend", BLENDS)
@given(st.integers(1, 600), st.integers(1, 600))
def test_weights_are_positive_and_largest_in_the_middle(
    blend: Blend, height: int, width: int
) -> None:
    weights = tile_weights((height, width), blend)
    assert weights.shape == (height, width) and weights.dtype == np.float32
    assert weights.min() > 0
    assert weights.max() == weights[height // 2, width // 2] <= 1
    np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-5)


@given(st.integers(-700, 700), st.integers(1, 300), st.integers(1, 200))
def test_mirroring_is_that_of_numpy(start: int, count: int, length: int) -> None:
    padded = np.pad(np.arange(length), (700, 1000), mode="reflect")
    np.testing.assert_array_equal(mirrored(start, count, length), padded[700 + start :][:count])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(-50, 50), st.integers(-50, 50))
def test_cut_is_the_part_of_the_mirrored_frame(
    height: int, width: int, top: int, left: int
) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    padded = np.pad(frame, ((50, 80), (50, 80), (0, 0)), mode="reflect")
    tile = cut(frame, top, left, (16, 24))
    np.testing.assert_array_equal(tile, padded[50 + top :, 50 + left :][:16, :24])


def test_tile_inside_a_frame_is_no_copy() -> None:
    frame = np.zeros((30, 30, 3), np.uint8)
    assert np.shares_memory(cut(frame, 2, 3, (16, 16)), frame)


@pytest.mark.parametrize("overlap", [-0.01, 0.76, 1.0, float("nan"), float("inf")])
def test_overlap_out_of_range_is_refused(overlap: float) -> None:
    with pytest.raises(UsageError, match=r"overlap is .*; expected 0 to 0\.75"):
        Tiling(overlap=overlap)


def test_unknown_blend_is_refused() -> None:
    with pytest.raises(UsageError, match=r"blend is 'max'; expected gaussian or valid"):
        Tiling(blend="max")  # type: ignore[arg-type]


def test_batch_without_a_tile_is_refused() -> None:
    with pytest.raises(UsageError, match="batch is 0"):
        Tiling(batch=0)
