"""A stand-in for TensorRT with exactly the names of one recorded version.

    trt = fake_tensorrt.make("10.3.0")                    # or "rtx-1.7.1", for TensorRT-RTX
    monkeypatch.setitem(sys.modules, trt.__name__, trt)
    trt.scenario.build_errors = OUT_OF_MEMORY      # what goes wrong, see `Scenario`
    trt.enqueue = device.enqueue                   # (stream handle, work): runs the work later
    trt.compute = compute                          # (plan, tensors): the engine inside

Reading or setting a name that the version lacks raises AttributeError. A call that pybind11 would
refuse raises TypeError. A recorded name without behaviour here raises NotImplementedError. A plan
holds its graph. A context runs the graph in ONNX Runtime, on raw addresses of the host and in the
graph's own precision, whatever the flags, unless another `compute` is set.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from . import builder, config, context, engine, network, runtime_config, values
from .scenario import OUT_OF_MEMORY, NoTactic, ParserFault, Scenario
from .surface import build_module, read_surface, recorded_versions

__all__ = ["OUT_OF_MEMORY", "NoTactic", "ParserFault", "Scenario", "make", "recorded_versions"]

_BEHAVIOUR = {
    kind.__name__: kind
    for kind in (
        builder.Builder,
        config.IBuilderConfig,
        config.IOptimizationProfile,
        config.ITimingCache,
        context.IExecutionContext,
        engine.ICudaEngine,
        engine.Runtime,
        network.ILayer,
        network.INetworkDefinition,
        network.ITensor,
        network.OnnxParser,
        network.ParserError,
        runtime_config.IRuntimeCache,
        runtime_config.IRuntimeConfig,
        values.Dims,
        values.IHostMemory,
        values.ILogger,
        values.IProgressMonitor,
        values.Logger,
    )
}


def make(version: str, scenario: Scenario | None = None) -> ModuleType:
    """Make the module of a version from `recorded_versions()`."""
    rtx = version.startswith("rtx-")
    name = "tensorrt_rtx_bindings" if rtx else "tensorrt"
    module = build_module(name, read_surface(version), _BEHAVIOUR)
    card = {"card": "NVIDIA GeForce RTX 4090", "capability": "sm89"} if rtx else {}
    module.scenario = scenario or Scenario(**card)
    module.enqueue = _at_once
    module.compute = context.compute_on_host
    module._first = None
    module.dla_cores_loaded = []  # of plans for a DLA, in order
    module.compiled = []  # what contexts of TensorRT-RTX compiled on the card, in order
    return module


def _at_once(stream: int, work: Callable[[], None]) -> None:
    work()
