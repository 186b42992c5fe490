"""TensorRT-RTX on a desktop GPU: engines of any machine, compiled for the card on the card."""

from __future__ import annotations

from .trt import TensorRTBackend


class RtxBackend(TensorRTBackend):
    """As its parent, by TensorRT-RTX, on the GPUs of GeForce RTX and their kin.

    An engine that was built ahead of time is run where this GPU is among its targets; else one is
    built for this GPU alone. Its kernels are compiled when a batch size first comes, and kept in a
    file beside it, so that the next start does not wait for them.

    Args:
        device, report: as the parent's. dla, workspace_mb: none, for nothing is tuned.

    Raises:
        As the parent. BackendError: also a GPU that TensorRT-RTX has no engines for, such as an
        H100. UsageError: dla or workspace_mb was given.
    """

    name = "rtx"
