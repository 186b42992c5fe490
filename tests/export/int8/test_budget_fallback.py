"""Layers return to float in the order of their costs, and no more than needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.exporting.int8.budget import Layer, find_float_layers

NODES = ("conv1", "conv2", "concat", "conv3")
# The concat and the third convolution read the same activation.
BAD, USELESS, MILD = Layer("a", ("concat", "conv3")), Layer("b", ("conv1",)), Layer("c", ("conv2",))
RANKED = [(USELESS, 0.9), (BAD, 0.5), (MILD, 0.1)]


def points_lost(nodes: Sequence[str]) -> float:
    """Most of it needs both readers of the bad activation in float; conv1 costs nothing."""
    return 3.0 * bool({"concat", "conv3"} & set(nodes)) + 0.4 * ("conv2" in nodes)


@pytest.mark.parametrize(
    ("allowed", "layers", "gains", "loss"),
    [
        (5.0, [], [], 3.4),
        (1.0, ["a"], [3.0], 0.4),
        (0.3, ["a", "c"], [3.0, 0.4], 0.0),
    ],
)
def test_layers_return_to_float_until_the_loss_is_allowed(
    allowed: float, layers: list[str], gains: list[float], loss: float
) -> None:
    placement = find_float_layers(RANKED, NODES, points_lost, allowed=allowed)
    assert [entry.layer for entry in placement.fallbacks] == layers
    assert [entry.gain for entry in placement.fallbacks] == pytest.approx(gains)
    assert placement.loss == pytest.approx(loss)
    fallen = {name for layer, _ in RANKED if layer.name in layers for name in layer.readers}
    assert set(placement.nodes) == set(NODES) - fallen


def test_reports_a_loss_that_no_layer_reduces() -> None:
    placement = find_float_layers(RANKED, NODES, lambda nodes: 2.0, allowed=1.0)
    assert (placement.nodes, placement.fallbacks, placement.loss) == (NODES, (), 2.0)


def test_search_stops_before_too_few_nodes_are_left_in_int8() -> None:
    measured: list[int] = []

    def lost(nodes: Sequence[str]) -> float:
        measured.append(len(nodes))
        return points_lost(nodes)

    placement = find_float_layers(RANKED, NODES, lost, allowed=0.3, fewest=2)
    assert [entry.layer for entry in placement.fallbacks] == ["a"]
    assert placement.loss == pytest.approx(0.4), "the budget does not hold"
    assert min(measured) == 2


def test_nothing_is_ranked_if_nothing_is_lost() -> None:
    def measured() -> Iterator[tuple[Layer, float]]:
        raise AssertionError("measured without need")
        yield

    assert find_float_layers(measured(), NODES, lambda nodes: 0.0, allowed=0.5).fallbacks == ()


@given(
    losses=st.lists(st.integers(0, 20), min_size=3, max_size=3),
    allowed=st.integers(0, 30),
)
def test_loss_never_grows(losses: list[int], allowed: int) -> None:
    costs = dict(zip(("x", "y", "z"), losses, strict=True))
    ranked = [(Layer(name, (name,)), cost) for name, cost in costs.items()]

    def lost(nodes: Sequence[str]) -> float:
        return sum(costs[name] for name in nodes)

    placement = find_float_layers(ranked, tuple(costs), lost, allowed=allowed)
    assert placement.loss <= sum(losses)
    assert placement.loss == pytest.approx(lost(placement.nodes))
    assert all(entry.gain > 0 for entry in placement.fallbacks)
    assert placement.loss <= allowed or not any(costs[name] for name in placement.nodes)
