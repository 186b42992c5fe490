"""What a search came to: plain values, and the table of them."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from ..benchmark.report import Row, Setting, front, sort_rows
from ..bundle.manifest import Precision
from ..errors import printable
from .target import ROOM, Target, duration

WIDTH = 100


@dataclass(frozen=True)
class Tried:
    """A configuration that was measured.

    times: milliseconds of a whole frame by way. rungs: mIoU after each rung of the race; equally
    long trained ones are compared in one. epochs: of all trainings. fate: why it was not chosen.
    """

    key: str
    title: str
    gflops: float
    times: dict[str, float]
    rungs: tuple[float, ...]
    epochs: int
    fate: str

    @property
    def fastest(self) -> tuple[str, float]:
        """Way and milliseconds."""
        way = min(self.times, key=lambda each: (self.times[each], each))
        return way, self.times[way]


@dataclass(frozen=True)
class Chosen:
    """The configuration that was chosen, and its bundle.

    way: engine and precision to run it on. sketched: milliseconds of a frame there with random
    weights. milliseconds: of the bundle. miou: of the net in PyTorch; of the bundle in `exported`,
    both in percent, the latter None if the data had no labels for it.
    """

    key: str
    title: str
    bundle: str
    way: str
    sketched: float
    milliseconds: float
    miou: float
    exported: float | None
    epochs: int

    @property
    def command(self) -> str:
        """How to run it that way."""
        backend, *provider, precision = self.way.split()
        words = [f"edgeunet run {shlex.quote(self.bundle)} SOURCE --backend {backend}"]
        words += [f"--provider {each}" for each in provider]
        return " ".join([*words, f"--precision {precision.lower()}"])


@dataclass(frozen=True)
class Outcome:
    """A search.

    milliseconds: the target's. budget, spent: seconds. size: number of configurations. predicted:
    how many of them were only predicted. model_error: of the cost model, see `CostModel`, None if
    unknown. misses: relative errors of its predictions that were measured later. equal_epochs: that
    all trained ones had in the first rung. chosen: None if nothing holds the target, and `why` says
    what is missing. notes: what else happened.
    """

    model: str
    data: str
    target: str
    milliseconds: float
    max_drop: float
    budget: float
    spent: float
    size: int
    model_error: float | None
    misses: tuple[float, ...]
    tried: tuple[Tried, ...]
    equal_epochs: int
    chosen: Chosen | None
    why: str
    notes: tuple[str, ...]
    environment: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def check(self) -> str:
        """How good the cost model was, in a sentence."""
        predicted = self.size - len(self.tried)
        text = f"{len(self.tried)} of {self.size} configurations were measured"
        if predicted:
            text += f", and {predicted} only predicted"
        if self.misses:
            errors = [abs(miss) for miss in self.misses]
            text += (
                f". {len(errors)} predictions were checked: off by {statistics.median(errors):.0%} "
                f"in the median, {max(errors):.0%} at most"
            )
        if self.chosen is not None:
            late = self.chosen.milliseconds / self.chosen.sketched - 1
            text += (
                f". The bundle takes {self.chosen.milliseconds:.2f} ms a frame, {late:+.0%} "
                "against the same net with random weights"
            )
        return f"{text}."

    def setting(self) -> Setting:
        """The trained configurations as rows of a benchmark, in every precision, for a picture.

        What they lose is in points of mIoU, see `behind`.
        """
        rows = [
            Row(
                f"{way} {each.key}",
                precision_of(way),
                threads=int(self.environment["cores"]),
                batch=1,
                p50=milliseconds,
                iou_lost=round(self.behind(each), 3),
            )
            for each in self.tried
            if each.rungs
            for way, milliseconds in _fastest_by_precision(each.times)
        ]
        return Setting(int(self.environment["cores"]), 1, tuple(sort_rows(rows)))

    def behind(self, each: Tried) -> float:
        """Points of mIoU that a trained one is behind the best of the last rung.

        One that was out before is as far behind the best contender as it was then, so that the race
        is told as it was decided.
        """
        whole = max(len(other.rungs) for other in self.tried)
        last = [other for other in self.tried if len(other.rungs) == whole]
        best = max(other.rungs[-1] for other in last)
        target = Target(self.target, self.milliseconds)
        fast = [other for other in last if target.holds(other.fastest[1], room=ROOM)]
        leader = max(fast or last, key=lambda other: other.rungs[-1])
        return best - leader.rungs[-1] + leader.rungs[len(each.rungs) - 1] - each.rungs[-1]

    @property
    def use(self) -> str:
        """The title of the chosen row in `setting`."""
        return "" if self.chosen is None else f"{self.chosen.way} {self.chosen.key}"


def precision_of(way: str) -> Precision:
    """Of a way, such as "openvino INT8"."""
    precision: Precision = way.split()[-1].lower()  # type: ignore[assignment]
    assert precision in get_args(Precision)
    return precision


def _fastest_by_precision(times: dict[str, float]) -> Iterator[tuple[str, float]]:
    for precision in get_args(Precision):
        found = [(ms, way) for way, ms in times.items() if precision_of(way) == precision]
        if found:
            ms, way = min(found)
            yield way, ms


def table(outcome: Outcome) -> str:
    """All that was measured, the fastest first, and what was chosen, for a terminal."""
    name = max((len(each.key) for each in outcome.tried), default=0) + 2
    way = max((len(each.fastest[0]) for each in outcome.tried), default=0) + 2
    on_front = {row.name for row in front(outcome.setting().rows)}
    lines = [
        f"{outcome.model} on {outcome.data}, target {outcome.target} "
        f"({outcome.milliseconds:.2f} ms a frame), {duration(outcome.spent)} of "
        f"{duration(outcome.budget)}; {outcome.environment['processor']}, "
        f"{outcome.environment['cores']} cores",
        f"  {'':<{name}}{'GFLOPs':>7}  {'fastest way':<{way}}{'ms':>8}{'mIoU':>8}{'epochs':>8}  "
        "and then",
    ]
    chosen = None if outcome.chosen is None else outcome.chosen.key
    for each in sorted(outcome.tried, key=lambda each: each.fastest[1]):
        fastest, ms = each.fastest
        mark = ">" if each.key == chosen else " "
        mark += "*" if any(f"{used} {each.key}" in on_front for used in each.times) else " "
        miou = f"{each.rungs[-1]:.2f}" if each.rungs else "–"
        lines.append(
            f"{mark}{each.key:<{name}}{each.gflops:>7.2f}  {fastest:<{way}}{ms:>8.2f}{miou:>8}"
            f"{each.epochs or '–':>8}  {each.fate}"
        )
    lines += ["", *_wrapped(outcome.why), *(line for n in outcome.notes for line in _wrapped(n))]
    lines += list(_wrapped(outcome.check))
    if outcome.chosen is not None:
        lines.append(outcome.chosen.command)
    lines += ["", *_wrapped(LEGEND)]
    return "\n".join(printable(line) for line in lines)


LEGEND = (
    "> chosen, * on the front of speed and accuracy. ms: median of a whole frame, with pre- and "
    "post-processing one after the other, in the quietest of several blocks. mIoU: in percent on "
    "the validation split, at the last rung of the race; compare those of equally many epochs."
)


def _wrapped(text: str) -> Sequence[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines
