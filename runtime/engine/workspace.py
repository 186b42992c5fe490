"""How much scratch memory a build may use."""

from __future__ import annotations

from collections.abc import Callable

from ..cuda import CudaDevice

_MB = 1 << 20
# Of free memory. An integrated GPU shares it with the system, which fails where it runs out; a
# discrete one also holds what is timed: weights, activations, the kernels of all tactics.
_DISCRETE_SHARE = 2
_INTEGRATED_SHARE, _INTEGRATED_MOST = 4, 1024 * _MB


def workspace_bytes(
    device: CudaDevice, wanted_mb: int | None, report: Callable[[str], None]
) -> int:
    """Most that the tactic of one layer may use: MB as asked, or a share of the free memory.

    A half of it; a quarter, at most 1 GB, where GPU and system share their memory.
    """
    if wanted_mb is not None:
        return wanted_mb * _MB
    free = device.free_memory()
    size = free // _DISCRETE_SHARE
    if device.integrated:
        size = min(free // _INTEGRATED_SHARE, _INTEGRATED_MOST)
    report(f"workspace {size // _MB} MB, of {free // _MB} MB of free memory")
    return size
