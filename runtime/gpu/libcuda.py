"""NVIDIA's driver library by ctypes: calls, their errors, CUDA graphs, has_gpu.

Nothing has to be compiled, and nothing installed but the driver. `driver.py` beside this file has
the rest of the API, unless PyCUDA takes its place. Calls that fail raise `Error`. A library that is
missing or does not fit is a `BackendError`.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from edgeunet.errors import BackendError

LIBRARY = "libcuda.so.1"
DRIVER_ADVICE = (
    "Install NVIDIA's driver, or update it and restart; in a container, pass the GPU in (docker "
    "run --gpus all, on Jetson --runtime nvidia)."
)
_OLDEST = "11.4"  # the first that has every call below
_OUT_OF_MEMORY = 2
_THREAD_LOCAL = 1  # capture ignores work that other threads queue meanwhile
NO_FLAGS = 0

# Device nodes: of a card, and of a Jetson with an older or newer driver. WSL has its node with the
# GPU of any maker.
_DEVICES = Path("/dev")
_NODES, _NODES_OF_ANY = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu"), ("dxg",)

Address = c_uint64  # CUdeviceptr
Handle = c_void_p  # to what only the driver knows
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuInit": (c_uint,),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(Handle), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxPushCurrent_v2": (Handle,),
    "cuCtxPopCurrent_v2": (POINTER(Handle),),
    "cuCtxGetCurrent": (POINTER(Handle),),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(Address), c_size_t),
    "cuMemFree_v2": (Address,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemHostGetDevicePointer_v2": (POINTER(Address), c_void_p, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (Address, c_void_p, c_size_t, Handle),
    "cuMemcpyDtoHAsync_v2": (c_void_p, Address, c_size_t, Handle),
    "cuMemcpyDtoDAsync_v2": (Address, Address, c_size_t, Handle),
    "cuStreamCreate": (POINTER(Handle), c_uint),
    "cuStreamSynchronize": (Handle,),
    "cuStreamDestroy_v2": (Handle,),
    "cuStreamBeginCapture_v2": (Handle, c_int),
    "cuStreamEndCapture": (Handle, POINTER(Handle)),
    "cuEventCreate": (POINTER(Handle), c_uint),
    "cuEventRecord": (Handle, Handle),
    "cuEventSynchronize": (Handle,),
    "cuEventElapsedTime": (POINTER(c_float), Handle, Handle),
    "cuEventDestroy_v2": (Handle,),
    "cuModuleLoadData": (POINTER(Handle), c_char_p),
    "cuModuleGetFunction": (POINTER(Handle), Handle, c_char_p),
    "cuModuleUnload": (Handle,),
    "cuLaunchKernel": (Handle, *(c_uint,) * 7, Handle, POINTER(c_void_p), POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(Handle), Handle, c_uint64),
    "cuGraphLaunch": (Handle, Handle),
    "cuGraphExecDestroy": (Handle,),
    "cuGraphDestroy": (Handle,),
}


class Error(Exception):
    """A call failed; the message holds its name and the driver's explanation."""


class OutOfMemoryError(Error):
    """There is too little memory, on the device or page-locked."""


# The library


def library() -> ctypes.CDLL:
    """NVIDIA's driver library.

    Raises:
        BackendError: it is missing, belongs to another architecture or is too old.
    """
    return _load(LIBRARY)


@cache
def _load(name: str) -> ctypes.CDLL:
    try:
        found = ctypes.CDLL(name)
    except OSError as error:
        raise BackendError(
            f"no NVIDIA driver for this Python ({platform.machine()}): {error}. {DRIVER_ADVICE}"
        ) from None
    missing = [each for each in _SIGNATURES if not hasattr(found, each)]
    if missing:
        version = "unknown" if "cuDriverGetVersion" in missing else _version(found)
        raise BackendError(
            f"the NVIDIA driver is too old: expected CUDA {_OLDEST} or newer, got {version}, which "
            f"lacks {missing[0]}. {DRIVER_ADVICE}"
        )
    for each, types in _SIGNATURES.items():
        function = getattr(found, each)
        function.argtypes, function.restype = types, c_int
    return found


def call(name: str, *arguments: Any) -> None:
    """Call a function of the driver.

    Raises:
        Error: it failed. BackendError: see `library`.
    """
    _raise_for(library(), name, getattr(library(), name)(*arguments))


def _raise_for(found: ctypes.CDLL, name: str, code: int) -> None:
    if code:
        text = c_char_p()
        found.cuGetErrorString(c_int(code), byref(text))
        reason = text.value.decode() if text.value else "no reason given"
        kind = OutOfMemoryError if code == _OUT_OF_MEMORY else Error
        raise kind(f"{name} failed with CUDA error {code}: {reason}")


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU. Does not check that it works.

    Checking would initialise CUDA, and a process that forks afterwards, as data loaders do, cannot
    use it.
    """
    if any(True for pattern in _NODES for _ in _DEVICES.glob(pattern)):
        return True
    if not any(_DEVICES.joinpath(node).exists() for node in _NODES_OF_ANY):
        return False
    try:
        library()
    except BackendError:
        return False
    return True


def driver_version() -> str:
    """Newest CUDA version that the driver supports, such as "12.6".

    Raises:
        BackendError: no driver can be used. Error: it does not answer.
    """
    return _version(library())


def _version(found: ctypes.CDLL) -> str:
    version = c_int()
    _raise_for(found, "cuDriverGetVersion", found.cuDriverGetVersion(byref(version)))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


class CudaGraph:
    """Captured work that one call launches."""

    def __init__(self, graph: Handle, executable: Handle) -> None:
        self._graph = graph
        self._executable: Handle | None = executable

    def launch(self, stream: int) -> None:
        """Queue the work in the stream with that handle. The device's context must be current."""
        call("cuGraphLaunch", self._executable, stream)

    def close(self) -> None:
        """Free the graph. Calling it again does nothing."""
        executable, self._executable = self._executable, None
        if executable is not None:
            try:
                call("cuGraphExecDestroy", executable)
            finally:
                call("cuGraphDestroy", self._graph)


def capture(stream: int, queue: Callable[[], None]) -> CudaGraph:
    """Record what `queue` puts into the stream with that handle, without running it.

    Raises:
        Error: some of the work cannot be captured.
    """
    graph, executable = Handle(), Handle()
    call("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)
    try:
        try:
            queue()
        finally:  # a stream that stays in capture is unusable
            code = library().cuStreamEndCapture(stream, byref(graph))
        _raise_for(library(), "cuStreamEndCapture", code)
        call("cuGraphInstantiateWithFlags", byref(executable), graph, NO_FLAGS)
    except BaseException:
        if graph:
            library().cuGraphDestroy(graph)
        raise
    return CudaGraph(graph, executable)


@contextmanager
def balanced_stack() -> Iterator[None]:
    """Pop the context that PyCUDA leaves current after it releases a primary context."""
    before, after = Handle(), Handle()
    call("cuCtxGetCurrent", byref(before))
    yield
    call("cuCtxGetCurrent", byref(after))
    if after.value != before.value:
        call("cuCtxPopCurrent_v2", byref(after))
