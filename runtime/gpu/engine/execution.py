"""Plans that run: a plan on a device, and its contexts on one stream."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeunet.errors import BackendError, EngineError

from ...pipeline.stopping import Closing
from ..cuda import CudaDevice, DeviceMemory, Graph, Stream
from .caches import RuntimeCache, runtime_cache_path
from .log import last_words, listen
from .toolkit import Toolkit

_log = logging.getLogger(__name__)
_TYPES = {"FLOAT": np.float32, "HALF": np.float16}


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine; `shape` is without the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_input: bool

    @property
    def frame_bytes(self) -> int:
        """Bytes that one frame of a batch takes."""
        return math.prod(self.shape) * self.dtype.itemsize


class LoadedEngine(Closing):
    """A plan on a device.

    What TensorRT-RTX compiles for the device is read from a file beside the plan, and kept there.

    Args:
        plan: its file. dla: core of the deep learning accelerator that it was built for.
        report: told why what was compiled is not used, or cannot be kept.

    tensors: inputs and outputs by name, in the engine's order. smallest_batch: 1, but for an engine
    that computes one size only, which is then its largest.

    Raises:
        EngineError: TensorRT refuses the plan, in its own words. BackendError: it does not start,
            as with a driver that is too old, and no other plan would help.
    """

    def __init__(
        self,
        toolkit: Toolkit,
        plan: Path,
        device: CudaDevice,
        *,
        dla: int | None = None,
        report: Callable[[str], None] = _log.warning,
    ) -> None:
        trt = toolkit.module
        self.log = listen(trt)
        self.device, self._title = device, toolkit.title
        with device.current("loading an engine"):
            self._runtime = self._start_runtime(trt)  # the engine needs it for as long as it lives
            if dla is not None:
                self._runtime.DLA_core = dla  # the plan would else run on core 0
            self.native = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self.native is None:
            raise EngineError(f"{self._title} refuses the engine: {last_words(self.log)}")
        self._config = self._compiled = None
        if toolkit.compiles_on_card:
            with device.current("reading an engine's kernels"):
                self._config = _compiling_config(trt, self.native)
                cache = runtime_cache_path(plan, device.name)
                self._compiled = RuntimeCache(self._config, cache, report)
        # Absent from TensorRT 8, which has other calls for the same.
        self._strategies = getattr(trt, "ExecutionContextAllocationStrategy", None)
        self._input_mode = trt.TensorIOMode.INPUT
        names = [self.native.get_tensor_name(i) for i in range(self.native.num_io_tensors)]
        self.tensors = {name: self._tensor(name) for name in names}
        first = next(tensor.name for tensor in self.tensors.values() if tensor.is_input)
        smallest, _, largest = self.native.get_tensor_profile_shape(first, 0)
        self.smallest_batch, self.max_batch = int(smallest[0]), int(largest[0])

    def close(self) -> None:
        """Free the weights; contexts must be gone."""
        with self.device.current("freeing an engine"):
            self._config = None  # before the cache that it uses
            self._compiled = None
            self.native = self._runtime = None

    @property
    def activation_bytes(self) -> int:
        """Bytes that a context needs to compute in; never 0, for it wants an address."""
        native, before = self.native, self._strategies is None
        return max(256, int(native.device_memory_size if before else native.device_memory_size_v2))

    def new_context(self, activations: DeviceMemory, stream: Stream) -> Any:
        """An execution context that computes in memory which it may share, in turns, with others.

        Args:
            stream: where it is to run.

        Raises:
            BackendError: TensorRT gives none.
        """
        if self._config is not None:
            context = self.native.create_execution_context(runtime_config=self._config)
        elif self._strategies is None:
            context = self.native.create_execution_context_without_device_memory()
        else:
            context = self.native.create_execution_context(self._strategies.USER_MANAGED)
        if context is None:
            raise BackendError(f"{self._title} gives no execution context: {last_words(self.log)}")
        try:  # only the first context of an engine has its profile from the start
            context.set_optimization_profile_async(0, stream.handle)
        except RuntimeError:  # how the binding says that it was refused
            raise BackendError(
                f"{self._title} gives a context no profile: {last_words(self.log)}"
            ) from None
        if self._strategies is None:
            context.device_memory = activations.address
        else:
            context.set_device_memory(activations.address, activations.nbytes)
        return context

    def keep_compiled(self) -> None:
        """Write what was compiled for the device to where the next start finds it."""
        if self._compiled is not None:
            with self.device.current("keeping an engine's kernels"):
                self._compiled.keep()

    def check_capture(self, context: Any, stream: Stream) -> None:
        """BackendError where it is known before that a context's runs make no CUDA graph."""
        if self._config is None:
            return
        with self.device.current("preparing an engine"):
            if not context.is_stream_capturable(stream.handle):
                raise BackendError(f"{self._title} allows no capture of it")

    def _start_runtime(self, trt: Any) -> Any:
        try:
            return trt.Runtime(self.log)
        except TypeError:  # how the binding says that there is none
            raise BackendError(
                f"{self._title} cannot start its runtime: {last_words(self.log)} `edgeunet doctor` "
                "tells the driver's version."
            ) from None

    def _tensor(self, name: str) -> Tensor:
        mode = self.native.get_tensor_mode(name)
        return Tensor(
            name,
            tuple(int(side) for side in tuple(self.native.get_tensor_shape(name))[1:]),
            np.dtype(_TYPES[self.native.get_tensor_dtype(name).name]),
            mode == self._input_mode,
        )


def _compiling_config(trt: Any, engine: Any) -> Any:
    """IRuntimeConfig for contexts that compile kernels on the card.

    At once and for good, not in the background while others do their work: those that are in a
    CUDA graph could not be replaced, and equal frames would get masks of different kernels.
    """
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(
        trt.ExecutionContextAllocationStrategy.USER_MANAGED
    )
    config.dynamic_shapes_kernel_specialization_strategy = (
        trt.DynamicShapesKernelSpecializationStrategy.EAGER
    )
    return config


class Execution(Closing):
    """An engine on one stream, for batches of any size up to the largest.

    Each size that comes gets a context of its own and is captured as a CUDA graph, which takes a
    fraction of the CPU's time to launch. They share the memory of their activations.

    Args:
        addresses: where each of the engine's tensors lies on the device, with room for the largest
            batch.
    """

    def __init__(self, engine: LoadedEngine, stream: Stream, addresses: Mapping[str, int]) -> None:
        self.engine = engine
        self._stream = stream
        self._addresses = dict(addresses)
        self._activations = engine.device.allocate(engine.activation_bytes)
        self._launches: dict[int, Callable[[], None]] = {}
        self._contexts: list[Any] = []
        self._graphs: list[Graph] = []

    def enqueue(self, batch: int) -> None:
        """Queue the engine's work on the first `batch` frames."""
        batch = max(batch, self.engine.smallest_batch)
        if batch not in self._launches:
            with self.engine.device.preparing:
                self._launches[batch] = self._prepare(batch)
        self._launches[batch]()

    def _prepare(self, batch: int) -> Callable[[], None]:
        """What runs the engine on a batch of that size: a CUDA graph where it can be one."""
        context = self._context(batch)
        self._contexts.append(context)  # a graph works in the memory of its context
        # TensorRT asks for one run before a capture, for what it only then sets up.
        self._run_once(context)
        self.engine.keep_compiled()
        try:
            self.engine.check_capture(context, self._stream)
            graph = self.engine.device.capture(self._stream, lambda: self._run(context))
        except BackendError as error:  # loops, DLA: not everything can be captured
            _log.info("this engine runs without a CUDA graph: %s", error)
            with suppress(BackendError):  # it may still tell of the capture
                self._run_once(context)
            return lambda: self._run(context)
        self._graphs.append(graph)
        return lambda: graph.launch(self._stream)

    def _context(self, batch: int) -> Any:
        engine = self.engine
        with engine.device.current("preparing an engine"):
            context = engine.new_context(self._activations, self._stream)
            for tensor in engine.tensors.values():
                if tensor.is_input and not context.set_input_shape(
                    tensor.name, (batch, *tensor.shape)
                ):
                    raise BackendError(
                        f"the engine refuses a batch of {batch}: {last_words(engine.log)}"
                    )
                if not context.set_tensor_address(tensor.name, self._addresses[tensor.name]):
                    raise BackendError(
                        f"the engine refuses the place of {tensor.name}: {last_words(engine.log)}"
                    )
        return context

    def _run_once(self, context: Any) -> None:
        self._run(context)
        self._stream.synchronize()

    def _run(self, context: Any) -> None:
        with self.engine.device.current("running an engine"):
            if not context.execute_async_v3(self._stream.handle):
                raise BackendError(f"the engine failed: {last_words(self.engine.log)}")

    def close(self) -> None:
        """Free graphs, contexts and the memory that they compute in."""
        device = self.engine.device
        with device.preparing, device.current("freeing an engine's contexts"):
            try:
                for graph in self._graphs:
                    graph.close()
            finally:  # also where the GPU is lost: TensorRT's objects must go before their engine
                self._launches.clear()
                self._contexts.clear()
            self._activations.close()
