"""A gated graph in two parts, so that a closed gate can spare the decoder."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.utils import Extractor

from edgeunet.bundle.manifest import Flavour, flavour_file, part_file

from .passes.graph import needed_for


def split_flavours(folder: Path, flavours: tuple[Flavour, ...]) -> None:
    """Write both parts of each of the flavours in `folder`."""
    for flavour in flavours:
        model = onnx.load(folder / flavour_file(flavour))
        # ONNX Runtime fuses around integers that cross; TensorRT wants its own format for them.
        encoder, decoder = split(model, integers=flavour == "int8.cpu")
        onnx.save(encoder, folder / part_file(flavour, "encoder"))
        onnx.save(decoder, folder / part_file(flavour, "decoder"))


def split(
    model: onnx.ModelProto, *, integers: bool = False
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Graph `image` -> `logits`, `presence` -> the part up to `presence`, and the rest.

    The first puts out `presence` and then the features that the second reads, under their names;
    the second puts out `logits`. One after the other they compute what the graph does, bit for bit.

    Args:
        integers: features that are quantized anyway cross as INT8, not as what is quantized.
    """
    encoder = needed_for("presence", model)
    made = {name for node in model.graph.node if node.output[0] in encoder for name in node.output}
    made |= {value.name for value in model.graph.input}
    if integers:
        # A feature's QuantizeLinear belongs to the convolution before it, whoever reads its output.
        for node in model.graph.node:
            if node.op_type == "QuantizeLinear" and node.input[0] in made:
                made.update(node.output)
    on_both_sides = ("DequantizeLinear",) if integers else ("QuantizeLinear", "DequantizeLinear")
    crossing = _crossing(model, made, on_both_sides)
    parts = Extractor(onnx.shape_inference.infer_shapes(model))
    inputs = [value.name for value in model.graph.input]
    return (
        parts.extract_model(inputs, ["presence", *crossing]),
        parts.extract_model(crossing, ["logits"]),
    )


def _crossing(model: onnx.ModelProto, made: set[str], on_both_sides: tuple[str, ...]) -> list[str]:
    """Tensors among `made` that the logits need and other nodes read, in the graph's order.

    What a node of one of the types `on_both_sides` puts out does not cross, but what it reads.
    """
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
        if name in made and (node is None or node.op_type not in on_both_sides):
            crossing[name] = None
        elif node is not None:
            waiting.extend(node.input)
    order = [name for node in model.graph.node for name in node.output]
    return sorted(crossing, key=lambda name: order.index(name) if name in order else -1)
