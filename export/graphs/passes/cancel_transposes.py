"""Remove Transposes that undo the one before."""

from __future__ import annotations

import onnx

from .graph import attributes, rebuilt


def cancel_transposes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let what reads a Transpose that undoes the one before read what that one does.

    ONNX Runtime removes such two itself, but leaves the Q/DQ pairs that stand between them, and
    turns the whole map to float and back. Afterwards no Transpose undoes another, and none is left
    that nothing reads.
    """
    producer = {name: node for node in model.graph.node for name in node.output}
    same: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        read = onnx.NodeProto()
        read.CopyFrom(node)
        read.input[:] = [same.get(name, name) for name in node.input]
        first = producer.get(read.input[0]) if node.op_type == "Transpose" else None
        if first is not None and first.op_type == "Transpose" and _undoes(read, first):
            same[node.output[0]] = same.get(first.input[0], first.input[0])
        else:
            nodes.append(read)
    used = {name for node in nodes for name in node.input} | {v.name for v in model.graph.output}
    kept = (n for n in nodes if n.op_type != "Transpose" or not used.isdisjoint(n.output))
    return rebuilt(model, kept, {})


def _undoes(second: onnx.NodeProto, first: onnx.NodeProto) -> bool:
    there, back = attributes(first)["perm"], attributes(second)["perm"]
    return [there[axis] for axis in back] == sorted(there)
