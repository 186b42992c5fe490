"""The kernels against a copy on the device: which share of the memory's speed they reach.

Each kernel's first frame is compared with the CPU's before its time counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from gpu_engine import median_milliseconds

from edgeunet.bundle.manifest import BYTE_FILTERS, Filter, InputSpec, Precision
from edgeunet.errors import BackendError
from edgeunet.runtime.backends.postprocess import Postprocessor
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.gpu.cuda import CudaDevice, Module, Staging, Stream
from edgeunet.runtime.gpu.kernels import Kernels, load_kernels

FILTERS: tuple[Filter, ...] = tuple(
    how for how in get_args(Filter) if how not in ("bilinear", "torchvision")
)
ENLARGED = 2  # sides of the frames that filters shrink, in sides of the net
ATOL = 3e-5  # of normalised values, that are sums in FP32

_COPIED = 1 << 28  # bytes: several times the caches, as what the kernels move
_LAUNCHES = 20  # of a graph: one by one, Python would be what is timed
_RESAMPLED = 2  # launches of a filter, which takes many times as long
Size = tuple[int, int]


@dataclass(frozen=True)
class KernelTimes:
    """Bytes a second, each input read and each output written once, over those of a copy.

    resample_shares: by filter, of frames of twice the net's sides.
    """

    precision: Precision
    classes: int
    batch: int
    copy_gb_per_s: float
    preprocess_share: float
    postprocess_share: float
    resample_shares: dict[str, float]


def time_kernels(precision: Precision, classes: int, size: Size) -> KernelTimes:
    """Time pre- and post-processing of frames that have the net's size, and each filter.

    Raises:
        BackendError: a kernel's output differs from the CPU's.
    """
    dtype = np.dtype(np.float16 if precision == "fp16" else np.float32)
    batch = max(1, _COPIED // (classes * math.prod(size) * dtype.itemsize))
    with CudaDevice() as device:
        bench = _Bench(device, load_kernels(device, None), device.stream(), dtype, InputSpec(*size))
        copy = bench.copy()
        return KernelTimes(
            precision,
            classes,
            batch,
            copy,
            bench.images(batch, size, "bilinear") / copy,
            bench.masks(batch, classes) / copy,
            {how: bench.filtered(how) / copy for how in FILTERS},
        )


@dataclass(frozen=True)
class _Bench:
    """Kernels of one precision for frames of a spec, on data that is larger than the caches."""

    device: CudaDevice
    module: Module
    stream: Stream
    dtype: np.dtype[Any]
    spec: InputSpec

    def copy(self) -> float:
        """GB/s read and written, as of the other methods."""
        with self.device.allocate(_COPIED) as source, self.device.allocate(_COPIED) as target:
            return self._speed(
                lambda: self.device.copy(target.address, source.address, _COPIED, self.stream),
                2 * _COPIED,
            )

    def filtered(self, how: Filter) -> float:
        """A filter that shrinks frames of several times the net's sides."""
        size = (ENLARGED * self.spec.height, ENLARGED * self.spec.width)
        return self.images(max(1, _COPIED // (3 * math.prod(size))), size, how)

    def images(self, count: int, size: Size, how: Filter) -> float:
        """Frames of a size to the net's input."""
        spec = replace(self.spec, filter=how)
        kernels = self._kernels(spec, 1)
        tables = kernels.tables(size)
        shape = (count, 3, spec.height, spec.width)
        content = np.zeros(1, np.uint8) if tables is None else tables.content
        frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        with (
            self._sent((count, *frame.shape), frame) as frames,
            self._sent(content.shape, content) as at,
            self.device.stage(math.prod(shape) * self.dtype.itemsize) as images,
        ):

            def queue() -> None:
                where = {
                    "count": count,
                    "images": images.address,
                    "dtype": self.dtype,
                    "stream": self.stream,
                }
                if tables is None:
                    kernels.preprocess(frames.address, size, **where)
                else:
                    kernels.resample(frames.address, size, tables, at=at.address, **where)

            moved = frames.host.nbytes + images.host.nbytes
            speed = self._speed(queue, moved, _LAUNCHES if tables is None else _RESAMPLED)
            found = self._first(images, self.dtype, shape[1:])
            wanted = Preprocessor(spec)([frame])[0].astype(self.dtype)
        # Without a filter of floats the sums are exact. FP16 rounds values up to 4 by 2^-9.
        exact = how in BYTE_FILTERS or size == (spec.height, spec.width)
        most = 0 if exact else ATOL if self.dtype == np.float32 else 2**-9
        self._check(how, np.abs(found.astype(np.float32) - wanted).max(), most)
        return speed

    def masks(self, count: int, classes: int) -> float:
        """Logits of the masks' own size to class ids."""
        size = (self.spec.height, self.spec.width)
        kernels = self._kernels(self.spec, classes)
        # Random ones: zeros would let every class but the first lose, which a branch could use.
        drawn = np.random.default_rng(0).normal(size=classes * math.prod(size)).astype(self.dtype)
        with (
            self._sent((count, classes, *size), drawn) as logits,
            self.device.stage(count * math.prod(size)) as masks,
        ):
            speed = self._speed(
                lambda: kernels.postprocess(
                    logits.address,
                    self.dtype,
                    logits_size=size,
                    count=count,
                    masks=masks.address,
                    size=size,
                    stream=self.stream,
                ),
                logits.host.nbytes + masks.host.nbytes,
            )
            found = self._first(masks, np.dtype(np.uint8), size)
        values = drawn.astype(np.float32).reshape(1, classes, *size)
        wanted = Postprocessor(self.spec, None)(values, None, size)[0]
        self._check("masks", np.mean(found != wanted), 0)
        return speed

    def _kernels(self, spec: InputSpec, classes: int) -> Kernels:
        palette = [(index, 0, 0) for index in range(classes)]
        return Kernels(self.module, spec, thresholds=None, palette=palette)

    def _speed(self, queue: Callable[[], None], nbytes: int, launches: int = _LAUNCHES) -> float:
        queue()  # CUDA may load a kernel where it is first used, which no capture allows
        self.stream.synchronize()
        graph = self.device.capture(self.stream, lambda: [queue() for _ in range(launches)])
        spent = median_milliseconds(self.device, self.stream, lambda: graph.launch(self.stream))
        return launches * nbytes / spent / 1e6

    def _sent(self, shape: tuple[int, ...], values: npt.NDArray[Any]) -> Staging:
        """An array on the device, of the values over and over."""
        staging = self.device.stage(math.prod(shape) * values.itemsize)
        staging.host[:] = np.resize(values.view(np.uint8), staging.host.nbytes)
        staging.upload(staging.host.nbytes, self.stream)
        return staging

    def _first(
        self, staging: Staging, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        """The array of the first frame."""
        nbytes = math.prod(shape) * dtype.itemsize
        staging.download(nbytes, self.stream)
        self.stream.synchronize()
        return staging.host[:nbytes].view(dtype).reshape(shape).copy()

    def _check(self, name: str, difference: Any, most: float) -> None:
        if not difference <= most:
            raise BackendError(
                f"{name} in {self.dtype}: the kernels differ from the CPU by {difference:.3g}; "
                f"expected at most {most:.3g}."
            )
