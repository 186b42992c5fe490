"""The CUDA kernels compiled for the host by g++, run at once on host addresses."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgeunet.runtime.gpu.kernels.compile import SOURCES
from support.compiling import compiled

SOURCE = Path(__file__).with_name("host_cuda") / "host_kernels.cpp"
FLAGS = [
    "-O1", "-Wno-unknown-pragmas",
    "-ffp-contract=off",  # as nvcc's -fmad=false, see pixels.cuh
    # A load or store that is not aligned fails on a GPU, but not on this machine. This ends the
    # process then, and `pytest -s` shows where. From -O2 on some copies are not looked at.
    "-fsanitize=undefined", "-fno-sanitize-recover=all",
]  # fmt: skip
_ERRORS = {1: "there is no such kernel", 2: "the number or sizes of the arguments differ"}


class HostKernels:
    """As a loaded module; the stream is not looked at."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self._launch = library.host_launch

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
