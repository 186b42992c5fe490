"""A GPU without a GPU: `libcuda.cpp`, a libcuda.so.1 that the driver API of the product loads.

    with FakeCuda(integrated=True) as driver:
        ...                       # CudaDevice() opens it, by ctypes
        driver.lost = True        # as if it fell off the bus

The block's end raises AssertionError for calls that a GPU would not take, and for what is left.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_char_p, c_int, c_long, c_longlong, c_size_t, c_void_p
from functools import cache
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.runtime.gpu import libcuda
from support.compiling import compiled

SOURCE = Path(__file__).with_name("libcuda.cpp")
FLAGS = ("-O1", "-fvisibility=hidden")
CUBIN = b"\x7fELF"  # what it takes for kernels
# What must be gone in the end. Contexts: "pushed" are current in a thread, "abandoned" is what the
# last one still held.
_LEFT = (
    *("memory", "pinned", "retained", "pushed", "abandoned"),
    *("streams", "events", "modules", "graphs", "executables"),
)


def path() -> Path:
    """The library; skips where there is no g++."""
    return compiled(SOURCE, *FLAGS)


@cache
def library() -> ctypes.CDLL:
    """Loaded by its path. So nothing else in this process finds it by its name."""
    found = ctypes.CDLL(str(path()))
    found.fake_begin.argtypes = (c_char_p, c_int, c_int, c_int, c_int, c_size_t)
    found.fake_set.argtypes = (c_char_p, c_int)
    found.fake_count.argtypes, found.fake_count.restype = (c_char_p,), c_longlong
    found.fake_misuse.argtypes, found.fake_misuse.restype = (c_int,), c_char_p
    found.fake_enqueue.argtypes = (c_void_p, c_void_p, c_long)
    found.fake_kernels.argtypes = (c_void_p, c_void_p)
    return found


class FakeCuda:
    """A machine with GPUs of one kind, from its making to `close`. One may be made within another.

    Args:
        capacity: bytes of device memory. pycuda: use PyCUDA if it is installed. It must have loaded
            this libcuda, see pycuda_build.py.
    """

    def __init__(
        self,
        *,
        name: str = "Orin",
        capability: tuple[int, int] = (8, 7),
        integrated: bool = False,
        devices: int = 1,
        capacity: int = 1 << 30,
        pycuda: bool = False,
    ) -> None:
        self._library = library()
        self._library.fake_begin(name.encode(), *capability, integrated, devices, capacity)
        self._lost = False
        self._errors: list[BaseException] = []
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(libcuda, "LIBRARY", self._library._name)
        if not pycuda:
            self._patch.setitem(sys.modules, "pycuda", None)

    # What goes wrong

    @property
    def lost(self) -> bool:
        """Whether each call that needs the device fails, as if it fell off the bus."""
        return self._lost

    @lost.setter
    def lost(self, lost: bool) -> None:
        self._lost = lost
        self._set("lost", lost)

    def refuse_captures(self) -> None:
        """From now on, no work can be captured."""
        self._set("uncapturable", True)

    def refuse_to_start(self, code: int) -> None:
        """From now on, cuInit fails with that code."""
        self._set("init", code)

    def set_version(self, version: int) -> None:
        """The driver's version, such as 12060. Negative: asking for it fails with that code."""
        self._set("version", version)

    def _set(self, setting: str, value: int) -> None:
        assert self._library.fake_set(setting.encode(), int(value)) == 0

    # What is there

    @property
    def memory(self) -> int:
        """Bytes of device memory in use."""
        return self.count("memory")

    @property
    def pinned(self) -> int:
        """Bytes of page-locked memory in use."""
        return self.count("pinned")

    @property
    def graphs(self) -> int:
        """Number of CUDA graphs."""
        return self.count("graphs")

    @property
    def launched(self) -> int:
        """How often a graph was launched."""
        return self.count("launched")

    @property
    def queued(self) -> int:
        """Number of pieces of work that wait in streams."""
        return self.count("queued")

    @property
    def misuse(self) -> list[str]:
        """Calls so far that a GPU would not take."""
        return [self._library.fake_misuse(index).decode() for index in range(self.count("misuse"))]

    @property
    def left(self) -> dict[str, int]:
        """What is in use, without what there is none of."""
        return {what: self.count(what) for what in _LEFT if self.count(what)}

    def count(self, what: str) -> int:
        """Of `fake_count` in libcuda.cpp."""
        return int(self._library.fake_count(what.encode()))

    def at(self, address: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """The bytes at an address of the device."""
        return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))

    # Work of the host

    def use(self, kernels: ctypes.CDLL) -> None:
        """Run kernels of a library as host_kernels.cpp makes it."""
        functions = (kernels.host_launch, kernels.host_parameters)
        self._library.fake_kernels(*(ctypes.cast(each, c_void_p) for each in functions))

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        """Queue a function of Python. What it raises, `close` raises."""
        key = next(_KEYS)
        _WORK[key] = (self, work)
        self._library.fake_enqueue(stream, ctypes.cast(_RUN, c_void_p), key)

    def close(self) -> None:
        """End the machine.

        Raises:
            AssertionError: calls that a GPU would not take, or what is left. Also what `enqueue`d
                work has raised.
        """
        errors, misuse, left = self._errors, self.misuse, self.left
        self.end()
        if errors:
            raise errors[0]
        assert not misuse, f"a GPU would not take this: {misuse}"
        assert not left, f"left on the GPU: {left}"

    def end(self) -> None:
        """End the machine, whatever is left."""
        self._patch.undo()
        self._library.fake_end()
        for key in [key for key, (machine, _) in _WORK.items() if machine is self]:
            del _WORK[key]

    def __enter__(self) -> FakeCuda:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.end()


_KEYS = count(1)
_WORK: dict[int, tuple[FakeCuda, Callable[[], Any]]] = {}


@CFUNCTYPE(None, c_long)
def _RUN(key: int) -> None:
    machine, work = _WORK[key]
    try:
        work()
    except BaseException as error:
        machine._errors.append(error)
