"""Trains the contenders by successive halving: the better half trains on, until one is left.

Karnin et al., "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013; Jamieson and
Talwalkar, AISTATS 2016 (arXiv 1502.07943), for learning curves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

from ..errors import UsageError
from .journal import Journal
from .space import Configuration
from .survey import Survey
from .target import duration

SHARE = 0.5
"""Of the time for training, for the race; the winner trains on in the rest."""

_TICK = 1e-6  # seconds; a clock may give the same time twice

RESERVE, MOST_RESERVE = 0.25, 900.0
"""Share of the budget that is kept for the export and for measuring again, and most seconds."""


@dataclass(frozen=True)
class Pace:
    """Seconds of training a net: of what comes once, such as validation, and of an epoch."""

    once: float
    epoch: float

    def seconds(self, epochs: int) -> float:
        """Of so many epochs."""
        return self.once + epochs * self.epoch


@dataclass(frozen=True)
class Lesson:
    """A training to do: the last of `epochs`, one number for each lesson of a configuration.

    start: checkpoint of the lesson before, None for the first.

    Example:
        >>> from edgeunet.tuning.race import Lesson
        >>> from edgeunet.tuning.space import Configuration
        >>> Lesson(Configuration((64, 96), 8), (2, 4), "best.safetensors").run
        '64x96-w8/2-4'
    """

    configuration: Configuration
    epochs: tuple[int, ...]
    start: str | None = None

    @property
    def run(self) -> str:
        """Its name, which tells all trainings of a configuration apart."""
        return f"{self.configuration.key}/{'-'.join(map(str, self.epochs))}"


@dataclass(frozen=True)
class Trained:
    """What a lesson came to.

    miou: in percent, on the validation split. checkpoint: its file. pace: None if the training was
    resumed, which tells none.
    """

    miou: float
    checkpoint: str
    pace: Pace | None


class Teacher(Protocol):
    """Trains configurations."""

    def pace(self, configuration: Configuration) -> Pace:
        """Of its training, from a few steps."""

    def train(self, lesson: Lesson) -> Trained:
        """Train, or resume the training of that name."""


@dataclass(eq=False)
class Runner:
    """A configuration in the race.

    rungs: its mIoU after each of them; whoever has a rung was trained equally long up to it.
    lessons: epochs of each training. final: mIoU after the training that the winner gets alone.
    """

    configuration: Configuration
    pace: Pace
    rungs: list[float] = field(default_factory=list)
    lessons: tuple[int, ...] = ()
    checkpoint: str | None = None
    final: float | None = None

    @property
    def epochs(self) -> int:
        """In all."""
        return sum(self.lessons)


class Race:
    """Runs the contenders of a survey, and the reference beside them.

    The reference, which does the most work, is trained as long as those that are left if it is too
    slow to be one of them: `drop` tells what a contender loses against the best.

    Args:
        budget: seconds of the whole search. most_epochs: of one lesson.
        report: called with the name of each step.
    """

    def __init__(
        self,
        survey: Survey,
        teacher: Teacher,
        journal: Journal,
        *,
        budget: float,
        most_epochs: int,
        report: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._survey, self._teacher, self._journal = survey, teacher, journal
        self._budget, self._most, self._report = budget, most_epochs, report
        self.runners: list[Runner] = []
        self.equal_epochs = 0
        """That all had in the first rung."""

    def run(self) -> list[Runner]:
        """Race, and give the contenders that were trained, the best first.

        Raises:
            UsageError: a budget too short to train anything.
        """
        pace = self._first_pace()
        alive = [Runner(each, pace) for each in self._entrants(pace)]
        self.runners = [*alive, *self._beside(alive, pace)]
        if len(self.runners) == 1:
            return alive
        end = self._journal.spent + SHARE * self._room
        rungs, lost = _rungs(len(alive)), list[Runner]()
        for rung in range(rungs):
            running = [each for each in self.runners if each not in lost]
            epochs = self._epochs(running, (end - self._journal.spent) / (rungs - rung))
            if epochs < 1:
                break
            self.equal_epochs = self.equal_epochs or epochs
            for each in running:
                each.rungs.append(self._train(each, epochs, f"rung {rung + 1} of {rungs}"))
            alive = self._sorted(alive)
            kept = -(-len(alive) // 2)
            alive, lost = alive[:kept], [*alive[kept:], *lost]
        return [*alive, *lost]

    def finish(self, runner: Runner) -> int:
        """Train a runner on, for all the time that is left, and keep the better of its weights.

        Returns:
            How many epochs made it worse, and do not count; 0 if they made it better.
        """
        epochs = self._epochs([runner], self._room)
        if epochs < 1:
            return 0
        before, lessons = runner.checkpoint, runner.lessons
        best = runner.rungs[-1] if runner.rungs else -math.inf
        runner.final = self._train(runner, epochs, "the winner")
        if runner.final >= best:
            return 0
        runner.final, runner.checkpoint, runner.lessons = best, before, lessons
        return epochs

    def extend(self, runner: Runner) -> None:
        """A last rung for a runner and the best one beside it, for all the time that is left.

        Nets of a few epochs tell little: a small one may lose much then, and hardly anything later.
        """
        both = [runner, self.best_beside(runner)]
        epochs = self._epochs(both, self._room)
        if epochs >= 1:
            for each in both:
                each.rungs.append(self._train(each, epochs, "what is lost"))

    def drop(self, runner: Runner) -> float:
        """Points of mIoU that the best one has more that was trained as long as a runner."""
        if not runner.rungs:
            return 0.0
        rung = len(runner.rungs) - 1
        best = max(each.rungs[rung] for each in self.runners if len(each.rungs) > rung)
        return best - runner.rungs[rung]

    def best_beside(self, runner: Runner) -> Runner:
        """The most accurate one that was trained as long."""
        rung = len(runner.rungs) - 1
        beside = [each for each in self.runners if len(each.rungs) > rung]
        return max(beside, key=lambda each: each.rungs[rung])

    @property
    def _room(self) -> float:
        """Seconds that are left for training."""
        return self._budget - reserve(self._budget) - self._journal.spent

    def _first_pace(self) -> Pace:
        """Of the reference, whose training takes the longest: all count as slow at first."""
        reference = self._survey.reference
        if not self._journal.knows("pace"):
            self._report(f"timing the training of {reference.title}")
        return Pace(**self._journal.ask("pace", lambda: asdict(self._teacher.pace(reference))))

    def _entrants(self, pace: Pace) -> Sequence[Configuration]:
        """As many contenders as can be trained for an epoch in the first rung."""
        contenders, reference = self._survey.contenders, self._survey.reference
        room, epoch = self._room, pace.seconds(1)
        for count in range(len(contenders), 0, -1):
            entrants = contenders[:count]
            running = count + (reference not in entrants)
            share = SHARE / _rungs(count) if running > 1 else 1.0
            if running * epoch <= share * room:
                return entrants
        running = 1 + (reference not in contenders[:1])
        needed = running * epoch / (SHARE if running > 1 else 1.0)
        kept = self._budget - reserve(self._budget)
        whole = 1.1 * (self._journal.spent + needed) * self._budget / kept
        raise UsageError(
            f"a budget of {duration(self._budget)} is too short to train anything: measuring took "
            f"{duration(self._journal.spent)}, and an epoch takes up to {duration(epoch)}. Pass "
            f"--budget {duration(whole).replace(' ', '')} or more."
        )

    def _beside(self, alive: Sequence[Runner], pace: Pace) -> list[Runner]:
        reference = self._survey.reference
        inside = any(each.configuration == reference for each in alive)
        return [] if inside else [Runner(reference, pace)]

    def _epochs(self, running: Sequence[Runner], seconds: float) -> int:
        """How many epochs all of them can be trained for in so many seconds."""
        left = seconds - sum(each.pace.once for each in running)
        epoch = max(_TICK, sum(each.pace.epoch for each in running))
        return min(self._most, math.floor(left / epoch))

    def _train(self, runner: Runner, epochs: int, why: str) -> float:
        """Train on; the mIoU that comes of it."""
        lesson = Lesson(runner.configuration, (*runner.lessons, epochs), runner.checkpoint)
        step = f"train {lesson.run}"
        if not self._journal.knows(step):
            many = "s" if epochs > 1 else ""
            self._report(f"{why}: {runner.configuration.title}, {epochs} epoch{many}")
        answer = self._journal.ask(step, lambda: asdict(self._teacher.train(lesson)))
        if answer["pace"] is not None:
            runner.pace = Pace(**answer["pace"])
        runner.checkpoint, runner.lessons = answer["checkpoint"], lesson.epochs
        miou: float = answer["miou"]
        return miou

    def _sorted(self, runners: Sequence[Runner]) -> list[Runner]:
        """The best of the last rung first; of equals, the one that does less work."""
        works = self._survey.works
        return sorted(runners, key=lambda each: (-each.rungs[-1], works[each.configuration].gflops))


def reserve(budget: float) -> float:
    """Seconds that are kept for the end."""
    return min(RESERVE * budget, MOST_RESERVE)


def _rungs(contenders: int) -> int:
    """How often so many are halved until one is left; one rung compares it with the reference."""
    return max(1, math.ceil(math.log2(contenders)))
