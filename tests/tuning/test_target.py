"""Speeds and times as users write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import UsageError
from edgeunet.tuning.target import Target, duration, seconds_of


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("fps>=30", 1000 / 30),
        (" fps >= 12.5 ", 80.0),
        ("fps>=25fps", 40.0),
        ("p50<=15ms", 15.0),
        ("p50<=.5", 0.5),
    ],
)
def test_speed_becomes_milliseconds(text: str, milliseconds: float) -> None:
    target = Target.parse(text)
    assert target.milliseconds == pytest.approx(milliseconds)
    assert " " not in target.text
    assert target.holds(milliseconds * 0.999) and not target.holds(milliseconds * 1.001)
    assert not target.holds(milliseconds * 0.999, room=1.05)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fast", "got --target 'fast'; expected a speed"),
        ("", "expected a speed"),
        ("fps<=30", "got <= in --target 'fps<=30'; expected fps>="),
        ("fps>30", "expected fps>="),
        ("p50>=15ms", "expected p50<="),
        ("p5015", "expected p50<="),
        ("fps30", "got no comparison"),
        ("fps>=30ms", "got ms in --target 'fps>=30ms', which is not a fps"),
        ("p50<=15fps", "got fps"),
        ("fps>=0", "got 0 in"),
        ("fps>=-3", "expected a speed"),
        ("fps>=1e9", "expected a speed"),
        ("fps>=٣", "expected a speed"),
        ("p99<=15ms", "expected a speed"),
    ],
)
def test_what_is_no_target_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Target.parse(text)
    assert words in str(caught.value)
    assert 'Pass --target "fps>=30"' in str(caught.value)


@given(st.text(max_size=12))
def test_any_text_is_a_target_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert 0 < Target.parse(text).milliseconds < float("inf")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("45m", 2700), ("2h", 7200), ("1h30m", 5400), ("1m5s", 65)]
)
def test_budget(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds
    assert seconds_of(duration(seconds).replace(" ", "")) == seconds


@pytest.mark.parametrize("text", ["", "0s", "2", "h", "2 hours", "-1h", "1.5h", "30m2h", "٣h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a time, such as 90s"):
        seconds_of(text)
