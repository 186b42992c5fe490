"""Run plans: an engine on a device, and its contexts on one stream."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeunet.bundle.engines import MAX_PLAN_BYTES
from edgeunet.errors import BackendError, EngineError
from edgeunet.files import read_file

from ...pipeline.stopping import Closing
from ..cuda import CudaDevice, DeviceMemory, Graph, Stream
from .caches import RuntimeCache, runtime_cache_path
from .log import error_text, fresh_logger
from .toolkit import Toolkit

_log = logging.getLogger(__name__)
_TYPES = {"FLOAT": np.float32, "HALF": np.float16}


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine. `shape` excludes the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_input: bool

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame of a batch."""
        return math.prod(self.shape) * self.dtype.itemsize


class LoadedEngine(Closing):
    """A plan, loaded on a device.

    With TensorRT-RTX, a file beside the plan keeps the kernels that were compiled for the device.

    Args:
        plan: path of the plan. sha256: its hash, from its card.
        dla: core of the Deep Learning Accelerator that it was built for.
        trust: also use a file with kernels that another machine compiled.
        report: gets the reason if that file is not used or cannot be written.

    Attributes:
        tensors: inputs and outputs by name, in the engine's order.
        smallest_batch: 1, or `max_batch` if the engine takes only that.

    Raises:
        EngineError: TensorRT rejected the plan, or the file has changed. BackendError: TensorRT
            does not start, for example because the driver is too old. No other plan would help.
    """

    def __init__(
        self,
        toolkit: Toolkit,
        plan: Path,
        device: CudaDevice,
        *,
        sha256: str,
        trust: bool = False,
        dla: int | None = None,
        report: Callable[[str], None] = _log.warning,
    ) -> None:
        trt = toolkit.module
        content = _read_plan(plan, sha256)
        self.log = fresh_logger(trt)
        self.device, self._title = device, toolkit.title
        with device.current("loading an engine"):
            self._runtime = self._start_runtime(trt)  # must outlive the engine
            if dla is not None:
                self._runtime.DLA_core = dla  # default: core 0
            self.native = self._runtime.deserialize_cuda_engine(content)
        if self.native is None:
            raise EngineError(f"{self._title} rejected the engine: {error_text(self.log)}")
        self._config = self._cache = None
        if toolkit.compiles_on_card:
            with device.current("loading an engine's kernels"):
                self._config = _runtime_config(trt, self.native)
                path = runtime_cache_path(plan, device.name)
                self._cache = RuntimeCache(self._config, path, report, trust=trust)
        # TensorRT 8 lacks it and has other calls for the same.
        self._strategies = getattr(trt, "ExecutionContextAllocationStrategy", None)
        self._input_mode = trt.TensorIOMode.INPUT
        names = [self.native.get_tensor_name(i) for i in range(self.native.num_io_tensors)]
        self.tensors = {name: self._tensor(name) for name in names}
        first = next(tensor.name for tensor in self.tensors.values() if tensor.is_input)
        smallest, _, largest = self.native.get_tensor_profile_shape(first, 0)
        self.smallest_batch, self.max_batch = int(smallest[0]), int(largest[0])

    def close(self) -> None:
        """Free the weights. All contexts must be gone."""
        with self.device.current("freeing an engine"):
            self._config = None  # before the cache, which it uses
            self._cache = None
            self.native = self._runtime = None

    @property
    def activation_bytes(self) -> int:
        """Bytes of memory that a context computes in. At least 256, since it needs an address."""
        native, before = self.native, self._strategies is None
        return max(256, int(native.device_memory_size if before else native.device_memory_size_v2))

    def new_context(self, activations: DeviceMemory, stream: Stream) -> Any:
        """Create an execution context for a stream.

        Args:
            activations: memory to compute in. Contexts that run one after another may share it.

        Raises:
            BackendError: TensorRT cannot create it.
        """
        if self._config is not None:
            context = self.native.create_execution_context(runtime_config=self._config)
        elif self._strategies is None:
            context = self.native.create_execution_context_without_device_memory()
        else:
            context = self.native.create_execution_context(self._strategies.USER_MANAGED)
        if context is None:
            raise BackendError(f"{self._title} cannot create a context: {error_text(self.log)}")
        try:  # only the first context of an engine starts with a profile
            context.set_optimization_profile_async(0, stream.handle)
        except RuntimeError:  # the binding raises this if TensorRT rejects the profile
            raise BackendError(
                f"{self._title} cannot set the profile of a context: {error_text(self.log)}"
            ) from None
        if self._strategies is None:
            context.device_memory = activations.address
        else:
            context.set_device_memory(activations.address, activations.nbytes)
        return context

    def keep_compiled(self) -> None:
        """Save the kernels that were compiled for the device, for the next start."""
        if self._cache is not None:
            with self.device.current("saving an engine's kernels"):
                self._cache.keep()

    def check_capture(self, context: Any, stream: Stream) -> None:
        """Raise BackendError if TensorRT says that it cannot capture this context."""
        if self._config is None:
            return
        with self.device.current("preparing an engine"):
            if not context.is_stream_capturable(stream.handle):
                raise BackendError(f"{self._title} cannot capture this context")

    def _start_runtime(self, trt: Any) -> Any:
        try:
            return trt.Runtime(self.log)
        except TypeError:  # the binding raises this if there is no runtime
            raise BackendError(
                f"{self._title} cannot start its runtime: {error_text(self.log)} `edgeunet doctor` "
                "shows the driver's version."
            ) from None

    def _tensor(self, name: str) -> Tensor:
        mode = self.native.get_tensor_mode(name)
        return Tensor(
            name,
            tuple(int(side) for side in tuple(self.native.get_tensor_shape(name))[1:]),
            np.dtype(_TYPES[self.native.get_tensor_dtype(name).name]),
            mode == self._input_mode,
        )


def _read_plan(path: Path, sha256: str) -> bytes:
    """The plan's bytes, which are those of the hash: they are not read again."""
    try:
        content = read_file(path, most=MAX_PLAN_BYTES)
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error}.") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise EngineError(f"{path} has changed since it was checked.")
    return content


def _runtime_config(trt: Any, engine: Any) -> Any:
    """IRuntimeConfig for contexts that compile their kernels on the card, eagerly.

    Lazily compiled kernels replace generic ones later. A CUDA graph would keep the old ones, and
    equal frames would get masks from different kernels.
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

    Each batch size gets its own context and CUDA graph, which launches in a fraction of the CPU
    time. The contexts share the memory that they compute in.

    Args:
        addresses: device address of each tensor, with room for the largest batch.
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
        """Queue one run of the engine on the first `batch` frames."""
        batch = max(batch, self.engine.smallest_batch)
        if batch not in self._launches:
            with self.engine.device.preparing:
                self._launches[batch] = self._prepare(batch)
        self._launches[batch]()

    def _prepare(self, batch: int) -> Callable[[], None]:
        """A function that runs the engine on this batch size, with a CUDA graph if possible."""
        context = self._context(batch)
        self._contexts.append(context)  # a CUDA graph uses its context's memory
        # TensorRT sets up some things during the first run, so it must come before the capture.
        self._run_once(context)
        self.engine.keep_compiled()
        try:
            self.engine.check_capture(context, self._stream)
            graph = self.engine.device.capture(self._stream, lambda: self._run(context))
        except BackendError as error:  # for example loops and DLA layers cannot be captured
            _log.info("this engine runs without a CUDA graph: %s", error)
            with suppress(BackendError):  # this may report the failed capture once more
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
                        f"TensorRT rejected a batch of {batch}: {error_text(engine.log)}"
                    )
                if not context.set_tensor_address(tensor.name, self._addresses[tensor.name]):
                    raise BackendError(
                        f"TensorRT rejected the device address of {tensor.name}: "
                        f"{error_text(engine.log)}"
                    )
        return context

    def _run_once(self, context: Any) -> None:
        self._run(context)
        self._stream.synchronize()

    def _run(self, context: Any) -> None:
        with self.engine.device.current("running an engine"):
            if not context.execute_async_v3(self._stream.handle):
                raise BackendError(f"the engine failed: {error_text(self.engine.log)}")

    def close(self) -> None:
        """Free graphs, contexts and their memory."""
        device = self.engine.device
        with device.preparing, device.current("freeing an engine's contexts"):
            try:
                for graph in self._graphs:
                    graph.close()
            finally:  # even if the GPU is lost: contexts must go before their engine
                self._launches.clear()
                self._contexts.clear()
            self._activations.close()
