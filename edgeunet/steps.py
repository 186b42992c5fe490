"""The steps of work that takes long: what is done, how far it is, and how long each step took."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

Count = Callable[[int, int | None], None]
"""Takes what is done of the step under way, and of how much if that is known."""


class Step(NamedTuple):
    """A step that ended. seconds: from its report to the next one. result: "" if nobody told."""

    name: str
    seconds: float
    result: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.result}" if self.result else self.name


class Steps:
    """Hears of steps, and keeps their times; a `report` of `export_bundle` and others.

    They take any function of a step's name. This one also hears how far a step is. Use it as a
    context manager, which ends the last step. Subclasses override `begin`, `count` and `end`.

    Example:
        >>> from edgeunet.steps import Steps
        >>> with Steps() as steps:
        ...     report = edgeunet.export_bundle(
        ...         "timed", edgeunet.ExportOptions("mobile_unet", size=(64, 96)), report=steps
        ...     )
        >>> [step.name for step in steps.ended]
        ['trace', 'lint', 'golden frames', 'parity']
    """

    def __init__(self) -> None:
        self.ended: list[Step] = []
        self._name: str | None = None
        self._started = 0.0
        self._result = ""

    def __call__(self, name: str) -> None:
        """Begin a step, which ends the one before."""
        self.close()
        self._name, self._started = name, time.monotonic()
        self.begin(name)

    def begin(self, name: str) -> None:
        """A step begins."""

    def count(self, done: int, total: int | None = None) -> None:
        """So much of the step under way is done; total: of how much, None if unknown."""

    def tell(self, result: str) -> None:
        """What the step under way came to, such as "2.4 MB"."""
        self._result = result

    def end(self, step: Step) -> None:
        """A step has ended."""

    def close(self) -> None:
        """End the step under way, if there is one."""
        if self._name is not None:
            step = Step(self._name, time.monotonic() - self._started, self._result)
            self._name, self._result = None, ""
            self.ended.append(step)
            self.end(step)

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def count_of(report: Callable[[str], None]) -> Count:
    """What takes the counts of a `report`; those of a plain function go nowhere."""
    return report.count if isinstance(report, Steps) else lambda done, total: None


def tell_of(report: Callable[[str], None]) -> Callable[[str], None]:
    """What takes the result of a `report`'s step; those of a plain function go nowhere."""
    return report.tell if isinstance(report, Steps) else lambda result: None
