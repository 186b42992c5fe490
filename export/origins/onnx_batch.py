"""The batch of a graph: made symbolic, and proved by two images at once against each alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from edgeunet.bundle.graphs import read_graph
from edgeunet.errors import ExportError

from ..graphs.passes.graph import attribute, constant, operand, set_constant

BATCH = "batch"
TOLERANCE = 1e-3
"""Largest difference, as a share of the largest value, that a sum in another order makes."""

_REMEDY = (
    "Export the net with a dynamic batch: dynamic_axes={'image': {0: 'batch'}} of "
    "torch.onnx.export, or the like."
)
_FAILED = re.compile(r"running (\w+) node\. Name:'([^']*)'")

Arrays = list[npt.NDArray[Any]]


def free_batch(model: ir.Model, *, fixed: bool) -> None:
    """Take a batch of 1 out of the constants of a graph. Shapes must be inferred, with batch 1.

    The first side that a Reshape gives to a map becomes whatever is left, and that of a Resize the
    map's. The input's shape stays. Whether that was right, `check_batch` tells.

    Args:
        fixed: whether the graph was made for a batch of 1. In others too a trace leaves such
            constants, but a Reshape that infers a side works as it is.

    Raises:
        ExportError: a node whose shapes do not tell; it names the node.
    """
    for node in _from_image(model.graph):
        if node.op_type == "Reshape":
            _free_reshape(node, fixed=fixed)
        elif node.op_type == "Resize":
            _free_resize(node)
        elif node.op_type == "Concat":
            _drop_nothing(node)
        elif node.op_type == "ConvTranspose" and "output_shape" in node.attributes:
            sides = attribute(node, "output_shape", ())[-2:]
            node.attributes.add(ir.AttrInt64s("output_shape", sides))


def _from_image(graph: ir.Graph) -> Iterator[ir.Node]:
    """Nodes that compute something from the image, but not from its shape alone."""
    maps = set(graph.inputs)
    for node in graph:
        if node.op_type not in ("Shape", "Size") and any(v in maps for v in node.inputs):
            maps.update(node.outputs)
            yield node


def _sizes(node: ir.Node, value: ir.Value | None) -> tuple[int, ...]:
    sizes = () if value is None or value.shape is None else tuple(value.shape)
    fixed = tuple(size for size in sizes if isinstance(size, int))
    if value is None or value.shape is None or len(fixed) != len(sizes):
        raise ExportError(
            f"the node {node.name!r} ({node.op_type}) fixes the batch, and its shape is not known. "
            f"{_REMEDY}"
        )
    return fixed


def _free_reshape(node: ir.Node, *, fixed: bool) -> None:
    target = constant(operand(node, 1))
    if target is None or not target.size:
        return
    copies = target[0] == 0 and not attribute(node, "allowzero", 0)
    if copies or target[0] == -1 or (not fixed and -1 in target):
        return
    sizes = _sizes(node, node.outputs[0])
    set_constant(node, 1, np.array([-1, *sizes[1:]], np.int64))


def _free_resize(node: ir.Node) -> None:
    """The batch of the map itself in the sizes."""
    target, source = constant(operand(node, 3)), node.inputs[0]
    if target is None or len(target) != 4:
        return
    assert node.graph is not None and source is not None
    name = f"{node.outputs[0].name}_sizes"
    sides = ir.val(f"{name}_sides", const_value=ir.tensor(target[1:].astype(np.int64)))
    node.graph.register_initializer(sides)
    shape = ir.node("Shape", [source], {"start": 0, "end": 1}, name=f"{name}_batch")
    whole = ir.node("Concat", [shape.outputs[0], sides], {"axis": 0}, name=f"{name}_all")
    shape.outputs[0].name, whole.outputs[0].name = f"{name}_batch_output", name
    node.prepend([shape, whole])
    node.replace_input_with(3, whole.outputs[0])


def _drop_nothing(node: ir.Node) -> None:
    """Leave out constants without channels: a trace makes some, for one image."""
    kept = [v for v in node.inputs if (fixed := constant(v)) is None or fixed.size]
    if len(kept) == len(node.inputs):
        return
    for index, value in enumerate(kept):
        node.replace_input_with(index, value)
    node.resize_inputs(len(kept))


def check_symbolic(model: ir.Model) -> None:
    """Refuse a graph that fixes the batch again. Shapes must be inferred, with a symbolic batch.

    Raises:
        ExportError: the first node whose output has a batch of its own; it names the node.
    """
    output = model.graph.outputs[0]
    if output.shape is None or not isinstance(output.shape[0], int):
        return
    for node in _from_image(model.graph):
        read = [value.shape for value in node.inputs if value is not None and value.shape]
        made = node.outputs[0].shape
        if made and made[0] == 1 and any(not isinstance(s[0], int) for s in read):
            raise ExportError(
                f"the node {node.name!r} ({node.op_type}) fixes the batch to 1. {_REMEDY}"
            )
    raise ExportError(f"the graph fixes the batch of its output to {output.shape[0]}. {_REMEDY}")


def check_batch(path: Path) -> None:
    """Run a graph of the contract on two images at once, and on each alone.

    A graph that was traced with a batch of 1 may compute something else for two images without an
    error: a Reshape mixes them, or a normalisation takes the statistics of both.

    Raises:
        ExportError: the logits differ by more than `TOLERANCE`, or the graph does not run; it
            names the first node that computes something else.

    Example:
        >>> from edgeunet.exporting.origins.onnx_batch import check_batch
        >>> check_batch(bundle / "model.fp32.onnx")
    """
    content = read_graph(path)
    session = _session(content)
    (image,) = session.get_inputs()
    images = np.random.default_rng(0).normal(size=(2, *image.shape[1:])).astype(np.float32)
    try:
        both = session.run(None, {image.name: images})
    except Exception as error:  # ONNX Runtime raises several unrelated classes
        found = _FAILED.search(str(error))
        where = f"the node {found[2]!r} ({found[1]})" if found else "a node"
        raise ExportError(f"the graph takes no batch of 2: {where} failed. {_REMEDY}") from None
    alone = [session.run(None, {image.name: each[None]}) for each in images]
    for index, output in enumerate(session.get_outputs()):
        difference = _difference(both[index], [each[index] for each in alone])
        if difference > 0:
            raise ExportError(
                f"{output.name} of a batch of 2 differs by {difference:.2g} from the same two "
                f"images one by one{_first_mixing(content, image.name, images)}. {_REMEDY}"
            )


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a node that fails is told of here
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _difference(both: npt.NDArray[Any], alone: Arrays, axis: int = 0) -> float:
    """Largest difference if it is more than the tolerance, else 0; infinite for other shapes."""
    single = np.concatenate(alone, axis)
    if both.shape != single.shape:
        return float("inf")
    found = float(np.abs(both - single).max(initial=0))
    return found if not found <= TOLERANCE * max(1.0, float(np.abs(single).max())) else 0.0


def _first_mixing(content: bytes, name: str, images: npt.NDArray[np.float32]) -> str:
    """Which node is the first that computes something else, as the end of a sentence."""
    model = onnx.load_model_from_string(content)
    model = onnx.shape_inference.infer_shapes(model)
    values = {value.name: value for value in model.graph.value_info}
    kept = [
        output
        for node in model.graph.node
        for output in node.output
        if output in values
        and values[output].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        and values[output].type.tensor_type.HasField("shape")
        and len(values[output].type.tensor_type.shape.dim)
    ]
    del model.graph.output[:]
    model.graph.output.extend(values[output] for output in kept)
    session = _session(model.SerializeToString())
    both = session.run(None, {name: images})
    alone = [session.run(None, {name: each[None]}) for each in images]
    for index, output in enumerate(kept):
        if _mixes(both[index], [each[index] for each in alone]):
            node = next(node for node in model.graph.node if output in node.output)
            return f"; the first node that mixes them is {node.name!r} ({node.op_type})"
    return ""


def _mixes(both: npt.NDArray[Any], alone: Arrays) -> bool:
    """Whether a value for two images is not made of those for each, along whatever axis."""
    if both.shape == alone[0].shape:  # it has no batch, and must be the same for all
        return any(_difference(both, [each]) > 0 for each in alone)
    twice = [
        axis
        for axis, (two, one) in enumerate(zip(both.shape, alone[0].shape, strict=False))
        if two == 2 * one
    ]
    return all(_difference(both, alone, axis) > 0 for axis in twice)
