"""A gated graph in two parts, so that frames with a closed gate skip the decoder."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgeunet.bundle.manifest import Flavour, flavour_file, part_file

from .passes.graph import load, nodes_for, producer, save


def split_flavours(folder: Path, flavours: tuple[Flavour, ...]) -> None:
    """Write both parts of each of the flavours in `folder`."""
    for flavour in flavours:
        model = load(folder / flavour_file(flavour))
        # ONNX Runtime fuses around integers that cross; TensorRT wants its own format for them.
        encoder, decoder = split(model, integers=flavour == "int8.cpu")
        save(encoder, folder / part_file(flavour, "encoder"))
        save(decoder, folder / part_file(flavour, "decoder"))


def split(model: ir.Model, *, integers: bool = False) -> tuple[ir.Model, ir.Model]:
    """Graph `image` -> `logits`, `presence` -> the part up to `presence`, and the rest.

    The first part puts out `presence` and then the features that the second reads, under their
    names; the second puts out `logits`. One after the other they compute what the graph does, bit
    for bit.

    Args:
        integers: features that are quantized anyway cross as INT8, not as what is quantized.
    """
    encoder, decoder = model.clone(), model.clone()
    _, presence = encoder.graph.outputs
    encoder.graph.outputs[:] = [presence, *_crossing(encoder.graph, integers=integers)]
    inputs = []
    for value in _crossing(decoder.graph, integers=integers):
        inputs.append(ir.val(value.name, type=value.type, shape=value.shape))
        value.replace_all_uses_with(inputs[-1])
    decoder.graph.inputs[:] = inputs
    decoder.graph.outputs.pop()
    for part in (encoder, decoder):
        RemoveUnusedNodesPass()(part)
    return encoder, decoder


def _crossing(graph: ir.Graph, *, integers: bool) -> list[ir.Value]:
    """Values of the encoder that the logits need, in the graph's order.

    Q/DQ nodes at the border are computed on both sides, and what they read crosses. With
    `integers` only DequantizeLinear is: a feature's QuantizeLinear belongs to the convolution
    before it, whoever reads its output.
    """
    logits, presence = graph.outputs
    encoder = nodes_for(presence)
    made = {*graph.inputs, *(value for node in encoder for value in node.outputs)}
    if integers:
        quantizers = [node for node in graph if node.op_type == "QuantizeLinear"]
        made.update(node.outputs[0] for node in quantizers if node.inputs[0] in made)
    on_both_sides = ("DequantizeLinear",) if integers else ("QuantizeLinear", "DequantizeLinear")
    crossing, seen = set[ir.Value](), set[ir.Value]()
    waiting: list[ir.Value | None] = [logits]
    while waiting:
        value = waiting.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        node = producer(value)
        if value in made and (node is None or node.op_type not in on_both_sides):
            crossing.add(value)
        elif node is not None:
            waiting.extend(node.inputs)
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return [value for value in values if value in crossing]
