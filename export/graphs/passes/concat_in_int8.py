"""Let a Concat join the quantized tensors themselves, where all have one scale."""

from __future__ import annotations

import onnx

from .graph import constants, readers


def concat_in_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take the Q/DQ pairs off every Concat around which scales and zero points are the same.

    ONNX Runtime makes a QLinearConcat of one with pairs, and runs that on one thread; its Concat
    runs on all. The bytes are the same. A pair that other nodes read stays there for them.
    """
    out = onnx.ModelProto()
    out.CopyFrom(model)
    values = {name: array.tobytes() for name, array in constants(out).items()}
    producer = {name: node for node in out.graph.node for name in node.output}
    read_by = readers(out)
    for concat in [node for node in out.graph.node if node.op_type == "Concat"]:
        before = [producer[name] for name in concat.input if name in producer]
        after = read_by.get(concat.output[0], [])
        pairs = [node.op_type for node in (*before, *after)]
        if pairs != ["DequantizeLinear"] * len(concat.input) + ["QuantizeLinear"]:
            continue
        # A scale that is no constant has only its name to be known by.
        scales = {tuple(values.get(n, n) for n in node.input[1:]) for node in (*before, *after)}
        if len(scales) == 1:
            concat.input[:] = [node.input[0] for node in before]
            concat.output[:] = after[0].output
            out.graph.node.remove(after[0])
    used = {name for node in out.graph.node for name in node.input}
    used.update(value.name for value in out.graph.output)
    for node in list(out.graph.node):
        if node.op_type == "DequantizeLinear" and used.isdisjoint(node.output):
            out.graph.node.remove(node)
    return out
