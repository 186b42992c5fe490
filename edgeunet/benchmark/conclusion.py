"""Which row of a setting to use, and why; by the rule that `auto` has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ..bundle.manifest import Precision
from ..runtime.backends.measuring import MARGIN
from .report import Row, Setting


@dataclass(frozen=True)
class Conclusion:
    """use: title of the row, empty if none can be used. why: a few short sentences."""

    use: str
    why: str


def conclude(setting: Setting) -> Conclusion:
    """Say what to use in a setting: what `auto` would take of these rows, whole frames, deepest.

    Peers and shallower depths are compared with it, not chosen.
    """
    whole = [row for row in setting.timed if not row.tiled]
    ours = [row for row in whole if row.contends]
    deepest = max((row.depth or 0 for row in ours), default=0)
    ours = [row for row in ours if (row.depth or 0) == deepest]
    if not ours:
        return Conclusion("", "Nothing ran with right masks; the rows say why.")
    use = _chosen(ours)
    words = [f"use {use.title}: {_ms(use)} a frame{_agreed(use)}"]
    exact = min((r for r in ours if r.precision == "fp32"), key=_time, default=None)
    if exact is not None and exact is not use:
        words.append(f"{_times(exact, use)} as fast as {exact.title} ({_ms(exact)})")
    fastest = min(ours, key=_time)
    if fastest is not use:
        words.append(
            f"{fastest.title} is {1 - _time(fastest) / _time(use):.0%} faster, too little to give "
            "up accuracy for"
        )
    why = "; ".join(words) + "."
    peers = [row for row in whole if row.peer]
    if peers:
        best = min(peers, key=_time)
        if _time(best) < _time(use):
            why += (
                f" {best.title} is faster: {_ms(best)}, {_times(use, best)} as fast{_agreed(best)}."
            )
        else:
            why += (
                f" The fastest peer, {best.title}, takes {_times(best, use)} as long ({_ms(best)})."
            )
    below = [row.title for row in ours if not row.keeps_promise]
    if below:
        why += f" Below what their precision promises on the golden frames: {', '.join(below)}."
    failed = sum(row.p50 is None for row in setting.rows)
    if failed:
        why += f" {failed} row{'s' if failed > 1 else ''} could not be timed, and say why."
    return Conclusion(use.title, why)


def _chosen(rows: list[Row]) -> Row:
    """The closest precision of those that are nearly as fast as the fastest, as `auto` chooses."""
    fastest = min(_time(row) for row in rows)
    order = get_args(Precision)
    close = [row for row in rows if _time(row) <= MARGIN * fastest]
    return min(close, key=lambda row: (order.index(row.precision), _time(row)))


def _time(row: Row) -> float:
    assert row.p50 is not None
    return row.p50


def _ms(row: Row) -> str:
    return f"{_time(row):.1f} ms"


def _times(slower: Row, faster: Row) -> str:
    return f"{_time(slower) / _time(faster):.2f}x"


def _agreed(row: Row) -> str:
    """What is lost, in words; of labelled frames both."""
    words = "" if row.agreement is None else f", {row.agreement:.2%} of the golden pixels agree"
    if row.iou_lost is not None:
        words += f", {row.iou_lost:+.2f} points of mIoU lost"
    return words
