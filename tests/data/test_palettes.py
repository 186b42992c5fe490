"""Colours are told apart by everybody, and black stays the background's."""

from __future__ import annotations

import numpy as np
import pytest

from edgeunet.data import palettes
from edgeunet.data.description import Palette
from edgeunet.data.palettes import default_palette, in_safe_colours, safe_palette
from edgeunet.models.checkpoints import Checkpoint


def nearest_two(palette: Palette) -> float:
    """Distance of the two colours that are most alike, to whom they look most alike."""
    seen = palettes._as_seen(np.array(palette, np.uint8))
    apart = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=3)
    apart[:, np.arange(len(palette)), np.arange(len(palette))] = np.inf
    return float(apart.min())


def test_visions_are_those_of_the_paper() -> None:
    """Red is dark yellow to who lacks long or middle waves; gray is gray to all."""
    _, red, green, blue = palettes._as_seen(np.array([(255, 0, 0)], np.uint8))[:, 0]
    assert red[0] < 45 < green[0] < 62 and abs(blue[0] - 53) < 8
    assert red[2] > 20 and abs(red[1]) < 10
    grays = palettes._as_seen(np.array([(90, 90, 90)], np.uint8))[:, 0]
    assert np.ptp(grays, axis=0).max() < 1


@pytest.mark.parametrize(("count", "apart"), [(2, 60), (5, 35), (8, 25), (11, 22), (20, 13)])
def test_colours_differ_for_everybody(count: int, apart: float) -> None:
    colours = safe_palette(count)
    assert nearest_two(colours) > apart
    assert nearest_two(((0, 0, 0), *colours, (255, 255, 255))) > apart * 0.9


def test_palette_of_camvid_is_hard_to_see_for_some() -> None:
    own = Checkpoint.open("camvid", "mobile_unet").card.palette
    assert nearest_two(own) < 7
    assert nearest_two(in_safe_colours(own)) > 22


@pytest.mark.parametrize("count", [1, 2, 21, 255])
def test_default_palette_is_black_and_distinct_colours(count: int) -> None:
    palette = default_palette(count)
    assert len(set(palette)) == len(palette) == count
    assert palette[0] == (0, 0, 0)
    assert all(0 <= value <= 255 for colour in palette for value in colour)


def test_what_is_black_stays_black() -> None:
    own = ((9, 9, 9), (0, 0, 0), (200, 0, 0), (0, 0, 0))
    first, second = safe_palette(2)
    assert in_safe_colours(own) == (first, (0, 0, 0), second, (0, 0, 0))
