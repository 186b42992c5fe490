"""The runtime, and the engines that it loads from plans."""

from __future__ import annotations

import weakref
from typing import Any

from .plan import Plan, PlanTensor
from .values import global_logger, is_rtx, need_gpu, stored, tell


class Runtime:
    def _setup(self, logger: Any) -> None:
        need_gpu(self, logger)
        self._logger = logger
        global_logger(self, logger)

    DLA_core = stored("DLA_core", lambda self: -1)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        content = bytes(serialized_engine)
        plan = Plan.from_bytes(content)
        fault = _plan_fault(plan, not content, self._trt)
        if plan is None or fault is not None:
            tell(self._logger, "ERROR", f"IRuntime::deserializeCudaEngine: {fault}")
            return None
        if plan.dla is not None:  # the core in the plan is ignored
            self._trt.dla_cores_loaded.append(max(0, self.DLA_core))
        return self._new("ICudaEngine", plan, self._logger)


def _plan_fault(plan: Plan | None, empty: bool, trt: Any) -> str | None:
    """Why a plan does not load here, or None if it does. plan: None if its bytes are broken."""
    if trt.scenario.refuses_plan is not None:
        return trt.scenario.refuses_plan
    if plan is None and empty:
        return "Error Code 3: API Usage Error (Cannot deserialize with an empty memory buffer.)"
    if plan is None:
        return (
            "Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG "
            "failed.Magic tag does not match)"
        )
    if plan.version != trt.__version__ and is_rtx(trt):
        return (
            "The engine header does not conform to the expected format for TensorRT-RTX. Ensure "
            "that the engine was created with the same version of TensorRT-RTX as the current "
            "runtime."
        )
    if plan.version != trt.__version__:
        return (
            "Error Code 6: API Usage Error (The engine plan file is not compatible with this "
            f"version of TensorRT, expecting library version {trt.__version__} got "
            f"{plan.version}, please rebuild.)"
        )
    if not trt.scenario.gpu:
        return (
            "Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient for "
            "CUDA runtime version)"
        )
    if trt.scenario.capability not in plan.targets:
        wanted = _dotted(trt.scenario.capability)
        found = ", ".join(map(_dotted, plan.targets))
        return (
            "Error Code 6: API Usage Error (The engine plan file is generated on an incompatible "
            f"device, expecting compute {wanted} got compute {found}, please rebuild.)"
        )
    if plan.dla is not None and plan.dla >= trt.scenario.dla_cores:
        return f"Error Code 3: API Usage Error (DLA core {plan.dla} does not exist)"
    return None


def _dotted(capability: str) -> str:
    """ "sm89" -> "8.9"."""
    return f"{capability[2:-1]}.{capability[-1]}"


class ICudaEngine:
    def _setup(self, plan: Plan, logger: Any) -> None:
        self._plan = plan
        self._logger = logger
        self._contexts: weakref.WeakSet[Any] = weakref.WeakSet()
        self._contexts_made = 0

    num_io_tensors = property(lambda self: len(self._plan.tensors))
    num_optimization_profiles = property(lambda self: max(1, len(self._plan.profiles)))
    device_memory_size = property(lambda self: self._trt.scenario.device_memory)
    device_memory_size_v2 = property(lambda self: self._trt.scenario.device_memory)

    def get_tensor_name(self, index: int) -> str | None:
        if not 0 <= index < len(self._plan.tensors):
            tell(self._logger, "ERROR", f"ICudaEngine::getIOTensorName: no tensor {index}")
            return None
        return self._plan.tensors[index].name

    def get_tensor_mode(self, name: str) -> Any:
        tensor = self._tensor(name)
        if tensor is None:
            return self._trt.TensorIOMode.NONE
        return self._trt.TensorIOMode.INPUT if tensor.is_input else self._trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        tensor = self._tensor(name)
        return getattr(self._trt.DataType, tensor.dtype if tensor else "FLOAT")

    def get_tensor_shape(self, name: str) -> Any:
        tensor = self._tensor(name)
        return self._new("Dims", tensor.shape if tensor else ())

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        tensor = self._tensor(name)
        if tensor is None or not tensor.is_input:
            return []
        profiles = self._plan.profiles
        if profiles and not 0 <= profile_index < len(profiles):
            tell(self._logger, "ERROR", f"ICudaEngine: no optimization profile {profile_index}")
            return []
        fixed = (tensor.shape,) * 3
        shapes = profiles[profile_index].get(name, fixed) if profiles else fixed
        return [self._new("Dims", shape) for shape in shapes]

    def create_runtime_config(self) -> Any:
        return self._new("IRuntimeConfig")

    def create_execution_context(self, strategy: Any = None, runtime_config: Any = None) -> Any:
        if runtime_config is not None:
            strategy = runtime_config._strategy
        lent = strategy is not None and strategy.name == "USER_MANAGED"
        return self._context(own_memory=not lent, config=runtime_config)

    def create_execution_context_without_device_memory(self) -> Any:
        return self._context(own_memory=False)

    def _context(self, *, own_memory: bool, config: Any = None) -> Any:
        errors = self._trt.scenario.context_errors
        for error in errors:
            tell(self._logger, "ERROR", error)
        return None if errors else self._new("IExecutionContext", self, own_memory, config)

    def _tensor(self, name: str) -> PlanTensor | None:
        for tensor in self._plan.tensors:
            if tensor.name == name:
                return tensor
        tell(
            self._logger,
            "ERROR",
            f"Error Code 3: API Usage Error (Given invalid tensor name: {name}. Get valid tensor "
            "names with getIOTensorName())",
        )
        return None
