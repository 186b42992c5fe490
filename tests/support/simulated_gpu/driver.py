"""`pycuda.driver` of the simulated GPU. The names of PyCUDA 2026.1 are recorded beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.runtime.gpu.kernels.launch import Launcher

from .memory import Memory, as_array
from .streams import Streams


class Error(Exception):
    """Base of PyCUDA's errors."""


class DeviceMemoryError(Error):
    """Out of memory."""


class LogicError(Error):
    """A call that is not allowed in this state."""


class LaunchError(Error):
    """The device failed."""


class Driver:
    """One simulated GPU, as the module `pycuda.driver`.

    lost: if set, every call that needs the device fails, as if the GPU fell off the bus.
    """

    Error, MemoryError, LogicError, LaunchError = Error, DeviceMemoryError, LogicError, LaunchError

    def __init__(
        self,
        kernels: Launcher,
        *,
        name: str = "Orin",
        capability: tuple[int, int] = (8, 7),
        integrated: bool = False,
        devices: int = 1,
        capacity: int = 1 << 30,
    ) -> None:
        self.memory, self.pinned = Memory(capacity), Memory()
        self.streams = Streams()
        self._kernels = kernels
        self._local = threading.local()
        self.retained = 0
        gpu = self

        class Device:
            def __init__(self, index: int) -> None:
                assert 0 <= index < devices

            @staticmethod
            def count() -> int:
                return devices

            def name(self) -> str:
                return name

            def compute_capability(self) -> tuple[int, int]:
                return capability

            def get_attribute(self, attribute: str) -> int:
                return {"INTEGRATED": int(integrated)}[attribute]

            def retain_primary_context(self) -> Context:
                gpu.retained += 1
                return Context()

        class Context:
            def push(self) -> None:
                gpu._contexts().append(self)

            @staticmethod
            def pop() -> None:
                gpu._contexts().pop()

            def detach(self) -> None:
                gpu.retained -= 1
                gpu.streams.current.append(id(self))  # as PyCUDA does, to release it

        class Stream:
            def __init__(self, flags: int = 0) -> None:
                gpu._check_context()
                assert flags == 1, "non-blocking"
                self.handle = gpu.streams.create()

            def synchronize(self) -> None:
                gpu._check_context()
                gpu.streams.run(self.handle)

        class Event:
            def __init__(self, flags: int = 0) -> None:
                gpu._check_context()
                self._mark: Callable[[], None] | None = None
                self.reached = False

            def record(self, stream: Stream) -> Event:
                gpu._check_context()
                self.reached = False

                def mark() -> None:
                    self.reached = True

                self._mark, self._stream = mark, stream.handle
                gpu.streams.enqueue(stream.handle, mark)
                return self

            def synchronize(self) -> Event:
                gpu._check_context()
                assert self._mark is not None
                if not self.reached:
                    gpu.streams.run(self._stream, self._mark)
                return self

            def time_since(self, earlier: Event) -> float:
                assert self.reached and earlier.reached, "a mark that has not been reached"
                return 1.0

        class Module:
            def get_function(self, name: str) -> Callable[..., None]:
                def queue(*arguments: np.generic, grid: Any, block: Any, stream: Stream) -> None:
                    gpu._check_context()
                    assert all(isinstance(argument, (np.number, np.void)) for argument in arguments)
                    gpu.streams.enqueue(
                        stream.handle,
                        lambda: gpu._kernels.launch(name, grid, block, arguments, None),
                    )

                return queue

        self.Device, self.Context, self.Stream, self.Event = Device, Context, Stream, Event
        self._module = Module
        self.device_attribute = SimpleNamespace(INTEGRATED="INTEGRATED")
        self.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
        self._integrated = integrated

    @property
    def lost(self) -> bool:
        return self.streams.lost

    @lost.setter
    def lost(self, lost: bool) -> None:
        self.streams.lost = lost

    def init(self, flags: int = 0) -> None:
        if self.lost:
            raise LogicError("cuInit failed: no CUDA-capable device is detected")

    def mem_get_info(self) -> tuple[int, int]:
        self._check_context()
        return self.memory.capacity - self.memory.used, self.memory.capacity

    def mem_alloc(self, nbytes: int) -> DeviceAllocation:
        self._check_context()
        if self.memory.used + nbytes > self.memory.capacity:
            raise DeviceMemoryError("cuMemAlloc failed: out of memory")
        return DeviceAllocation(self, self.memory.allocate(nbytes))

    def pagelocked_empty(
        self, shape: int, dtype: type[np.uint8], order: str = "C", mem_flags: int = 0
    ) -> npt.NDArray[np.uint8]:
        self._check_context()
        assert mem_flags == (2 if self._integrated else 0)
        return np.asarray(HostAllocation(self, self.pinned.allocate(shape), shape))

    def memcpy_htod_async(self, dest: int, src: npt.NDArray[Any], stream: Any) -> None:
        self._copy(dest, src.ctypes.data, src.nbytes, stream, self.memory, self.pinned)

    def memcpy_dtoh_async(self, dest: npt.NDArray[Any], src: int, stream: Any) -> None:
        self._copy(dest.ctypes.data, src, dest.nbytes, stream, self.pinned, self.memory)

    def memcpy_dtod_async(self, dest: int, src: int, size: int, stream: Any) -> None:
        assert all(type(number) is int for number in (dest, src, size)), "as Boost.Python wants"
        assert dest + size <= src or src + size <= dest, "a copy onto itself"
        # On an integrated GPU page-locked memory has an address on the device as well.
        both = (self.memory, self.pinned) if self._integrated else (self.memory,)
        to = next((m for m in both if m.holds(as_array(dest, size))), self.memory)
        of = next((m for m in both if m.holds(as_array(src, size))), self.memory)
        self._copy(dest, src, size, stream, to, of)

    def module_from_buffer(self, buffer: bytes) -> Any:
        self._check_context()
        if not buffer.startswith(b"\x7fELF"):
            raise LogicError("cuModuleLoadDataEx failed: device kernel image is invalid")
        return self._module()

    def _copy(self, dest: int, src: int, nbytes: int, stream: Any, to: Memory, of: Memory) -> None:
        self._check_context()
        of.view(src, nbytes)

        def copy() -> None:
            to.view(dest, nbytes)[:] = of.view(src, nbytes)

        self.streams.enqueue(stream.handle, copy)

    def _contexts(self) -> list[Any]:
        if not hasattr(self._local, "contexts"):
            self._local.contexts = []
        contexts: list[Any] = self._local.contexts
        return contexts

    def _check_context(self) -> None:
        if self.lost:
            raise LaunchError("cuStreamSynchronize failed: unspecified launch failure")
        if not self._contexts():
            raise LogicError("explicit_context_dependent failed: no currently active context?")


class DeviceAllocation:
    """Device memory. `int` gives its address."""

    def __init__(self, driver: Driver, address: int) -> None:
        self._driver, self._address = driver, address

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._driver.memory.free(self._address)
        self._driver._check_context()


class HostAllocation:
    """Page-locked memory; the base of an array."""

    def __init__(self, driver: Driver, address: int, nbytes: int) -> None:
        self._driver, self._address = driver, address
        self.__array_interface__ = {
            "shape": (nbytes,), "typestr": "|u1", "data": (address, False), "version": 3,
        }  # fmt: skip

    def get_device_pointer(self) -> int:
        return self._address

    def free(self) -> None:
        self._driver.pinned.free(self._address)
        self._driver._check_context()
