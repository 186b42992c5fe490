"""An execution context, and the engine inside it: ONNX Runtime at raw addresses of the host."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .plan import Plan, PlanTensor
from .values import NUMPY, is_rtx, tell

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Bound:
    """A tensor of a plan, its address, and its shape in this run."""

    tensor: PlanTensor
    address: int
    shape: Shape


class IExecutionContext:
    def _setup(self, engine: Any, own_memory: bool, config: Any) -> None:
        self._engine = engine
        self._config = config
        self._compiled: set[str] = set()
        self._logger = engine._logger
        self._own_memory = own_memory
        self._memory: int | None = None
        self._addresses: dict[str, int] = {}
        self._profile = 0 if engine._contexts_made == 0 else -1
        engine._contexts_made += 1
        engine._contexts.add(self)
        self._shapes: dict[str, Shape] = {
            tensor.name: tensor.shape
            for tensor in engine._plan.tensors
            if tensor.is_input and -1 not in tensor.shape
        }

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            self._refuse(f"setOptimizationProfileAsync: no profile {profile_index}")
            raise RuntimeError("Error in set optimization profile async.")
        self._profile = profile_index
        return True

    # Memory from the caller

    @property
    def device_memory(self) -> None: ...

    @device_memory.setter
    def device_memory(self, value: int) -> None:
        self.__dict__["_memory"] = value

    def set_device_memory(self, memory: int, size: int) -> None:
        if size < self._trt.scenario.device_memory:
            self._refuse(f"setDeviceMemoryV2: {size} bytes are fewer than the engine needs")
            return
        self._memory = memory

    # Shapes and addresses

    def set_input_shape(self, name: str, shape: Any) -> bool:
        tensor = self._engine._tensor(name)
        if tensor is None:
            return False
        wanted = tuple(shape)
        if not tensor.is_input:
            return self._refuse(f"setInputShape: {name} is no input")
        if len(wanted) != len(tensor.shape) or any(
            size not in (-1, given) for size, given in zip(tensor.shape, wanted, strict=True)
        ):
            return self._refuse(
                "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Static dimension "
                f"mismatch while setting input shape for {name}. Set dimensions are {_dims(wanted)}"
                f". Expected dimensions are {_dims(tensor.shape)}.)"
            )
        if self._profile < 0:
            return self._refuse("setInputShape: no optimization profile was chosen")
        if self._is_profile_taken():
            return self._refuse(
                f"Profile {self._profile} has been chosen by another IExecutionContext. Use "
                "another profileIndex or destroy the IExecutionContext that use this profile."
            )
        least, _, most = self._engine.get_tensor_profile_shape(name, self._profile)
        if not all(a <= b <= c for a, b, c in zip(least, wanted, most, strict=True)):
            return self._refuse(
                "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Parameter check "
                f"failed, condition: satisfyProfile. Set dimension {_dims(wanted)} for tensor "
                f"{name} does not satisfy any optimization profiles. Valid range for profile "
                f"{self._profile}: {_dims(least)}..{_dims(most)}.)"
            )
        self._shapes[name] = wanted
        return True

    def _is_profile_taken(self) -> bool:
        """Before version 9, one profile serves one context, unless the plan was built to share."""
        shared = is_rtx(self._trt) or int(self._engine._plan.version.split(".")[0]) >= 9
        if shared or "PROFILE_SHARING_0806" in self._engine._plan.flags:
            return False
        others = [context for context in self._engine._contexts if context is not self]
        return any(other._profile == self._profile and other._shapes for other in others)

    def get_tensor_shape(self, name: str) -> Any:
        tensor = self._engine._tensor(name)
        return self._new("Dims", self._shape(tensor) if tensor else ())

    def infer_shapes(self) -> list[str]:
        inputs = (tensor.name for tensor in self._engine._plan.tensors if tensor.is_input)
        return [name for name in inputs if name not in self._shapes]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self._engine._tensor(name) is None:
            return False
        alignment = self._trt.scenario.alignment
        if memory % alignment:
            return self._refuse(
                f"setTensorAddress: the address {memory:#x} of {name} is not aligned to "
                f"{alignment} bytes"
            )
        self._addresses[name] = int(memory)
        return True

    # Running

    def execute_async_v3(self, stream_handle: int) -> bool:
        for fault in self._enqueue_faults():
            return self._refuse(f"IExecutionContext::enqueueV3: {fault}")
        if is_rtx(self._trt):
            self._compile()
        self._trt.enqueue(int(stream_handle), self._work())
        return True

    def is_stream_capturable(self, stream: int) -> bool:
        """False if running allocates memory, or may replace a kernel by a faster one."""
        strategies = self._trt.DynamicShapesKernelSpecializationStrategy
        if self._config is None:
            return False
        strategy = self._config.dynamic_shapes_kernel_specialization_strategy
        required = "REQUIRE_USER_ALLOCATION" in self._engine._plan.flags
        return required and strategy != strategies.LAZY

    def _compile(self) -> None:
        """Compile for the current shapes, unless this context or the cache has the kernel."""
        kernel = f"{self._engine._plan.onnx_sha256[:12]} {sorted(self._shapes.items())}"
        cache = None if self._config is None else self._config._cache
        if kernel in self._compiled or (cache is not None and kernel in cache._kernels):
            return
        self._trt.compiled.append(kernel)
        self._compiled.add(kernel)
        if cache is not None:
            cache._kernels.add(kernel)

    def _enqueue_faults(self) -> list[str]:
        faults = list(self._trt.scenario.enqueue_errors)
        if missing := self.infer_shapes():
            faults.append(
                "Error Code 7: Internal Error (Not all shapes are specified. Following input "
                f"tensors' dimensions are not specified: {', '.join(missing)}.)"
            )
        for tensor in self._engine._plan.tensors:
            if not self._addresses.get(tensor.name):
                kind = "input" if tensor.is_input else "output"
                faults.append(
                    "Error Code 3: API Usage Error (Parameter check failed: no address is set "
                    f"for {kind} tensor {tensor.name}.)"
                )
        if not self._own_memory and not self._memory and self._trt.scenario.device_memory:
            faults.append("Error Code 3: API Usage Error (no device memory was set.)")
        return faults

    def _work(self) -> Callable[[], None]:
        """The run with the current shapes and addresses. It reads the inputs when it is called."""
        plan: Plan = self._engine._plan
        bound = [
            Bound(each, self._addresses[each.name], self._shape(each)) for each in plan.tensors
        ]
        context, compute = weakref.ref(self), self._trt.compute

        def work() -> None:
            assert context() is not None, "the context is gone, and its memory with it"
            compute(plan, bound)

        return work

    def _shape(self, tensor: PlanTensor) -> Shape:
        """Current shape. A dynamic dimension has the same size wherever its name occurs."""
        if tensor.is_input:
            return self._shapes.get(tensor.name, tensor.shape)
        sizes: dict[int | str, int] = {}
        for each in self._engine._plan.tensors:
            if each.name in self._shapes:
                sizes |= dict(zip(each.dims, self._shapes[each.name], strict=True))
        return tuple(dim if isinstance(dim, int) else sizes.get(dim, -1) for dim in tensor.dims)

    def _refuse(self, message: str) -> bool:
        tell(self._logger, "ERROR", message)
        return False


def _spoil(logits: np.ndarray[Any, Any], share: float) -> None:
    """Give the last class to a share of the pixels of each frame."""
    last = logits.reshape(*logits.shape[:2], -1)[:, -1]  # (N, pixels), of the same memory
    last[:, : round(share * last.shape[1])] = np.finfo(np.float16).max


def _dims(shape: Any) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def compute_on_host(plan: Plan, bound: Sequence[Bound]) -> None:
    """Run a plan's graph in ONNX Runtime, in the graph's own precision."""
    session = _session(plan.onnx)
    given = {value.name: value.type for value in session.get_inputs()}
    feeds = {
        each.tensor.name: _at(each.address, each.shape, each.tensor.dtype).astype(
            _numpy_of(given[each.tensor.name])
        )
        for each in bound
        if each.tensor.is_input
    }
    outputs = [each for each in bound if not each.tensor.is_input]
    results = session.run([each.tensor.name for each in outputs], feeds)
    for each, result in zip(outputs, results, strict=True):
        if each.tensor.name == "logits":
            _spoil(result, plan.wrong_pixels)
        _at(each.address, result.shape, each.tensor.dtype)[...] = result


@cache
def _session(onnx: bytes) -> Any:
    import onnxruntime as ort  # a GPU may have another engine inside, and need none

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    # Q/DQ as written: fused for the CPU they would round elsewhere, or, over FP16, not load. Even
    # the basic passes cost Q/DQ over FP16 two percent of mobile_unet's pixels.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # errors
    return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def _at(address: int, shape: Any, dtype: str) -> np.ndarray[Any, Any]:
    """Array at a raw address of the host, not copied."""
    kind = np.dtype(NUMPY[dtype])
    count = int(np.prod(shape, dtype=np.int64))
    buffer = (ctypes.c_char * (count * kind.itemsize)).from_address(address)
    return np.frombuffer(buffer, kind).reshape(shape)


def _numpy_of(kind: str) -> str:
    """numpy's name of an ONNX Runtime type such as "tensor(float16)"."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
