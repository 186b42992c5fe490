"""Shows the steps of a long command on stderr."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

import click

from ..errors import printable
from ..steps import Step, Steps
from .common import echo

_AT_ONCE = 0.05
"""Seconds below which a step was none, but something to be told."""

_BAR = 36
"""Columns of a bar, where there is room."""

_CLEAR = "\r\x1b[2K\x1b[?25h"
"""Empties the line, and shows the cursor that click's bar hides."""


class ShownSteps(Steps):
    """A line with its time for each step that ended; on a terminal also a bar of the present one.

    The bar's line is never longer than the terminal: of one that wraps, a part would stay.

    quiet: print nothing, as beside JSON.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__()
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()
        self._label = ""
        self._bar: Any = None

    def begin(self, name: str) -> None:
        """See `Steps`."""
        self._label, self._bar = f"{'':12}{printable(name)}", None
        if self._live:
            self._write(f"{self._label} …")

    def count(self, done: int, total: int | None = None) -> None:
        """See `Steps`."""
        if not self._live:
            return
        if total is None:
            self._write(f"{self._label}, {done}")
            return
        beside = f"  []  {total}/{total}  1d 00:00:00"
        width = min(_BAR, _columns() - len(self._label) - len(beside) - 1)
        if width < 1:
            self._write(f"{self._label}, {done}/{total}")
            return
        if self._bar is None:
            click.echo(_CLEAR, nl=False, err=True)
            self._bar = click.progressbar(
                length=total, label=self._label, show_pos=True, file=sys.stderr
            )
        self._bar.width = width
        self._bar.update(done - self._bar.pos)

    @staticmethod
    def _write(text: str) -> None:
        """Put a text in place of the line, cut to the terminal."""
        room = _columns() - 1
        shown = text if len(text) <= room else f"{text[: room - 1]}…"
        click.echo(f"{_CLEAR}{shown}", nl=False, err=True)

    def end(self, step: Step) -> None:
        """See `Steps`."""
        if self._live:
            click.echo(_CLEAR, nl=False, err=True)
        if not self._quiet:
            took = f"{step.seconds:8.1f} s  " if step.seconds >= _AT_ONCE else ""
            echo(f"{took:12}{step}", err=True)


def _columns() -> int:
    """Of the terminal, 80 if it does not say."""
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    return 80
