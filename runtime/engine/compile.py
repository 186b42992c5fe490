"""ONNX -> serialised plan, with the builder's own words where it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeunet.errors import EngineError

from .progress import noted_interrupt, progress_monitor
from .toolkit import Toolkit

_MESSAGES = 4  # of the log's last errors, in an error


def compile_plan(
    toolkit: Toolkit,
    graph: Path,
    *,
    targets: Sequence[str],
    max_batch: int,
    progress: Callable[[float], None] = lambda done: None,
) -> bytes:
    """Parse a strongly typed graph and build it for the targets, for batches 1 to `max_batch`.

    Args:
        progress: told the share that is done, 0 to 1.

    Raises:
        EngineError: the parser or the builder refused; carries what they said.
    """
    with noted_interrupt() as interrupted:
        monitor = progress_monitor(toolkit.module, progress, interrupted)
        result = _attempt(toolkit.module, graph, targets, max_batch, monitor)
    if interrupted.is_set():
        raise KeyboardInterrupt
    if isinstance(result, _Refusal):
        raise EngineError(f"{toolkit.title} cannot {result.step} {graph}: {result.words}.")
    progress(1.0)  # the last step of all is not always told
    return result


@dataclass(frozen=True)
class _Refusal:
    """The step, "parse" or "build", that failed, and what was said of it."""

    step: str
    words: str


def _attempt(
    trt: Any,
    graph: Path,
    targets: Sequence[str],
    max_batch: int,
    monitor: Any,
) -> bytes | _Refusal:
    # Returns refusals: while a builder lives, TensorRT ignores the loggers of later ones, and an
    # error raised here would keep this frame, and so the builder, alive.
    log = _collecting_logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        faults = [_fault(parser.get_error(index)) for index in range(parser.num_errors)]
        return _Refusal("parse", "; ".join(faults))
    config = builder.create_builder_config()
    # FP32 is what parity was measured in; TF32 would round the factors to 10 bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index)
    _add_profile(builder, config, network, max_batch)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.interruption is not None:
        raise monitor.interruption
    if plan is None:
        return _Refusal("build", "; ".join(log.errors[-_MESSAGES:]) or "it gave no reason")
    return bytes(plan)


def _add_profile(builder: Any, config: Any, network: Any, max_batch: int) -> None:
    """One optimization profile: batch 1 to `max_batch`, tuned for the largest."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        value = network.get_input(index)
        rest = tuple(value.shape)[1:]  # (C, H, W), fixed
        profile.set_shape(value.name, (1, *rest), (max_batch, *rest), (max_batch, *rest))
    config.add_optimization_profile(profile)


def _fault(error: Any) -> str:
    """One error of the parser: where, and its words."""
    place = f"node {error.node_name()!r} ({error.node_operator()}): " if error.node() >= 0 else ""
    return f"{place}{error.code().name}, {error.desc()}"


def _collecting_logger(trt: Any) -> Any:
    """Logger that keeps the errors: a failed build returns None, and says why only there."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the module is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()
