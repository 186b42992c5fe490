"""The choice of channels: cheap ones first, in steps that engines like, and no more than needed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.pruning.greedy import Cost, choose, halved, step_of

IMPORTANCE = st.floats(0, 100, allow_subnormal=False)
SAVED = st.floats(-0.1, 10, allow_subnormal=False)


@st.composite
def costs(draw: st.DrawFn) -> Cost:
    channels = draw(st.integers(1, 200))
    importance = draw(st.lists(IMPORTANCE, min_size=channels, max_size=channels))
    return Cost(importance, draw(SAVED))


def saved(costs: list[Cost], removed: list[list[int]]) -> float:
    return sum(c.per_channel * len(gone) for c, gone in zip(costs, removed, strict=True))


def largest_step(costs: list[Cost]) -> float:
    """What one step can save at most."""
    return max(16 * max(cost.per_channel, 0) for cost in costs)


@given(st.lists(costs(), min_size=1, max_size=6), st.floats(0.01, 20))
def test_choice_saves_what_is_wanted_and_at_most_one_step_more(
    groups: list[Cost], goal: float
) -> None:
    found = saved(groups, choose(groups, goal))
    most = sum(max(cost.saved, 0) for cost in groups if cost.per_channel)
    assert found >= min(goal, most) - 1e-9
    assert found <= goal + largest_step(groups) + 1e-9


@given(st.lists(costs(), min_size=1, max_size=6), st.floats(0.01, 20))
def test_what_stays_is_what_engines_like(groups: list[Cost], goal: float) -> None:
    for cost, gone in zip(groups, choose(groups, goal), strict=True):
        size, left = len(cost.importance), len(cost.importance) - len(gone)
        assert len(set(gone)) == len(gone)
        if gone:
            assert left % step_of(size) == 0
            assert 2 * left >= size
            assert cost.saved > 0


@given(st.lists(costs(), min_size=1, max_size=6), st.floats(0.01, 9), st.floats(0.01, 9))
def test_larger_goal_removes_the_same_and_more(
    groups: list[Cost], goal: float, more: float
) -> None:
    smaller, larger = choose(groups, goal), choose(groups, goal + more)
    for less, all_ in zip(smaller, larger, strict=True):
        assert all_[: len(less)] == less


@given(costs())
def test_least_important_channels_go_first(cost: Cost) -> None:
    (gone,) = choose([cost], 1e9)
    stay = [value for index, value in enumerate(cost.importance) if index not in gone]
    assert all(cost.importance[index] <= min(stay) for index in gone)


def test_importance_is_weighed_against_time() -> None:
    dear, cheap = Cost([3.0] * 16, saved=8.0), Cost([1.0] * 16, saved=1.0)
    assert [len(gone) for gone in choose([dear, cheap], 4.0)] == [8, 0]
    dear, cheap = Cost([3.0] * 16, saved=8.0), Cost([0.1] * 16, saved=1.0)
    assert [len(gone) for gone in choose([dear, cheap], 0.5)] == [0, 8]


def test_nothing_is_removed_that_saves_no_time_and_nothing_without_a_goal() -> None:
    assert choose([Cost([0.0] * 64, saved=0.0), Cost([0.0] * 64, saved=-1.0)], 5.0) == [[], []]
    assert choose([Cost([1.0] * 64, saved=5.0)], 0.0) == [[]]
    assert choose([Cost([1.0] * 8, saved=5.0)], 1.0) == [[]]


@pytest.mark.parametrize(
    ("channels", "wanted"),
    [(1, 1), (8, 8), (12, 8), (16, 8), (20, 16), (24, 16), (32, 16), (40, 32), (72, 48), (96, 48)],
)
def test_half_of_a_group(channels: int, wanted: int) -> None:
    assert halved(channels) == wanted


def test_wide_groups_keep_a_multiple_of_16() -> None:
    assert [step_of(channels) for channels in (8, 32, 33, 960)] == [8, 8, 16, 16]


@given(st.integers(1, 2000))
def test_halving_again_and_again_ends_at_8(channels: int) -> None:
    widths = [channels]
    while halved(widths[-1]) < widths[-1]:
        widths.append(halved(widths[-1]))
    assert widths[-1] == min(channels, 8)
    assert all(2 * after >= before for before, after in pairwise(widths))
