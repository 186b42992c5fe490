"""A graph -> BUNDLE/engines/NAME.engine and its sidecar, built once and kept while it fits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from filelock import FileLock, Timeout

from edgeunet.errors import EngineError
from edgeunet.files import sha256, write_bytes, write_json
from edgeunet.manifest import Precision
from edgeunet.schema import encode

from ..bundle import open_bundle
from ..engines import ENGINES_DIR, EngineCard, EngineRequest, card_path, read_card
from .compile import compile_plan
from .toolkit import Toolkit, load_toolkit


@dataclass(frozen=True)
class BuiltEngine:
    """A plan that stands, and whether it had to be built; `reason` says why."""

    path: Path
    card: EngineCard
    built: bool
    reason: str


def build_bundle_engine(
    bundle: str | Path,
    *,
    runtime: str = "rtx",
    precision: Precision | None = None,
    targets: Sequence[str] | None = None,
    force: bool = False,
    report: Callable[[str], None] = lambda step: None,
    progress: Callable[[float], None] = lambda done: None,
) -> BuiltEngine:
    """Build an engine of a bundle into its `engines/`, or keep the one that is there and fits.

    Args:
        runtime: kind of TensorRT. precision: the bundle's own for None.
        targets: compute capabilities to build for, such as "sm89"; the runtime's default for None.
        force: build even where an engine fits. report: told each step. progress: the share done.

    Raises:
        BundleError: no bundle, or a damaged one. UnknownNameError: no such runtime or target.
        MissingDependencyError: the runtime is not installed.
        UsageError: the bundle does not hold the precision.
        EngineError: the graph was refused, or `engines/` cannot be written.
    """
    toolkit = load_toolkit(runtime)
    chosen = toolkit.select_targets(targets)
    opened = open_bundle(bundle)
    wanted = precision or opened.manifest.precision
    graph = opened.model_path(toolkit.flavours[wanted])
    if wanted in toolkit.remarks:
        report(toolkit.remarks[wanted])
    return build_engine(
        graph,
        opened.root / ENGINES_DIR,
        toolkit=toolkit,
        precision=wanted,
        targets=chosen,
        max_batch=opened.manifest.max_batch,
        force=force,
        report=report,
        progress=progress,
    )


def build_engine(
    graph: Path,
    folder: Path,
    *,
    toolkit: Toolkit,
    precision: Precision,
    targets: tuple[str, ...],
    max_batch: int,
    force: bool = False,
    report: Callable[[str], None] = lambda step: None,
    progress: Callable[[float], None] = lambda done: None,
) -> BuiltEngine:
    """Build a graph of the flavour that the toolkit wants for the precision; plan into `folder`.

    Of several processes that ask for one engine, one builds it, and the others wait and keep it.
    A process that dies leaves nothing that passes for whole.

    Raises:
        EngineError: no such graph, or one that was refused, or `folder` cannot be written.
    """
    if not graph.is_file():
        raise EngineError(f"{graph} is not a file; an ONNX graph was wanted.")
    request = EngineRequest(
        runtime=toolkit.name,
        version=toolkit.version,
        targets=targets,
        precision=precision,
        flavour=toolkit.flavours[precision],
        max_batch=max_batch,
        onnx_sha256=sha256(graph),
    )
    plan = folder / request.file_name
    card, reason = _standing(plan, request)
    if card is not None and not force:
        return BuiltEngine(plan, card, built=False, reason=reason)
    try:
        folder.mkdir(exist_ok=True)
        with _locked(folder / f".{plan.name}.lock", report):
            card, reason = _standing(plan, request)
            if card is not None and not force:  # another process was building it
                return BuiltEngine(plan, card, built=False, reason=reason)
            reason = "--force was given" if card is not None else reason
            report(f"building {plan.name}: {reason}")
            card = _make(toolkit, graph, plan, request, progress)
            return BuiltEngine(plan, card, built=True, reason=reason)
    except OSError as error:
        raise EngineError(
            f"{folder} cannot be written: {error}. Copy the bundle to where you may write."
        ) from error


def _make(
    toolkit: Toolkit,
    graph: Path,
    plan: Path,
    request: EngineRequest,
    progress: Callable[[float], None],
) -> EngineCard:
    """Build a plan and write it with its sidecar."""
    content = compile_plan(
        toolkit, graph, targets=request.targets, max_batch=request.max_batch, progress=progress
    )
    card = EngineCard(
        request,
        plan_sha256=hashlib.sha256(content).hexdigest(),
        plan_bytes=len(content),
        onnx_bytes=graph.stat().st_size,
    )
    # A kill between the two leaves a plan whose hash the old sidecar denies.
    write_bytes(plan, content)
    write_json(card_path(plan), encode(card))
    return card


def _standing(plan: Path, request: EngineRequest) -> tuple[EngineCard | None, str]:
    """Sidecar of an engine that is there and fits, else None; and why."""
    if not plan.exists() and not card_path(plan).exists():
        return None, "there is none yet"
    try:
        card = read_card(plan)
    except EngineError as error:
        return None, str(error)
    for field in fields(request):
        found, wanted = getattr(card.request, field.name), getattr(request, field.name)
        if found == wanted:
            continue
        if field.name == "onnx_sha256":
            return None, "the graph has changed since the one there was built"
        return None, f"the one there has {field.name} {found}; {wanted} was wanted"
    return card, "it fits graph, version and targets"


@contextmanager
def _locked(path: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock that its process cannot leave behind, not even killed."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report("another process builds this engine; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
