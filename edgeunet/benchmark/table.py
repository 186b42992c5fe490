"""A benchmark as text for a terminal, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import printable
from .report import BenchmarkReport, Row, Setting, front

_NAME = 27


def table(report: BenchmarkReport) -> str:
    """All settings, each with its conclusion, and how it was measured."""
    machine = report.environment
    height, width = report.input_size
    lines = [
        f"{report.model} {report.weights}, input {height}x{width}; {machine['processor']}, "
        f"{machine['cores']} cores"
    ]
    for setting in report.settings:
        lines += ["", *_setting(setting, report)]
    if report.missing:
        lines += ["", "not measured:"]
        lines += [f"  {name}: {what}" for name, what in report.missing.items()]
    lines += ["", *legend(report)]
    return "\n".join(printable(line) for line in lines)


def legend(report: BenchmarkReport) -> list[str]:
    """What the columns mean."""
    lost = (
        f"lost: points of mIoU on {report.data} against the FP32 graph"
        if report.data
        else "lost: not measured, which takes labels (--data)"
    )
    height, width = report.frame_size
    return [
        "> what to use, * on the front of speed and accuracy, + another project's tool",
        "p50, p99: ms a frame, the net alone. net/s: frames a second through it. all/s: with",
        f"pre- and post-processing of {height}x{width} in turn. agree: golden pixels as the",
        f"reference's. {lost}.",
        "MB: files read. RAM MB, start s: of a fresh process, to its first mask.",
    ]


def _setting(setting: Setting, report: BenchmarkReport) -> Iterator[str]:
    yield setting.title
    yield (
        f"    {'':<{_NAME}}{'p50':>8}{'p99':>8}{'net/s':>7}{'all/s':>7}{'agree':>9}"
        f"{'lost':>7}{'MB':>6}{'RAM MB':>7}{'start s':>8}"
    ).rstrip()
    on_front = front(setting.rows)
    use = report.use[setting.title]
    for row in setting.rows:
        chosen, best = row.title == use, row in on_front
        marks = "".join(
            mark if holds else " " for mark, holds in ((">", chosen), ("*", best), ("+", row.peer))
        )
        yield f"{marks} {_line(row)}".rstrip()
    why = report.why[setting.title]
    yield from _wrapped(why[:1].upper() + why[1:])


def _line(row: Row) -> str:
    title = row.title if len(row.title) < _NAME else f"{row.title[: _NAME - 2]}…"
    if row.p50 is None:
        reason = row.problem or ""
        room = 94 - _NAME
        return f"{title:<{_NAME}}  {reason if len(reason) <= room else reason[: room - 1] + '…'}"
    return (
        f"{title:<{_NAME}}{row.p50:>8.2f}{_number(row.p99, 8, '.2f')}{_number(row.rate, 7, '.1f')}"
        f"{_number(row.whole_rate, 7, '.1f')}{_number(row.agreement, 9, '.2%')}"
        f"{_number(row.iou_lost, 7, '+.2f')}{_number(row.size_mb, 6, '.2f')}"
        f"{_number(row.memory_mb, 7, '.0f')}{_number(row.start_s, 8, '.2f')}"
    )


def _number(value: float | None, width: int, form: str) -> str:
    shown = "–" if value is None else format(value, form)
    return f"{shown:>{width}}"


def _wrapped(text: str, width: int = 98) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
    yield line
