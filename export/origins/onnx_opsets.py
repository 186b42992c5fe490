"""Graphs of other opsets and precisions -> the opset of bundles, FP32."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
from onnx import version_converter

from edgeunet.errors import ExportError

from ..graphs.passes.graph import (
    OPSET,
    Array,
    Chain,
    NodePass,
    attribute,
    constant,
    operand,
    producer,
    set_constant,
)

_OTHER_FLOATS = (ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)
_REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
    *("ReduceMin", "ReduceProd", "ReduceSumSquare"),
)
_DEFAULTS = {
    ("AveragePool", "dilations"): (1, 1),
    ("Cast", "saturate"): 1,
    ("CastLike", "saturate"): 1,
    ("Resize", "antialias"): 0,
    ("Resize", "keep_aspect_ratio_policy"): "stretch",
}
"""Attributes that later opsets added, with the value that means what earlier ones do."""

_LARGE = 1024
"""Numbers of a constant from which on it is a weight, and no shape."""

_GRID_MODES = {"linear": "bilinear", "cubic": "bicubic"}


def to_opset(model: ir.Model) -> ir.Model:
    """The same graph in the opset of bundles.

    ONNX's converter takes older graphs. It fails on many newer ones, so their operators are
    rewritten here.

    Raises:
        ExportError: a node that the opset cannot express, or that cannot be converted.
    """
    found = model.opset_imports[""]
    for node in model.graph:
        target = constant(operand(node, 1)) if node.op_type == "Reshape" else None
        if target is None or 0 not in target:
            node.attributes.pop("allowzero", None)  # the target of a map with pixels has no 0
    if found < OPSET:
        try:
            proto = version_converter.convert_version(ir.to_proto(model), OPSET)
        except Exception as error:  # its C++ raises several classes
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ExportError(
                f"the graph cannot be converted from opset {found} to {OPSET}: {reason}. Export it "
                f"again with opset_version={OPSET}."
            ) from None
        return ir.from_proto(proto)
    if found > OPSET:
        _Lower()(model)
        for node in model.graph:
            _check(node, found)
            node.version = None
        model.opset_imports[""] = OPSET
    return model


def _check(node: ir.Node, opset: int) -> None:
    """ExportError unless the opset of bundles has this node with its attributes."""
    known = onnx.defs.has(node.op_type, OPSET, "")
    schema = onnx.defs.get_schema(node.op_type, OPSET, "") if known else None
    new = [name for name in node.attributes if schema and name not in schema.attributes]
    if schema is None or new or len(node.inputs) > schema.max_input:
        what = f" with {', '.join(new)}" if new else ""
        raise ExportError(
            f"the node {node.name!r} ({node.op_type}{what}) needs opset {opset}; bundles have "
            f"opset {OPSET}. Export the net again with opset_version={OPSET}."
        )


class _Lower(ir.passes.InPlacePass):
    """Operators of opsets 18 to 21 -> those of 17."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        for node in list(model.graph):
            for name in [n for n in node.attributes if (node.op_type, n) in _DEFAULTS]:
                if attribute(node, name, None) == _DEFAULTS[node.op_type, name]:
                    node.attributes.pop(name)
            rewrite = _REWRITES.get(node.op_type)
            if rewrite is not None:
                rewrite(node)
        return ir.passes.PassResult(model, modified=True)


def _fixed(node: ir.Node, index: int) -> Array | None:
    """A constant input, None if it is left out; ExportError if it is computed."""
    value = operand(node, index)
    if value is None:
        return None
    found = constant(value)
    if found is None:
        raise ExportError(
            f"the node {node.name!r} ({node.op_type}) reads {value.name!r}, which is computed; "
            "expected a constant. Export the net with fixed sizes."
        )
    return found


def _rank(node: ir.Node) -> int:
    value = node.inputs[0]
    if value is None or value.shape is None:
        raise ExportError(
            f"the node {node.name!r} ({node.op_type}) reads a value of unknown rank. Export the "
            f"net with opset_version={OPSET}."
        )
    return len(value.shape)


def _lower_reduction(node: ir.Node) -> None:
    axes = _fixed(node, 1)
    noop = node.attributes.pop("noop_with_empty_axes", None)
    node.resize_inputs(1)
    if axes is not None and axes.size:
        node.attributes.add(ir.AttrInt64s("axes", axes.tolist()))
    elif noop is not None and noop.as_int():
        node.op_type = "Identity"
        node.attributes.clear()


def _lower_resize(node: ir.Node) -> None:
    axes = node.attributes.pop("axes", None)
    if axes is None:
        return
    rank = _rank(node)
    places = [axis % rank for axis in axes.as_ints()]
    scales, sizes = _fixed(node, 2), _fixed(node, 3)
    if scales is not None and scales.size:
        full = np.ones(rank, np.float32)
        full[places] = scales
        set_constant(node, 2, full)
    elif sizes is not None:
        shape = node.inputs[0].shape if node.inputs[0] is not None else ()
        whole: list[object] = list(shape or ())
        for place, size in zip(places, sizes, strict=True):
            whole[place] = int(size)
        if not isinstance(whole[0], int):
            whole[0] = 1  # the batch, which is made symbolic later
        if not all(isinstance(size, int) for size in whole):
            raise ExportError(
                f"the node {node.name!r} (Resize) reads a map of unknown size. Export the net with "
                f"opset_version={OPSET}."
            )
        set_constant(node, 3, np.array(whole, np.int64))


def _lower_pad(node: ir.Node) -> None:
    axes = _fixed(node, 3)
    if axes is None:
        return
    pads, rank = _fixed(node, 1), _rank(node)
    assert pads is not None
    full = np.zeros((2, rank), np.int64)
    full[:, [int(axis) % rank for axis in axes]] = pads.reshape(2, -1)
    node.resize_inputs(3)
    set_constant(node, 1, full.reshape(-1))


def _lower_split(node: ir.Node) -> None:
    count = node.attributes.pop("num_outputs", None)
    if count is None:
        return
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    size = None if shape is None else shape[attribute(node, "axis", 0)]
    parts = count.as_int()
    if isinstance(size, int):
        largest = math.ceil(size / parts)
        sizes = [min(largest, size - largest * index) for index in range(parts)]
        set_constant(node, 1, np.array(sizes, np.int64))


def _lower_grid(node: ir.Node) -> None:
    mode = attribute(node, "mode", "linear")
    node.attributes.add(ir.AttrString("mode", _GRID_MODES.get(mode, mode)))


def _lower_mish(node: ir.Node) -> None:
    """X * tanh(softplus(x))."""
    chain = Chain(node, node.inputs[0])
    chain.add("Softplus", "softplus")
    chain.add("Tanh", "tanh")
    chain.add("Mul", "")
    chain.nodes[-1].resize_inputs(2)
    chain.nodes[-1].replace_input_with(1, node.inputs[0])
    chain.replace_node()


def _lower_gelu(node: ir.Node) -> None:
    """0.5 x (1 + erf(x / sqrt(2))), or its approximation by tanh."""
    x = node.inputs[0]
    chain = Chain(node, x)
    if attribute(node, "approximate", "none") == "tanh":
        chain.add("Pow", "cube", np.float32(3))
        chain.add("Mul", "weighted", np.float32(0.044715))
        chain.add("Add", "sum")
        chain.nodes[-1].resize_inputs(2)
        chain.nodes[-1].replace_input_with(1, x)
        chain.add("Mul", "scaled", np.float32(math.sqrt(2 / math.pi)))
        chain.add("Tanh", "tanh")
    else:
        chain.add("Mul", "scaled", np.float32(math.sqrt(0.5)))
        chain.add("Erf", "erf")
    chain.add("Add", "raised", np.float32(1))
    chain.add("Mul", "halved", np.float32(0.5))
    chain.add("Mul", "")
    chain.nodes[-1].resize_inputs(2)
    chain.nodes[-1].replace_input_with(1, x)
    chain.replace_node()


def _lower_group_norm(node: ir.Node) -> None:
    """Groups as channels of an InstanceNormalization; then scale and bias of each channel."""
    groups, epsilon = attribute(node, "num_groups", 1), attribute(node, "epsilon", 1e-5)
    scale, bias = _fixed(node, 1), _fixed(node, 2)
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    sizes = [size for size in (shape or ())[1:] if isinstance(size, int)]
    assert scale is not None and bias is not None
    if not sizes or len(sizes) != len(shape or ()) - 1:
        raise ExportError(
            f"the node {node.name!r} (GroupNormalization) reads a map of unknown size. Export the "
            f"net with opset_version={OPSET}."
        )
    ones = (-1, *[1] * (len(sizes) - 1))
    chain = Chain(node, node.inputs[0])
    chain.add("Reshape", "groups", [0, groups, -1])
    chain.add(
        "InstanceNormalization", "", np.ones(groups), np.zeros(groups), epsilon=float(epsilon)
    )
    chain.add("Reshape", "channels", [-1, *sizes])
    chain.add("Mul", "scaled", scale.reshape(ones))
    chain.add("Add", "biased", bias.reshape(ones))
    chain.replace_node()


_REWRITES: dict[str, Callable[[ir.Node], None]] = {
    **dict.fromkeys(_REDUCTIONS, _lower_reduction),
    "Gelu": _lower_gelu,
    "GridSample": _lower_grid,
    "GroupNormalization": _lower_group_norm,
    "Mish": _lower_mish,
    "Pad": _lower_pad,
    "Resize": _lower_resize,
    "Split": _lower_split,
}


def to_float32(model: ir.Model) -> None:
    """Make FP16, BF16 and FP64 weights and activations FP32. Types must be inferred anew."""
    for value in model.graph.initializers.values():
        array = constant(value)
        if array is not None and value.dtype in _OTHER_FLOATS:
            value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
            value.dtype = ir.DataType.FLOAT
    for node in model.graph:
        if node.op_type == "Cast" and attribute(node, "to", 0) in _OTHER_FLOATS:
            node.attributes.add(ir.AttrInt64("to", ir.DataType.FLOAT))
        for held in list(node.attributes.values()):
            tensor = held.value if held.type == ir.AttributeType.TENSOR else None
            if tensor is not None and tensor.dtype in _OTHER_FLOATS:
                values = ir.tensor(tensor.numpy().astype(np.float32))
                node.attributes.add(ir.AttrTensor(held.name, values))
    forget_shapes(model)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.dtype in _OTHER_FLOATS:
            value.dtype = ir.DataType.FLOAT


def forget_shapes(model: ir.Model) -> None:
    """Remove the inner types and shapes of a graph, so that they are inferred anew."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.type = value.shape = None


def inferred(model: ir.Model) -> ir.Model:
    """A copy with types and shapes inferred.

    Raises:
        ExportError: shapes that contradict each other; it names the node.
    """
    graph = model.graph
    # Weights are copied several times otherwise, and only small constants decide shapes.
    large = [
        v for v in graph.initializers.values() if v.const_value and v.const_value.size > _LARGE
    ]
    for value in large:
        graph.initializers.pop(str(value.name))
    graph.inputs.extend(large)
    try:
        proto = onnx.shape_inference.infer_shapes(
            ir.to_proto(model), strict_mode=True, data_prop=True
        )
    except onnx.shape_inference.InferenceError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ExportError(f"the graph's shapes do not fit together: {lines[-1]}") from None
    finally:
        del graph.inputs[len(graph.inputs) - len(large) :]
        for value in large:
            graph.register_initializer(value)
    copy = ir.from_proto(proto)
    weights = copy.graph.inputs[len(graph.inputs) :]
    del copy.graph.inputs[len(graph.inputs) :]
    for new, old in zip(weights, large, strict=True):
        new.const_value = old.const_value
        copy.graph.register_initializer(new)
    return copy


class DropCasts(NodePass):
    """What reads a Cast of floats to FP32 reads the floats. Types must be inferred."""

    def matches(self, node: ir.Node) -> bool:
        """Every Cast that changes nothing."""
        source = node.inputs[0] if node.op_type == "Cast" else None
        return (
            source is not None
            and source.dtype == ir.DataType.FLOAT
            and attribute(node, "to", 0) == ir.DataType.FLOAT
            and not (node.outputs[0].is_graph_output() and producer(source) is None)
            and not (node.outputs[0].is_graph_output() and source.is_graph_output())
        )

    def rewrite(self, node: ir.Node) -> None:
        """Skip it; a graph's output keeps its name."""
        source, output = node.inputs[0], node.outputs[0]
        assert source is not None and node.graph is not None
        if output.is_graph_output():
            source.name, output.name = output.name, f"{output.name}_cast"
        output.replace_all_uses_with(source, replace_graph_outputs=True)
        node.graph.remove(node, safe=True)
