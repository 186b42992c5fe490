"""The rule that chooses a depth, on simulated costs: it holds the rate, and it comes to rest."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.runtime.backends.steering import HOLD, LONGEST_HOLD, MARGIN, WINDOW, DepthController

Costs = dict[int, float]

# Seconds a frame by depth: the shallowest, and by how much each further one is dearer.
costs = st.builds(
    lambda first, steps: {
        depth: first * math.prod(steps[: depth - 1]) for depth in range(1, len(steps) + 2)
    },
    st.floats(0.002, 0.2),
    st.lists(st.floats(1.05, 3.0), min_size=1, max_size=3),
)
rates = st.sampled_from([5.0, 12.5, 25.0, 60.0])
batches = st.sampled_from([1, 1, 4])


def drive(
    controller: DepthController,
    cost_of: Callable[[int, float], float],
    *,
    seconds: float,
    batch: int = 1,
    noise: float = 0.0,
    seed: int = 0,
) -> Iterator[int]:
    """Depth of each batch, as many as are filmed in `seconds`; cost_of takes depth and time."""
    rng = random.Random(seed)
    for index in range(round(seconds * controller.target_fps / batch)):
        now = index * batch / controller.target_fps
        depth = controller.depth
        work = batch * cost_of(depth, now) * rng.uniform(1 - noise, 1 + noise)
        controller.observe(depth, work, elapsed=work, frames=batch)
        yield depth


def switches(depths: list[int]) -> int:
    return sum(a != b for a, b in pairwise(depths))


# Where it comes to rest


@given(true=costs, fps=rates, batch=batches, at_rest=st.floats(0.1, 10.0))
def test_it_comes_to_rest_at_the_deepest_net_that_holds_the_rate(
    true: Costs, fps: float, batch: int, at_rest: float
) -> None:
    # Measured on a machine that had more or less to do then.
    controller = DepthController(fps, {d: at_rest * cost for d, cost in true.items()})
    depths = list(drive(controller, lambda d, _: true[d], seconds=60, batch=batch))
    depth = controller.depth
    assert switches(depths[len(depths) // 2 :]) == 0
    assert true[depth] <= 1 / fps or depth == min(true)
    deeper = [cost for d, cost in true.items() if d > depth]
    assert all(cost > (1 - MARGIN) / fps for cost in deeper)


@given(true=costs, fps=rates)
def test_with_the_costs_known_it_starts_where_it_stays(true: Costs, fps: float) -> None:
    controller = DepthController(fps, true)
    wanted = max((d for d, cost in true.items() if cost <= 1 / fps), default=1)
    assert set(drive(controller, lambda d, _: true[d], seconds=30)) == {wanted}


@given(true=costs, fps=rates, batch=batches, seed=st.integers(0, 1000))
def test_noise_within_the_margin_never_makes_it_go_back_and_forth(
    true: Costs, fps: float, batch: int, seed: int
) -> None:
    controller = DepthController(fps, true)
    run = drive(controller, lambda d, _: true[d], seconds=120, batch=batch, noise=0.05, seed=seed)
    depths = list(run)
    assert depths == sorted(depths, reverse=True), "it went back to a depth that was too slow"


@given(measured=costs, true=costs, fps=st.sampled_from([5.0, 12.5]))
def test_wrong_expectations_cost_little_time_in_the_end(
    measured: Costs, true: Costs, fps: float
) -> None:
    known = measured.keys() & true.keys()
    controller = DepthController(fps, {d: measured[d] for d in known})
    depths = list(drive(controller, lambda d, _: true[d], seconds=600))
    late = depths[len(depths) // 2 :]
    too_slow = [d for d in late if true[d] > 1 / fps and d > 1]
    assert len(too_slow) <= 0.05 * len(late)


# Changes


@given(true=costs, fps=rates, factor=st.floats(1.5, 20.0), lasts=st.floats(0.5, 20.0))
def test_after_a_spike_of_load_it_comes_back(
    true: Costs, fps: float, factor: float, lasts: float
) -> None:
    before, after = 1.0, 60.0
    controller = DepthController(fps, true)
    first = controller.depth

    def cost_of(depth: int, now: float) -> float:
        return true[depth] * (factor if before <= now < before + lasts else 1.0)

    depths = list(drive(controller, cost_of, seconds=before + lasts + after))
    # What just holds the rate leaves no margin, so that it is not gone to again.
    fits = [d for d, cost in true.items() if cost <= (1 - MARGIN) / fps]
    assert max(fits, default=1) <= depths[-1] <= first


@given(fps=rates, factor=st.floats(1.2, 8.0))
def test_what_is_too_slow_is_left_as_soon_as_the_window_is_full(fps: float, factor: float) -> None:
    true = {1: 0.01 / fps, 2: 0.1 / fps, 3: factor / fps}
    controller = DepthController(fps, {1: 0.01 / fps, 2: 0.1 / fps, 3: 0.9 / fps})
    depths = list(drive(controller, lambda d, _: true[d], seconds=10))
    assert depths[0] == 3
    assert depths.count(3) <= max(4, WINDOW * fps + 1)
    assert set(depths[depths.count(3) :]) == {2}


def test_it_skips_depths_that_would_not_hold_the_rate_either() -> None:
    costs = {1: 0.005, 2: 0.01, 3: 0.02, 4: 0.03}
    controller = DepthController(25, costs)
    depths = list(drive(controller, lambda d, _: 6 * costs[d], seconds=5))
    assert set(depths) == {4, 1}


def test_a_deeper_net_is_gone_to_after_the_hold_and_not_before() -> None:
    controller = DepthController(10, {1: 0.2, 2: 0.4})
    depths = list(drive(controller, lambda d, _: 0.02 * d, seconds=HOLD + 1))
    stayed = depths.count(1) / 10
    assert HOLD <= stayed <= HOLD + WINDOW
    assert depths[-1] == 2


def test_a_net_inside_the_margin_is_kept_but_not_gone_to() -> None:
    inside = {1: 0.02, 2: 0.095}  # of 0.1
    assert set(drive(DepthController(10, inside), lambda d, _: inside[d], seconds=20)) == {2}
    slow_start = DepthController(10, {d: 2 * cost for d, cost in inside.items()})
    assert set(drive(slow_start, lambda d, _: inside[d], seconds=20)) == {1}


def test_attempts_in_vain_come_ever_more_seldom() -> None:
    controller = DepthController(10, {1: 0.02, 2: 0.03})
    true = {1: 0.02, 2: 0.2}
    depths = list(drive(controller, lambda d, _: true[d], seconds=400))
    stays = [len(part) / 10 for part in "".join(map(str, depths)).split("2") if part]
    assert stays[:-1] == sorted(stays[:-1])
    assert stays[0] <= HOLD + WINDOW
    assert LONGEST_HOLD <= max(stays) <= LONGEST_HOLD + WINDOW


# What says nothing of the net


@pytest.mark.parametrize(
    ("work", "elapsed"), [(0.01, 1.0), (0.06, 0.03)], ids=["slow camera", "batches that overlap"]
)
def test_the_lesser_of_work_and_time_between_is_the_cost(work: float, elapsed: float) -> None:
    controller = DepthController(25, {1: 0.001, 2: 0.002})
    for _ in range(200):
        controller.observe(2, work, elapsed=elapsed, frames=1)
    assert controller.depth == 2


def test_one_stall_is_no_slow_net_but_two_are() -> None:
    for stalls, depth in ((1, 2), (2, 1)):
        controller = DepthController(20, {1: 0.001, 2: 0.01})
        for index in range(20):
            work = 2.0 if 12 <= index < 12 + stalls else 0.01
            controller.observe(controller.depth, work, elapsed=work, frames=1)
        assert controller.depth == depth


def test_batches_that_were_on_their_way_during_a_switch_are_left_out() -> None:
    controller = DepthController(10, {1: 0.01, 2: 0.05})
    while controller.depth == 2:
        controller.observe(2, 0.5, elapsed=0.5, frames=1)
    for _ in range(20):
        controller.observe(2, 5.0, elapsed=5.0, frames=1)
    assert controller.cost is None


# More than even the shallowest can do


def test_it_stays_at_the_shallowest_net_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    controller = DepthController(25, {1: 0.01, 2: 0.02})
    for load in (10.0, 1.0, 10.0):
        depths = list(drive(controller, lambda d, _: load * 0.01 * d, seconds=10))  # noqa: B023
        assert depths[-1] == (1 if load > 1 else 2)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    (warning,) = warnings
    assert warning.startswith("Even depth 1 takes 100.0 ms a frame; 25 frames/s allow 40.0. Going")


def test_switches_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    list(drive(DepthController(25, {1: 0.01, 2: 0.02}), lambda d, _: 0.025 * d, seconds=2))
    assert [record.getMessage() for record in caplog.records] == [
        "depth 1 instead of 2: a frame took 50.0 ms, 40.0 are allowed for 25 frames/s"
    ]


def test_costs_below_the_clocks_resolution_are_no_division_by_zero() -> None:
    controller = DepthController(25, {1: 0.0, 2: 0.0})
    assert set(drive(controller, lambda d, _: 0.0, seconds=5)) == {2}
