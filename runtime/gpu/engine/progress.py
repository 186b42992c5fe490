"""Progress of a build, and Ctrl-C during it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...pipeline.stopping import stopping_on_signals


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class ShareOfPhases:
    """Turns TensorRT's nested phases into one finished share, for a progress bar.

    A child phase fills the next step of its parent.
    """

    def __init__(self) -> None:
        self._phases: dict[str, _Phase] = {}
        self._share = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Begin a phase of `steps` steps inside `parent`."""
        self._phases[name] = _Phase(parent, max(1, steps))

    def step(self, name: str, index: int) -> float:
        """Finish step `index` of a phase and return the share, 0 to 1. It never falls."""
        self._phases[name].done = index + 1
        share = 0.0
        phase: _Phase | None = self._phases[name]
        while phase is not None:
            share = min(1.0, (phase.done + share) / phase.steps)
            phase = self._phases.get(phase.parent) if phase.parent else None
        self._share = max(self._share, share)
        return self._share

    def finish(self, name: str) -> None:
        """End a phase."""
        self._phases.pop(name, None)


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """While the block runs, Ctrl-C or SIGTERM sets an event instead of raising an exception.

    Python would raise it in whatever code runs next. That is mostly the logger, where TensorRT
    swallows it and builds on. A second one ends the process at once, since a build may take
    minutes to stop. Builds write files atomically, so none stays half-written.
    """
    event = threading.Event()
    with stopping_on_signals(event.set, second=signal.SIG_DFL):
        yield event


def progress_monitor(
    trt: Any, progress: Callable[[float], None], interrupted: threading.Event
) -> Any:
    """IProgressMonitor that passes the finished share to `progress`.

    If `progress` raises or `interrupted` is set, the monitor cancels the build and stores the
    exception in `interruption`. The caller must raise it, since TensorRT swallows exceptions.
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
                if interrupted.is_set():
                    raise KeyboardInterrupt
            except BaseException as error:
                self.interruption = error
            return self.interruption is None

        def phase_finish(self, name: str) -> None:
            self._share.finish(name)

    return Monitor()


HEARTBEAT_SECONDS = 10.0


@contextmanager
def heartbeat(report: Callable[[str], None], interrupted: threading.Event) -> Iterator[None]:
    """Report from a thread, every few seconds, how long the block has been running.

    Once `interrupted` is set, also say that the build goes on: this builder cannot be stopped.
    """
    done = threading.Event()

    def beat() -> None:
        start = time.monotonic()
        while not done.wait(HEARTBEAT_SECONDS):
            message = f"still building after {time.monotonic() - start:.0f} s"
            if interrupted.is_set():
                message += "; interrupted, but this version stops only at the end: press Ctrl-C "
                message += "again to end the process"
            report(message)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
