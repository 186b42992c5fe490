"""Direct calls into libcuda, for what PyCUDA lacks: CUDA graphs, the context stack, detection."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_uint64, c_void_p
from pathlib import Path
from typing import Any

_THREAD_LOCAL = 1  # capture ignores work that other threads queue meanwhile
# Device nodes: of a card, of a Jetson with an older or newer driver, and of WSL.
_DEVICES = Path("/dev")
_NODES = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu", "dxg")


class CallError(Exception):
    """A driver call failed; the message holds its name and the driver's explanation."""


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA driver and a GPU. Does not check that they work.

    Checking would initialise CUDA, and a process that forks afterwards, as data loaders do, cannot
    use it.
    """
    try:
        _library()
    except OSError:
        return False
    return any(True for pattern in _NODES for _ in _DEVICES.glob(pattern))


def driver_version() -> str:
    """Newest CUDA version that the driver supports, such as "12.6".

    Raises:
        OSError: no driver is installed. CallError: it does not answer.
    """
    version = c_int()
    _check(_library(), "cuDriverGetVersion", byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


class CudaGraph:
    """Captured work that one call launches."""

    def __init__(self, library: Any, graph: c_void_p, executable: c_void_p) -> None:
        self._library = library
        self._graph = graph
        self._executable: c_void_p | None = executable

    def launch(self, stream: int) -> None:
        """Queue the work in the stream with that handle. The device's context must be current."""
        _check(self._library, "cuGraphLaunch", self._executable, c_void_p(stream))

    def close(self) -> None:
        """Free the graph. Calling it again does nothing."""
        executable, self._executable = self._executable, None
        if executable is not None:
            code = self._library.cuGraphExecDestroy(executable)
            _check(self._library, "cuGraphDestroy", self._graph)
            _raise_for(self._library, "cuGraphExecDestroy", code)


def capture(stream: int, queue: Callable[[], None]) -> CudaGraph:
    """Record what `queue` puts into the stream with that handle, without running it.

    Raises:
        CallError: some of the work cannot be captured.
    """
    library = _library()
    graph, executable = c_void_p(), c_void_p()
    _check(library, "cuStreamBeginCapture_v2", c_void_p(stream), c_int(_THREAD_LOCAL))
    try:
        try:
            queue()
        finally:  # a stream that stays in capture is unusable
            code = library.cuStreamEndCapture(c_void_p(stream), byref(graph))
        _raise_for(library, "cuStreamEndCapture", code)
        _check(library, "cuGraphInstantiateWithFlags", byref(executable), graph, c_uint64(0))
    except BaseException:
        if graph:
            library.cuGraphDestroy(graph)
        raise
    return CudaGraph(library, graph, executable)


@contextmanager
def balanced_stack() -> Iterator[None]:
    """Pop the context that PyCUDA leaves current after it releases a primary context."""
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
    text = c_char_p()
    library.cuGetErrorString(c_int(code), byref(text))
    reason = text.value.decode() if text.value else "no reason given"
    raise CallError(f"{name} failed with CUDA error {code}: {reason}")
