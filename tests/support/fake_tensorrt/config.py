"""Builder configuration, optimization profiles and timing caches."""

from __future__ import annotations

import json
from typing import Any

from .values import host_memory, stored, tell

_CACHE = b"fake-timing-cache\n"
_PORTABLE = ("sm86", "sm89", "sm120")  # of TensorRT-RTX, where none was asked for


class IOptimizationProfile:
    def _setup(self) -> None:
        self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        shapes = (tuple(min), tuple(opt), tuple(max))
        if len({len(shape) for shape in shapes}) > 1:
            raise ValueError("Shape provided for opt is inconsistent with other shapes.")
        self._shapes[input] = shapes

    def __bool__(self) -> bool:
        ordered = (
            0 <= least <= middle <= most
            for shapes in self._shapes.values()
            for least, middle, most in zip(*shapes, strict=True)
        )
        return all(ordered)

    def _is_fixed(self) -> bool:
        return all(least == most for least, _, most in self._shapes.values())


class ITimingCache:
    """Names of the layers that were timed, for one version of TensorRT and one card."""

    def _setup(self, version: str, capability: str, layers: set[str]) -> None:
        self._version = version
        self._capability = capability
        self._layers = layers

    def serialize(self) -> Any:
        content = [self._version, self._capability, sorted(self._layers)]
        return host_memory(self._trt, _CACHE + json.dumps(content).encode())

    def _fits(self, ignore_mismatch: bool) -> bool:
        here = self._version == self._trt.__version__
        return here and (ignore_mismatch or self._capability == self._trt.scenario.capability)


class IBuilderConfig:
    def _setup(self, builder: Any) -> None:
        self._logger = builder._logger
        self._flags = 1 << int(self._trt.BuilderFlag.TF32)  # the only one that is on
        self._previews: set[str] = set()
        self._pools: dict[Any, int] = {}
        self._profiles: list[Any] = []
        self._timing_cache: Any = None
        self._targets: list[Any] = []

    DLA_core = stored("DLA_core", lambda self: -1)
    default_device_type = stored("default_device_type", lambda self: self._trt.DeviceType.GPU)
    progress_monitor = stored("progress_monitor")

    def set_flag(self, flag: Any) -> None:
        self._flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags &= ~(1 << int(flag))

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool] = int(pool_size)

    def get_memory_pool_limit(self, pool: Any) -> int:
        whole = self._trt.scenario.memory if pool.name == "WORKSPACE" else 0
        return self._pools.get(pool, whole)

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        self._tactic_sources = int(tactic_sources)
        return tactic_sources >> len(self._trt.TacticSource.__members__) == 0

    def get_tactic_sources(self) -> int:
        everything = (1 << len(self._trt.TacticSource.__members__)) - 1
        return self.__dict__.get("_tactic_sources", everything)

    def add_optimization_profile(self, profile: Any) -> int:
        if not profile:
            tell(
                self._logger,
                "ERROR",
                "IOptimizationProfile::isValid: Error Code 4: API Usage Error (Invalid optimization"
                " profiles, please ensure that they satisfy MIN<=OPT<=MAX.)",
            )
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    # TensorRT-RTX

    @property
    def num_compute_capabilities(self) -> int:
        return len(self._targets)

    @num_compute_capabilities.setter
    def num_compute_capabilities(self, value: int) -> None:
        none = self._trt.ComputeCapability.NONE
        self.__dict__["_targets"] = [*self._targets, *[none] * int(value)][: int(value)]

    def get_compute_capability(self, index: int) -> Any:
        known = self._has_target(index, "getComputeCapability")
        return self._targets[index] if known else self._trt.ComputeCapability.NONE

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
        known = self._has_target(index, "setComputeCapability")
        if known:
            self._targets[index] = compute_capability
        return known

    def _has_target(self, index: int, method: str) -> bool:
        known = 0 <= index < len(self._targets)
        if not known:
            tell(
                self._logger,
                "ERROR",
                f"IBuilderConfig::{method}: Error Code 3: API Usage Error (Parameter check failed, "
                "condition: index >= 0 && index < std::ssize(mConfig.computeCapabilities). Index "
                "of compute capability is not in a valid range.)",
            )
        return known

    def _targets_by_name(self) -> tuple[str, ...]:
        here = self._trt.scenario.capability
        names = (target.name.lower() for target in self._targets)
        return tuple(here if name == "current" else name for name in names) or _PORTABLE

    def can_run_on_DLA(self, layer: Any) -> bool:
        return self._dla_refusal(layer) is None

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        scenario, version = self._trt.scenario, self._trt.__version__
        content = bytes(serialized_timing_cache)
        if content:
            try:
                version, capability, layers = json.loads(content.removeprefix(_CACHE))
                return self._new("ITimingCache", version, capability, set(layers))
            except ValueError:
                tell(
                    self._logger,
                    "WARNING",
                    "Failed to deserialize timing cache. Returning an empty timing cache.",
                )
        return self._new("ITimingCache", version, scenario.capability, set())

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if not cache._fits(ignore_mismatch):
            tell(self._logger, "WARNING", "The timing cache is of another TensorRT or device.")
            return False
        self._timing_cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._timing_cache

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        (self._previews.add if enable else self._previews.discard)(feature.name)

    def _flag_names(self) -> tuple[str, ...]:
        kinds = self._trt.BuilderFlag.__members__
        flags = (name for name, flag in kinds.items() if self._flags >> int(flag) & 1)
        return (*flags, *sorted(self._previews))

    def _dla_refusal(self, layer: Any) -> str | None:
        """Why a layer does not run on the DLA."""
        scenario, network = self._trt.scenario, layer._network()
        if not network._strong and not {"FP16", "INT8"} & set(self._flag_names()):
            return f"DLA only supports FP16 and Int8 precision type. {layer._name} has neither."
        dynamic = any(-1 in tuple(tensor.shape) for tensor in network._inputs)
        if dynamic and not (self._profiles and all(each._is_fixed() for each in self._profiles)):
            return f"DLA Layer {layer._name} does not support dynamic shapes in any dimension."
        if not scenario.dla_cores or {layer._name, layer._operator} & scenario.dla_refuses:
            return f"{layer._name}: not supported by the DLA."
        return None
