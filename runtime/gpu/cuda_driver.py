"""The driver's library, for what PyCUDA has no call: graphs, the context stack, what is there."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_uint64, c_void_p
from pathlib import Path
from typing import Any

# Work that other threads give the device meanwhile is neither captured nor an error.
_THREAD_LOCAL = 1
# Where a GPU shows: a card, a Jetson's, its newer drivers', and Windows' to Linux beside it.
_DEVICES = Path("/dev")
_NODES = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu", "dxg")


class CallError(Exception):
    """A call failed; names it, with the driver's words."""


def has_gpu() -> bool:
    """Whether an NVIDIA driver and a GPU are here; whether they work is not asked.

    That would begin CUDA, and a process that forks afterwards, as data loaders do, loses it.
    """
    try:
        _library()
    except OSError:
        return False
    return any(True for pattern in _NODES for _ in _DEVICES.glob(pattern))


class CudaGraph:
    """Work that was captured, launched with one call."""

    def __init__(self, library: Any, graph: c_void_p, executable: c_void_p) -> None:
        self._library = library
        self._graph = graph
        self._executable: c_void_p | None = executable

    def launch(self, stream: int) -> None:
        """Queue the work in a stream, by its handle; the device's context is current."""
        _check(self._library, "cuGraphLaunch", self._executable, c_void_p(stream))

    def close(self) -> None:
        """Free the graph; a second time does nothing."""
        executable, self._executable = self._executable, None
        if executable is not None:
            ended = self._library.cuGraphExecDestroy(executable)
            _check(self._library, "cuGraphDestroy", self._graph)
            _raise_for(self._library, "cuGraphExecDestroy", ended)


def capture(stream: int, queue: Callable[[], None]) -> CudaGraph:
    """Record what `queue` puts into the stream of that handle; none of it runs.

    Raises:
        CallError: something in it cannot be captured.
    """
    library = _library()
    graph, executable = c_void_p(), c_void_p()
    _check(library, "cuStreamBeginCapture_v2", c_void_p(stream), c_int(_THREAD_LOCAL))
    try:
        try:
            queue()
        finally:  # a stream left in capture could not be used again
            ended = library.cuStreamEndCapture(c_void_p(stream), byref(graph))
        _raise_for(library, "cuStreamEndCapture", ended)
        _check(library, "cuGraphInstantiateWithFlags", byref(executable), graph, c_uint64(0))
    except BaseException:
        if graph:
            library.cuGraphDestroy(graph)
        raise
    return CudaGraph(library, graph, executable)


@contextmanager
def balanced_stack() -> Iterator[None]:
    """Pop the context that PyCUDA leaves current where it releases a primary one."""
    library = _library()
    before, after = c_void_p(), c_void_p()
    _check(library, "cuCtxGetCurrent", byref(before))
    yield
    _check(library, "cuCtxGetCurrent", byref(after))
    if after.value != before.value:
        _check(library, "cuCtxPopCurrent_v2", byref(after))


def _library() -> Any:
    return ctypes.CDLL("libcuda.so.1")


def _check(library: Any, name: str, *arguments: Any) -> None:
    _raise_for(library, name, getattr(library, name)(*arguments))


def _raise_for(library: Any, name: str, code: int) -> None:
    if code == 0:
        return
    words = c_char_p()
    library.cuGetErrorString(c_int(code), byref(words))
    said = words.value.decode() if words.value else "no reason given"
    raise CallError(f"{name} failed with CUDA error {code}: {said}")
