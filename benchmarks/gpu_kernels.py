"""The kernels against a copy on the device: which share of the memory's speed they reach."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from gpu_engine import median_milliseconds

from edgeunet.bundle.manifest import InputSpec, Precision
from edgeunet.runtime.gpu.cuda import CudaDevice
from edgeunet.runtime.gpu.kernels import Kernels, load_kernels

_COPIED = 1 << 28  # bytes: several times the caches, as what the kernels move
_LAUNCHES = 20  # of a graph: one by one, Python would be what is timed


@dataclass(frozen=True)
class KernelTimes:
    """Bytes a second, each input read and each output written once, over those of a copy."""

    precision: Precision
    classes: int
    batch: int
    copy_gb_per_s: float
    preprocess_share: float
    postprocess_share: float


def time_kernels(precision: Precision, classes: int, size: tuple[int, int]) -> KernelTimes:
    """Time pre- and post-processing of frames that have the net's size."""
    dtype = np.dtype(np.float16 if precision == "fp16" else np.float32)
    batch = max(1, _COPIED // (classes * math.prod(size) * dtype.itemsize))
    pixels = batch * math.prod(size)
    palette = [(index, 0, 0) for index in range(classes)]
    with CudaDevice() as device:
        module = load_kernels(device, None)
        kernels = Kernels(module, InputSpec(*size), thresholds=None, palette=palette)
        stream = device.stream()
        frames, masks = device.allocate(3 * pixels), device.allocate(pixels)
        images = device.allocate(3 * pixels * dtype.itemsize)
        logits = device.stage(classes * pixels * dtype.itemsize)
        # Random ones: zeros would let every class but the first lose, which a branch could use.
        values = np.random.default_rng(0).normal(size=classes * pixels).astype(dtype)
        logits.host[:] = values.view(np.uint8)
        logits.upload(logits.host.nbytes, stream)
        source, target = device.allocate(_COPIED), device.allocate(_COPIED)

        def copy() -> None:
            device.copy(target.address, source.address, _COPIED, stream)

        def preprocess() -> None:
            kernels.preprocess(
                frames.address, size, count=batch, images=images.address, dtype=dtype, stream=stream
            )

        def postprocess() -> None:
            kernels.postprocess(
                logits.address,
                dtype,
                logits_size=size,
                count=batch,
                masks=masks.address,
                size=size,
                stream=stream,
            )

        moved = {
            copy: 2 * _COPIED,
            preprocess: frames.nbytes + images.nbytes,
            postprocess: logits.host.nbytes + masks.nbytes,
        }
        speeds = []
        for queue, nbytes in moved.items():
            queue()  # CUDA may load a kernel where it is first used, which no capture allows
            stream.synchronize()
            graph = device.capture(stream, lambda queue=queue: [queue() for _ in range(_LAUNCHES)])
            spent = median_milliseconds(device, stream, lambda graph=graph: graph.launch(stream))
            speeds.append(_LAUNCHES * nbytes / spent / 1e6)
    return KernelTimes(
        precision, classes, batch, speeds[0], speeds[1] / speeds[0], speeds[2] / speeds[0]
    )
