"""The kernels on the GPU against the CPU's pre- and post-processing, value by value."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

from edgeunet.bundle.manifest import Filter, InputSpec
from edgeunet.runtime.backends.postprocess import Postprocessor
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.gpu.cuda import CudaDevice, Staging, Stream
from edgeunet.runtime.gpu.kernels import Kernels, load_kernels

Size = tuple[int, int]
COUNT = 2
CASES: tuple[tuple[int, Size, Size], ...] = (
    (2, (352, 480), (352, 480)),
    (11, (352, 480), (360, 480)),
    (11, (88, 120), (352, 480)),
    (3, (61, 77), (123, 91)),
    (1, (32, 32), (33, 65)),
    (256, (16, 20), (50, 41)),
    (5, (1, 1), (7, 5)),
)
"""Classes, size of the net, size of the frames."""
FILTERS: tuple[Filter, ...] = ("bilinear", "antialias", "pillow")
MOST = {
    # Upsampled logits that are nearer to each other than FP32 rounds may swap.
    "masks, share of the pixels": 1e-4,
    "confidence, of 255": 1,
    # cv2 may take bilinear weights with fewer bits, see the kernels' tests.
    "images, bilinear": 3e-4,
    "images, antialias": 3e-5,
    "images, pillow": 0,
    "images in FP16, share unlike FP32's rounded": 0,
}


def kernel_differences() -> dict[str, tuple[float, float]]:
    """The largest difference of all cases for each name in `MOST`, and what it may be."""
    found: dict[str, float] = defaultdict(float)
    rng = np.random.default_rng(1)
    with CudaDevice() as device:
        module, stream = load_kernels(device, None), device.stream()
        for classes, net, size in CASES:
            frames = rng.integers(0, 256, (COUNT, *size, 3), np.uint8)
            for how in FILTERS:
                spec = InputSpec(*net, filter=how)
                _compare_images(device, module, stream, spec, frames, found)
            for gated in (False, True):
                logits = rng.normal(size=(COUNT, classes, *net)).astype(np.float32)
                presence = rng.random((COUNT, classes)).astype(np.float32) if gated else None
                for dtype in (np.float16, np.float32):
                    values = logits.astype(dtype)
                    _compare_masks(device, module, stream, values, presence, size, found)
    return {name: (found[name], most) for name, most in MOST.items()}


def _compare_images(
    device: CudaDevice, module: Any, stream: Stream, spec: InputSpec, frames: Any, found: Any
) -> None:
    kernels = Kernels(module, spec, thresholds=None, palette=[(0, 0, 0)])
    size = frames.shape[1:3]
    tables = kernels.tables(size)
    shape = (len(frames), 3, spec.height, spec.width)
    source = _sent(device, stream, frames)
    images = {}
    for dtype in (np.float32, np.float16):
        target = device.stage(math.prod(shape) * np.dtype(dtype).itemsize)
        where = {"count": len(frames), "images": target.address, "dtype": dtype, "stream": stream}
        if tables is None:
            kernels.preprocess(source.address, size, **where)
        else:
            at = _sent(device, stream, tables.content)
            kernels.resample(source.address, size, tables, at=at.address, **where)
        images[dtype] = _fetched(target, stream).view(dtype).reshape(shape)
    difference = np.abs(images[np.float32] - Preprocessor(spec)(list(frames))).max()
    _note(found, f"images, {spec.filter}", difference)
    halves = images[np.float32].astype(np.float16) != images[np.float16]
    _note(found, "images in FP16, share unlike FP32's rounded", np.mean(halves))


def _compare_masks(
    device: CudaDevice,
    module: Any,
    stream: Stream,
    logits: Any,
    presence: Any,
    size: Size,
    found: Any,
) -> None:
    count, classes, *net = logits.shape
    spec = InputSpec(*net)
    thresholds = None if presence is None else (0.5,) * classes
    kernels = Kernels(module, spec, thresholds=thresholds, palette=[(0, 0, 0)] * classes)
    at = _sent(device, stream, logits)
    gate = None if presence is None else _sent(device, stream, presence)
    masks, confidence = (device.stage(count * math.prod(size)) for _ in range(2))
    kernels.postprocess(
        at.address,
        logits.dtype,
        presence=0 if gate is None else gate.address,
        logits_size=tuple(net),
        count=count,
        masks=masks.address,
        size=size,
        stream=stream,
        confidence=confidence.address,
    )
    wide = logits.astype(np.float32)
    finish = Postprocessor(spec, thresholds)
    differing = _fetched(masks, stream).reshape(count, *size) != finish(wide, presence, size)
    _note(found, "masks, share of the pixels", np.mean(differing))
    sure = _fetched(confidence, stream).reshape(count, *size).astype(int)
    # Where a tie fell to another class, the confidence is that class's, which is nearly the same.
    off = np.abs(sure - finish.confidence(wide, presence, size)).max()
    _note(found, "confidence, of 255", off)


def _note(found: Any, name: str, difference: Any) -> None:
    """Keep the largest. NaN counts as infinite: it compares with nothing."""
    value = float(np.nan_to_num(difference, nan=math.inf))
    found[name] = max(found[name], value)


def _sent(device: CudaDevice, stream: Stream, array: Any) -> Staging:
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    staging = device.stage(content.nbytes)
    staging.host[:] = content
    staging.upload(content.nbytes, stream)
    return staging


def _fetched(staging: Staging, stream: Stream) -> Any:
    staging.download(staging.host.nbytes, stream)
    stream.synchronize()
    return staging.host
