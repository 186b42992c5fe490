"""What Hexagon's compiler leaves to the CPU, or computes in float, and why: it is asked itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from edgeunet.errors import GraphError

from ..npu.hexagon import CONVOLUTIONS, Placed, Unit, judged
from ..npu.one_image import one_image
from .rule import Finding

GENERATION = "v73"
"""Of Hexagon, that is compiled for. The compiler judges alike for all of them."""
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_EXPORT = "`edgeunet export --int8` writes such a graph, model.int8.qnn.onnx."


def findings(path: Path) -> Iterator[Finding]:
    """Compile a file, and read back what the compiler did.

    Raises:
        MissingDependencyError, BackendError: see `compile_graph`.

    Example:
        >>> list(findings(bundle / "model.int8.qnn.onnx"))  # doctest: +SKIP
        []
    """
    try:
        model = one_image(onnx.load(path))
    except GraphError as error:
        yield Finding("input", "error", "", str(error))
        return
    units, made = judged(model.SerializeToString(), GENERATION)
    quantized = any(node.op_type in _QUANTIZERS for node in model.graph.node)
    if not quantized:
        yield Finding(
            "float-net",
            "warning",
            "",
            f"is not quantized, so Hexagon computes it in FP16. {_EXPORT}",
        )
    for unit in units:
        yield from _judge(unit, quantized=quantized)
    if isinstance(made, GraphError):
        left = " The nodes above are why." if any(unit.reason for unit in units) else ""
        yield Finding("refused", "error", "", f"{made}{left}")
    else:
        yield from _cuts(Placed.of(made))


def _judge(unit: Unit, *, quantized: bool) -> Iterator[Finding]:
    node = unit.node or unit.operator
    heavy = unit.operator in CONVOLUTIONS
    if unit.reason:
        yield Finding(
            "on-cpu",
            "error" if heavy else "warning",
            node,
            f"is left to the CPU ({unit.operator}): {unit.reason.rstrip('.')}. Write it with other "
            "operators, or quantize it otherwise.",
        )
    elif quantized and heavy and not unit.pairs:
        yield Finding(
            "in-float",
            "warning",
            node,
            "is computed in float: no pairs of Q and DQ around it that Hexagon takes. Quantize "
            "what it reads and writes to UINT8 (its range holds the Relu or Clip behind it, which "
            f"is left out) and its weights to INT8 with a zero point of 0. {_EXPORT}",
        )


def _cuts(placed: Placed) -> Iterator[Finding]:
    if placed.parts == 0:
        yield Finding("on-cpu", "error", "", "Hexagon computes none of it.")
    elif placed.parts > 1:
        yield Finding(
            "cut",
            "warning",
            "",
            f"is cut into {placed.parts} parts, and the CPU computes between them. The nodes that "
            "are left to it are where.",
        )
    for name in placed.fed:
        yield Finding(
            "fed-by-cpu",
            "error",
            name,
            "is handed to Hexagon by the CPU at each frame: weights that it would not take as they "
            "are stored, and that it computes with in float. Quantize them to INT8 with a zero "
            f"point of 0. {_EXPORT}",
        )
