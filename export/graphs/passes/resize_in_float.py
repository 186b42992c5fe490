"""Let every Resize read what stands in front of a Q/DQ pair instead of what comes out of it."""

from __future__ import annotations

import onnx


def resize_in_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take Resize nodes off the pairs that other readers of the same tensor need.

    TensorRT keeps a Resize behind a pair from fusing with what comes before. Afterwards no Resize
    reads a DequantizeLinear whose QuantizeLinear is in the graph; all other nodes are as they were.
    """
    out = onnx.ModelProto()
    out.CopyFrom(model)
    producer = {name: node for node in out.graph.node for name in node.output}
    for node in out.graph.node:
        dequantize = producer.get(node.input[0]) if node.op_type == "Resize" else None
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        quantize = producer.get(dequantize.input[0])
        if quantize is not None and quantize.op_type == "QuantizeLinear":
            node.input[0] = quantize.input[0]
    return out
