"""A stand-in for NVIDIA's TensorRT that has the names of one version, and no other.

    trt = fake_tensorrt.make("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    trt.scenario.build_errors = OUT_OF_MEMORY      # what is to go wrong, see `Scenario`
    trt.enqueue = device.enqueue                   # (stream handle, work): who runs it, and when

What a version lacks raises AttributeError, to read or to set; a call that pybind11 would refuse
raises TypeError; what was recorded and has no behaviour here raises NotImplementedError. A plan
carries its graph, and a context runs it in ONNX Runtime, in the graph's own precision whatever the
flags, between raw addresses of the host.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from . import builder, config, context, engine, network, values
from .scenario import OUT_OF_MEMORY, ParserFault, Scenario
from .surface import build_module, read_surface, recorded_versions

__all__ = ["OUT_OF_MEMORY", "ParserFault", "Scenario", "make", "recorded_versions"]

_BEHAVIOUR = {
    kind.__name__: kind
    for kind in (
        builder.Builder,
        config.IBuilderConfig,
        config.IOptimizationProfile,
        config.ITimingCache,
        context.IExecutionContext,
        engine.EngineInspector,
        engine.ICudaEngine,
        engine.IRuntimeConfig,
        engine.Runtime,
        network.ILayer,
        network.INetworkDefinition,
        network.ITensor,
        network.OnnxParser,
        network.ParserError,
        values.Dims,
        values.IHostMemory,
        values.ILogger,
        values.IProgressMonitor,
        values.Logger,
    )
}
_FUNCTIONS = {"nptype": values.nptype, "volume": values.volume}


def make(version: str, scenario: Scenario | None = None) -> ModuleType:
    """Module to put in the place of `tensorrt`, of one of `recorded_versions()`."""
    module = build_module(read_surface(version), _BEHAVIOUR, _FUNCTIONS)
    module.scenario = scenario or Scenario()
    module.enqueue = _at_once
    module._first = None
    return module


def _at_once(stream: int, work: Callable[[], None]) -> None:
    work()
