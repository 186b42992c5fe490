"""The CUDA kernels compiled for the host by g++, run at once on host addresses."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.bundle.manifest import InputSpec
from edgeunet.runtime.gpu.kernels import Kernels
from edgeunet.runtime.gpu.kernels.compile import SOURCES
from edgeunet.runtime.gpu.kernels.launch import _divisors
from support.compiling import compiled
from support.device_arrays import Placed, place

SOURCE = Path(__file__).with_name("host_cuda") / "host_kernels.cpp"
FLAGS = [
    "-O1", "-Wno-unknown-pragmas",
    "-ffp-contract=off",  # as nvcc's -fmad=false, see pixels.cuh
    # A load or store that is not aligned fails on a GPU, but not on this machine. This ends the
    # process then, and `pytest -s` shows where. From -O2 on some copies are not looked at.
    "-fsanitize=undefined", "-fno-sanitize-recover=all",
]  # fmt: skip
# Where Intel's IPP resizes for cv2, as it does unless a side is 1, the arithmetic is the kernels'.
# cv2's own takes its weights from a coordinate in FP32, and loses bits to the whole part.
where_ipp_resizes = pytest.mark.skipif(
    not (cv2.ipp.useIPP() and cv2.checkHardwareSupport(12)),  # CV_CPU_FMA3
    reason="cv2 has no IPP here, or the CPU no FMA",
)
TAP = np.dtype([("low", np.int32), ("high", np.int32), ("weight", np.float32)])
_ERRORS = {1: "there is no such kernel", 2: "the number or sizes of the arguments differ"}


class HostKernels:
    """As a loaded module; the stream is not looked at."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self._launch = library.host_launch
        self.taps = library.host_taps

    def launch(
        self,
        name: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[np.generic],
        stream: Any,
    ) -> None:
        """Run a kernel, all threads in turn; ValueError for one that it cannot be called as."""
        assert all(isinstance(argument, np.generic) for argument in arguments)
        assert min(*grid, *block) > 0
        assert np.prod(block) <= 1024
        values = [ctypes.create_string_buffer(value.tobytes(), value.nbytes) for value in arguments]
        count = len(values)
        status = self._launch(
            name.encode(),
            (ctypes.c_uint * 3)(*grid),
            (ctypes.c_uint * 3)(*block),
            count,
            (ctypes.c_void_p * count)(*map(ctypes.addressof, values)),
            (ctypes.c_int * count)(*(value.nbytes for value in arguments)),
        )
        if status:
            raise ValueError(f"{name}: {_ERRORS[status]}")


@cache
def load_host_kernels() -> HostKernels:
    """Compile them, or take what was compiled; skips where there is no g++."""
    return HostKernels(ctypes.CDLL(str(compiled(SOURCE, *FLAGS, includes=[SOURCES[0].parent]))))


def make_kernels(
    spec: InputSpec, classes: int = 3, thresholds: Any = None, palette: Any = None
) -> Kernels:
    """The kernels of a bundle, on the host."""
    palette = palette or ((0, 0, 0),) * classes
    return Kernels(load_host_kernels(), spec, thresholds=thresholds, palette=palette)


def preprocessed(
    spec: InputSpec,
    frames: npt.NDArray[Any],
    dtype: npt.DTypeLike,
    *,
    shift: int = 0,
    image_shift: int = 0,
) -> npt.NDArray[Any]:
    """Frames (N, H, W, C) as the net gets them; a shift, in values, is from an aligned address."""
    source = place(frames, frames.dtype, shift=shift * frames.itemsize)
    shape = (len(frames), len(spec.channels), spec.height, spec.width)
    images = Placed(shape, dtype, shift=image_shift)
    make_kernels(spec).preprocess(
        source.address, frames.shape[1:3], count=len(frames), images=images.address,
        dtype=dtype, stream=None, frame_dtype=frames.dtype, channels=frames.shape[3],
    )  # fmt: skip
    return images.written()


def taps(
    targets: npt.NDArray[np.int32], target_size: int, source_size: int, *, pairs: bool = False
) -> npt.NDArray[Any]:
    """What `make_tap` gives for each target, or `make_pair`."""
    found = np.empty(len(targets), TAP)
    divisors = _divisors((target_size, target_size), (source_size, source_size)).tobytes()
    load_host_kernels().taps(
        ctypes.c_void_p(targets.ctypes.data), len(targets), target_size, source_size, divisors,
        int(pairs), ctypes.c_void_p(found.ctypes.data),
    )  # fmt: skip
    return found
