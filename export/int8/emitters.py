"""The INT8 graphs of a bundle, all from one calibration table, for four kinds of readers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from edgeunet.bundle.calibration_table import CalibrationTable
from edgeunet.bundle.manifest import Flavour, flavour_file

from ..graphs.fp16 import half
from .quantize import (
    quantize_for_cpu,
    quantize_for_openvino,
    quantize_for_qnn,
    quantize_for_tensorrt,
)

STRONGLY_TYPED_OPSET = 19
"""First opset whose QuantizeLinear takes FP16."""


@dataclass(frozen=True)
class Emitter:
    """One kind of INT8 graph.

    quantize: writes it, given source, path, table and `nodes`. flavour: of what it writes.
    """

    quantize: Callable[..., None]
    flavour: Flavour


CPU = Emitter(quantize_for_cpu, "int8.cpu")
TENSORRT = Emitter(quantize_for_tensorrt, "int8")
OPENVINO = Emitter(quantize_for_openvino, "int8.openvino")
QNN = Emitter(quantize_for_qnn, "int8.qnn")

COMPARED = (CPU, TENSORRT, OPENVINO, QNN)
"""What measures how good a choice of layers is; the graph with FP16 between holds TensorRT's."""

RANGED = (CPU, TENSORRT)
"""What measures how good ranges are; those for OpenVINO and QNN are unsigned as the CPU's is."""


def write_int8(
    folder: Path,
    table: CalibrationTable,
    *,
    source: Path | None = None,
    cpu: Collection[str] | None = None,
    tensorrt: Collection[str] | None = None,
    openvino: Collection[str] | None = None,
    qnn: Collection[str] | None = None,
) -> None:
    """Write the INT8 flavours beside the reference graph in `folder`.

    Args:
        source: graph to quantize, None for the reference graph.
        cpu, tensorrt, openvino, qnn: names of the nodes that may run in INT8 in the graph for each,
            None for all.
    """
    for emitter, nodes in zip(COMPARED, (cpu, tensorrt, openvino, qnn), strict=True):
        path = folder / flavour_file(emitter.flavour)
        emitter.quantize(source or folder / flavour_file("fp32"), path, table, nodes=nodes)
    _write_half(folder)


def complete_int8(folder: Path, table: CalibrationTable) -> None:
    """Write the INT8 flavours that are missing beside those of `RANGED`."""
    for emitter in COMPARED:
        if emitter not in RANGED:
            path = folder / flavour_file(emitter.flavour)
            emitter.quantize(folder / flavour_file("fp32"), path, table)
    _write_half(folder)


def _write_half(folder: Path) -> None:
    """Write the INT8 flavour with FP16 between, from TensorRT's in `folder`."""
    signed, mixed = folder / flavour_file("int8"), folder / flavour_file("int8.fp16")
    half(signed, mixed, opset=STRONGLY_TYPED_OPSET)
