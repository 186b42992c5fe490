"""TensorRT's INT8 graphs as ONNX Runtime computes them soonest on a CPU, to the same bits."""

from __future__ import annotations

from onnx import NodeProto, TensorProto, helper, load_from_string

_MARK = "::fp32"


def in_fp32(content: bytes) -> bytes:
    """The graph with each QuantizeLinear and Clip of FP16 in FP32, between Casts.

    ONNX Runtime computes both value by value in FP16, and several at once in FP32: a simulated
    frame takes half the time. FP32 holds all of FP16, and the quotient that is rounded to an
    integer is one of FP32 in either form.

    Args:
        content: a graph whose scales and limits are initializers, as `export` writes them.
    """
    model = load_from_string(content)
    halves = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16}
    nodes: list[NodeProto] = []
    wide: dict[str, str] = {"": ""}

    def widened(name: str) -> str:
        if name not in wide:
            # ONNX Runtime drops two Casts in a row, and with them the rounding to FP16.
            held, wide[name] = f"{name}::fp16", f"{name}{_MARK}"
            nodes.append(helper.make_node("Identity", [name], [held]))
            nodes.append(helper.make_node("Cast", [held], [wide[name]], to=TensorProto.FLOAT))
        return wide[name]

    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[1] in halves:
            node.input[:2] = [widened(name) for name in node.input[:2]]
            nodes.append(node)
        elif node.op_type == "Clip" and not halves.isdisjoint(node.input[1:]):
            (output,) = node.output
            node.input[:] = [widened(name) for name in node.input]
            node.output[0] = wide[output] = f"{output}{_MARK}"
            back = helper.make_node("Cast", [wide[output]], [output], to=TensorProto.FLOAT16)
            nodes += [node, back]
        else:
            nodes.append(node)
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    written: bytes = model.SerializeToString()
    return written
