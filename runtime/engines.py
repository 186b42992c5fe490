"""Engines beside a bundle: plans that a builder made of its graphs, each with a sidecar.

The manifest does not list them: a bundle is the same on every machine, its engines are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeunet.errors import EngineError
from edgeunet.files import sha256
from edgeunet.manifest import Flavour, Precision, flavour_file
from edgeunet.schema import SchemaError, read

from .bundle import Bundle

ENGINES_DIR = "engines"
PLAN_SUFFIX = ".engine"
CARD_VERSION = 1


@dataclass(frozen=True)
class EngineRequest:
    """What an engine is to be; two that are equal need one plan.

    runtime: kind of TensorRT, "rtx". version: of it. targets: compute capabilities that the plan
    runs on, such as "sm89". flavour: graph that the precision is built from, onnx_sha256: its hash.
    max_batch: end of the optimization profile, which begins at 1.
    """

    runtime: str
    version: str
    targets: tuple[str, ...]
    precision: Precision
    flavour: Flavour
    max_batch: int
    onnx_sha256: str

    @property
    def file_name(self) -> str:
        """Name of the plan: `sm86-sm89-rtx1.7.1.116-fp16.engine`."""
        targets = "-".join(self.targets)
        return f"{targets}-{self.runtime}{self.version}-{self.precision}{PLAN_SUFFIX}"


@dataclass(frozen=True)
class EngineCard:
    """Contents of the sidecar `NAME.json` of `NAME.engine`; sizes in bytes."""

    request: EngineRequest
    plan_sha256: str
    plan_bytes: int
    onnx_bytes: int
    card_version: int = CARD_VERSION


@dataclass(frozen=True)
class Engine:
    """A plan in a bundle's `engines/`; `problem` says why it cannot be used, None where it can."""

    path: Path
    card: EngineCard | None
    problem: str | None


def card_path(plan: Path) -> Path:
    """Sidecar of a plan."""
    return plan.with_suffix(".json")


def read_card(plan: Path) -> EngineCard:
    """The plan's sidecar, once the plan has been found to have the hash that it says.

    Raises:
        EngineError: plan or sidecar is missing, unreadable or of another form, or the hash differs.
    """
    path = card_path(plan)
    try:
        card = read(EngineCard, path, version=CARD_VERSION, key="card_version")
        found = sha256(plan)
    except FileNotFoundError as error:
        raise EngineError(f"{Path(error.filename).name} is missing") from None
    except SchemaError as error:
        raise EngineError(f"{path.name} {error}") from None
    except OSError as error:
        raise EngineError(f"{plan.name} cannot be read: {error}") from None
    if found != card.plan_sha256:
        raise EngineError(
            f"{plan.name} has SHA-256 {found[:12]}…, its sidecar says {card.plan_sha256[:12]}…"
        )
    return card


def list_engines(bundle: Bundle) -> tuple[Engine, ...]:
    """Engines of a bundle by name, checked against their sidecars and the bundle's graphs."""
    plans = sorted((bundle.root / ENGINES_DIR).glob(f"[!.]*{PLAN_SUFFIX}"))
    return tuple(_examine(bundle, plan) for plan in plans)


def _examine(bundle: Bundle, plan: Path) -> Engine:
    try:
        card = read_card(plan)
    except EngineError as error:
        return Engine(plan, None, str(error))
    graph = bundle.manifest.files.get(flavour_file(card.request.flavour))
    stale = card.request.onnx_sha256 != graph
    return Engine(plan, card, "it was built from another graph" if stale else None)
