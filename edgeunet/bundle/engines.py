"""Engines beside a bundle: plans that a builder made of its graphs, each with a sidecar.

The manifest does not list them: a bundle is the same on every machine, its engines are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeunet.bundle.manifest import Flavour, Part, Precision, flavour_file, part_file
from edgeunet.bundle.schema import SchemaError, read
from edgeunet.errors import EngineError
from edgeunet.files import sha256

from .bundle import Bundle

ENGINES_DIR = "engines"
PLAN_SUFFIX = ".engine"
CARD_VERSION = 2
_SHORT = {"tensorrt": "trt"}


@dataclass(frozen=True)
class EngineRequest:
    """What an engine is to be; two that are equal need one plan.

    runtime: kind of TensorRT, "tensorrt" or "rtx". version: of it. gpu: name of the card that the
    plan is tuned on, None for one that is built ahead of time. targets: compute capabilities that
    it runs on, such as "sm89". flavour: graph that the precision is built from, part: of a gated
    one, None for the whole, onnx_sha256: hash of its file. max_batch: end of the optimization
    profile. dla: core of the Deep Learning Accelerator, None for the GPU.
    """

    runtime: str
    version: str
    gpu: str | None
    targets: tuple[str, ...]
    precision: Precision
    flavour: Flavour
    part: Part | None
    max_batch: int
    dla: int | None
    onnx_sha256: str

    @property
    def min_batch(self) -> int:
        """Begin of the optimization profile: 1, but a DLA takes no other batch than the largest."""
        return 1 if self.dla is None else self.max_batch

    @property
    def file_name(self) -> str:
        """Name of the plan: `orin-sm87-trt10.3.0-fp16.engine`, `…-fp16-encoder-dla0.engine`."""
        place = [] if self.gpu is None else [slug(self.gpu)]
        return "-".join([*place, *self.targets, self.file_ending])

    @property
    def file_ending(self) -> str:
        """What is in the name besides the GPUs: `rtx1.7.1.116-fp16.engine`."""
        words = [f"{_SHORT.get(self.runtime, self.runtime)}{self.version}", self.precision]
        words += [] if self.part is None else [self.part]
        words += [] if self.dla is None else [f"dla{self.dla}"]
        return "-".join(words) + PLAN_SUFFIX


@dataclass(frozen=True)
class EngineCard:
    """Contents of the sidecar `NAME.json` of `NAME.engine`; sizes in bytes.

    fallback: layers that the DLA cannot run, so that the GPU does.
    """

    request: EngineRequest
    plan_sha256: str
    plan_bytes: int
    onnx_bytes: int
    fallback: tuple[str, ...]
    card_version: int = CARD_VERSION


@dataclass(frozen=True)
class Engine:
    """A plan in a bundle's `engines/`; `problem` says why it cannot be used, None where it can."""

    path: Path
    card: EngineCard | None
    problem: str | None


def slug(name: str) -> str:
    """A card's name as a part of file names: "NVIDIA H100 PCIe" -> "nvidia-h100-pcie"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


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
    flavour, part = card.request.flavour, card.request.part
    name = flavour_file(flavour) if part is None else part_file(flavour, part)
    stale = card.request.onnx_sha256 != bundle.manifest.files.get(name)
    return Engine(plan, card, "it was built from another graph" if stale else None)
