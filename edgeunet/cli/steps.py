"""Shows the steps of a long command on stderr."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..errors import printable
from ..steps import Step, Steps
from .common import echo

_AT_ONCE = 0.05
"""Seconds below which a step was none, but something to be told."""

_CLEAR = "\r\x1b[2K\x1b[?25h"
"""Empties the line, and shows the cursor that click's bar hides."""


class ShownSteps(Steps):
    """A line with its time for each step that ended; on a terminal also a bar of the present one.

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
            click.echo(f"{self._label} …", nl=False, err=True)

    def count(self, done: int, total: int | None = None) -> None:
        """See `Steps`."""
        if not self._live:
            return
        if total is None:
            click.echo(f"{_CLEAR}{self._label}, {done}", nl=False, err=True)
            return
        if self._bar is None:
            click.echo(_CLEAR, nl=False, err=True)
            self._bar = click.progressbar(
                length=total, label=self._label, show_pos=True, file=sys.stderr
            )
        self._bar.update(done - self._bar.pos)

    def end(self, step: Step) -> None:
        """See `Steps`."""
        if self._live:
            click.echo(_CLEAR, nl=False, err=True)
        if not self._quiet:
            took = f"{step.seconds:8.1f} s  " if step.seconds >= _AT_ONCE else ""
            echo(f"{took:12}{step.name}", err=True)
