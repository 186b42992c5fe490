"""The runtime and the engines that it reads from plans."""

from __future__ import annotations

import json
import weakref
from typing import Any

from .plan import Plan, PlanTensor
from .values import global_logger, host_memory, is_rtx, need_gpu, stored, tell


class Runtime:
    def _setup(self, logger: Any) -> None:
        need_gpu(self, logger)
        self._logger = logger
        global_logger(self, logger)

    DLA_core = stored("DLA_core", lambda self: -1)
    engine_host_code_allowed = stored("engine_host_code_allowed", lambda self: False)
    max_threads = stored("max_threads", lambda self: 1)
    logger = property(lambda self: self._logger)
    num_DLA_cores = property(lambda self: self._trt.scenario.dla_cores)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        content = bytes(serialized_engine)
        plan = Plan.from_bytes(content)
        fault = _plan_fault(plan, not content, self._trt)
        if plan is None or fault is not None:
            tell(self._logger, "ERROR", f"IRuntime::deserializeCudaEngine: {fault}")
            return None
        if plan.dla is not None:  # the plan's own core counts for nothing
            self._trt.dla_cores_loaded.append(max(0, self.DLA_core))
        return self._new("ICudaEngine", plan, self._logger)


def _plan_fault(plan: Plan | None, empty: bool, trt: Any) -> str | None:
    """Why a plan does not load here; None for bytes that are none, or not all of one."""
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
        wanted = _told(trt.scenario.capability)
        found = ", ".join(map(_told, plan.targets))
        return (
            "Error Code 6: API Usage Error (The engine plan file is generated on an incompatible "
            f"device, expecting compute {wanted} got compute {found}, please rebuild.)"
        )
    if plan.dla is not None and plan.dla >= trt.scenario.dla_cores:
        return f"Error Code 3: API Usage Error (DLA core {plan.dla} does not exist)"
    return None


def _told(capability: str) -> str:
    """ "sm89" -> "8.9"."""
    return f"{capability[2:-1]}.{capability[-1]}"


class ICudaEngine:
    def _setup(self, plan: Plan, logger: Any) -> None:
        self._plan = plan
        self._logger = logger
        self._contexts: weakref.WeakSet[Any] = weakref.WeakSet()
        self._contexts_made = 0

    name = property(lambda self: "Unnamed Network 0")
    refittable = property(lambda self: False)
    has_implicit_batch_dimension = property(lambda self: False)
    num_aux_streams = property(lambda self: 0)
    num_io_tensors = property(lambda self: len(self._plan.tensors))
    num_layers = property(lambda self: len(self._plan.layers))
    num_optimization_profiles = property(lambda self: max(1, len(self._plan.profiles)))
    device_memory_size = property(lambda self: self._trt.scenario.device_memory)
    device_memory_size_v2 = property(lambda self: self._trt.scenario.device_memory)
    engine_capability = property(lambda self: self._trt.EngineCapability.STANDARD)
    hardware_compatibility_level = property(lambda self: self._trt.HardwareCompatibilityLevel.NONE)
    profiling_verbosity = property(
        lambda self: getattr(self._trt.ProfilingVerbosity, self._plan.verbosity)
    )

    def serialize(self) -> Any:
        return host_memory(self._trt, self._plan.to_bytes())

    def get_tensor_name(self, index: int) -> str | None:
        if not 0 <= index < len(self._plan.tensors):
            tell(self._logger, "ERROR", f"ICudaEngine::getIOTensorName: no tensor {index}")
            return None
        return self._plan.tensors[index].name

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self._plan.tensors):
            raise IndexError("Out of bounds")
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

    def get_tensor_location(self, name: str) -> Any:
        return self._trt.TensorLocation.DEVICE

    def get_tensor_format(self, name: str, profile_index: int = 0) -> Any:
        return self._trt.TensorFormat.LINEAR

    def get_tensor_bytes_per_component(self, name: str, profile_index: int = 0) -> int:
        return self.get_tensor_dtype(name).itemsize

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_device_memory_size_for_profile(self, profile_index: int) -> int:
        return self._trt.scenario.device_memory

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return self._trt.scenario.device_memory

    def create_engine_inspector(self) -> Any:
        return self._new("EngineInspector", self)

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


class EngineInspector:
    def _setup(self, engine: Any) -> None:
        self._engine = engine

    execution_context = stored("execution_context")

    def get_engine_information(self, format: Any) -> str:  # noqa: A002
        layers = [self._layer(index) for index in range(self._engine.num_layers)]
        if format.name == "ONELINE":
            return "Layers:\n" + "\n".join(map(str, layers))
        names = [tensor.name for tensor in self._engine._plan.tensors]
        return json.dumps({"Layers": layers, "Bindings": names})

    def get_layer_information(self, layer_index: int, format: Any) -> str:  # noqa: A002
        return json.dumps(self._layer(layer_index))

    def _layer(self, index: int) -> Any:
        """A name, or more of it where the engine was built to tell."""
        name = self._engine._plan.layers[index]
        return {"Name": name} if self._engine._plan.verbosity == "DETAILED" else name
