"""How contexts run, and the kernels that TensorRT-RTX compiles for them on the card."""

from __future__ import annotations

import json
from typing import Any

from .values import host_memory, stored

_CACHE = b"fake-runtime-cache\n"


class IRuntimeConfig:
    def _setup(self) -> None:
        self._strategy = self._trt.ExecutionContextAllocationStrategy.STATIC
        self._cache: Any = None

    dynamic_shapes_kernel_specialization_strategy = stored(
        "dynamic_shapes_kernel_specialization_strategy",
        lambda self: self._trt.DynamicShapesKernelSpecializationStrategy.LAZY,
    )

    def set_execution_context_allocation_strategy(self, strategy: Any = None) -> None:
        self._strategy = strategy or self._trt.ExecutionContextAllocationStrategy.STATIC

    def create_runtime_cache(self) -> Any:
        return self._new("IRuntimeCache")

    def set_runtime_cache(self, cache: Any = None) -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> Any:
        return self._cache


class IRuntimeCache:
    """Names of compiled kernels, for one version of TensorRT-RTX and one card."""

    def _setup(self) -> None:
        self._kernels: set[str] = set()

    def serialize(self) -> Any:
        content = [self._trt.__version__, self._trt.scenario.card, sorted(self._kernels)]
        return host_memory(self._trt, _CACHE + json.dumps(content).encode())

    def deserialize(self, blob: Any) -> bool:
        try:
            version, card, kernels = json.loads(bytes(blob).removeprefix(_CACHE))
        except ValueError:
            return False
        fits = (version, card) == (self._trt.__version__, self._trt.scenario.card)
        if fits:
            self._kernels |= set(kernels)
        return bool(fits)

    def reset(self) -> bool:
        self._kernels = set()
        return True
