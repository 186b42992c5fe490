"""A gated graph in two parts, so that a closed gate can spare the decoder."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.utils import Extractor

from edgeunet.manifest import IN_PARTS, Flavour, flavour_file, part_file

from .passes.graph import needed_for


def split_flavours(folder: Path, flavours: tuple[Flavour, ...]) -> None:
    """Write both parts of each of the flavours in `folder` that runs in parts."""
    for flavour in flavours:
        if flavour in IN_PARTS:
            encoder, decoder = split(onnx.load(folder / flavour_file(flavour)))
            onnx.save(encoder, folder / part_file(flavour, "encoder"))
            onnx.save(decoder, folder / part_file(flavour, "decoder"))


def split(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Graph `image` -> `logits`, `presence` -> the part up to `presence`, and the rest.

    The first puts out `presence` and then the features that the second reads, under their names;
    the second puts out `logits`. One after the other they compute what the graph does, bit for bit:
    features that are quantized anyway cross as INT8, so that both parts fuse as the whole does.
    """
    # A feature's QuantizeLinear belongs to the convolution before it, whoever reads what comes out.
    encoder = needed_for("presence", model)
    made = {name for node in model.graph.node if node.output[0] in encoder for name in node.output}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in made:
            made.update(node.output)
    crossing = _crossing(model, made | {value.name for value in model.graph.input})
    parts = Extractor(onnx.shape_inference.infer_shapes(model))
    inputs = [value.name for value in model.graph.input]
    return (
        parts.extract_model(inputs, ["presence", *crossing]),
        parts.extract_model(crossing, ["logits"]),
    )


def _crossing(model: onnx.ModelProto, made: set[str]) -> list[str]:
    """Tensors among `made` that the logits need and other nodes read, in the graph's order."""
    producer = {name: node for node in model.graph.node for name in node.output}
    crossing: dict[str, None] = {}
    seen: set[str] = set()
    waiting = ["logits"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        node = producer.get(name)
        # What is dequantized crosses before that: DequantizeLinear is computed on both sides.
        if name in made and (node is None or node.op_type != "DequantizeLinear"):
            crossing[name] = None
        elif node is not None:
            waiting.extend(node.input)
    order = [name for node in model.graph.node for name in node.output]
    return sorted(crossing, key=lambda name: order.index(name) if name in order else -1)
