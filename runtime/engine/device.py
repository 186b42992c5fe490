"""The card that a plan is tuned on: what the builder asks of it, and what it may use of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

_MB = 1 << 20
# Of free memory. An integrated GPU shares it with the system, which fails where it runs out; a
# discrete one also holds what is timed: weights, activations, the kernels of all tactics.
_DISCRETE_SHARE = 2
_INTEGRATED_SHARE, _INTEGRATED_MOST = 4, 1024 * _MB


class Device(Protocol):
    """What the builder asks of `edgeunet.runtime.cuda.CudaDevice`."""

    name: str
    capability: str
    integrated: bool

    def free_memory(self) -> int:
        """Bytes that nobody uses."""

    def current(self, step: str) -> AbstractContextManager[None]:
        """Make the context this thread's."""

    def close(self) -> None:
        """Let go of it."""


def open_device(index: int) -> Device:
    """GPU of that index.

    Raises:
        MissingDependencyError: PyCUDA is not installed. BackendError: no driver, or no such GPU.
    """
    device: Device = importlib.import_module("edgeunet.runtime.cuda").CudaDevice(index)
    return device


def workspace_bytes(device: Device, wanted_mb: int | None, report: Callable[[str], None]) -> int:
    """Most that one layer's tactic may use as scratch memory: MB as asked, or a share of the free.

    A quarter of it, at most 1 GB, where GPU and system share their memory; a half where not.
    """
    if wanted_mb is not None:
        return wanted_mb * _MB
    free = device.free_memory()
    size = free // _DISCRETE_SHARE
    if device.integrated:
        size = min(free // _INTEGRATED_SHARE, _INTEGRATED_MOST)
    report(f"workspace {size // _MB} MB, of {free // _MB} MB of free memory")
    return size
