"""The overlay: mean of frame and colour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeunet.runtime.sinks import Palette, colourise, overlay
from support.masks import frame
from support.media import Frame

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)
colours = st.tuples(*[st.integers(0, 255)] * 3)
palettes = st.lists(colours, min_size=1, max_size=6).map(lambda rest: [(0, 0, 0), *rest])


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Frame, Frame, Palette]:
    """A frame, a mask with ids beyond the palette among them, and the palette."""
    height, width = draw(shapes)
    image = draw(hnp.arrays(np.uint8, (height, width, 3)))
    ids = st.one_of(st.integers(0, 7), st.just(255))
    return image, draw(hnp.arrays(np.uint8, (height, width), elements=ids)), draw(palettes)


@given(picture=pictures())
def test_overlay_is_the_mean_of_frame_and_colour(picture: tuple[Frame, Frame, Palette]) -> None:
    image, mask, palette = picture
    before = image.copy()
    out = overlay(image, mask, palette)
    table = np.zeros((256, 3))
    table[: len(palette)] = palette
    tint = table[mask]
    visible = tint.max(axis=2) > 0
    wanted = np.where(visible[..., None], (image + tint) / 2, image)
    assert out.dtype == np.uint8
    # Halves may go either way.
    assert np.abs(out - wanted).max() <= 0.5
    np.testing.assert_array_equal(out[~visible], image[~visible])
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(("opacity", "wanted"), [(0.0, 100), (0.25, 125), (1.0, 200)])
def test_overlay_takes_an_opacity(opacity: float, wanted: int) -> None:
    out = overlay(frame(), np.ones((64, 96), np.uint8), [(0, 0, 0), (200,) * 3], opacity=opacity)
    np.testing.assert_array_equal(out, frame(value=wanted))


@given(picture=pictures())
def test_colourise_gives_the_palette_and_white_where_ignored(
    picture: tuple[Frame, Frame, Palette],
) -> None:
    _, mask, palette = picture
    out = colourise(mask, palette)
    assert out.dtype == np.uint8
    assert out.shape == (*mask.shape, 3)
    colours_by_id = {**dict(enumerate(palette)), 255: (255, 255, 255)}
    for place, class_id in np.ndenumerate(mask):
        assert tuple(out[place]) == colours_by_id.get(int(class_id), (0, 0, 0))
