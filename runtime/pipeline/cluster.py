"""Ray: workers on this machine or on a cluster, and pieces of work handed out to them."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from edgeunet.errors import (
    BackendError,
    MissingDependencyError,
    UsageError,
    first_line,
    printable,
)
from edgeunet.extras import is_installed
from edgeunet.native_output import stderr_dropped

_log = logging.getLogger(__name__)

_LEAST_MEMORY = 100 << 20
_ANSWER = 10  # seconds that a cluster has to answer
_RELOADS = 3  # of the pieces of work, in Ray's memory for objects


class Worker(Protocol):
    """Does pieces of work, one after the other. A process of its own makes one and keeps it."""

    def __call__(self, piece: str) -> str:
        """Do a piece; the result."""
        ...


@dataclass(frozen=True)
class Cluster:
    """What Ray has. cpus: cores. gpus: number of GPUs."""

    cpus: int
    gpus: int

    def share(self, workers: int) -> int:
        """Cores of each worker."""
        return max(1, self.cpus // workers)

    def map(
        self,
        make: Callable[[], Worker],
        pieces: Sequence[str],
        *,
        workers: int,
        gpu: bool,
    ) -> Generator[str, None, None]:
        """Hand the pieces out to workers; yields results as they are done, in no order.

        A piece whose worker died is done again, however often that happens. What workers warned of
        is logged here, each text once: most of them have the same to say.

        Args:
            make: makes a worker, in its process; pickled.
            gpu: give each worker a GPU of its own.

        Raises:
            BackendError: a worker cannot be made, or raised an error.
        """
        import ray

        workers = min(workers, len(pieces))
        cores = self.share(workers)
        # One piece a task, as long as Ray's bookkeeping for a task costs less than a piece.
        tasks = max(workers, min(len(pieces), 10_000))
        data = ray.data.from_items(
            [{"piece": piece} for piece in pieces], override_num_blocks=tasks
        ).map_batches(
            _Actor,
            batch_size=1,
            fn_constructor_args=(make,),
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
            num_cpus=cores,
            num_gpus=int(gpu),
        )
        known: set[str] = set()
        try:
            with redirect_stdout(sys.stderr):  # where Ray tells of workers that died
                for row in data.iter_rows():
                    for text in json.loads(row["told"]):
                        if text not in known:
                            known.add(text)
                            _log.warning("a worker: %s", text)
                    yield row["result"]
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise BackendError(f"a worker failed: {first_line(cause).rstrip('.')}.") from error


@contextmanager
def ray_cluster(address: str | None, *, workers: int, payload: int) -> Iterator[Cluster]:
    """Connect to Ray, or start it on this machine, and leave it at the end of the block.

    One that runs in this process already is used, and stays. One that is started is for this
    process alone: it asks for a token that nobody else has, because Ray listens on all interfaces.
    No dashboard is started and no telemetry is sent.

    Args:
        address: of a cluster, as `ray.init` takes it; None: this machine.
        workers: how many there will be. payload: bytes of the pieces of work.

    Raises:
        MissingDependencyError: Ray is not installed.
        BackendError: no Ray at this address. UsageError: another runs in this process, or an
            address of Ray's client.
    """
    if not is_installed("ray"):
        raise MissingDependencyError("ray")
    if address is not None and address.startswith("ray://"):
        raise UsageError(
            f"{printable(address)}: Ray's client is not supported. "
            "Run edgeunet on a machine of the cluster, with auto or HOST:6379."
        )
    local = address is None
    # Ray's threads would start it anew, if they are a moment late when it ends.
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_AUTO_CONNECT": "0"}
    if local:
        # It calls restarts of workers errors.
        settings |= {"RAY_BACKEND_LOG_LEVEL": "fatal", **_token()}
    with _environment(settings), _signal_handlers_kept():
        import ray
        import ray.data

        running = ray.is_initialized()
        if running and not local:
            raise UsageError("Ray runs in this process already. Leave out the address.")
        levels = {name: logging.getLogger(name).level for name in ("ray", "ray.data")}
        try:
            if not running:
                _start(address, workers, payload)
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            for name in levels:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
            yield Cluster(cpus=int(found.get("CPU", 0)), gpus=int(found.get("GPU", 0)))
        finally:
            if not running:
                ray.shutdown()
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@cache
def _token() -> dict[str, str]:
    """Settings for a token of this process, whose native code reads it once.

    Empty if whoever loaded Ray before has decided on that.
    """
    if "ray" in sys.modules:
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Actor:
    """What Ray makes in a process: a worker."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._work = make()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do the one piece of a batch; what was warned of comes along, as JSON."""
        with _warnings() as told:
            results = [self._work(str(piece)) for piece in batch["piece"]]
        return {"result": results, "told": [json.dumps(told)]}


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what is warned of while the block runs: Ray keeps that in a file of the worker's."""
    told: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    collector, ours = Collector(logging.WARNING), logging.getLogger("edgeunet")
    ours.addHandler(collector)
    try:
        yield told
    finally:
        ours.removeHandler(collector)


def _start(address: str | None, workers: int, payload: int) -> None:
    import ray

    given: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        given |= {
            "address": "local",  # not one that happens to run here
            "num_cpus": max(1, cores() // workers) * workers,
            "include_dashboard": False,
            "object_store_memory": max(_LEAST_MEMORY, _RELOADS * payload),
        }
    else:
        given["address"] = address
    try:
        _check_reachable(address)
        with stderr_dropped():  # of Ray's native code; errors are exceptions
            ray.init(**given)
    except Exception as error:
        where = "this machine" if address is None else address
        raise BackendError(
            f"no Ray at {where}: {first_line(error).rstrip('.')}. Expected an address such as "
            "auto or HOST:6379; without one, Ray is started on this machine. A cluster with tokens "
            "needs RAY_AUTH_MODE=token here."
        ) from error


def _check_reachable(address: str | None) -> None:
    """Raise OSError if nothing answers: Ray would try for minutes."""
    found = re.fullmatch(r"\[?([^/\s]+?)\]?:(\d{1,5})", address or "")
    if found:
        socket.create_connection((found[1], int(found[2])), timeout=_ANSWER).close()


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set variables that Ray's processes read, unless they are set."""
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Restore the handlers that Ray replaces, and hand them the SIGTERM that Ray took."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)

    try:
        yield
    except SystemExit as error:
        restore()
        if error.code == signal.SIGTERM:  # what Ray's handler makes of it
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        restore()
