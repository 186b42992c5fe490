"""A thread that works for coroutines, and that nothing has to wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from edgeunet.runtime.serve.worker import ShareFull, Worker, WorkerClosed, WorkerFull
from support.serving import soon


def running(test: Callable[[Worker[int]], Coroutine[Any, Any, None]], most: int = 2) -> None:
    worker: Worker[int] = Worker(most, name="test-worker")
    try:
        asyncio.run(test(worker))
    finally:
        worker.close()


def fails() -> int:
    raise ZeroDivisionError


def test_jobs_return_and_raise() -> None:
    async def test(worker: Worker[int]) -> None:
        assert await worker.run(lambda: 1 + 1, owner="a", seconds=5) == 2
        with pytest.raises(ZeroDivisionError):
            await worker.run(fails, owner="a", seconds=5)
        assert await worker.run(lambda: 3, owner="a", seconds=5) == 3
        assert worker.jobs == 0

    running(test)


def test_jobs_beyond_the_most_are_refused() -> None:
    async def test(worker: Worker[int]) -> None:
        go = threading.Event()
        first = asyncio.ensure_future(worker.run(lambda: int(go.wait(5)), owner="a", seconds=5))
        second = asyncio.ensure_future(worker.run(lambda: 2, owner="b", seconds=5))
        await asyncio.sleep(0)
        with pytest.raises(WorkerFull):
            await worker.run(lambda: 3, owner="a", seconds=5)
        go.set()
        assert [await soon(first), await soon(second)] == [1, 2]
        assert await worker.run(lambda: 3, owner="a", seconds=5) == 3

    running(test)


def test_one_owner_has_at_most_half_of_the_places() -> None:
    async def test(worker: Worker[int]) -> None:
        go = threading.Event()

        def started(owner: str) -> asyncio.Future[int]:
            job = worker.run(lambda: int(go.wait(5)), owner=owner, seconds=0.05)
            return asyncio.ensure_future(job)

        jobs = [started("a"), started("a")]
        await asyncio.sleep(0)
        with pytest.raises(ShareFull):
            await worker.run(lambda: 3, owner="a", seconds=5)
        jobs += [started("b"), started("c")]
        await asyncio.sleep(0)
        with pytest.raises(WorkerFull):
            await worker.run(lambda: 3, owner="d", seconds=5)
        for job in jobs:
            with pytest.raises(TimeoutError):
                await soon(job)
        with pytest.raises(WorkerFull):  # who gives up holds the places until the jobs have ended
            await worker.run(lambda: 3, owner="a", seconds=5)
        go.set()
        while worker.jobs:
            await asyncio.sleep(0.01)
        assert await worker.run(lambda: 3, owner="a", seconds=5) == 3

    running(test, most=4)


def test_waiting_ends_in_time_and_a_late_job_never_runs() -> None:
    ran: list[int] = []

    async def test(worker: Worker[int]) -> None:
        go = threading.Event()
        slow = asyncio.ensure_future(worker.run(lambda: int(go.wait(5)), owner="a", seconds=0.05))
        late = asyncio.ensure_future(
            worker.run(lambda: ran.append(1) or 1, owner="b", seconds=0.05)
        )
        for waiting in (slow, late):
            with pytest.raises(TimeoutError):
                await soon(waiting)
        assert worker.jobs == 2, "the thread still works"
        go.set()
        while worker.jobs:
            await asyncio.sleep(0.01)
        assert await worker.run(lambda: 5, owner="a", seconds=5) == 5

    running(test)
    assert not ran


def test_close_frees_all_that_wait_while_the_thread_works() -> None:
    go = threading.Event()

    async def test(worker: Worker[int]) -> None:
        jobs = [asyncio.ensure_future(worker.run(lambda: int(go.wait(5)), owner="a", seconds=5))]
        jobs += [asyncio.ensure_future(worker.run(lambda: 2, owner="b", seconds=5))]
        await asyncio.sleep(0.01)
        worker.close()
        for job in jobs:
            with pytest.raises(WorkerClosed):
                await asyncio.wait_for(job, 1)
        with pytest.raises(WorkerClosed):
            await worker.run(lambda: 3, owner="a", seconds=5)

    running(test)
    (thread,) = [found for found in threading.enumerate() if found.name == "test-worker"]
    assert thread.daemon
    go.set()
    thread.join(5)
    assert not thread.is_alive()
