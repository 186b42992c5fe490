"""Finds out which configurations are fast enough, before any of them is trained."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import UsageError
from .cost import CostModel, Work
from .journal import Journal
from .space import Configuration
from .target import ROOM, Target, duration

SHARE = 0.3
"""Of the budget, at most, for measuring."""

FEWEST = 3
"""Configurations that must be measured: the model has three coefficients."""

_LEAST_MARGIN, _MARGIN = 0.15, 1.5
"""Relative error that predictions are believed to have: at least, and by the model's own error."""


class Meter(Protocol):
    """Tells what configurations cost."""

    def work(self, configuration: Configuration) -> Work:
        """What it does for a frame; takes no time to speak of."""

    def times(self, configuration: Configuration) -> dict[str, float]:
        """Milliseconds of a whole frame by way, measured with random weights."""


@dataclass(frozen=True)
class Survey:
    """What is known of the speed of all configurations.

    times: milliseconds of a frame by way, of those that were measured. predicted: by the model, of
    those that it was not fitted to. error: of the model, see `CostModel`. reference: the one that
    does the most work. contenders: those worth training, the one that does the most work first.
    fates: why each of the others is none.
    """

    works: Mapping[Configuration, Work]
    reference: Configuration
    times: dict[Configuration, dict[str, float]] = field(default_factory=dict)
    predicted: dict[Configuration, dict[str, float]] = field(default_factory=dict)
    error: float = math.inf
    contenders: tuple[Configuration, ...] = ()
    fates: dict[Configuration, str] = field(default_factory=dict)

    def fastest(self, configuration: Configuration) -> tuple[str, float]:
        """The fastest way of a configuration that was measured, and its milliseconds."""
        times = self.times[configuration]
        way = min(times, key=lambda each: (times[each], each))
        return way, times[way]

    @property
    def nearest(self) -> Configuration:
        """The fastest one that was measured."""
        return min(self.times, key=lambda each: (self.fastest(each)[1], each.key))

    @property
    def misses(self) -> list[float]:
        """Predicted over measured time, less 1, for each way that was predicted and measured."""
        return [
            guess / self.times[each][way] - 1
            for each, guesses in self.predicted.items()
            if each in self.times
            for way, guess in guesses.items()
            if way in self.times[each]
        ]


def survey(
    space: Sequence[Configuration],
    meter: Meter,
    journal: Journal,
    target: Target,
    *,
    budget: float,
    report: Callable[[str], None] = lambda step: None,
) -> Survey:
    """Measure a few configurations, predict the others, and measure those that come into question.

    Of nets that differ in width only, the widest that is fast enough is a contender: a wider one is
    taken to be at least as accurate. Predictions only exclude, with a margin for their error;
    whatever is trained was measured.

    Args:
        budget: seconds of the whole search, of which a share is for this.
        report: called with the name of each step.

    Raises:
        UsageError: a budget too short to measure anything.
    """
    return _Surveyor(space, meter, journal, target, budget, report).survey()


class _Surveyor:
    def __init__(
        self,
        space: Sequence[Configuration],
        meter: Meter,
        journal: Journal,
        target: Target,
        budget: float,
        report: Callable[[str], None],
    ) -> None:
        self._meter, self._journal, self._target = meter, journal, target
        self._budget, self._report = budget, report
        self._slowest = 0.0  # seconds of a measurement
        works = {each: meter.work(each) for each in space}
        reference = max(space, key=lambda each: (works[each].gflops, each.key))
        self._found = Survey(works, reference)

    def survey(self) -> Survey:
        model = self._fitted()
        found = self._found
        margin = min(1.0, max(_LEAST_MARGIN, _MARGIN * model.error))
        for each, work in found.works.items():
            if each not in found.times:
                found.predicted[each] = model.predict(work)
        contenders = [
            held for group in self._groups() if (held := self._widest(group, margin)) is not None
        ]
        return Survey(
            found.works,
            found.reference,
            found.times,
            found.predicted,
            model.error,
            tuple(sorted(contenders, key=lambda each: (-found.works[each].gflops, each.key))),
            found.fates,
        )

    def _fitted(self) -> CostModel:
        """A model of the configurations that were chosen to be measured."""
        found, needed = self._found, min(FEWEST, len(self._found.works))
        for each in _spread(found.works, found.reference):
            if not self._has_time:
                break
            self._measure(each)
        if len(found.times) < needed:
            raise UsageError(
                f"a budget of {duration(self._budget)} is too short to measure anything: one "
                f"configuration took {self._slowest:.0f} s, and {needed} are needed. Pass --budget "
                f"{duration(1.2 * needed * self._slowest / SHARE).replace(' ', '')} or more."
            )
        return CostModel([(found.works[each], times) for each, times in found.times.items()])

    @property
    def _has_time(self) -> bool:
        """Whether one more measurement fits into the share of the budget; the first always does."""
        return self._journal.spent + self._slowest <= SHARE * self._budget or not self._slowest

    def _measure(self, each: Configuration) -> None:
        step = f"times {each.key}"
        if not self._journal.knows(step):
            self._report(f"measuring {each.title}")
        self._found.times[each] = self._journal.ask(step, lambda: self._meter.times(each))
        self._slowest = max(self._slowest, self._journal.seconds(step))

    def _groups(self) -> list[list[Configuration]]:
        """Configurations that differ in width only, the widest first, by the work of these."""
        works = self._found.works
        groups: defaultdict[tuple[object, ...], list[Configuration]] = defaultdict(list)
        for each in works:
            groups[each.group].append(each)
        sorted_ = [sorted(group, key=lambda each: -each.width) for group in groups.values()]
        return sorted(sorted_, key=lambda group: (-works[group[0]].gflops, group[0].key))

    def _widest(self, group: Sequence[Configuration], margin: float) -> Configuration | None:
        """The first of a group that is measured and fast enough; notes the fates of the others."""
        held: Configuration | None = None
        for each in group:
            self._found.fates[each] = fate = self._fate(each, held, margin)
            if not fate:
                held = each
        if held is not None:
            del self._found.fates[held]
        return held

    def _fate(self, each: Configuration, held: Configuration | None, margin: float) -> str:
        """Why a configuration is no contender; empty if it is one."""
        found = self._found
        if held is not None:
            return f"narrower than {held.key}"
        if each not in found.times:
            guess = min(found.predicted[each].values())
            if not self._target.holds(guess * (1 - margin), room=ROOM):
                return "too slow (predicted)"
            if not self._has_time:
                return "no time to measure"
            self._measure(each)
        if not self._target.holds(found.fastest(each)[1], room=ROOM):
            return "too slow"
        return ""


def _spread(works: Mapping[Configuration, Work], reference: Configuration) -> list[Configuration]:
    """What to measure first: of each choice the most, the least and the middle of the work."""
    choices: defaultdict[object, list[Configuration]] = defaultdict(list)
    for each in sorted(works, key=lambda each: (works[each].gflops, each.key)):
        choices[each.choice].append(each)
    least = min(works, key=lambda each: (works[each].gflops, each.key))
    middles = [group[len(group) // 2] for group in choices.values()]
    ends = [end for group in choices.values() for end in (group[-1], group[0])]
    return list(dict.fromkeys([reference, least, *middles, *ends]))
