"""Steps of work that takes long."""

from __future__ import annotations

import pytest

from edgeunet.steps import Step, Steps, count_of, tell_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its only element."""
    now = [0.0]
    monkeypatch.setattr("edgeunet.steps.time.monotonic", lambda: now[0])
    return now


def test_a_step_lasts_until_the_next_one_or_an_error(clock: list[float]) -> None:
    steps = Steps()

    def work() -> None:
        with steps:
            steps("trace")
            clock[0] = 2.0
            steps("parity")
            clock[0] = 5.0
            raise KeyError

    with pytest.raises(KeyError):
        work()
    clock[0] = 9.0
    steps.close()
    assert steps.ended == [Step("trace", 2.0), Step("parity", 3.0)]


def test_result_belongs_to_the_step_under_way(clock: list[float]) -> None:
    with Steps() as steps:
        steps("INT8")
        tell_of(steps)("1.4 MB")
        steps("lint")
    tell_of(print)("is not printed")
    assert [str(step) for step in steps.ended] == ["INT8: 1.4 MB", "lint"]


def test_counts_reach_steps_and_are_lost_on_a_function() -> None:
    class Counting(Steps):
        def count(self, done: int, total: int | None = None) -> None:
            counted.append((done, total))

    counted: list[tuple[int, int | None]] = []
    count_of(Counting())(1, 3)
    count_of(print)(2, None)
    assert counted == [(1, 3)]
