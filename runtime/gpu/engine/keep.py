"""Plans and sidecars on disk: keep a plan that fits, or build one, under a lock and atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

from edgeunet.bundle.bundle import BundleFile
from edgeunet.bundle.engines import PLAN_SUFFIX, EngineCard, EngineRequest, card_path, read_card
from edgeunet.bundle.schema import encode
from edgeunet.bundle.signing import NOT_OURS, ensure_key
from edgeunet.errors import EngineError
from edgeunet.files import locked, write_bytes, write_json

from .plan import Plan

_MACHINE_FIELDS = {"version", "gpu", "targets"}


@dataclass(frozen=True)
class BuiltEngine:
    """A plan on disk. built: it was built now. reason: why it was built or kept."""

    path: Path
    card: EngineCard
    built: bool
    reason: str

    @property
    def fallback(self) -> tuple[str, ...]:
        """Layers that the DLA cannot run and the GPU runs instead."""
        return self.card.fallback


def keep_or_build(
    folder: Path,
    request: EngineRequest,
    graph: BundleFile,
    *,
    make: Callable[[], Plan],
    force: str | None,
    report: Callable[[str], None],
    among_others: bool = False,
    trust: bool = False,
) -> BuiltEngine:
    """Return the plan in `folder` that fits the request, or write the one that `make` builds.

    Args:
        make: builds the plan of `graph`. force: why to build even if a plan fits.
        among_others: also accept a plan for more targets. One for exactly these comes first.
        trust: also accept a plan that this machine has not signed.

    Raises:
        EngineError: `folder` cannot be written, or a plan not be signed. Also raises what `make`
        raises.
    """
    path = folder / request.file_name
    find = partial(_find, folder, request, among_others=among_others, trust=trust)
    found, reason = find()
    if found is not None and not force:
        return found
    if not trust:
        ensure_key()  # before a build of minutes
    try:
        folder.mkdir(exist_ok=True)
        with _locked(folder / f".{path.name}.lock", report):
            found, reason = find()
            if found is not None and not force:  # another process has built it meanwhile
                return found
            reason = force if found is not None and force else reason
            report(f"building {path.name}: {reason}")
            card = _write(path, request, graph, make(), trust=trust)
            return BuiltEngine(path, card, built=True, reason=reason)
    except OSError as error:
        raise EngineError(
            f"{folder} cannot be written: {error}. Copy the bundle to a writable folder."
        ) from error


def note_agreement(
    engine: BuiltEngine,
    agreement: float,
    *,
    fp16_head: float | None,
    report: Callable[[str], None],
) -> BuiltEngine:
    """Write the agreement of a plan that has run into its sidecar, and return it with that.

    A sidecar that this machine has not signed stays as it is: a new signature would make the code
    beside it ours.

    Args:
        fp16_head: agreement before the head ran in FP32. report: gets the reason if the sidecar
            cannot be written; the plan is then checked again when it is loaded.
    """
    card = replace(engine.card, agreement=agreement, fp16_head_agreement=fp16_head)
    path = engine.path
    try:
        if engine.card.signature and engine.card.is_ours:
            with _locked(path.parent / f".{path.name}.lock", report):
                if read_card(path) == engine.card:  # another process may have built it again
                    card = card.signed()
                    write_json(card_path(path), encode(card))
    except (OSError, EngineError) as error:
        report(f"agreement of {path.name} not noted, the next start checks it again: {error}")
    return replace(engine, card=card)


def _write(
    path: Path, request: EngineRequest, graph: BundleFile, plan: Plan, *, trust: bool
) -> EngineCard:
    card = EngineCard(
        request,
        plan_sha256=hashlib.sha256(plan.content).hexdigest(),
        plan_bytes=len(plan.content),
        onnx_bytes=graph.path.stat().st_size,
        fallback=plan.fallback,
        changes=plan.changes,
    )
    try:
        card = card.signed()
    except EngineError:
        if not trust:  # else it is accepted without a signature
            raise
    # If the process dies between the two, the old sidecar does not match the new plan's hash.
    write_bytes(path, plan.content)
    write_json(card_path(path), encode(card))
    return card


def _find(
    folder: Path, request: EngineRequest, *, among_others: bool, trust: bool
) -> tuple[BuiltEngine | None, str]:
    """The engine that fits, or None; and the reason."""
    own = folder / request.file_name
    others = set(folder.glob(f"[!.]*-{request.file_ending}")) - {own} if among_others else set()
    problems = []
    for path in (own, *sorted(others)):
        if not path.exists() and not card_path(path).exists():
            continue
        try:
            card = read_card(path)
        except EngineError as error:
            problems.append(str(error))
            continue
        problem = _mismatch(path, card.request, request, among_others=among_others)
        if problem is None and not trust and not card.is_ours:
            problem = f"{path.name} {NOT_OURS}"
        if problem is None:
            reason = "it fits graph, version and targets"
            return BuiltEngine(path, card, built=False, reason=reason), reason
        problems.append(problem)
    return None, problems[0] if problems else _why_missing(folder, request)


def _mismatch(
    path: Path, found: EngineRequest, wanted: EngineRequest, *, among_others: bool
) -> str | None:
    """Why a plan does not fit; None if it does."""
    if among_others and set(wanted.targets) <= set(found.targets):
        wanted = replace(wanted, targets=found.targets)
    for difference in _differences(found, wanted):
        if difference[0] == "onnx_sha256":
            return f"the graph has changed since {path.name} was built"
        return _describe(path, difference)
    return None


def _why_missing(folder: Path, request: EngineRequest) -> str:
    """Why no plan has the right name: perhaps there is one for another version or card."""
    for path in sorted(folder.glob(f"[!.]*{PLAN_SUFFIX}")):
        try:
            other = read_card(path).request
        except EngineError:
            continue
        differences = _differences(other, request)
        if differences and {name for name, _, _ in differences} <= _MACHINE_FIELDS:
            return _describe(path, differences[0])
    return "there is none yet"


def _describe(path: Path, difference: tuple[str, object, object]) -> str:
    name, *values = difference
    found, wanted = (", ".join(v) if isinstance(v, tuple) else v for v in values)
    return f"{path.name} has {name} {found}; expected {wanted}"


def _differences(one: EngineRequest, other: EngineRequest) -> list[tuple[str, object, object]]:
    """Fields that differ: name and both values."""
    pairs = ((f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return [(name, left, right) for name, left, right in pairs if left != right]


@contextmanager
def _locked(path: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Hold a file lock, see `locked`. Wait for another process that builds the engine."""
    if path.is_symlink():  # the lock would be a file elsewhere
        raise EngineError(f"{path} is a link. Refused: remove it.")
    said = "another process builds this engine; waiting for it"
    with locked(path.parent, lock=path, waiting=lambda: report(said)):
        yield
