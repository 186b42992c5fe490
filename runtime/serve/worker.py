"""A thread that works for coroutines, one job after the other, and that nothing has to wait for."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from anyio import fail_after

T = TypeVar("T")


class WorkerFull(Exception):  # noqa: N818  # becomes an answer
    """As many jobs wait as may."""


class ShareFull(Exception):  # noqa: N818  # becomes an answer
    """As many jobs of this owner wait as may, though others could."""


class WorkerClosed(Exception):  # noqa: N818  # becomes an answer
    """The worker takes no more jobs."""


@dataclass(frozen=True)
class _Job(Generic[T]):
    work: Callable[[], T]
    owner: str | None
    result: asyncio.Future[T]


class Worker(Generic[T]):
    """Runs functions in a daemon thread, for the event loop that first calls `run`.

    Nothing can interrupt a function in C, such as one that decodes an image. So whoever waits may
    give up, and the end of the process waits for no job; a `ThreadPoolExecutor` would.

    Args:
        most: jobs with an owner at once, the one that runs included. One owner may have half of
            them.
    """

    def __init__(self, most: int, *, name: str) -> None:
        self.most = most
        self.most_of_one = max(1, most // 2)
        self._held: Counter[str | None] = Counter()  # jobs by owner, until they have ended
        self._queue: SimpleQueue[_Job[T] | None] = SimpleQueue()
        self._waiting: set[asyncio.Future[T]] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    @property
    def jobs(self) -> int:
        """Number of jobs that wait or run."""
        return self._held.total()

    async def run(self, work: Callable[[], T], *, owner: str | None, seconds: float) -> T:
        """Run a job, and return what it returns.

        Args:
            owner: whose share of the places the job takes; None for none, if the caller itself
                bounds its jobs.

        Raises:
            WorkerFull: too many jobs wait. ShareFull: too many of this owner.
            WorkerClosed: `close` was called before the job was done.
            TimeoutError: the job was not done in time. If it runs, it holds its place to its end;
                if it waits, it never runs.
        """
        if self._closed:
            raise WorkerClosed
        if owner is not None and self.jobs - self._held[None] >= self.most:
            raise WorkerFull
        if owner is not None and self._held[owner] >= self.most_of_one:
            raise ShareFull
        self._loop = asyncio.get_running_loop()
        if self._thread.ident is None:
            self._thread.start()
        result: asyncio.Future[T] = self._loop.create_future()
        self._held[owner] += 1
        self._waiting.add(result)
        self._queue.put(_Job(work, owner, result))
        try:
            with fail_after(seconds):
                return await result
        finally:
            self._waiting.discard(result)

    def close(self) -> None:
        """Raise `WorkerClosed` in all that wait, and take no more jobs. It waits for nothing."""
        self._closed = True
        self._queue.put(None)
        for result in self._waiting:
            if not result.done():
                result.set_exception(WorkerClosed())

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            outcome: T | None = None
            error: BaseException | None = None
            if not job.result.done():
                try:
                    outcome = job.work()
                except BaseException as raised:
                    error = raised
            with suppress(RuntimeError):  # the loop has ended, and with it everything that waited
                self._loop.call_soon_threadsafe(self._end, job.owner, job.result, outcome, error)
            del job, outcome, error  # images, while this waits for the next job

    def _end(
        self,
        owner: str | None,
        result: asyncio.Future[T],
        outcome: T | None,
        error: BaseException | None,
    ) -> None:
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(outcome)  # type: ignore[arg-type]
