"""Curves: every value lies in the plot where its axes say, and axes have round numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.training.curves import PLOT, draw, ticks

LEFT, TOP, RIGHT, BOTTOM = PLOT
VALUES = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda value: round(value, 5))


@given(values=st.lists(VALUES, min_size=1, max_size=40), step=st.integers(1, 7))
def test_values_are_where_the_axes_say(values: list[float], step: int) -> None:
    epochs = [step * (n + 1) for n in range(len(values))]
    curve = draw("loss", list(zip(epochs, values, strict=True)), epochs[-1])
    assert [(dot.epoch, dot.value) for dot in curve.dots] == list(zip(epochs, values, strict=True))
    for dot in curve.dots:
        assert LEFT <= dot.x <= RIGHT and TOP <= dot.y <= BOTTOM
    for found, known, places in (
        (curve.x_ticks, epochs, [dot.x for dot in curve.dots]),
        (curve.y_ticks, values, [dot.y for dot in curve.dots]),
    ):
        if max(known) - min(known) > 1e-2 and len(found) > 1:
            at, texts = zip(*found, strict=True)
            line = np.polyfit([float(text) for text in texts], at, 1)
            assert np.polyval(line, known) == pytest.approx(places, abs=0.5)


@given(low=VALUES, wide=st.floats(1e-4, 1e3), most=st.integers(2, 9))
def test_axes_have_few_round_numbers(low: float, wide: float, most: int) -> None:
    found = ticks(low, low + wide, most)
    assert all(low - 1e-9 <= value <= low + wide + 1e-9 for value in found)
    assert 1 <= len(found) <= most + 1
    if len(found) > 1:
        steps = np.diff(found)
        assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-6)
        assert f"{steps[0]:e}"[0] in "125" and found == sorted(found)


def test_one_epoch_is_a_dot_and_the_best_is_told() -> None:
    (dot,) = draw("loss", [(1, 0.25)], 1).dots
    assert (dot.x, dot.y) == ((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2)
    curve = draw("mIoU", [(5, 40.0), (10, 61.5), (15, 60.0)], 16, best=10)
    assert [dot.best for dot in curve.dots] == [False, True, False]
    first, second, third = curve.dots
    assert first.x < second.x < third.x
    assert first.y > third.y > second.y, "higher up the page"
    assert curve.description == "From 40 in epoch 5 to 60 in 15. Best: 61.5 in epoch 10."
    assert [text for _, text in curve.x_ticks] == ["5", "10", "15"]
