"""`pycuda.driver` by ctypes: the classes and functions of it that `cuda.py` uses, with its names.

Streams, events, memory and modules free themselves with their last reference, as PyCUDA's do.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import byref, c_float, c_int, c_size_t, c_void_p
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .libcuda import NO_FLAGS, Address, Error, Handle, OutOfMemoryError, call

MemoryError = OutOfMemoryError  # noqa: A001 - PyCUDA's name


class device_attribute:  # noqa: N801 - PyCUDA's name
    """CUdevice_attribute."""

    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76
    INTEGRATED = 18


class host_alloc_flags:  # noqa: N801 - PyCUDA's name
    """Flags of cuMemHostAlloc."""

    DEVICEMAP = 2


def init(flags: int = 0) -> None:
    """Start CUDA in this process."""
    call("cuInit", flags)


class Device:
    """A GPU by its index."""

    def __init__(self, index: int) -> None:
        self._device = c_int()
        call("cuDeviceGet", byref(self._device), index)

    @staticmethod
    def count() -> int:
        """How many there are."""
        count = c_int()
        call("cuDeviceGetCount", byref(count))
        return count.value

    def name(self) -> str:
        """NVIDIA's name of it."""
        text = ctypes.create_string_buffer(256)
        call("cuDeviceGetName", text, len(text), self._device)
        return text.value.decode()

    def get_attribute(self, attribute: int) -> int:
        """The value of a `device_attribute`."""
        value = c_int()
        call("cuDeviceGetAttribute", byref(value), attribute, self._device)
        return value.value

    def compute_capability(self) -> tuple[int, int]:
        """Major and minor, such as (8, 7)."""
        kinds = device_attribute
        return (
            self.get_attribute(kinds.COMPUTE_CAPABILITY_MAJOR),
            self.get_attribute(kinds.COMPUTE_CAPABILITY_MINOR),
        )

    def retain_primary_context(self) -> Context:
        """The context that all of a process shares. It lives until `Context.detach`."""
        handle = Handle()
        call("cuDevicePrimaryCtxRetain", byref(handle), self._device)
        return Context(handle, self._device)


class _Current(threading.local):
    """The contexts that this thread has pushed."""

    def __init__(self) -> None:
        self.stack: list[Context] = []


_current = _Current()


class Context:
    """A device's primary context. A thread may end while it is current.

    released: `detach` was called.
    """

    def __init__(self, handle: Handle, device: c_int) -> None:
        self._handle, self._device = handle, device
        self.released = False

    @property
    def handle(self) -> int:
        """The CUcontext."""
        return int(self._handle.value or 0)

    def push(self) -> None:
        """Make it current in this thread."""
        call("cuCtxPushCurrent_v2", self._handle)
        _current.stack.append(self)

    @staticmethod
    def pop() -> None:
        """Make current what was so before."""
        call("cuCtxPopCurrent_v2", byref(Handle()))
        _current.stack.pop()

    def detach(self) -> None:
        """Let go of it, and pop it if it is current. The last to let go frees all that it holds."""
        self.released = True
        try:
            if _current.stack and _current.stack[-1] is self:
                self.pop()
        finally:
            call("cuDevicePrimaryCtxRelease_v2", self._device)


class _Owned:
    """What the driver made in the context that was current. Freed there, by whichever thread."""

    _destroy: ClassVar[str]
    _native: Any = None

    def _create(self, create: str, native: Any, *arguments: Any) -> None:
        if not _current.stack:
            raise Error(f"{create} was not called: no context is current in this thread")
        self._context = _current.stack[-1]
        call(create, byref(native), *arguments)
        self._native = native

    @property
    def handle(self) -> int:
        """The driver's handle or address. Error after `free`: null would be another one."""
        if self._native is None:
            raise Error(f"this {type(self).__name__} was freed")
        return int(self._native.value)

    def free(self) -> None:
        """Free it. Does nothing the second time, or after its context was released."""
        native, self._native = self._native, None
        if native is None or self._context.released:
            return
        self._context.push()
        try:
            call(self._destroy, native)
        finally:
            self._context.pop()

    def __del__(self) -> None:
        if not sys.is_finalizing():  # then the driver may be gone, and the process's end frees all
            with suppress(Exception):  # nobody could catch it
                self.free()


class Stream(_Owned):
    """A queue of work."""

    _destroy = "cuStreamDestroy_v2"

    def __init__(self, flags: int = 0) -> None:
        self._create("cuStreamCreate", Handle(), flags)

    def synchronize(self) -> None:
        """Wait until it is empty."""
        call("cuStreamSynchronize", self.handle)


class Event(_Owned):
    """A mark in a stream."""

    _destroy = "cuEventDestroy_v2"

    def __init__(self, flags: int = 0) -> None:
        self._create("cuEventCreate", Handle(), flags)

    def record(self, stream: Stream) -> Event:
        """Put it behind what the stream holds now."""
        call("cuEventRecord", self.handle, stream.handle)
        return self

    def synchronize(self) -> Event:
        """Wait until the stream has reached it."""
        call("cuEventSynchronize", self.handle)
        return self

    def time_since(self, earlier: Event) -> float:
        """Milliseconds between two that were reached."""
        milliseconds = c_float()
        call("cuEventElapsedTime", byref(milliseconds), earlier.handle, self.handle)
        return milliseconds.value


def mem_get_info() -> tuple[int, int]:
    """Free and total device memory in bytes."""
    free, total = c_size_t(), c_size_t()
    call("cuMemGetInfo_v2", byref(free), byref(total))
    return free.value, total.value


class DeviceAllocation(_Owned):
    """Device memory. `int` gives its address."""

    _destroy = "cuMemFree_v2"

    def __init__(self, nbytes: int) -> None:
        self._create("cuMemAlloc_v2", Address(), nbytes)

    def __int__(self) -> int:
        return self.handle


mem_alloc = DeviceAllocation


class HostAllocation(_Owned):
    """Page-locked memory: the base of an array, and of all views of it, which keep it alive."""

    _destroy = "cuMemFreeHost"

    def __init__(self, length: int, dtype: np.dtype[Any], flags: int) -> None:
        self._create("cuMemHostAlloc", c_void_p(), length * dtype.itemsize, flags)
        self.__array_interface__ = {
            "shape": (length,),
            "typestr": dtype.str,
            "data": (self.handle, False),
            "version": 3,
        }

    def get_device_pointer(self) -> int:
        """Its address on the device. It needs `host_alloc_flags.DEVICEMAP`."""
        address = Address()
        call("cuMemHostGetDevicePointer_v2", byref(address), self.handle, NO_FLAGS)
        return address.value


def pagelocked_empty(
    shape: int, dtype: npt.DTypeLike, order: str = "C", mem_flags: int = 0
) -> npt.NDArray[Any]:
    """An array (shape,) in page-locked memory. Its base can be freed."""
    return np.asarray(HostAllocation(shape, np.dtype(dtype), mem_flags))


def memcpy_htod_async(dest: int, src: npt.NDArray[Any], stream: Stream) -> None:
    """Queue a copy from page-locked memory, which must live until it is done."""
    call("cuMemcpyHtoDAsync_v2", dest, _start(src), src.nbytes, stream.handle)


def memcpy_dtoh_async(dest: npt.NDArray[Any], src: int, stream: Stream) -> None:
    """Queue a copy to page-locked memory, which must live until it is done."""
    call("cuMemcpyDtoHAsync_v2", _start(dest), src, dest.nbytes, stream.handle)


def memcpy_dtod_async(dest: int, src: int, size: int, stream: Stream) -> None:
    """Queue a copy on the device."""
    call("cuMemcpyDtoDAsync_v2", dest, src, size, stream.handle)


def _start(array: npt.NDArray[Any]) -> int:
    if not array.flags.c_contiguous:
        raise Error("a copy expects an array without gaps")
    return int(array.ctypes.data)


class Module(_Owned):
    """Loaded kernels."""

    _destroy = "cuModuleUnload"

    def __init__(self, image: bytes) -> None:
        self._create("cuModuleLoadData", Handle(), image)
        self._functions: dict[str, Handle] = {}

    def get_function(self, name: str) -> Callable[..., None]:
        """A kernel: call it with arguments of its parameters' types, grid, block and stream.

        Like PyCUDA's it keeps the module.
        """
        function = self._functions.get(name)
        if function is None:
            function = Handle()
            call("cuModuleGetFunction", byref(function), self.handle, name.encode())
            self._functions[name] = function
        return partial(self._launch, function)

    def _launch(
        self,
        function: Handle,
        *arguments: np.generic,
        grid: Sequence[int],
        block: Sequence[int],
        stream: Stream,
    ) -> None:
        """The driver copies the arguments before it returns, aligned as the kernel wants them."""
        values = [ctypes.create_string_buffer(each.tobytes(), each.nbytes) for each in arguments]
        pointers = (c_void_p * len(values))(*map(ctypes.addressof, values))
        call("cuLaunchKernel", function, *grid, *block, 0, stream.handle, pointers, None)


module_from_buffer = Module
