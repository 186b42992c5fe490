"""Graphs without open sides, which is what the compilers of NPUs take."""

from __future__ import annotations

import onnx

from edgeunet.errors import GraphError


def one_image(model: onnx.ModelProto) -> onnx.ModelProto:
    """Set the batch of a graph, if it is open, to one image; returns the graph.

    Raises:
        GraphError: another side of an input is open.

    Example:
        >>> model = one_image(onnx.load(bundle / "model.fp32.onnx"))
        >>> model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
        1
    """
    graph = model.graph
    batches = set()
    for value in inputs_of(graph):
        side = value.type.tensor_type.shape.dim[:1]
        if side and not side[0].HasField("dim_value"):
            batches.add(side[0].dim_param)
            side[0].dim_value = 1
    for value in graph.output:
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param in batches:
                side.dim_value = 1
    del graph.value_info[:]  # compilers infer the shapes anew
    for value in inputs_of(graph):
        sides = value.type.tensor_type.shape.dim
        if not all(side.HasField("dim_value") for side in sides):
            shape = ", ".join(str(side.dim_value or side.dim_param or "?") for side in sides)
            raise GraphError(
                f"input {value.name!r} has the shape ({shape}), and compilers of NPUs take fixed "
                "sides only. Export it at one size."
            )
    return model


def inputs_of(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Inputs that are fed: files before IR version 4 list their weights among them.

    Example:
        >>> [value.name for value in inputs_of(onnx.load(bundle / "model.fp32.onnx").graph)]
        ['image']
    """
    weights = {each.name for each in graph.initializer}
    return [value for value in graph.input if value.name not in weights]
