"""A benchmark as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import printable
from .report import BenchmarkReport, Row, Setting, front

WIDEST, _NARROWEST = 100, 60
_MARKS = 4  # columns in front of a row's name
_SHORTEST = 20  # columns of a name


@dataclass(frozen=True)
class _Column:
    """title, columns, and how a row's value is written."""

    title: str
    width: int
    value: Callable[[Row], float | None]
    form: str

    def text(self, row: Row) -> str:
        value = self.value(row)
        return f"{'–' if value is None else format(value, self.form):>{self.width}}"


_COLUMNS = (
    _Column("p50", 8, lambda row: row.p50, ".2f"),
    _Column("p99", 8, lambda row: row.p99, ".2f"),
    _Column("net/s", 7, lambda row: row.rate, ".1f"),
    _Column("all/s", 7, lambda row: row.whole_rate, ".1f"),
    _Column("agree", 9, lambda row: row.agreement, ".2%"),
    _Column("lost", 7, lambda row: row.iou_lost, "+.2f"),
    _Column("MB", 6, lambda row: row.size_mb, ".2f"),
    _Column("RAM MB", 7, lambda row: row.memory_mb, ".0f"),
    _Column("start s", 8, lambda row: row.start_s, ".2f"),
)
_LEAST = ("net/s", "MB", "RAM MB", "start s", "p99", "all/s")
"""What a narrow terminal goes without first: net/s follows from p50."""


def table(report: BenchmarkReport, *, width: int = WIDEST) -> str:
    """All settings, each with its conclusion, and how it was measured.

    Args:
        width: of the terminal, of which 60 to 100 columns are used. What has no room is named.
    """
    width = max(_NARROWEST, min(width, WIDEST))
    longest = max((len(row.title) for each in report.settings for row in each.rows), default=0)
    name = max(_SHORTEST, longest + 1)
    columns = list(_COLUMNS)
    if report.data is None:
        columns = [each for each in columns if each.title != "lost"]
    left_out = []
    for title in _LEAST:
        if _MARKS + name + sum(each.width for each in columns) <= width:
            break
        columns = [each for each in columns if each.title != title]
        left_out.append(title)
    name = min(name, width - _MARKS - sum(each.width for each in columns))
    machine = report.environment
    tall, wide = report.input_size
    lines = [
        f"{report.model} {report.weights}, input {tall}x{wide}; {machine['processor']}, "
        f"{machine['cores']} cores"
    ]
    for setting in report.settings:
        lines += ["", *_setting(setting, report, columns, name, width)]
    if report.missing:
        lines += ["", "not measured:"]
        lines += [f"  {name}: {what}" for name, what in report.missing.items()]
    lines += ["", *_wrapped(legend(report), width)]
    if left_out:
        told = f"No room here for {', '.join(left_out)}: --json and --html have all."
        lines += _wrapped(told, width)
    return "\n".join(printable(line) for line in lines)


def legend(report: BenchmarkReport) -> str:
    """What the columns mean."""
    lost = (
        f"lost: points of mIoU on {report.data} against the FP32 graph."
        if report.data
        else "Points of mIoU lost were not measured, which takes labels (--data)."
    )
    height, width = report.frame_size
    return (
        "> what to use, * on the front of speed and accuracy, + another project's tool. "
        "p50, p99: ms a frame, the net alone. net/s: frames a second through it. all/s: with "
        f"pre- and post-processing of {height}x{width} in turn. agree: golden pixels as the "
        f"reference's. {lost} MB: files read. RAM MB, start s: of a fresh process, to its first "
        "mask."
    )


def _setting(
    setting: Setting,
    report: BenchmarkReport,
    columns: Sequence[_Column],
    name: int,
    width: int,
) -> Iterator[str]:
    yield setting.title
    heads = "".join(f"{each.title:>{each.width}}" for each in columns)
    yield f"{'':<{_MARKS + name}}{heads}"
    on_front = front(setting.rows)
    use = report.use[setting.title]
    for row in setting.rows:
        chosen, best = row.title == use, row in on_front
        marks = "".join(
            mark if holds else " " for mark, holds in ((">", chosen), ("*", best), ("+", row.peer))
        )
        if row.p50 is None:
            values = f"  {_cut(row.problem or '', width - _MARKS - name - 2)}"
        else:
            values = "".join(each.text(row) for each in columns)
        yield f"{marks} {_cut(row.title, name - 1):<{name}}{values}"
    why = report.why[setting.title]
    yield from _wrapped(why[:1].upper() + why[1:], width)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
    yield line
