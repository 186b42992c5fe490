"""Build an engine of a bundle: BUNDLE/engines/NAME.engine and its sidecar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgeunet.bundle.bundle import Bundle, BundleFile, open_bundle
from edgeunet.bundle.engines import EngineRequest, engines_folder
from edgeunet.bundle.manifest import PARTS, Exported, Part, Precision
from edgeunet.errors import BundleError, UsageError

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
    fp32_head: bool = False,
    trust_engines: bool = False,
    report: Callable[[str], None] = lambda step: None,
    progress: Callable[[float], None] = lambda done: None,
) -> BuiltEngine:
    """Build an engine of a bundle into its `engines/`, or keep an existing one that fits.

    If several processes ask for the same engine, one builds it and the others wait for it. Files
    are written atomically: a process that dies leaves no broken engine.

    Args:
        runtime: "tensorrt" or "rtx". precision: default: the bundle's own.
        part: part of a gated bundle's graph. None: the whole graph.
        targets: compute capabilities to build ahead of time for, such as "sm89". None: the
            runtime's default.
        device: index of the GPU that a plan is tuned on, if the runtime tunes.
        dla: core of the Deep Learning Accelerator. The GPU runs what the DLA cannot. Such an
            engine only takes the largest batch. None: GPU only.
        workspace_mb: scratch memory for a layer. None: a share of the free memory. An existing
            engine is kept whatever its workspace was.
        here: build for GPU `device` even if the runtime builds ahead of time. An existing engine
            for several targets fits if the GPU is one of them.
        force: build even if an engine fits.
        fp32_head: build even if an engine fits, with the head, see `head_nodes`, in FP32.
        trust_engines: keep an engine that fits although another machine built it. Engines are code.
        report: gets a message for each step. progress: gets the finished share, 0 to 1.

    Raises:
        BundleError: the bundle is missing or damaged.
        UnknownNameError: unknown runtime or target.
        MissingDependencyError: the runtime is not installed, or onnx if needed.
        UsageError: the bundle or the engines lack the precision, the bundle lacks the part, or the
            runtime does not take an option.
        BackendError: there is no such GPU, or the runtime does not support it.
        EngineError: TensorRT rejected the graph, or `engines/` is a link or cannot be written.
    """
    toolkit = load_toolkit(runtime)
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    opened = opened if precision is None else opened.at(precision)
    if toolkit.ahead_of_time:
        elsewhere = 0 if here else device
        _refuse_tuning(toolkit, device=elsewhere, dla=dla, workspace_mb=workspace_mb)
    elif targets is not None:
        raise UsageError(
            f"{toolkit.title} tunes an engine on the GPU that runs it. Omit --targets, or pass "
            "--runtime rtx."
        )
    graph, request = _request(toolkit, opened, part, targets, dla)
    keep = partial(
        keep_or_build,
        engines_folder(opened),
        graph=graph,
        force=_why_forced(force, fp32_head),
        trust=trust_engines,
        report=report,
    )

    def make(request: EngineRequest, tuning: Tuning | None = None) -> Plan:
        _report_notes(toolkit, request, report)
        return compile_plan(
            toolkit,
            graph,
            request,
            tuning=tuning,
            fp32_head=fp32_head,
            report=report,
            progress=progress,
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
    """Parts of a bundle that need an engine each: (None,) is the whole graph.

    A gated bundle always runs in parts: its whole graph would compute masks without the gate.

    Raises:
        BundleError: a gated bundle that lacks a part. UsageError: BF16. Also raises as
        `load_toolkit`.
    """
    flavour = load_toolkit(runtime).flavours[_of_engines(precision or bundle.manifest.precision)]
    if bundle.manifest.gate is None:
        return (None,)
    missing = [part for part in PARTS if bundle.part_path(flavour, part) is None]
    if missing:
        raise BundleError(
            f"{bundle.root} has a gate, but no {' and no '.join(missing)} of its {flavour} graph, "
            "and its whole graph would run without the gate. Export the bundle again."
        )
    return PARTS


def _request(
    toolkit: Toolkit,
    bundle: Bundle,
    part: Part | None,
    targets: Sequence[str] | None,
    dla: int | None,
) -> tuple[BundleFile, EngineRequest]:
    """The graph and the request, which does not name a GPU yet."""
    manifest = bundle.manifest
    precision = _of_engines(manifest.precision)
    if dla is not None and precision == "fp32":
        raise UsageError(
            "the DLA computes in FP16 and INT8, not in FP32: pass --precision fp16, or omit --dla."
        )
    flavour = toolkit.flavours[precision]
    path: Path | None = bundle.model_path(flavour)
    if part is not None:
        path = bundle.part_path(flavour, part)
    if path is None:
        raise UsageError(
            f"{bundle.root} holds no {part} of its {flavour} graph: only a gated bundle has parts. "
            "Build the whole graph."
        )
    graph = bundle.file(path)
    request = EngineRequest(
        runtime=toolkit.name,
        version=toolkit.version,
        gpu=None,
        targets=toolkit.select_targets(targets),
        precision=precision,
        flavour=flavour,
        part=part,
        max_batch=manifest.max_batch,
        dla=dla,
        onnx_sha256=graph.sha256,
    )
    return graph, request


def _of_engines(precision: Precision) -> Exported:
    """A precision that engines have; UsageError if they do not."""
    if precision == "bf16":
        raise UsageError(
            "engines compute in FP32, FP16 and INT8, not in BF16: pass --precision fp16."
        )
    return precision


def _why_forced(force: bool, fp32_head: bool) -> str | None:
    if fp32_head:
        return "its head is to run in FP32"
    return "--force was given" if force else None


def _refuse_tuning(
    toolkit: Toolkit, *, device: int, dla: int | None, workspace_mb: int | None
) -> None:
    """Raise UsageError for an option that needs a GPU to tune on."""
    if device or dla is not None or workspace_mb is not None:
        raise UsageError(
            f"{toolkit.title} builds ahead of time, without a GPU: --device, --dla and --workspace "
            "are for --runtime tensorrt."
        )


def _report_notes(toolkit: Toolkit, request: EngineRequest, report: Callable[[str], None]) -> None:
    """Report what users should know about the precision and the DLA."""
    if request.precision in toolkit.notes:
        report(toolkit.notes[request.precision])
    if request.dla is not None:
        report(f"the DLA takes no dynamic shapes: only batch {request.max_batch}")
        if request.precision in toolkit.dla_notes:
            report(toolkit.dla_notes[request.precision])
