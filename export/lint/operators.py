"""Operators and their versions."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ..graphs.passes.graph import of_type, operand
from .rule import TENSORRT, Broken, Rule

_NEWEST_OPSET_8 = 17
# Reductions whose axes became an input with opset 18; those of ReduceSum did so with 13.
_REDUCTIONS = tuple(
    f"Reduce{name}"
    for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)
# Domains of the operators in ONNX Runtime; the standard's is empty.
_ORT_DOMAINS = ("", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")


def opset(graph: ir.Graph) -> Broken:
    """8.x parsers know the operators of opset 17; newer ones are read as if they were old.

    What an operator gained since is refused, or silently left out (see `reduce_axes`).
    """
    version = graph.opset_imports[""]
    if version > _NEWEST_OPSET_8:
        yield (
            "",
            f"opset {version}; TensorRT 8.x reads {_NEWEST_OPSET_8} at most. "
            f"Export with opset {_NEWEST_OPSET_8}, and check what was written.",
        )


def reduce_axes(graph: ir.Graph) -> Broken:
    """8.x parsers look for the attribute `axes` only, and reduce over all dimensions without it."""
    for node in of_type(graph, *_REDUCTIONS):
        if operand(node, 1):
            yield (
                node,
                f"{node.op_type} takes its axes as an input, which TensorRT 8.x silently ignores: "
                f"it reduces over all dimensions. Export with opset {_NEWEST_OPSET_8}.",
            )


def unknown_op(graph: ir.Graph) -> Broken:
    """Parsers take an operator that ONNX lacks for a plugin, and find none."""
    for node in graph.all_nodes():
        if not node.domain and not onnx.defs.has(node.op_type):
            yield (
                node,
                f"{node.op_type} is no operator of ONNX. Express it in standard operators.",
            )


def unknown_at_opset(graph: ir.Graph) -> Broken:
    """ONNX Runtime refuses operators that the file's opset lacks, and 8.x knows no newer ones.

    Parsers of 10 and later read an operator whatever the opset says (seen in TensorRT-RTX 1.7).
    """
    version = graph.opset_imports[""]
    for node in graph.all_nodes():
        if not node.domain and not _is_known(node.op_type, version):
            yield (
                node,
                f"{node.op_type} is no operator of ONNX opset {version}. Express it in "
                "standard operators, or export with an opset that has it.",
            )


def tensorrt_domain(graph: ir.Graph) -> Broken:
    """TensorRT takes other domains' operators for plugins, or for the standard's of that name.

    TensorRT-RTX 1.7 reads `org.example.Relu` as Relu and says nothing.
    """
    for node in graph.all_nodes():
        if node.domain:
            yield (
                node,
                f"{node.op_type} is of domain {node.domain!r}; TensorRT needs a plugin for it, or "
                "takes it for the standard's of that name. Express it in standard operators.",
            )


def onnx_runtime_domain(graph: ir.Graph) -> Broken:
    """ONNX Runtime refuses operators of domains that it was not built with."""
    for node in graph.all_nodes():
        if node.domain not in _ORT_DOMAINS:
            yield (
                node,
                f"{node.op_type} is of domain {node.domain!r}, which ONNX Runtime does not have. "
                "Express it in standard operators.",
            )


def _is_known(op_type: str, version: int) -> bool:
    try:
        return not onnx.defs.get_schema(op_type, version, "").deprecated
    except onnx.defs.SchemaError:
        return False


RULES = (
    Rule("opset", "error", ("trt8.6",), opset),
    Rule("reduce-axes", "error", ("trt8.6",), reduce_axes),
    Rule("unknown-op", "error", ("trt10", "trt11", "rtx"), unknown_op),
    Rule("unknown-op", "error", ("trt8.6", "ort-cpu"), unknown_at_opset),
    Rule("custom-domain", "error", TENSORRT, tensorrt_domain),
    Rule("custom-domain", "error", ("ort-cpu",), onnx_runtime_domain),
)
