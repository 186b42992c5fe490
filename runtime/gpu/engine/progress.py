"""A build's progress: TensorRT tells phases within phases, a bar wants one share."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def noted_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets an event while the block runs, instead of raising KeyboardInterrupt.

    It would be raised in whatever Python code runs next: mostly the logger, where TensorRT swallows
    it and builds on. A second one ends the process at once: a build may take minutes to stop, and
    none leaves anything half-written.
    """
    event = threading.Event()

    def note(*_: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():  # signals do not reach others
        yield event
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)


def progress_monitor(
    trt: Any, progress: Callable[[float], None], interrupted: threading.Event
) -> Any:
    """IProgressMonitor that tells `progress` the share done.

    TensorRT swallows what its calls raise: the monitor cancels the build where `progress` fails or
    `interrupted` is set, and keeps the exception in `interruption`, for the caller to raise.
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


SECONDS = 10.0  # between two beats


@contextmanager
def heartbeat(report: Callable[[str], None], interrupted: threading.Event) -> Iterator[None]:
    """Report every few seconds, from a thread, for how long the block has been running.

    Once `interrupted` is set, also that it goes on: there is no way to stop the builder.
    """
    done = threading.Event()

    def beat() -> None:
        start = time.monotonic()
        while not done.wait(SECONDS):
            told = f"still building after {time.monotonic() - start:.0f} s"
            if interrupted.is_set():
                told += "; interrupted, but it stops at the end only: Ctrl-C again ends the process"
            report(told)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
