"""CUDA: a device and its resources, by PyCUDA if that is installed, and otherwise by ctypes.

Each resource can be freed on its own; closing the device frees all of them. Addresses are plain
integers, as TensorRT expects. Methods may be called from any thread.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.errors import BackendError

from ..pipeline.stopping import Closing
from . import driver as by_ctypes
from .libcuda import DRIVER_ADVICE, Error, balanced_stack, capture, driver_version, library

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream

Grid = tuple[int, int, int]


class Resource(Closing):
    """A GPU resource, freed by `close` or together with its device."""

    def __init__(self, device: CudaDevice, native: Any) -> None:
        self.device = device
        self._native = native
        device.resources[id(self)] = self

    @property
    def native(self) -> Any:
        """The driver's object. BackendError after `close`."""
        if self._native is None:
            raise BackendError(
                "this GPU resource was freed: its backend was closed. Load the bundle again."
            )
        return self._native

    def close(self) -> None:
        """Free the resource. Calling it again does nothing."""
        if self.device.resources.pop(id(self), None) is not None:
            with self.device.current("freeing GPU resources"):
                try:
                    self._free()
                finally:
                    self._native = None

    def _free(self) -> None:
        """Free it, not only with its last reference: the traceback of an error may hold one."""
        free = getattr(self._native, "free", None)  # PyCUDA's streams, events and modules lack it
        if free is not None:
            free()


class Stream(Resource):
    """A CUDA stream: a queue of work on the device."""

    @property
    def handle(self) -> int:
        """The cudaStream_t."""
        return int(self.native.handle)

    def synchronize(self) -> None:
        """Wait until all queued work is done."""
        with self.device.current("waiting for the GPU"):
            self.native.synchronize()


class Event(Resource):
    """A CUDA event: a mark in a stream."""

    def record(self, stream: Stream) -> None:
        """Put the mark behind all work that the stream holds now."""
        with self.device.current("recording an event"):
            self.native.record(stream.native)

    def synchronize(self) -> None:
        """Wait until the stream has reached the mark."""
        with self.device.current("waiting for the GPU"):
            self.native.synchronize()

    def seconds_since(self, earlier: Event) -> float:
        """Time between two events. The stream must have reached both."""
        with self.device.current("reading an event's time"):
            return float(self.native.time_since(earlier.native)) / 1000


class DeviceMemory(Resource):
    """Device memory: `nbytes` bytes at `address`."""

    def __init__(self, device: CudaDevice, native: Any, nbytes: int) -> None:
        super().__init__(device, native)
        self.address = int(native)
        self.nbytes = nbytes


class Staging(Resource):
    """Page-locked memory `host`, and its counterpart on the device at `address`.

    shared: both are the same memory, and nothing is copied.
    """

    def __init__(
        self, device: CudaDevice, host: npt.NDArray[np.uint8], *, shared: bool = False
    ) -> None:
        super().__init__(device, host.base)
        self.host = host
        self._memory: DeviceMemory | None = None
        if shared:
            self.address = int(self.native.get_device_pointer())
        else:
            self._memory = device.allocate(host.nbytes)
            self.address = self._memory.address

    def upload(self, nbytes: int, stream: Stream) -> None:
        """Queue a copy of the first `nbytes` bytes to the device."""
        if self._memory is not None:
            self.device.to_device(self.address, self.host[:nbytes], stream)

    def download(self, nbytes: int, stream: Stream) -> None:
        """Queue a copy of the first `nbytes` bytes to the host."""
        if self._memory is not None:
            self.device.to_host(self.host[:nbytes], self.address, stream)

    def _free(self) -> None:
        self.host = np.empty(0, np.uint8)
        try:
            super()._free()
        finally:
            if self._memory is not None:
                self._memory.close()


class Module(Resource):
    """Loaded kernels."""

    def launch(
        self, name: str, grid: Grid, block: Grid, arguments: Sequence[np.generic], stream: Stream
    ) -> None:
        """Queue a kernel. The arguments must have the C types of its parameters."""
        with self.device.current(f"launching the kernel {name}"):
            # In one expression: an error's traceback would hold a variable, and by it the module.
            self.native.get_function(name)(*arguments, grid=grid, block=block, stream=stream.native)


class Graph(Resource):
    """A CUDA graph: captured work that one call launches."""

    def launch(self, stream: Stream) -> None:
        """Queue the work."""
        with self.device.current("launching a CUDA graph"):
            self.native.launch(stream.handle)

    def _free(self) -> None:
        self.native.close()


class CudaDevice(Closing):
    """One GPU. Uses its primary context, which the whole process shares.

    name: NVIDIA's name of it. capability: compute capability, "sm87". integrated: it shares the
    host's memory, as on Jetson. driver: newest CUDA version of the driver, "12.6". resources: what
    is not freed yet. preparing: hold this lock, which all devices of the process share, to allocate
    or free what may wait for the whole device; otherwise a capture in another thread fails.

    Raises:
        BackendError: the driver is missing, too old or does not fit, or there is no such GPU. Every
            method raises it if the GPU fails.
    """

    preparing = threading.RLock()

    def __init__(self, index: int = 0) -> None:
        self._driver = driver = load_driver()
        self.resources: dict[int, Resource] = {}
        self._closed = False
        try:
            driver.init()
            count = driver.Device.count()
        except driver.Error as error:
            raise BackendError(f"CUDA does not start: {error}. {_advice(error)}") from error
        if not 0 <= index < count:
            raise BackendError(
                f"there is no GPU {index}; found GPUs 0 to {count - 1}. See nvidia-smi."
            )
        with self._translated(f"opening GPU {index}"):
            native = driver.Device(index)
            self.name = str(native.name())
            self.capability = "sm{}{}".format(*native.compute_capability())
            self.integrated = bool(native.get_attribute(driver.device_attribute.INTEGRATED))
            self.driver = driver_version()
            self._context = native.retain_primary_context()

    def close(self) -> None:
        """Free all resources. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        resources = list(reversed(self.resources.values()))
        # If the GPU is lost, each of these calls may fail. PyCUDA's objects must still be freed
        # while this context is current: otherwise dropping their last reference ends the process.
        with suppress(BackendError), self.current("freeing GPU resources"):
            for resource in resources:
                if isinstance(resource, Stream):
                    with suppress(BackendError):
                        resource.synchronize()  # its queued work uses the other resources
            for resource in resources:
                with suppress(BackendError):
                    resource.close()
        with suppress(Error, self._driver.Error), balanced_stack():
            self._context.push()  # PyCUDA releases only a current context, or from its own thread
            self._context.detach()

    @property
    def context(self) -> int:
        """The CUcontext, for libraries that use the device too."""
        return int(self._context.handle)

    @contextmanager
    def current(self, step: str) -> Generator[None, None, None]:
        """Make the context current in this thread. Errors name the `step` that failed."""
        with self._translated(step):
            self._context.push()
            try:
                yield
            finally:
                self._driver.Context.pop()

    def free_memory(self) -> int:
        """Free device memory in bytes."""
        with self.current("reading the free memory"):
            return int(self._driver.mem_get_info()[0])

    def stream(self) -> Stream:
        """A new stream."""
        with self.current("creating a stream"):
            return Stream(self, self._driver.Stream(_NON_BLOCKING))

    def event(self) -> Event:
        """A new event."""
        with self.current("creating an event"):
            return Event(self, self._driver.Event())

    def allocate(self, nbytes: int) -> DeviceMemory:
        """Uninitialised device memory."""
        with self.current(f"allocating {nbytes / 1e6:.0f} MB"):
            return DeviceMemory(self, self._driver.mem_alloc(nbytes), nbytes)

    def stage(self, nbytes: int, *, small: bool = False) -> Staging:
        """Uninitialised page-locked memory with its counterpart on the device.

        Args:
            small: read or written hardly more than once. An integrated GPU then uses the host's
                memory itself, which saves a copy. It does not cache that memory, so that for a
                frame, whose pixels are read several times, the copy is cheaper.
        """
        shared = small and self.integrated
        flags = self._driver.host_alloc_flags.DEVICEMAP if shared else 0
        with self.current(f"allocating {nbytes / 1e6:.0f} MB of page-locked memory"):
            host = self._driver.pagelocked_empty(nbytes, np.uint8, mem_flags=flags)
            return Staging(self, host, shared=shared)

    def load_module(self, image: bytes) -> Module:
        """Load kernels from a cubin, PTX or fatbin."""
        with self.current("loading kernels"):
            return Module(self, self._driver.module_from_buffer(image))

    def to_device(self, address: int, source: npt.NDArray[Any], stream: Stream) -> None:
        """Queue a copy from page-locked memory."""
        with self.current("copying to the GPU"):
            self._driver.memcpy_htod_async(address, source, stream.native)

    def to_host(self, target: npt.NDArray[Any], address: int, stream: Stream) -> None:
        """Queue a copy to page-locked memory."""
        with self.current("copying from the GPU"):
            self._driver.memcpy_dtoh_async(target, address, stream.native)

    def copy(self, target: int, source: int, nbytes: int, stream: Stream) -> None:
        """Queue a copy on the device. Source and target must not overlap."""
        with self.current("copying on the GPU"):
            self._driver.memcpy_dtod_async(target, source, nbytes, stream.native)

    def capture(self, stream: Stream, queue: Callable[[], None]) -> Graph:
        """Record what `queue` puts into the stream, without running it.

        Raises:
            BackendError: some of the work cannot be captured.
        """
        with self.current("capturing a CUDA graph"):
            return Graph(self, capture(stream.handle, queue))

    @contextmanager
    def _translated(self, step: str) -> Iterator[None]:
        driver = self._driver
        try:
            yield
        except driver.MemoryError as error:
            raise BackendError(
                f"the GPU ran out of memory while {step}: {error}. Close other programs that use "
                "it, export the bundle with a smaller --max-batch, or use --backend onnxruntime."
            ) from error
        except (driver.Error, Error) as error:
            raise BackendError(
                f"CUDA failed while {step}: {error}. Check GPU and driver with nvidia-smi (on "
                "Jetson: dmesg). If the GPU was lost, restart the program."
            ) from error


def load_driver() -> Any:
    """The driver API as a module: `pycuda.driver` or `driver`. This does not initialise CUDA.

    Raises:
        BackendError: NVIDIA's driver is missing, too old or does not fit.
    """
    library()
    module, _ = pycuda_or_why_not()
    return by_ctypes if module is None else module


def pycuda_or_why_not() -> tuple[Any | None, str]:
    """`pycuda.driver`, or None. The text says why it cannot be loaded although it is installed."""
    if importlib.util.find_spec("pycuda") is None:
        return None, ""
    try:
        return importlib.import_module("pycuda.driver"), ""
    except Exception as error:  # whatever loading somebody's build may raise
        return None, f"PyCUDA is installed, but cannot be loaded: {error}"


def _advice(error: Exception) -> str:
    """What to do if CUDA does not start."""
    if "stub" in str(error):
        return "This is the CUDA toolkit's libcuda: take its stubs folder out of LD_LIBRARY_PATH."
    if "no CUDA-capable device" in str(error):
        return f"{DRIVER_ADVICE} See nvidia-smi, and check CUDA_VISIBLE_DEVICES."
    return DRIVER_ADVICE
