"""The cost model: exact where costs are additive, never negative, honest about its error."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.tuning.cost import CostModel, Work

costs = st.floats(0.01, 10)
works = st.lists(
    st.builds(Work, st.floats(0.01, 50), st.floats(0.01, 50)), min_size=1, max_size=8, unique=True
)


@given(works, costs, costs, costs)
def test_additive_costs_are_found(some: list[Work], fixed: float, a: float, b: float) -> None:
    def cost(work: Work) -> float:
        return fixed + a * work.gflops + b * work.melements

    model = CostModel([(work, {"way": cost(work)}) for work in some])
    for work in some:
        assert model.predict(work)["way"] == pytest.approx(cost(work), rel=0.01)


@given(works, st.data())
def test_no_prediction_is_negative(some: list[Work], data: st.DataObject) -> None:
    times = data.draw(st.lists(costs, min_size=len(some), max_size=len(some)))
    model = CostModel([(work, {"way": time}) for work, time in zip(some, times, strict=True)])
    for work in (Work(0, 0), Work(1e3, 0), Work(0, 1e3)):
        assert 0 <= model.predict(work)["way"] < math.inf
    assert model.error >= 0


def test_error_is_that_of_nets_that_were_left_out() -> None:
    nets = [(Work(n, n * n), {"a": 1 + n, "b": 2 + n * n}) for n in (1, 2, 3, 4, 5)]
    assert CostModel(nets).error < 1e-6
    odd = [*nets[:-1], (nets[-1][0], {"a": 12.0, "b": 27.0})]  # a is twice as long there
    assert 0.3 < CostModel(odd).error < 1.5
    assert CostModel(nets[:3]).error == math.inf


def test_ways_that_are_missing_anywhere_are_left_out() -> None:
    model = CostModel([(Work(1, 1), {"a": 1.0, "b": 2.0}), (Work(2, 2), {"a": 2.0})])
    assert list(model.predict(Work(3, 3))) == ["a"]
