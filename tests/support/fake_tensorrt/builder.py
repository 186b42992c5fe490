"""The builder: a network and a configuration in; a plan out, or None and messages in the log."""

from __future__ import annotations

from typing import Any

from .plan import Plan, PlanTensor
from .precisions import fail_without_tactics, head_of, precision_of
from .values import call, global_logger, host_memory, is_rtx, need_gpu, tell

_BUILD = "Building engine"
_TACTICS = "Tactic selection"


class Builder:
    def _setup(self, logger: Any) -> None:
        need_gpu(self, logger)
        self._logger = logger
        self._global = global_logger(self, logger)

    num_DLA_cores = property(lambda self: self._trt.scenario.dla_cores)

    def create_network(self, flags: int = 0) -> Any:
        return self._new("INetworkDefinition", self, int(flags))

    def create_builder_config(self) -> Any:
        return self._new("IBuilderConfig", self)

    def create_optimization_profile(self) -> Any:
        return self._new("IOptimizationProfile")

    def build_serialized_network(self, network: Any, config: Any, kernel_text: Any = None) -> Any:
        faults = _faults(network, config) or _dla_faults(network, config)
        for fault in faults:
            tell(self._logger, "ERROR", fault)
        if faults or not self._step_through(_monitor(config)):
            return None
        scenario = self._trt.scenario
        if scenario.build_raises is not None:
            raise scenario.build_raises
        for fault in scenario.build_errors:
            tell(self._global, "ERROR", fault)
        if scenario.build_errors or fail_without_tactics(network, config, self._global):
            return None
        if config._timing_cache is not None:
            config._timing_cache._layers.update(layer._name for layer in network._layers)
        return host_memory(self._trt, _plan(network, config).to_bytes())

    def _step_through(self, monitor: Any) -> bool:
        """Report nested phases as the real builder does. False if the monitor cancels the build."""
        scenario = self._trt.scenario
        _report(monitor, "phase_start", _BUILD, None, 2)
        _report(monitor, "phase_start", _TACTICS, _BUILD, scenario.build_steps)
        going = all(self._tactics(monitor, step) for step in range(scenario.build_steps))
        _report(monitor, "phase_finish", _TACTICS)
        going = going and all(_report(monitor, "step_complete", _BUILD, step) for step in range(2))
        _report(monitor, "phase_finish", _BUILD)
        if not going:
            tell(
                self._logger,
                "ERROR",
                "IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled (Build canceled by "
                "user)",
            )
        return going

    def _tactics(self, monitor: Any, step: int) -> bool:
        self._trt.scenario.before_step(step)
        return _report(monitor, "step_complete", _TACTICS, step)


def _monitor(config: Any) -> Any:
    return config._progress_monitor if "_progress_monitor" in config.__dict__ else None


def _report(monitor: Any, method: str, *arguments: Any) -> bool:
    """Call the monitor. True if the build may go on: it may not if the monitor raises."""
    return monitor is None or bool(call(monitor, method, *arguments))


def _faults(network: Any, config: Any) -> list[str]:
    """Why a build would fail before it begins."""
    step = "IBuilder::buildSerializedNetwork: "
    if not network._outputs:
        return [f"{step}Error Code 4: API Usage Error (Network must have at least one output.)"]
    flags = config._flag_names()
    if network._strong:
        for flag in ("FP16", "BF16", "INT8", "FP8"):
            if flag in flags:
                return [
                    f"{step}Error Code 3: API Usage Error (Parameter check failed, condition: "
                    f"!config.getFlag(BuilderFlag::k{flag}). )"
                ]
    if any(target.name == "NONE" for target in config._targets):
        return ["Unexpected exception bad optional access"]
    faults = _profile_faults(network, config)
    needed = network._trt.scenario.needs_workspace
    if config.get_memory_pool_limit(network._trt.MemoryPoolType.WORKSPACE) < needed:
        faults.append(
            "Error Code 10: Internal Error (Could not find any implementation for node "
            f"{network._layers[0]._name} due to insufficient workspace.)"
        )
    return [step + fault for fault in faults]


def _profile_faults(network: Any, config: Any) -> list[str]:
    dynamic = [tensor for tensor in network._inputs if -1 in tuple(tensor.shape)]
    if dynamic and not config._profiles:
        return [
            "Error Code 4: API Usage Error (Network has dynamic or shape inputs, but no "
            "optimization profile has been defined.)"
        ]
    for index, profile in enumerate(config._profiles):
        for tensor in dynamic:
            if tensor._name not in profile._shapes:
                return [
                    f"Error Code 4: API Usage Error (Dynamic input tensor {tensor._name} is "
                    f"missing dimensions in profile {index}.)"
                ]
        for tensor in network._inputs:
            shape = tuple(tensor.shape)
            for wanted in profile._shapes.get(tensor._name, ()):
                if len(wanted) != len(shape) or any(
                    size not in (-1, given) for size, given in zip(shape, wanted, strict=True)
                ):
                    return [
                        "Error Code 4: API Usage Error (Dimension mismatch for tensor "
                        f"{tensor._name} and profile {index}: {wanted}, but the tensor is {shape}.)"
                    ]
    return []


def _dla_faults(network: Any, config: Any) -> list[str]:
    """Why a build for a DLA would fail; warnings about layers that fall back to the GPU."""
    trt = network._trt
    if config.default_device_type != trt.DeviceType.DLA:
        return []
    if config.DLA_core >= trt.scenario.dla_cores:
        return [f"Error Code 3: API Usage Error (DLA core {config.DLA_core} does not exist)"]
    for layer in network._layers:
        refusal = config._dla_refusal(layer)
        if refusal and "GPU_FALLBACK" not in config._flag_names():
            return [
                refusal,
                f"Error Code 4: Internal Error (DLA validation failed for layer {layer._name}, "
                "and GPU fallback is not enabled.)",
            ]
        if refusal:
            tell(config._logger, "WARNING", refusal)
            tell(
                config._logger,
                "WARNING",
                f"Default DLA is enabled but layer {layer._name} is not supported on DLA, "
                "falling back to GPU.",
            )
    return []


def _plan(network: Any, config: Any) -> Plan:
    trt = network._trt
    on_dla = config.default_device_type == trt.DeviceType.DLA
    head = head_of(network)
    in_fp16 = head is not None and precision_of(network, config, head) == "HALF"
    return Plan(
        version=trt.__version__,
        card=trt.scenario.card,
        targets=config._targets_by_name() if is_rtx(trt) else (trt.scenario.capability,),
        dla=max(config.DLA_core, 0) if on_dla else None,
        tensors=tuple(
            PlanTensor(tensor._name, tensor._is_input, tensor._dtype, tensor._dims)
            for tensor in (*network._inputs, *network._outputs)
        ),
        profiles=tuple(dict(profile._shapes) for profile in config._profiles),
        flags=config._flag_names(),
        wrong_pixels=trt.scenario.wrong_in_fp16 if in_fp16 else 0.0,
        onnx=network._onnx,
    )
