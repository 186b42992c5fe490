"""Processes that train one net together, each on a device of its own.

All of them have the same weights. Of every step's crops each takes its part, and they average
their gradients, as PyTorch's DistributedDataParallel does. Gradients travel as one vector, whose
order is always the same, so that a run that resumes ends with the same bits.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import (
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from ..errors import EdgeUNetError, TrainingError, UsageError, first_line, printable

_HOST, _LOOPBACK = "127.0.0.1", {"linux": "lo", "darwin": "lo0"}

_PATIENCE = timedelta(hours=1)  # of processes that wait while the first one looks at val

_LAST_WORDS = 10.0  # seconds for a process that failed to end


@dataclass(frozen=True)
class Group:
    """A process among those that train together; by default it is alone.

    rank: number of the process. The first one, 0, leads: it alone reports, looks at val and writes.
    size: number of processes.

    Raises:
        UsageError: no process.

    Example:
        >>> from edgeunet.training.group import Group
        >>> Group(rank=1, size=2).device("cuda"), Group(rank=1, size=2).device("cpu")
        ('cuda:1', 'cpu')
    """

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"devices is {self.size}; expected 1 or more.")

    @property
    def leads(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    @property
    def record(self) -> dict[str, Any]:
        """What a card and a run keep of it: other shares of the crops give other weights."""
        return {} if self.size == 1 else {"devices": self.size}

    def device(self, kind: str) -> str:
        """This process's own device of a kind.

        Raises:
            UsageError: fewer devices than processes, one device for all of them, or one that
                PyTorch cannot use here.
        """
        if self.size == 1 or kind == "cpu":
            check_device(kind)
            return kind
        if kind != "cuda":
            raise UsageError(
                f"got --device {kind} with --devices {self.size}; expected cuda or cpu, whose "
                "devices are numbered from 0. Choose others by CUDA_VISIBLE_DEVICES."
            )
        found = torch.cuda.device_count()
        if self.leads and found < self.size:
            raise UsageError(
                f"got --devices {self.size}, but PyTorch finds {found} CUDA devices here. Pass a "
                "smaller number."
            )
        return f"cuda:{self.rank}"

    def check_shares(self, count: int, what: str) -> None:
        """UsageError unless so many of a step's crops can be divided evenly."""
        if rest := count % self.size:
            down = count - rest
            advice = f"{down} or {down + self.size}" if down else f"{self.size} or more"
            raise UsageError(
                f"a step has {count} {what}, which {self.size} devices cannot share evenly. "
                f"Make it {advice} by --batch, or pass another --devices."
            )

    def mine(self, count: int) -> slice:
        """This process's share of what all of them have together, such as a step's crops."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace FP32 tensors by their mean over all processes."""
        if self.size == 1:
            return
        vector = torch.cat([each.flatten() for each in tensors])
        dist.all_reduce(vector)
        vector /= self.size
        parts = vector.split([each.numel() for each in tensors])  # type: ignore[no-untyped-call]
        for each, part in zip(tensors, parts, strict=True):
            each.copy_(part.view_as(each))

    def tell(self, value: float, device: torch.device) -> float:
        """A number that the first process knows, in all of them."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=device)
        dist.broadcast(told, 0)
        return float(told)


ALONE = Group()


def check_device(name: str) -> None:
    """UsageError unless PyTorch can compute on the device of this name."""
    try:
        known = torch.empty(1, device=name).device.type != "meta"
        reason = "it computes nothing"
    except (RuntimeError, AssertionError) as error:  # the latter from a PyTorch without CUDA
        known, reason = False, first_line(error)
    if not known:
        raise UsageError(
            f"got --device {printable(name)}, which this PyTorch cannot use: {reason}. Pass cpu, "
            "or cuda where PyTorch has it."
        )


@contextmanager
def leading(size: int, device: str, follow: Callable[[Group], object]) -> Iterator[None]:
    """Start the processes of a group, of which this one is the first.

    Args:
        size: number of processes; 1 starts none. device: kind of device, for how they talk.
        follow: what each of the others does; it is pickled.

    Raises:
        TrainingError: one of the others failed, with its reason. UsageError: this PyTorch cannot
            start a group.
    """
    if size == 1:
        yield
        return
    if not dist.is_available():
        raise UsageError(
            f"got --devices {size}, but this PyTorch was built without torch.distributed. Train on "
            "one device, or install another build."
        )
    store = dist.TCPStore(  # type: ignore[attr-defined]
        _HOST, 0, is_master=True, wait_for_workers=False
    )
    threads = torch.get_num_threads()
    each = max(1, threads // size)
    arguments = (size, device, store.port, each, follow)
    others = start_processes(  # type: ignore[no-untyped-call]
        _follow, arguments, nprocs=size - 1, join=False, start_method="spawn"
    )
    torch.set_num_threads(each)
    try:
        with _joined(Group(0, size), device, store):
            yield
            while not others.join():
                pass
    except EdgeUNetError:
        raise
    except Exception as error:
        # Whoever waits for a process that failed learns only that it is gone.
        reason = _failure(others)
        if reason is None:
            raise
        raise TrainingError(f"{reason} Start it again: it resumes from the last state.") from error
    finally:
        torch.set_num_threads(threads)
        for process in others.processes:
            process.kill()
            process.join()


def _follow(
    index: int,
    size: int,
    device: str,
    port: int,
    threads: int,
    follow: Callable[[Group], object],
) -> None:
    """What a process does that was started by the first one."""
    # The first process tells what there is to tell.
    logging.getLogger("edgeunet").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    group = Group(index + 1, size)
    store = dist.TCPStore(_HOST, port, is_master=False)  # type: ignore[attr-defined]
    with _joined(group, device, store):
        follow(group)


@contextmanager
def _joined(group: Group, device: str, store: Any) -> Iterator[None]:
    """Be a member of a group while the context lasts."""
    backend = "gloo"
    if device == "cuda":
        backend = "nccl"
        torch.cuda.set_device(group.rank)
    elif (loopback := _LOOPBACK.get(sys.platform)) is not None:
        # It would look up the host's name, which may have no address, and listen there.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    dist.init_process_group(
        backend, store=store, rank=group.rank, world_size=group.size, timeout=_PATIENCE
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _failure(others: Any) -> str | None:
    """Why one of the other processes failed; None if none did."""
    end = time.monotonic() + _LAST_WORDS
    name = "process {} of those that train together"
    try:
        while time.monotonic() < end and not others.join(timeout=0.1):
            pass
    except ProcessRaisedException as error:
        last = str(error).strip().splitlines()[-1]
        return f"{name.format(error.error_index + 2)} failed: {last}."
    except ProcessExitedException as error:
        reason = error.signal_name or f"exit status {error.exit_code}"
        return f"{name.format(error.error_index + 2)} was ended by {reason}."
    return None
