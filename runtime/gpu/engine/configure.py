"""A request -> a builder's configuration, and what it asks of the parsed network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeunet.bundle.engines import EngineRequest

from ..cuda import CudaDevice
from .toolkit import Toolkit

# Without cuBLAS and cuDNN: libraries that TensorRT would load beside its own kernels, and hold in
# memory, on a Jetson the system's. They are gone from version 11.
_TACTIC_SOURCES = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")


def make_config(toolkit: Toolkit, builder: Any, network: Any, request: EngineRequest) -> Any:
    """IBuilderConfig for a parsed network, whose inputs and outputs are typed as the plan wants."""
    trt = toolkit.module
    config = builder.create_builder_config()
    # FP32 is what parity was measured in; TF32 would round the factors to 10 bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    sources = (getattr(trt.TacticSource, name) for name in _TACTIC_SOURCES)
    config.set_tactic_sources(sum(1 << int(source) for source in sources))
    if flags := toolkit.precision_flags.get(request.precision, ()):
        for name in flags:
            config.set_flag(getattr(trt.BuilderFlag, name))
        _halve_ends(trt, network)
    if toolkit.ahead_of_time:
        config.num_compute_capabilities = len(request.targets)
        for index, target in enumerate(request.targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index)
        # Memory is what the contexts are lent: what allocates as it runs is no CUDA graph.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if toolkit.shares_profiles_if_asked:
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    if request.dla is not None:
        _fix_batch(network, request.max_batch)
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = request.dla
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    _add_profile(builder, config, network, request)
    return config


def list_fallback(trt: Any, network: Any, config: Any) -> tuple[str, ...]:
    """Layers that the DLA cannot run, constants aside.

    TensorRT judges each by itself here. It may leave more to the GPU: too many islands, too large.
    """
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return tuple(
        layer.name
        for layer in layers
        if layer.type != trt.LayerType.CONSTANT and not config.can_run_on_DLA(layer)
    )


def _halve_ends(trt: Any, network: Any) -> None:
    """FP16 for what enters and leaves in FP32: half the memory to move, and no layer to convert."""
    for tensor in _ends(network):
        if tensor.dtype == trt.DataType.FLOAT:
            tensor.dtype = trt.DataType.HALF
            tensor.allowed_formats = 1 << int(trt.TensorFormat.LINEAR)  # as the kernels have it


def _ends(network: Any) -> list[Any]:
    """Inputs and outputs."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    return inputs + [network.get_output(index) for index in range(network.num_outputs)]


def _fix_batch(network: Any, batch: int) -> None:
    """A DLA takes no dynamic shapes, and `can_run_on_DLA` refuses layers that have one."""
    for index in range(network.num_inputs):
        value = network.get_input(index)
        value.shape = (batch, *tuple(value.shape)[1:])


def _add_profile(builder: Any, config: Any, network: Any, request: EngineRequest) -> None:
    """One optimization profile, tuned for the largest batch."""
    low, high = request.min_batch, request.max_batch
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        value = network.get_input(index)
        rest = tuple(value.shape)[1:]  # (C, H, W), fixed
        profile.set_shape(value.name, (low, *rest), (high, *rest), (high, *rest))
    config.add_optimization_profile(profile)


_MB = 1 << 20
# Of free memory. An integrated GPU shares it with the system, which fails where it runs out; a
# discrete one also holds what is timed: weights, activations, the kernels of all tactics.
_DISCRETE_SHARE = 2
_INTEGRATED_SHARE, _INTEGRATED_MOST = 4, 1024 * _MB


def workspace_bytes(
    device: CudaDevice, wanted_mb: int | None, report: Callable[[str], None]
) -> int:
    """Most that the tactic of one layer may use: MB as asked, or a share of the free memory.

    A half of it; a quarter, at most 1 GB, where GPU and system share their memory.
    """
    if wanted_mb is not None:
        return wanted_mb * _MB
    free = device.free_memory()
    size = free // _DISCRETE_SHARE
    if device.integrated:
        size = min(free // _INTEGRATED_SHARE, _INTEGRATED_MOST)
    report(f"workspace {size // _MB} MB, of {free // _MB} MB of free memory")
    return size
