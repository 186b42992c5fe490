"""ONNX -> serialised plan. If the builder fails, the error holds its messages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeunet.bundle.bundle import BundleFile
from edgeunet.bundle.engines import EngineRequest
from edgeunet.bundle.graphs import check_graph
from edgeunet.errors import EngineError, UsageError

from .caches import attach_timing_cache, keep_timing_cache
from .configure import list_fallback, make_config
from .log import error_text, fresh_logger
from .progress import deferred_interrupt, heartbeat, progress_monitor
from .toolkit import Toolkit


@dataclass(frozen=True)
class Tuning:
    """For a build that times tactics on the card: scratch memory in bytes, and the timing cache."""

    workspace: int
    timing_cache: Path


@dataclass(frozen=True)
class Plan:
    """A serialised plan. fallback: names of the layers that the DLA leaves to the GPU."""

    content: bytes
    fallback: tuple[str, ...]


def compile_plan(
    toolkit: Toolkit,
    graph: BundleFile,
    request: EngineRequest,
    *,
    tuning: Tuning | None = None,
    report: Callable[[str], None] = lambda step: None,
    progress: Callable[[float], None] = lambda done: None,
) -> Plan:
    """Parse a graph and build the engine that the request describes.

    Args:
        graph: of the flavour that the toolkit wants.
        tuning: None for a toolkit that builds ahead of time.
        report: gets messages, and a sign of life every few seconds if this version of TensorRT
            reports no progress.
        progress: gets the finished share, 0 to 1.

    Raises:
        EngineError: the parser or the builder failed; holds its messages.
        BundleError: the graph's file was changed. GraphError: see `check_graph`.
        UsageError: the machine has no such DLA core.
    """
    with deferred_interrupt() as interrupted, ExitStack() as stack:
        monitor = None
        if toolkit.reports_progress:
            monitor = progress_monitor(toolkit.module, progress, interrupted)
        else:
            stack.enter_context(heartbeat(report, interrupted))
        try:
            plan = _build(toolkit, graph, request, tuning, monitor, report)
        finally:
            if interrupted.is_set():
                raise KeyboardInterrupt
    progress(1.0)  # TensorRT does not always report the last step
    return plan


def _build(
    toolkit: Toolkit,
    graph: BundleFile,
    request: EngineRequest,
    tuning: Tuning | None,
    monitor: Any,
    report: Callable[[str], None],
) -> Plan:
    trt = toolkit.module
    log = fresh_logger(trt)
    try:
        builder = trt.Builder(log)
    except TypeError:  # the binding raises this if there is no builder
        raise EngineError(f"{toolkit.title} cannot start its builder: {error_text(log)}") from None
    if request.dla is not None and not 0 <= request.dla < builder.num_DLA_cores:
        raise _no_such_dla(toolkit, request.dla, builder.num_DLA_cores)
    network = builder.create_network(_network_flags(toolkit))
    parser = trt.OnnxParser(network, log)
    content = graph.read()
    check_graph(content, name=str(graph.path))
    if not parser.parse(content):  # without a path, beside which it could look for weights
        errors = [_parser_error(toolkit, parser.get_error(i)) for i in range(parser.num_errors)]
        reason = f"{'; '.join(errors)}." if errors else error_text(log)
        raise EngineError(f"{toolkit.title} cannot parse {graph.path}: {reason}")
    config = make_config(toolkit, builder, network, request)
    if tuning is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, tuning.workspace)
        attach_timing_cache(config, tuning.timing_cache, report)
    if monitor is not None:
        config.progress_monitor = monitor
    fallback = () if request.dla is None else list_fallback(trt, network, config)
    plan = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.interruption is not None:
        raise monitor.interruption
    if plan is None:
        raise EngineError(f"{toolkit.title} cannot build {graph.path}: {error_text(log)}")
    if tuning is not None:
        keep_timing_cache(config, tuning.timing_cache, report)
    return Plan(bytes(plan), fallback)


def _network_flags(toolkit: Toolkit) -> int:
    flags = toolkit.module.NetworkDefinitionCreationFlag
    return 0 if toolkit.network_flag is None else 1 << int(getattr(flags, toolkit.network_flag))


def _no_such_dla(toolkit: Toolkit, wanted: int, cores: int) -> UsageError:
    known = f"the DLA cores 0 to {cores - 1}" if cores > 1 else f"{cores or 'no'} DLA core"
    return UsageError(
        f"there is no DLA core {wanted}: {toolkit.title} {toolkit.version} finds {known} on this "
        "machine (num_DLA_cores). Choose an existing core, or omit --dla."
    )


def _parser_error(toolkit: Toolkit, error: Any) -> str:
    """One error of the parser: node, code and description."""
    node = ""
    if error.node() >= 0:
        node = f"node {error.node()}: "
        if toolkit.reports_progress:  # the same versions name the node
            node = f"node {error.node_name()!r} ({error.node_operator()}): "
    code = str(error.code()).rpartition(".")[2]  # before 10.16, ErrorCode hides `name`
    return f"{node}{code}, {error.desc()}"
