"""A build's progress: TensorRT tells phases within phases, a bar wants one share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class ShareOfPhases:
    """Share of the outermost phase that is done: a child fills its parent's next step."""

    def __init__(self) -> None:
        self._phases: dict[str, _Phase] = {}
        self._share = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` begins inside `parent`."""
        self._phases[name] = _Phase(parent, max(1, steps))

    def step(self, name: str, index: int) -> float:
        """Step `index` of a phase is done; the share, which never falls."""
        self._phases[name].done = index + 1
        share = 0.0
        phase: _Phase | None = self._phases[name]
        while phase is not None:
            share = min(1.0, (phase.done + share) / phase.steps)
            phase = self._phases.get(phase.parent) if phase.parent else None
        self._share = max(self._share, share)
        return self._share

    def finish(self, name: str) -> None:
        """A phase ends."""
        self._phases.pop(name, None)


def progress_monitor(trt: Any, progress: Callable[[float], None]) -> Any:
    """IProgressMonitor that tells `progress` the share done.

    Ctrl-C arrives in one of its calls, and TensorRT swallows what they raise: the monitor cancels
    the build and keeps the exception in `interruption`, for the caller to raise.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interruption: BaseException | None = None
            self._share = ShareOfPhases()

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._share.start(name, parent, steps)

        def step_complete(self, name: str, step: int) -> bool:
            try:
                progress(self._share.step(name, step))
            except BaseException as error:
                self.interruption = error
            return self.interruption is None

        def phase_finish(self, name: str) -> None:
            self._share.finish(name)

    return Monitor()
