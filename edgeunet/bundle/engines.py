"""Engines of a bundle: TensorRT plans in `engines/`, each with a signed JSON sidecar.

The manifest does not list them, because each machine has its own.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeunet.bundle.manifest import Exported, Flavour, Part, flavour_file, part_file
from edgeunet.bundle.schema import SchemaError, encode, read
from edgeunet.bundle.signing import NOT_OURS, is_signed, sign
from edgeunet.errors import EngineError
from edgeunet.files import sha256

from .bundle import ENGINES_DIR, Bundle

PLAN_SUFFIX = ".engine"
CARD_VERSION = 4
MAX_PLAN_BYTES = 4 << 30
_SHORT = {"tensorrt": "trt"}
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)


@dataclass(frozen=True)
class EngineRequest:
    """Everything that determines an engine. Equal requests share one plan.

    Attributes:
        runtime: "tensorrt" or "rtx". version: its version.
        gpu: name of the card that the plan is tuned on. None if it is built ahead of time.
        targets: compute capabilities that it runs on, such as "sm89".
        flavour: graph that it is built from. part: part of a gated graph, None for the whole.
        max_batch: upper end of the optimization profile.
        dla: core of the Deep Learning Accelerator, None for the GPU.
        onnx_sha256: hash of the graph's file.
    """

    runtime: str
    version: str
    gpu: str | None
    targets: tuple[str, ...]
    precision: Exported
    flavour: Flavour
    part: Part | None
    max_batch: int
    dla: int | None
    onnx_sha256: str

    @property
    def min_batch(self) -> int:
        """Lower end of the optimization profile: 1. A DLA only takes the largest batch."""
        return 1 if self.dla is None else self.max_batch

    @property
    def file_name(self) -> str:
        """Name of the plan: `orin-sm87-trt10.3.0-fp16.engine`, `…-fp16-encoder-dla0.engine`."""
        card = [] if self.gpu is None else [slug(self.gpu)]
        return "-".join([*card, *self.targets, self.file_ending])

    @property
    def file_ending(self) -> str:
        """The name without the GPUs: `rtx1.7.1.116-fp16.engine`."""
        words = [f"{_SHORT.get(self.runtime, self.runtime)}{self.version}", self.precision]
        words += [] if self.part is None else [self.part]
        words += [] if self.dla is None else [f"dla{self.dla}"]
        return "-".join(words) + PLAN_SUFFIX


@dataclass(frozen=True)
class EngineChanges:
    """How an engine differs from its request, because TensorRT could not build it as requested.

    Attributes:
        all_tactics: it may use tactics of all of TensorRT's default sources.
        fp16_layers: nodes of an INT8 graph that run in FP16: there are no INT8 tactics for them.
        fp32_layers: nodes of the head, which run in FP32: in FP16 too many pixels were wrong.
    """

    all_tactics: bool = False
    fp16_layers: tuple[str, ...] = ()
    fp32_layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineCard:
    """Content of the sidecar `NAME.json` of `NAME.engine`. Sizes are in bytes.

    fallback: layers that the DLA cannot run and the GPU runs instead.
    agreement: share of the golden pixels that agree with PyTorch's; None until it has run. Parts
    of a gated net have one in common. fp16_head_agreement: the same, before its head ran in FP32.
    signature: of all else here, in hex, see `signing`; empty if it was not signed.
    """

    request: EngineRequest
    plan_sha256: str
    plan_bytes: int
    onnx_bytes: int
    fallback: tuple[str, ...]
    changes: EngineChanges = EngineChanges()
    agreement: float | None = None
    fp16_head_agreement: float | None = None
    signature: str = ""
    card_version: int = CARD_VERSION

    def signed(self) -> EngineCard:
        """The card with this machine's signature. Raises as `sign`."""
        return replace(self, signature=sign(self.request.file_name, self._content).hex())

    @property
    def is_ours(self) -> bool:
        """Whether this machine signed it. Raises as `is_signed`."""
        signature = bytes.fromhex(self.signature) if _HEX.fullmatch(self.signature) else b""
        return is_signed(signature, self.request.file_name, self._content)

    def remarks(self) -> list[str]:
        """How it differs from its request, and how well it agrees; for users."""
        changes, lines = self.changes, []
        if changes.all_tactics:
            lines.append("may use cuBLAS and cuDNN, without which a layer had no tactic")
        if changes.fp16_layers:
            layers = ", ".join(changes.fp16_layers)
            count = len(changes.fp16_layers)
            lines.append(f"runs {count} layers without INT8 tactics in FP16: {layers}")
        if self.agreement is not None:
            found = f"{self.agreement:.2%} of the golden pixels agree with PyTorch"
            if self.fp16_head_agreement is not None:
                found += f" with the head in FP32, {self.fp16_head_agreement:.2%} with it in FP16"
            lines.append(found)
        return lines

    @property
    def _content(self) -> bytes:
        return json.dumps(encode(replace(self, signature="")), sort_keys=True).encode()


@dataclass(frozen=True)
class Engine:
    """A plan in a bundle's `engines/`. problem: why it cannot be used, or None."""

    path: Path
    card: EngineCard | None
    problem: str | None


def engine_dtype(precision: Exported) -> np.dtype[Any]:
    """Type that an engine's image is rounded to, and its outputs unless its head runs in FP32.

    A weakly typed network of FP16 or INT8 has FP16 inputs and outputs; a strongly typed one casts
    FP32 ones at its first and last node. Who computes an engine's graph elsewhere must round alike.

    Example:
        >>> from edgeunet.bundle.engines import engine_dtype
        >>> engine_dtype("int8")
        dtype('float16')
    """
    return np.dtype(np.float32 if precision == "fp32" else np.float16)


def slug(name: str) -> str:
    """A card's name for file names: "NVIDIA H100 PCIe" -> "nvidia-h100-pcie"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def card_path(plan: Path) -> Path:
    """Path of a plan's sidecar."""
    return plan.with_suffix(".json")


def engines_folder(bundle: Bundle) -> Path:
    """Folder of a bundle's engines, which need not exist.

    Raises:
        EngineError: it is a link. Engines would be read and written elsewhere.
    """
    folder = bundle.root / ENGINES_DIR
    if folder.is_symlink():
        raise EngineError(f"{folder} is a link; expected a folder. Refused: remove it.")
    return folder


def read_card(plan: Path) -> EngineCard:
    """Read a plan's sidecar and check the plan's hash, but not the signature.

    Raises:
        EngineError: plan or sidecar is missing, unreadable or invalid, or the hash differs.
    """
    path = card_path(plan)
    try:
        card = read(EngineCard, path, version=CARD_VERSION, key="card_version")
        if plan.exists() and not (plan.is_file() and plan.stat().st_size <= MAX_PLAN_BYTES):
            raise EngineError(f"{plan.name} is no regular file, or larger than any plan")
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
    """Engines of a bundle, sorted by name, checked against sidecars, graphs and signatures.

    Raises:
        EngineError: see `engines_folder`.
    """
    plans = sorted(engines_folder(bundle).glob(f"[!.]*{PLAN_SUFFIX}"))
    return tuple(_examine(bundle, plan) for plan in plans)


def _examine(bundle: Bundle, plan: Path) -> Engine:
    try:
        card = read_card(plan)
    except EngineError as error:
        return Engine(plan, None, str(error))
    flavour, part = card.request.flavour, card.request.part
    name = flavour_file(flavour) if part is None else part_file(flavour, part)
    if card.request.onnx_sha256 != bundle.manifest.files.get(name):
        return Engine(plan, card, "it was built from another graph")
    return Engine(plan, card, None if card.is_ours else f"it {NOT_OURS}")
