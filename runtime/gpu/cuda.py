"""CUDA through PyCUDA, and the one module that knows it: a device and what it hands out.

Everything can be freed by itself and is freed with the device. Addresses are plain integers, as
TensorRT takes them. Methods may be called from any thread.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.errors import BackendError, MissingDependencyError

from ..pipeline.stopping import Closing
from .cuda_driver import CallError, balanced_stack, capture

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream
# PyCUDA links two libraries of CUDA's: the driver's libcuda, and the toolkit's cuRAND, which it
# leaves out where a file of its own says so. An environment variable does not (its aksetup_helper).
_DRIVER_ADVICE = (
    "Install NVIDIA's driver, or update it; in a container, pass the GPU in (docker run --gpus "
    "all, on Jetson --runtime nvidia)."
)
_CURAND_ADVICE = (
    "It was compiled with cuRAND, a library of the CUDA toolkit: install the toolkit, or add the "
    "library's folder to LD_LIBRARY_PATH. Or compile PyCUDA without it, which is enough here: "
    "echo 'CUDA_ENABLE_CURAND = False' >> ~/.aksetup-defaults.py, then pip install "
    "--force-reinstall --no-deps --no-cache-dir pycuda."
)

Grid = tuple[int, int, int]


class Held(Closing):
    """Something of a device, given back by `close` or with the device, whichever comes first."""

    def __init__(self, device: CudaDevice, native: Any) -> None:
        self.device = device
        self._native = native
        device.held[id(self)] = self

    @property
    def native(self) -> Any:
        """PyCUDA's object; BackendError where it was given back."""
        if self._native is None:
            raise BackendError("this was freed: the backend that it belongs to was closed.")
        return self._native

    def close(self) -> None:
        """Give it back; a second time does nothing."""
        if self.device.held.pop(id(self), None) is not None:
            with self.device.current("freeing what the GPU holds"):
                try:
                    self._free()
                finally:
                    self._native = None  # PyCUDA frees some things with their last reference

    def _free(self) -> None:
        """Free what the last reference does not."""


class Stream(Held):
    """A queue of work on the device."""

    @property
    def handle(self) -> int:
        """Its cudaStream_t."""
        return int(self.native.handle)

    def synchronize(self) -> None:
        """Wait until all that was queued is done."""
        with self.device.current("waiting for the GPU"):
            self.native.synchronize()


class Event(Held):
    """A mark in a stream."""

    def record(self, stream: Stream) -> None:
        """Set the mark behind what the stream holds now."""
        with self.device.current("marking a stream"):
            self.native.record(stream.native)

    def synchronize(self) -> None:
        """Wait until the stream has reached the mark."""
        with self.device.current("waiting for the GPU"):
            self.native.synchronize()

    def seconds_since(self, earlier: Event) -> float:
        """Time between two marks that have been reached."""
        with self.device.current("reading a mark's time"):
            return float(self.native.time_since(earlier.native)) / 1000


class DeviceMemory(Held):
    """Memory of the device: `nbytes` bytes at `address`."""

    def __init__(self, device: CudaDevice, native: Any, nbytes: int) -> None:
        super().__init__(device, native)
        self.address = int(native)
        self.nbytes = nbytes

    def _free(self) -> None:
        self.native.free()


class Staging(Held):
    """Page-locked bytes on the host, `host`, and their place on the device, `address`.

    On an integrated GPU both are the same memory, and nothing is copied.
    """

    def __init__(self, device: CudaDevice, host: npt.NDArray[np.uint8]) -> None:
        super().__init__(device, host.base)
        self.host = host
        self._memory: DeviceMemory | None = None
        if device.integrated:
            self.address = int(self.native.get_device_pointer())
        else:
            self._memory = device.allocate(host.nbytes)
            self.address = self._memory.address

    def upload(self, nbytes: int, stream: Stream) -> None:
        """Queue the copy of the first bytes to the device."""
        if self._memory is not None:
            self.device.to_device(self.address, self.host[:nbytes], stream)

    def download(self, nbytes: int, stream: Stream) -> None:
        """Queue the copy of the first bytes to the host."""
        if self._memory is not None:
            self.device.to_host(self.host[:nbytes], self.address, stream)

    def _free(self) -> None:
        self.host = np.empty(0, np.uint8)
        self.native.free()
        if self._memory is not None:
            self._memory.close()


class Module(Held):
    """Kernels that were loaded."""

    def launch(
        self, name: str, grid: Grid, block: Grid, arguments: Sequence[np.generic], stream: Stream
    ) -> None:
        """Queue a kernel; the arguments have the C types of its parameters."""
        with self.device.current(f"starting the kernel {name}"):
            function = self.native.get_function(name)
            function(*arguments, grid=grid, block=block, stream=stream.native)


class Graph(Held):
    """Captured work, launched with one call."""

    def launch(self, stream: Stream) -> None:
        """Queue the work."""
        with self.device.current("launching a CUDA graph"):
            self.native.launch(stream.handle)

    def _free(self) -> None:
        self.native.close()


class CudaDevice(Closing):
    """One GPU, by its primary context, which it shares with whoever else in the process uses it.

    name: as NVIDIA calls it. capability: "sm87". integrated: it shares the host's memory, as on
    Jetson. driver: the CUDA version that the driver supports, "12.6". held: what it handed out.
    preparing: lock of who makes or frees what may wait for the whole device; a capture that goes on
    in another thread would fail.

    Raises:
        MissingDependencyError: PyCUDA is not installed. BackendError: it cannot be loaded, there is
            no driver, one that is too old, or no such GPU; in every method, where the GPU fails.
    """

    def __init__(self, index: int = 0) -> None:
        self._driver = driver = import_pycuda()
        self.held: dict[int, Held] = {}
        self._closed = False
        self.preparing = threading.RLock()
        with self._translated("looking for a GPU"):
            driver.init()
            count = driver.Device.count()
        if not 0 <= index < count:
            known = f"GPUs 0 to {count - 1}" if count else "none"
            raise BackendError(f"there is no GPU {index}; there are {known}. See nvidia-smi.")
        with self._translated(f"opening GPU {index}"):
            native = driver.Device(index)
            self.name = str(native.name())
            self.capability = "sm{}{}".format(*native.compute_capability())
            self.integrated = bool(native.get_attribute(driver.device_attribute.INTEGRATED))
            version = int(driver.get_driver_version())
            self.driver = f"{version // 1000}.{version % 1000 // 10}"
            self._context = native.retain_primary_context()

    def close(self) -> None:
        """Free all that was handed out; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        holdings = list(reversed(self.held.values()))
        # The GPU may be lost, and each of them fail. PyCUDA's objects must go with this context
        # current all the same: those that are freed with their last reference end the process else.
        with suppress(BackendError), self.current("freeing what the GPU holds"):
            for held in holdings:
                if isinstance(held, Stream):
                    with suppress(BackendError):
                        held.synchronize()  # what it was given to do uses the rest
            for held in holdings:
                with suppress(BackendError):
                    held.close()
        with suppress(CallError, self._driver.Error), balanced_stack():
            self._context.push()  # PyCUDA releases it from the thread that made it, or as current
            self._context.detach()

    @contextmanager
    def current(self, step: str) -> Generator[None, None, None]:
        """Make the context this thread's; `step` says in an error what was being done."""
        with self._translated(step):
            self._context.push()
            try:
                yield
            finally:
                self._driver.Context.pop()

    def free_memory(self) -> int:
        """Bytes of device memory that nobody uses."""
        with self.current("asking for free memory"):
            return int(self._driver.mem_get_info()[0])

    def stream(self) -> Stream:
        """A new queue of work."""
        with self.current("making a stream"):
            return Stream(self, self._driver.Stream(_NON_BLOCKING))

    def event(self) -> Event:
        """A new mark."""
        with self.current("making an event"):
            return Event(self, self._driver.Event())

    def allocate(self, nbytes: int) -> DeviceMemory:
        """Device memory, not initialised."""
        with self.current(f"allocating {nbytes / 1e6:.0f} MB"):
            return DeviceMemory(self, self._driver.mem_alloc(nbytes), nbytes)

    def stage(self, nbytes: int) -> Staging:
        """Page-locked memory with its place on the device, not initialised."""
        flags = self._driver.host_alloc_flags.DEVICEMAP if self.integrated else 0
        with self.current(f"allocating {nbytes / 1e6:.0f} MB of page-locked memory"):
            host = self._driver.pagelocked_empty(nbytes, np.uint8, mem_flags=flags)
            return Staging(self, host)

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
        """Queue a copy on the device, between places that do not overlap."""
        with self.current("copying on the GPU"):
            self._driver.memcpy_dtod_async(target, source, nbytes, stream.native)

    def capture(self, stream: Stream, queue: Callable[[], None]) -> Graph:
        """Record what `queue` puts into the stream, without running it.

        Raises:
            BackendError: something in it cannot be captured.
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
                f"the GPU ran out of memory while {step}: {error}. Close what else uses it, export "
                "the bundle with a smaller --max-batch, or use --backend onnxruntime."
            ) from error
        except (driver.Error, CallError) as error:
            raise BackendError(
                f"CUDA failed while {step}: {error}. See nvidia-smi (on Jetson: dmesg) whether GPU "
                "and driver are there and fit; after a GPU was lost, start the program again."
            ) from error


def missing_pycuda() -> MissingDependencyError:
    """The error where PyCUDA is not installed; with the extra comes TensorRT, which is large."""
    return MissingDependencyError(
        "PyCUDA",
        "trt",
        hint="For TensorRT-RTX alone: pip install pycuda. pip compiles it: the CUDA toolkit must "
        "be there, its nvcc on the PATH.",
    )


def import_pycuda() -> Any:
    """`pycuda.driver`; CUDA does not begin with that.

    Raises:
        MissingDependencyError: PyCUDA or what it needs is not installed. BackendError: a library
            that it was linked with is missing, or too old.
    """
    try:
        return importlib.import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        name = str(error.name)
        if name.split(".")[0] == "pycuda":
            raise missing_pycuda() from None
        raise MissingDependencyError(name, "trt") from None
    except ImportError as error:
        advice = _CURAND_ADVICE if "libcurand" in str(error) else _DRIVER_ADVICE
        raise BackendError(f"PyCUDA cannot be loaded: {error}. {advice}") from error
