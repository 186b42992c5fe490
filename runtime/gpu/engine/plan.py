"""ONNX -> serialised plan, with the builder's own words where it refuses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeunet.bundle.engines import EngineRequest
from edgeunet.errors import EngineError, UsageError

from .caches import attach_timing_cache, keep_timing_cache
from .configure import list_fallback, make_config
from .log import last_words, listen
from .progress import heartbeat, noted_interrupt, progress_monitor
from .toolkit import Toolkit


@dataclass(frozen=True)
class Tuning:
    """What a build may use that times tactics on the card: memory, in bytes, and earlier times."""

    workspace: int
    timing_cache: Path


@dataclass(frozen=True)
class Plan:
    """A serialised plan; fallback: layers that the DLA does not run."""

    content: bytes
    fallback: tuple[str, ...]


def compile_plan(
    toolkit: Toolkit,
    graph: Path,
    request: EngineRequest,
    *,
    tuning: Tuning | None = None,
    report: Callable[[str], None] = lambda step: None,
    progress: Callable[[float], None] = lambda done: None,
) -> Plan:
    """Parse a graph of the flavour that the toolkit wants, and build it as the request says.

    Args:
        tuning: None for a toolkit that builds ahead of time.
        report: told what is worth knowing. progress: told the share that is done, 0 to 1, where
            this version tells it; `report` is told every few seconds where not.

    Raises:
        EngineError: the parser or the builder refused; carries what they said.
        UsageError: the machine has no such DLA core.
    """
    with noted_interrupt() as interrupted, ExitStack() as stack:
        monitor = None
        if toolkit.tells:
            monitor = progress_monitor(toolkit.module, progress, interrupted)
        else:
            stack.enter_context(heartbeat(report, interrupted))
        try:
            plan = _attempt(toolkit, graph, request, tuning, monitor, report)
        finally:
            if interrupted.is_set():
                raise KeyboardInterrupt
    progress(1.0)  # the last step of all is not always told
    return plan


def _attempt(
    toolkit: Toolkit,
    graph: Path,
    request: EngineRequest,
    tuning: Tuning | None,
    monitor: Any,
    report: Callable[[str], None],
) -> Plan:
    trt = toolkit.module
    log = listen(trt)
    try:
        builder = trt.Builder(log)
    except TypeError:  # how the binding says that there is none
        raise EngineError(f"{toolkit.title} cannot start its builder: {last_words(log)}") from None
    if request.dla is not None and not 0 <= request.dla < builder.num_DLA_cores:
        raise _no_such_dla(toolkit, request.dla, builder.num_DLA_cores)
    network = builder.create_network(_network_flags(toolkit))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        faults = [_fault(toolkit, parser.get_error(index)) for index in range(parser.num_errors)]
        words = f"{'; '.join(faults)}." if faults else last_words(log)
        raise EngineError(f"{toolkit.title} cannot parse {graph}: {words}")
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
        raise EngineError(f"{toolkit.title} cannot build {graph}: {last_words(log)}")
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
        "machine (num_DLA_cores). Name one that is there, or leave --dla out."
    )


def _fault(toolkit: Toolkit, error: Any) -> str:
    """One error of the parser: where, and its words."""
    place = ""
    if error.node() >= 0:
        place = f"node {error.node()}: "
        if toolkit.tells:
            place = f"node {error.node_name()!r} ({error.node_operator()}): "
    code = str(error.code()).rpartition(".")[2]  # before 10.16, ErrorCode hides `name`
    return f"{place}{code}, {error.desc()}"
