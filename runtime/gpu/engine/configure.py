"""An engine request -> the configuration of the builder, and the types of the network's ends."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from edgeunet.bundle.engines import EngineChanges, EngineRequest
from edgeunet.errors import EngineError

from ..cuda import CudaDevice
from .toolkit import Toolkit

# Not cuBLAS and cuDNN: TensorRT would load these libraries and keep them in memory. Version 11
# has dropped them. `tactics` allows them if a layer needs them.
_TACTIC_SOURCES = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")


def make_config(
    toolkit: Toolkit,
    builder: Any,
    network: Any,
    request: EngineRequest,
    changes: EngineChanges,
) -> Any:
    """IBuilderConfig for a parsed network. Also sets the types of the network's inputs/outputs.

    Raises:
        EngineError: TensorRT gave the layers of the head, in `changes`, other names.
    """
    trt = toolkit.module
    config = builder.create_builder_config()
    # TF32 rounds factors to 10 bits of mantissa. Parity was measured in FP32.
    config.clear_flag(trt.BuilderFlag.TF32)
    if not changes.all_tactics:
        config.set_tactic_sources(_tactic_sources(trt))
    if flags := toolkit.precision_flags.get(request.precision, ()):
        for name in flags:
            config.set_flag(getattr(trt.BuilderFlag, name))
        _use_fp16_io(trt, network, besides="logits" if changes.fp32_layers else None)
        # The pairs of these layers are out of the graph, so this only keeps them from FP32.
        _constrain(trt, network, config, changes.fp16_layers, "HALF", "PREFER")
        found = _constrain(trt, network, config, changes.fp32_layers, "FLOAT", "OBEY")
        if missing := set(changes.fp32_layers) - found:
            raise EngineError(
                f"{toolkit.title} has no layer named {', '.join(sorted(missing))}: the head cannot "
                "run in FP32."
            )
    if toolkit.ahead_of_time:
        config.num_compute_capabilities = len(request.targets)
        for index, target in enumerate(request.targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index)
        # We give the contexts their memory: an engine that allocates at run time makes no CUDA
        # graph.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if toolkit.needs_profile_sharing:
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    if request.dla is not None:
        _fix_batch(network, request.max_batch)
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = request.dla
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    _add_profile(builder, config, network, request)
    return config


def has_more_tactics(trt: Any, builder: Any) -> bool:
    """Whether TensorRT has default sources of tactics that `make_config` leaves out."""
    return bool(builder.create_builder_config().get_tactic_sources() & ~_tactic_sources(trt))


def _tactic_sources(trt: Any) -> int:
    return sum(1 << int(getattr(trt.TacticSource, name)) for name in _TACTIC_SOURCES)


def _constrain(
    trt: Any, network: Any, config: Any, names: Collection[str], kind: str, strength: str
) -> set[str]:
    """Set the precision of layers; the names that were found. Weakly typed networks only.

    Args:
        kind: member of DataType. strength: "PREFER", or "OBEY" so that the build rather fails.
    """
    if not names:
        return set()
    config.set_flag(getattr(trt.BuilderFlag, f"{strength}_PRECISION_CONSTRAINTS"))
    dtype, found = getattr(trt.DataType, kind), set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name in names:
            found.add(layer.name)
            layer.precision = dtype
            # Not to FP16: TensorRT 8 quantizes only FP32.
            for output in range(layer.num_outputs if kind == "FLOAT" else 0):
                layer.set_output_type(output, dtype)
    return found


def list_fallback(trt: Any, network: Any, config: Any) -> tuple[str, ...]:
    """Names of the layers that the DLA cannot run, without constants.

    This checks each layer on its own. TensorRT may leave more to the GPU, for example if the DLA's
    part falls into too many pieces or is too large.
    """
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return tuple(
        layer.name
        for layer in layers
        if layer.type != trt.LayerType.CONSTANT and not config.can_run_on_DLA(layer)
    )


def _use_fp16_io(trt: Any, network: Any, *, besides: str | None) -> None:
    """Make FP32 inputs and outputs FP16: half the memory traffic, and no conversion layers.

    Args:
        besides: name of an output that stays.
    """
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    tensors += [network.get_output(index) for index in range(network.num_outputs)]
    for tensor in tensors:
        if tensor.dtype == trt.DataType.FLOAT and tensor.name != besides:
            tensor.dtype = trt.DataType.HALF
            tensor.allowed_formats = 1 << int(trt.TensorFormat.LINEAR)  # as our kernels read it


def _fix_batch(network: Any, batch: int) -> None:
    """Fix the batch size: a DLA takes no dynamic shapes, and `can_run_on_DLA` refuses them."""
    for index in range(network.num_inputs):
        value = network.get_input(index)
        value.shape = (batch, *tuple(value.shape)[1:])


def _add_profile(builder: Any, config: Any, network: Any, request: EngineRequest) -> None:
    """Add one optimization profile, tuned for the largest batch."""
    low, high = request.min_batch, request.max_batch
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        value = network.get_input(index)
        rest = tuple(value.shape)[1:]  # (C, H, W), fixed
        profile.set_shape(value.name, (low, *rest), (high, *rest), (high, *rest))
    config.add_optimization_profile(profile)


_MB = 1 << 20
# Fractions of the free memory. A discrete GPU also holds what is being timed: weights, activations
# and the kernels of all tactics. An integrated one shares its memory with the system.
_DISCRETE_FRACTION = 2
_INTEGRATED_FRACTION, _INTEGRATED_MAX = 4, 1024 * _MB


def workspace_bytes(
    device: CudaDevice, wanted_mb: int | None, report: Callable[[str], None]
) -> int:
    """Most scratch memory that one layer's tactic may use, in bytes.

    By default half of the free memory; on an integrated GPU a quarter, at most 1 GB.
    """
    if wanted_mb is not None:
        return wanted_mb * _MB
    free = device.free_memory()
    size = free // _DISCRETE_FRACTION
    if device.integrated:
        size = min(free // _INTEGRATED_FRACTION, _INTEGRATED_MAX)
    report(f"workspace {size // _MB} MB, of {free // _MB} MB of free memory")
    return size
