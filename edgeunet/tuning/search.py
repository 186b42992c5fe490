"""The search: survey, race, export, and measuring again, all of it through the journal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, get_args

from ..bundle.manifest import Exported, Precision
from ..doctor import environment
from .journal import Journal
from .outcome import Chosen, Outcome, Tried, precision_of
from .race import Race, Runner, Teacher
from .space import Configuration
from .survey import Meter, Survey, survey
from .target import ROOM, Target, duration

_EXPORTED: dict[Precision, Exported] = {
    "fp32": "fp32", "bf16": "fp32", "fp16": "fp16", "int8": "int8",
}  # fmt: skip
"""What a bundle is exported for, to be run in a precision."""

_NO_BUNDLE, _WRONG, _SLOW = (
    "could not be exported", "its bundle gives wrong masks", "its bundle is too slow",
)  # fmt: skip
"""Fates of what was exported."""


@dataclass(frozen=True)
class Written:
    """What an export came to: a bundle and its mIoU in percent, or a problem."""

    bundle: str = ""
    miou: float | None = None
    problem: str = ""


class Lab(Meter, Teacher, Protocol):
    """All that a search does in the world; the same answers for the same arguments."""

    def export(self, configuration: Configuration, checkpoint: str, precision: Exported) -> Written:
        """Write a bundle, which replaces an earlier one of the same arguments."""

    def times_of(self, bundle: str) -> dict[str, float]:
        """Milliseconds of a whole frame by way, of those that give the right masks."""


@dataclass(frozen=True)
class Request:
    """What is searched for.

    budget: seconds. max_drop: points of mIoU. most_epochs: of one training.
    """

    model: str
    data: str
    target: Target
    max_drop: float
    budget: float
    most_epochs: int


def search(
    request: Request,
    space: Sequence[Configuration],
    lab: Lab,
    journal: Journal,
    *,
    report: Callable[[str], None] = lambda step: None,
) -> Outcome:
    """Find the most accurate configuration that holds a target, and export it.

    Args:
        space: what to choose from.
        report: called with the name of each step that is not in the journal.

    Raises:
        UsageError: a budget too short to measure or to train anything.
    """
    return _Search(request, space, lab, journal, report).run()


class _Search:
    def __init__(
        self,
        request: Request,
        space: Sequence[Configuration],
        lab: Lab,
        journal: Journal,
        report: Callable[[str], None],
    ) -> None:
        self._request, self._space, self._lab, self._journal = request, space, lab, journal
        self._told = report
        self._notes: list[str] = []
        self._ends: dict[Configuration, str] = {}  # fates of those that were exported
        self._race: Race | None = None

    def run(self) -> Outcome:
        request, journal = self._request, self._journal
        budget, report = request.budget, self._report
        found = survey(
            self._space, self._lab, journal, request.target, budget=budget, report=report
        )
        if not found.contenders:
            return self._outcome(found, None, self._nobody(found))
        most = request.most_epochs
        self._race = race = Race(
            found, self._lab, journal, budget=budget, most_epochs=most, report=report
        )
        ranking = race.run()
        if race.drop(ranking[0]) > request.max_drop:
            race.extend(ranking[0])
        if race.drop(ranking[0]) > request.max_drop:
            return self._outcome(found, None, self._too_much_lost(found, ranking[0]))
        chosen = self._first_that_holds(found, ranking)
        why = self._reason(found, chosen, ranking) if chosen is not None else self._all_missed()
        return self._outcome(found, chosen, why)

    def _report(self, step: str) -> None:
        self._told(f"{self._journal.spent / self._request.budget:4.0%}  {step}")

    # The end: export and measure again

    def _first_that_holds(self, found: Survey, ranking: Sequence[Runner]) -> Chosen | None:
        """Export the runners in turn, until the bundle of one holds the target."""
        assert self._race is not None
        slowest = 0.0
        for runner in ranking:
            key = runner.configuration.key
            if runner is ranking[0]:
                if worse := self._race.finish(runner):
                    many = "s" if worse > 1 else ""
                    self._notes.append(
                        f"{key} was trained for {worse} more epoch{many}, which made it worse: the "
                        "weights from before are used."
                    )
            elif self._race.drop(runner) > self._request.max_drop:
                self._notes.append(f"{key} was not tried: it loses more than --max-drop.")
                continue
            if runner.checkpoint is None:
                continue
            for precision in self._precisions(found.times[runner.configuration]):
                if slowest and self._journal.spent + slowest > self._request.budget:
                    self._notes.append(f"No time was left to export {key} for {precision}.")
                    return None
                before = self._journal.spent
                chosen = self._exported(found, runner, precision)
                slowest = max(slowest, self._journal.spent - before)
                if chosen is not None:
                    return chosen
        return None

    def _precisions(self, times: dict[str, float]) -> list[Exported]:
        """What to export for: the closest precision that holds the target, then the fastest."""
        held = [way for way in times if self._request.target.holds(times[way], room=ROOM)]
        closest = min(held, key=lambda way: get_args(Precision).index(precision_of(way)))
        fastest = min(held, key=lambda way: times[way])
        return list(dict.fromkeys(_EXPORTED[precision_of(way)] for way in (closest, fastest)))

    def _exported(self, found: Survey, runner: Runner, precision: Exported) -> Chosen | None:
        """The runner's bundle for a precision, if one of its ways holds the target."""
        each, checkpoint = runner.configuration, runner.checkpoint
        assert checkpoint is not None
        name, trained = f"{each.key} {precision}", f"{checkpoint} {precision}"
        written = Written(
            **self._ask(
                f"export {trained}",
                f"exporting {each.title} for {precision.upper()}",
                lambda: asdict(self._lab.export(each, checkpoint, precision)),
            )
        )
        if written.problem:
            self._ends[each] = _NO_BUNDLE
            self._notes.append(f"{name} could not be exported: {written.problem}")
            return None
        times: dict[str, float] = self._ask(
            f"again {trained}",
            f"measuring the bundle of {name}",
            lambda: self._lab.times_of(written.bundle),
        )
        if not times:
            self._ends[each] = _WRONG
            self._notes.append(f"{name} gives other masks than the net, on every engine here.")
            return None
        way = self._way(times)
        if way is None:
            self._ends[each] = _SLOW
            self._notes.append(
                f"{name} misses the target: its bundle takes {min(times.values()):.2f} ms a frame "
                "at best."
            )
            return None
        sketched = found.times[each].get(way, times[way])
        miou = runner.final if runner.final is not None else runner.rungs[-1]
        return Chosen(
            each.key, each.title, written.bundle, way, sketched, times[way], miou, written.miou,
            runner.epochs,
        )  # fmt: skip

    def _way(self, times: dict[str, float]) -> str | None:
        """The closest precision with room below the target, else the fastest way that holds it."""
        target, order = self._request.target, get_args(Precision)
        roomy = [way for way in times if target.holds(times[way], room=ROOM)]
        if roomy:
            return min(roomy, key=lambda way: (order.index(precision_of(way)), times[way]))
        held = [way for way in times if target.holds(times[way])]
        return min(held, key=lambda way: times[way], default=None)

    def _ask(self, step: str, told: str, work: Callable[[], Any]) -> Any:
        if not self._journal.knows(step):
            self._report(told)
        return self._journal.ask(step, work)

    # What is said

    def _nobody(self, found: Survey) -> str:
        """No configuration reaches the target: the nearest one, and what is missing."""
        nearest = found.nearest
        way, ms = found.fastest(nearest)
        limit = self._request.target.milliseconds
        if self._request.target.holds(ms):
            return (
                f"No configuration holds {self._request.target.text} with {ROOM - 1:.0%} of room "
                f"for a busier moment. The nearest is {nearest.title} on {way}: {ms:.2f} ms a "
                f"frame of {limit:.2f} ms. Ask for a little less."
            )
        unmeasured = sum("no time" in fate for fate in found.fates.values())
        more = f" {unmeasured} were not measured for lack of time." if unmeasured else ""
        return (
            f"No configuration reaches {self._request.target.text}. The nearest is {nearest.title} "
            f"on {way}: {ms:.2f} ms a frame, {ms - limit:.2f} ms ({ms / limit - 1:.0%}) too many."
            f"{more} Ask for fps>={math.floor(1000 / ms / ROOM * 10) / 10:g} or less, or use a "
            "faster machine."
        )

    def _too_much_lost(self, found: Survey, best: Runner) -> str:
        """Only slower ones are accurate enough: which is the nearest, and what is missing."""
        assert self._race is not None
        drop, beside = self._race.drop(best), self._race.best_beside(best)
        way, ms = found.fastest(beside.configuration)
        limit = self._request.target.milliseconds
        return (
            f"{best.configuration.title} is the best that holds {self._request.target.text}, with "
            f"mIoU {best.rungs[-1]:.2f}: {drop:.2f} points below {beside.configuration.title} "
            f"({beside.rungs[-1]:.2f}), which was trained equally long, and "
            f"{self._request.max_drop:g} are allowed. That one takes {ms:.2f} ms a frame on {way}; "
            f"the target leaves {limit:.2f} ms. Pass --max-drop {math.ceil(10 * drop) / 10:g}, or "
            f"ask for fps>={math.floor(1000 / ms / ROOM * 10) / 10:g}."
        )

    def _all_missed(self) -> str:
        target, ends = self._request.target.text, self._ends.values()
        if _SLOW in ends:
            return (
                f"No bundle holds {target} when it is measured, though its net with random weights "
                "did. Was the machine busier? Search again, or ask for less."
            )
        fates = "; ".join(f"{each.title}: {end}" for each, end in self._ends.items())
        return (
            f"No bundle came of the nets that hold {target} with random weights ({fates}). The "
            "notes say why."
        )

    def _reason(self, found: Survey, chosen: Chosen, ranking: Sequence[Runner]) -> str:
        assert self._race is not None
        runner = next(each for each in ranking if each.configuration.key == chosen.key)
        faster = 1000 / chosen.milliseconds
        why = (
            f"{chosen.title} on {chosen.way} is chosen: measured again, its bundle takes "
            f"{chosen.milliseconds:.2f} ms a frame ({faster:.1f} frames/s) of "
            f"{self._request.target.milliseconds:.2f} ms"
        )
        others = len(ranking) - 1
        if others:
            why += f", and of {others + 1} that are fast enough and were trained it is "
            why += "the most accurate" if runner is ranking[0] else "the best that could be used"
        drop = self._race.drop(runner)
        if drop > 0:
            beside = self._race.best_beside(runner).configuration
            why += f"; {beside.title}, trained equally long, is {drop:.2f} points better"
        elif runner.rungs and any(each not in ranking for each in self._race.runners):
            why += f"; {found.reference.title}, the slowest, is no better after equal training"
        exported = "" if chosen.exported is None else f", {chosen.exported:.2f} in the bundle"
        return f"{why}. mIoU {chosen.miou:.2f} after {chosen.epochs} epochs{exported}."

    def _outcome(self, found: Survey, chosen: Chosen | None, why: str) -> Outcome:
        request, spent = self._request, self._journal.spent
        if spent > request.budget:
            self._notes.append(
                f"The search took {duration(spent)} of {duration(request.budget)}: an export, or "
                "a training that is slower than it was timed, is not cut short."
            )
        equal = self._race.equal_epochs if self._race is not None else 0
        return Outcome(
            model=request.model,
            data=request.data,
            target=request.target.text,
            milliseconds=request.target.milliseconds,
            max_drop=request.max_drop,
            budget=request.budget,
            spent=spent,
            size=len(self._space),
            model_error=found.error if math.isfinite(found.error) else None,
            misses=tuple(found.misses),
            tried=tuple(self._tried(found, chosen)),
            equal_epochs=equal,
            chosen=chosen,
            why=why,
            notes=tuple(self._notes),
            environment=environment(),
        )

    def _tried(self, found: Survey, chosen: Chosen | None) -> Iterator[Tried]:
        runners = {} if self._race is None else {e.configuration: e for e in self._race.runners}
        for each, times in found.times.items():
            runner = runners.get(each)
            yield Tried(
                each.key,
                each.title,
                round(found.works[each].gflops, 3),
                times,
                () if runner is None else tuple(runner.rungs),
                0 if runner is None else runner.epochs,
                self._fate(found, each, runner, chosen),
            )

    def _fate(
        self, found: Survey, each: Configuration, runner: Runner | None, chosen: Chosen | None
    ) -> str:
        if chosen is not None and each.key == chosen.key:
            return "chosen"
        if each in found.fates:
            return found.fates[each]
        if each in self._ends:
            return self._ends[each]
        if runner is None:
            return "no time to train"
        return f"out after rung {len(runner.rungs)}" if runner.rungs else "not trained"
