"""ONNX -> serialised plan. If the builder fails, the error holds its messages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from edgeunet.bundle.bundle import BundleFile
from edgeunet.bundle.engines import EngineChanges, EngineRequest
from edgeunet.bundle.graphs import check_graph
from edgeunet.errors import EngineError, UsageError

from .caches import attach_timing_cache, keep_timing_cache
from .configure import has_more_tactics, list_fallback, make_config
from .log import error_text, fresh_logger
from .progress import deferred_interrupt, heartbeat, progress_monitor
from .tactics import Retries, find_no_tactic
from .toolkit import Toolkit


@dataclass(frozen=True)
class Tuning:
    """For a build that times tactics on the card: scratch memory in bytes, and the timing cache."""

    workspace: int
    timing_cache: Path


@dataclass(frozen=True)
class Plan:
    """A serialised plan.

    fallback: names of the layers that the DLA leaves to the GPU. changes: against the request.
    """

    content: bytes
    fallback: tuple[str, ...]
    changes: EngineChanges


def compile_plan(
    toolkit: Toolkit,
    graph: BundleFile,
    request: EngineRequest,
    *,
    tuning: Tuning | None = None,
    fp32_head: bool = False,
    report: Callable[[str], None] = lambda step: None,
    progress: Callable[[float], None] = lambda done: None,
) -> Plan:
    """Parse a graph and build the engine that the request describes.

    If TensorRT has no tactic for a layer, the build is tried again with the changes of `Retries`.

    Args:
        graph: of the flavour that the toolkit wants.
        tuning: None for a toolkit that builds ahead of time.
        fp32_head: compute the head of an FP16 graph in FP32.
        report: gets messages, and a sign of life every few seconds if this version of TensorRT
            reports no progress.
        progress: gets the finished share, 0 to 1, of each attempt.

    Raises:
        EngineError: the parser or the builder failed; holds its messages.
        BundleError: the graph's file was changed. GraphError: see `check_graph`.
        UsageError: the machine has no such DLA core.
        MissingDependencyError: the head in FP32 takes onnx.
    """
    content = graph.read()
    check_graph(content, name=str(graph.path))
    retries = Retries(
        toolkit,
        request,
        graph.path,
        content,
        workspace=None if tuning is None else tuning.workspace,
        report=report,
        fp32_head=fp32_head,
    )
    with deferred_interrupt() as interrupted, ExitStack() as stack:
        if not toolkit.reports_progress:
            stack.enter_context(heartbeat(report, interrupted))
        try:
            job = _Job(toolkit, graph.path, request, tuning, interrupted, report, progress)
            plan = job.attempt(retries)
            while plan is None:
                plan = job.attempt(retries)
        finally:
            if interrupted.is_set():
                raise KeyboardInterrupt
    progress(1.0)  # TensorRT does not always report the last step
    return plan


@dataclass(frozen=True)
class _Job:
    """What all attempts at a plan have in common."""

    toolkit: Toolkit
    path: Path
    request: EngineRequest
    tuning: Tuning | None
    interrupted: Event
    report: Callable[[str], None]
    progress: Callable[[float], None]

    def attempt(self, retries: Retries) -> Plan | None:
        """Build once. None if `retries` knows what to change; its next attempt may succeed."""
        toolkit, trt = self.toolkit, self.toolkit.module
        log = fresh_logger(trt)
        builder = self._builder(log)
        network = builder.create_network(_network_flags(toolkit))
        parser = trt.OnnxParser(network, log)
        # Without a path, beside which the parser could look for weights.
        if not parser.parse(retries.graph):
            errors = [_parser_error(toolkit, parser.get_error(i)) for i in range(parser.num_errors)]
            reason = f"{'; '.join(errors)}." if errors else error_text(log)
            raise EngineError(f"{toolkit.title} cannot parse {self.path}: {reason}")
        config = make_config(toolkit, builder, network, self.request, retries.changes)
        monitor = self._monitor(config)
        if self.tuning is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self.tuning.workspace)
            attach_timing_cache(config, self.tuning.timing_cache, self.report)
        on_dla = self.request.dla is not None
        fallback = list_fallback(trt, network, config) if on_dla else ()
        plan = builder.build_serialized_network(network, config)
        if monitor is not None and monitor.interruption is not None:
            raise monitor.interruption
        if self.interrupted.is_set():
            raise KeyboardInterrupt
        failure = None if plan is not None else find_no_tactic(log)
        if plan is None and failure is None:
            raise EngineError(f"{toolkit.title} cannot build {self.path}: {error_text(log)}")
        if self.tuning is not None:  # also after a failure: the next attempt times less
            keep_timing_cache(config, self.tuning.timing_cache, self.report)
        if failure is not None:
            more_sources = not retries.changes.all_tactics and has_more_tactics(trt, builder)
            retries.after(failure, more_sources=more_sources)
            return None
        return Plan(bytes(plan), fallback, retries.changes)

    def _builder(self, log: Any) -> Any:
        title = self.toolkit.title
        try:
            builder = self.toolkit.module.Builder(log)
        except TypeError:  # the binding raises this if there is no builder
            raise EngineError(f"{title} cannot start its builder: {error_text(log)}") from None
        dla = self.request.dla
        if dla is not None and not 0 <= dla < builder.num_DLA_cores:
            raise _no_such_dla(self.toolkit, dla, builder.num_DLA_cores)
        return builder

    def _monitor(self, config: Any) -> Any:
        """The progress monitor of an attempt, if this version of TensorRT has one."""
        if not self.toolkit.reports_progress:
            return None
        monitor = progress_monitor(self.toolkit.module, self.progress, self.interrupted)
        config.progress_monitor = monitor
        return monitor


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
