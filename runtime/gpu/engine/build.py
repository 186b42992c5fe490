"""A bundle -> BUNDLE/engines/NAME.engine and its sidecar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.engines import ENGINES_DIR, EngineRequest
from edgeunet.bundle.manifest import PARTS, Part, Precision
from edgeunet.errors import UsageError

from ..cuda import CudaDevice
from .caches import timing_cache_path
from .configure import workspace_bytes
from .keep import BuiltEngine, keep_or_build
from .log import objects_freed
from .plan import Plan, Tuning, compile_plan
from .toolkit import Toolkit, load_toolkit


def build_bundle_engine(
    bundle: str | Path | Bundle,
    *,
    runtime: str = "tensorrt",
    precision: Precision | None = None,
    part: Part | None = None,
    targets: Sequence[str] | None = None,
    device: int = 0,
    dla: int | None = None,
    workspace_mb: int | None = None,
    here: bool = False,
    force: bool = False,
    report: Callable[[str], None] = lambda step: None,
    progress: Callable[[float], None] = lambda done: None,
) -> BuiltEngine:
    """Build an engine of a bundle into its `engines/`, or keep the one that is there and fits.

    Of several processes that ask for one engine, one builds it, and the others wait and keep it.
    A process that dies leaves nothing that passes for whole.

    Args:
        runtime: kind of TensorRT. precision: the bundle's own for None.
        part: of a gated bundle's graph, None for the whole.
        targets: compute capabilities to build ahead of time for, such as "sm89"; the runtime's
            default for None. device: index of the GPU that any other plan is tuned on.
        here: to be run on GPU `device`, also with a runtime that builds ahead of time: its own
            capability is the target, and an engine fits that was built for that among others.
        dla: core of the Deep Learning Accelerator, for what it can run; None for the GPU. Such a
            plan takes no batch but the largest.
        workspace_mb: scratch memory of a layer; a share of what is free for None. An engine that
            fits is kept, whatever it was built with.
        force: build even where an engine fits. report: told each step. progress: the share done.

    Raises:
        BundleError: no bundle, or a damaged one. UnknownNameError: no such runtime or target.
        MissingDependencyError: the runtime or PyCUDA is not installed.
        UsageError: the bundle does not hold precision or part, or an option is not for the runtime.
        BackendError: a GPU is needed, and there is none of that index, or the runtime has no
            engines for it.
        EngineError: the graph was refused, or `engines/` cannot be written.
    """
    toolkit = load_toolkit(runtime)
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    opened = opened if precision is None else opened.at(precision)
    if toolkit.ahead_of_time:
        elsewhere = 0 if here else device
        _refuse_tuning(toolkit, device=elsewhere, dla=dla, workspace_mb=workspace_mb)
    elif targets is not None:
        raise UsageError(
            f"{toolkit.title} tunes an engine on the card that it is for: --targets is for "
            "--runtime rtx."
        )
    graph, request = _request(toolkit, opened, part, targets, dla)
    keep = partial(
        keep_or_build, opened.root / ENGINES_DIR, graph=graph, force=force, report=report
    )

    def make(request: EngineRequest, tuning: Tuning | None = None) -> Plan:
        _remark(toolkit, request, report)
        return compile_plan(
            toolkit, graph, request, tuning=tuning, report=report, progress=progress
        )

    if toolkit.ahead_of_time and not here:
        return keep(request, make=partial(make, request))
    with CudaDevice(device) as gpu:
        toolkit.check_card(gpu.name, gpu.capability)
        tuned = not toolkit.ahead_of_time
        name = gpu.name if tuned else None
        request = replace(request, gpu=name, targets=(gpu.capability,))

        def make_here() -> Plan:
            tuning = None
            if tuned:
                workspace = workspace_bytes(gpu, workspace_mb, report)
                tuning = Tuning(workspace, timing_cache_path(request))
            with gpu.current("building an engine"), objects_freed():
                return make(request, tuning)

        return keep(request, make=make_here, among_others=not tuned)


def engine_parts(
    bundle: Bundle, *, runtime: str, precision: Precision | None = None
) -> tuple[Part | None, ...]:
    """Engines that running a bundle takes: two for a graph that comes in parts, else the whole.

    Raises as `build_bundle_engine`.
    """
    flavour = load_toolkit(runtime).flavours[precision or bundle.manifest.precision]
    return (None,) if bundle.part_path(flavour, "encoder") is None else PARTS


def _request(
    toolkit: Toolkit,
    bundle: Bundle,
    part: Part | None,
    targets: Sequence[str] | None,
    dla: int | None,
) -> tuple[Path, EngineRequest]:
    """Graph, and what is asked of it; its card is not known yet."""
    manifest = bundle.manifest
    if dla is not None and manifest.precision == "fp32":
        raise UsageError(
            "the DLA computes in FP16 and INT8, not in FP32: pass --precision fp16, or leave --dla "
            "out."
        )
    flavour = toolkit.flavours[manifest.precision]
    graph: Path | None = bundle.model_path(flavour)
    if part is not None:
        graph = bundle.part_path(flavour, part)
    if graph is None:
        raise UsageError(
            f"{bundle.root} holds no {part} of its {flavour} graph: only a gated bundle comes in "
            "parts. Build the whole graph."
        )
    request = EngineRequest(
        runtime=toolkit.name,
        version=toolkit.version,
        gpu=None,
        targets=toolkit.select_targets(targets),
        precision=manifest.precision,
        flavour=flavour,
        part=part,
        max_batch=manifest.max_batch,
        dla=dla,
        onnx_sha256=manifest.files[graph.name],
    )
    return graph, request


def _refuse_tuning(
    toolkit: Toolkit, *, device: int, dla: int | None, workspace_mb: int | None
) -> None:
    """UsageError for an option of a card that is there."""
    if device or dla is not None or workspace_mb is not None:
        raise UsageError(
            f"{toolkit.title} builds ahead of time, for any card: --device, --dla and --workspace "
            "are for --runtime tensorrt."
        )


def _remark(toolkit: Toolkit, request: EngineRequest, report: Callable[[str], None]) -> None:
    """Say what to know of the precision, and of the DLA."""
    if request.precision in toolkit.remarks:
        report(toolkit.remarks[request.precision])
    if request.dla is not None:
        report(f"the DLA takes no dynamic shapes: batch {request.max_batch} alone")
        if request.precision in toolkit.dla_remarks:
            report(toolkit.dla_remarks[request.precision])
