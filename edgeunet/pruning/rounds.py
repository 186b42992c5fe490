"""Channel pruning to a share of a net's time, as its engine runs it: `edgeunet prune --to-latency`.

Each round times what the groups of coupled channels cost, removes those channels that matter
least per time saved, times the smaller net and, except for the last, fine-tunes it briefly. Small
steps with training between them lose less than one large step: Molchanov et al., "Pruning
Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017 (arXiv 1611.06440), from
where the criterion per cost comes, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle.schema import encode
from ..data.datasets import Dataset
from ..data.fit import Fit
from ..errors import UsageError
from ..models import Card, Checkpoint, SegmentationNet, save_checkpoint
from ..models.checkpoints import has_card
from ..models.summary import count
from ..runtime.backends.candidates import Candidate
from ..steps import count_of
from .channels import (
    blank,
    check_same_pruning,
    coupled_channels,
    importances,
    names_of,
    pruned_card,
    resolutions,
    without,
)
from .greedy import Cost, choose, halved
from .timing import Share, Timer, fastest_engine

ROUND = 0.75
"""Share of the time that a round leaves at least; as many follow as the target needs."""

TOLERANCE = 0.02
"""Share of a goal by which a measured time may miss it: about what timing cannot tell."""

ATTEMPTS = 4
"""Choices that a round times, each corrected by what the one before it missed its goal by."""

_FOUND = ("engine", "precision", "rounds")
"""What a record gets in the course of a pruning."""

Report = Callable[[str], None]
Tune = Callable[[Checkpoint, Path], Checkpoint]
"""Trains a checkpoint for a short time in a directory, where it also resumes."""


@dataclass(frozen=True)
class Round:
    """What one round did.

    share: of the unpruned net's time that is left, as timed. removed: channels, by the first layer
    of their group.
    """

    share: float
    removed: dict[str, int]


@dataclass(frozen=True)
class Fewer:
    """A net after its rounds. timer: what it was timed with."""

    checkpoint: Checkpoint
    timer: Timer
    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class ToLatency:
    """A pruning to a share of a net's time.

    Every round is written into `folder`, where the same pruning resumes.

    Args:
        target: share of the time to keep, 0..1. record: what the card keeps of the pruning, beside
            the engine and the rounds; a pruning resumes only with the same.
        tune: trains between rounds; None for not at all.
    """

    source: Checkpoint
    dataset: Dataset
    folder: Path
    target: float
    record: dict[str, Any]
    tune: Tune | None
    report: Report

    def run(self) -> Fewer:
        """Prune until the target is reached.

        Raises:
            UsageError: the net takes longer than that with the fewest channels, too. Nothing is
                trained then. CheckpointError: `folder` belongs to another pruning.
        """
        found = self._resumed()
        if found is None:
            found = Fewer(self.source, self._timer(), ())
            self._check_reachable(found.timer)
        while not found.rounds or found.rounds[-1].share > self.target * (1 + TOLERANCE):
            after = self._next(found)
            if after is found:
                break
            found = after
        return found

    # What is timed

    def _timer(self, engine: Candidate | None = None) -> Timer:
        """For an engine, or for the fastest one here."""
        spec = self.source.card.input
        frame = Fit(spec).read(self.dataset.samples("train")[0].image)
        if engine is None:
            self.report("looking for the fastest engine and precision")
            engine = fastest_engine(self.source.net, spec, frame, report=self.report)
        return Timer(engine, spec, frame)

    def _check_reachable(self, timer: Timer) -> None:
        """UsageError unless the net with the fewest channels holds the target.

        Of 8 and 16 channels in every group the faster: 8 may be slower, see `WIDE`.
        """
        self.report(f"timing the fewest channels on {timer.engine.label}")
        net, spec = self.source.net, self.source.card.input
        sizes = [len(group[0].idxs) for group in coupled_channels(deepcopy(net), blank(spec))]
        with timer.against(net) as share:
            least = min(
                share(without(net, [range(fewest, size) for size in sizes], spec))
                for fewest in (8, 16)
            )
        if least > self.target:
            raise UsageError(
                f"--to-latency {self.target:g} cannot be reached: with the fewest channels "
                f"the net still takes {least:.0%} of its time on {timer.engine.label}. Pass "
                f"{math.ceil(100 * least + 1) / 100:g} or more, or a smaller --size."
            )

    # Rounds

    def _next(self, found: Fewer) -> Fewer:
        """One more round, written; the same if there is nothing left to remove."""
        number, timer, start = len(found.rounds) + 1, found.timer, found.checkpoint
        if found.rounds and self.tune is not None:
            start = self.tune(start, self._directory(number - 1) / "tuned")
        net = start.net
        self.report(f"round {number}: timing the groups of channels on {timer.engine.label}")
        costs, names = self._costs(net, timer)
        self.report(f"round {number}: choosing channels by loss and time")
        now = found.rounds[-1].share if found.rounds else 1.0
        with timer.against(self.source.net) as share:
            chosen, after = self._choose(net, costs, now, share)
        if not any(chosen):
            return self._ended(found)
        removed = {name: len(gone) for name, gone in zip(names, chosen, strict=True) if gone}
        rounds = (*found.rounds, Round(round(after, 4), removed))
        path = self._directory(number) / "start.safetensors"
        smaller = without(net, chosen, self.source.card.input)
        save_checkpoint(path, smaller, self._card(smaller, timer.engine, rounds))
        return Fewer(Checkpoint.open(path), timer, rounds)

    def _ended(self, found: Fewer) -> Fewer:
        """What is left if no group saves time any more; UsageError if none ever did."""
        if not found.rounds:
            raise UsageError(
                f"no layer of this net saves time on {found.timer.engine.label} with half of its "
                "channels. Pass a smaller --size instead, or --ratio for a smaller file."
            )
        self.report("no layer saves time any more")
        return found

    def _costs(self, net: SegmentationNet, timer: Timer) -> tuple[list[Cost], list[str]]:
        """What each group costs, in shares of the net's time, and its name.

        One group saves a few per cent, which is no more than two timings of the same net differ by.
        So all groups of one resolution are halved together and timed, and share what that saves by
        the arithmetic that each of them saves.
        """
        spec = self.source.card.input
        work = deepcopy(net).eval()
        groups = coupled_channels(work, blank(spec))
        loss = [each.tolist() for each in importances(work, groups, self.dataset, spec)]
        sizes = resolutions(work, groups, blank(spec))
        halves = [range(halved(len(each)), len(each)) for each in loss]  # any: times are the same
        operations = self._operations_saved(net, halves)
        saved = [0.0] * len(groups)
        tell = count_of(self.report)
        with timer.against(net) as share:
            for done, size in enumerate(sorted(set(sizes)), start=1):
                here = [index for index, each in enumerate(sizes) if each == size]
                total = sum(operations[index] for index in here)
                if total:
                    time = 1 - share(without(net, _only(halves, here), spec))
                    for index in here:
                        saved[index] = time * operations[index] / total
                tell(done, len(set(sizes)))
        costs = [Cost(importance, time) for importance, time in zip(loss, saved, strict=True)]
        return costs, names_of(work, groups)

    def _operations_saved(self, net: SegmentationNet, halves: Sequence[range]) -> list[int]:
        """Arithmetic that a net saves without a half of each group alone."""
        spec = self.source.card.input

        def operations(net: SegmentationNet) -> int:
            return count(
                net, height=spec.height, width=spec.width, channels=len(spec.channels)
            ).flops

        whole = operations(net)
        return [
            whole - operations(without(net, _only(halves, [index]), spec)) if half else 0
            for index, half in enumerate(halves)
        ]

    def _choose(
        self, net: SegmentationNet, costs: Sequence[Cost], now: float, share: Share
    ) -> tuple[list[list[int]], float]:
        """Channels to remove, and the share of the unpruned net's time that is left then.

        What groups save does not simply add up: a layer between two of them loses channels twice.
        So the choice is timed, and corrected.

        Args:
            now: share that the net takes. share: times a net against the unpruned one.
        """
        goal = self._goal(now)
        wanted = 1 - goal / now
        tried: list[tuple[list[list[int]], float]] = []
        for _ in range(ATTEMPTS):
            chosen = choose(costs, wanted)
            if not any(chosen) or any(chosen == before for before, _ in tried):
                break
            left = share(without(net, chosen, self.source.card.input))
            tried.append((chosen, left))
            if abs(left / goal - 1) <= TOLERANCE:
                break
            wanted *= (now - goal) / max(now - left, 0.1 * (now - goal))

        def misses(each: tuple[list[list[int]], float]) -> tuple[bool, float]:
            return each[1] > goal * (1 + TOLERANCE), abs(each[1] - goal)

        return min(tried, key=misses, default=([], now))

    def _goal(self, now: float) -> float:
        """The share to leave, in equal steps from what the net takes now to the target."""
        rounds = max(1, math.ceil(math.log(self.target / now) / math.log(ROUND)))
        return float(now * (self.target / now) ** (1 / rounds))

    # What is kept

    def _directory(self, number: int) -> Path:
        return self.folder / f"round-{number}"

    def _card(self, net: SegmentationNet, engine: Candidate, rounds: Sequence[Round]) -> Card:
        record = {
            **self.record,
            "engine": engine.backend,
            "precision": engine.precision,
            "rounds": [encode(each) for each in rounds],
        }
        return pruned_card(self.source.card, net, record)

    def _resumed(self) -> Fewer | None:
        """The last round that was written; None if there is none."""
        number = 0
        while has_card(self._directory(number + 1) / "start.safetensors"):
            number += 1
        if not number:
            return None
        checkpoint = Checkpoint.open(self._directory(number) / "start.safetensors")
        record = checkpoint.card.training["pruned"][-1]
        known = {name: value for name, value in record.items() if name not in _FOUND}
        check_same_pruning(self.folder, known, self.record)
        self.report(f"resuming in {self.folder} after round {number}")
        rounds = tuple(Round(each["share"], each["removed"]) for each in record["rounds"])
        timer = self._timer(Candidate(record["engine"], record["precision"]))
        return Fewer(checkpoint, timer, rounds)


def _only(halves: Sequence[range], indices: Sequence[int]) -> list[range]:
    """The halves of some groups, and nothing of the others."""
    return [half if index in indices else range(0) for index, half in enumerate(halves)]
