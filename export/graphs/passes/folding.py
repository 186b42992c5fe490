"""What the input's size decides is written into the graph as constants.

Exporters write the arithmetic of shapes into the graph: the sizes of a Resize, the borders of a
Pad, the target of a Reshape. Neither INT8 kernels nor TensorRT 8.x take those unless they are
constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from .activations import PReluToLeakyRelu
from .affine import FoldAffine
from .clean import Clean
from .convolutions import PadToConv
from .graph import Array, attribute, operand
from .upsampling import DeconvToDepthToSpace, DropResize, PixelShuffleToDepthToSpace

_BATCHES = (2, 3)
"""Batches that a graph is tried with: what is the same with both does not depend on the batch."""

_LARGEST = 1 << 20
"""Bytes of a result from which on it is only folded if it is no larger than its operands."""

_KEPT = ("QuantizeLinear", "DequantizeLinear", "RandomNormal", "RandomUniform")


class Prepare(ir.passes.Sequential):
    """What every exporter's graph goes through before it is the reference graph."""

    def __init__(self) -> None:
        super().__init__(
            Clean(),
            FoldShapes(),
            PadToConv(),
            DropResize(),
            FoldAffine(),
            PReluToLeakyRelu(),
            PixelShuffleToDepthToSpace(),
            DeconvToDepthToSpace(),
            Clean(),
        )


class FoldShapes(ir.passes.InPlacePass):
    """Constants in place of what they and the input's size decide.

    Only the batch may be open. A Resize to computed sizes gets scales, as its sizes name the batch;
    a Reshape that keeps the batch copies it. All maps get their shapes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Compute all shapes for two batches, and compare."""
        first, second = (_Evaluation(model, batch) for batch in _BATCHES)
        modified = False
        for node in list(model.graph):
            for value in node.outputs:
                known = _same(first.constants, second.constants, str(value.name))
                if known is not None and not value.is_graph_output():
                    _fold(model.graph, value, known)
                    modified = True
            if node.op_type == "Resize":
                modified |= _scale(model.graph, node, first.shapes)
            elif node.op_type == "Reshape":
                modified |= _copy_batch(model.graph, node, first, second)
        for node in model.graph:
            for value in node.outputs:
                _note_shape(value, first, second)
        return ir.passes.PassResult(model, modified)


@dataclass
class _Evaluation:
    """All constants and shapes of a graph, by the names of their values, for one batch."""

    model: ir.Model
    batch: int
    constants: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    types: dict[str, onnx.TypeProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.model.graph
        for value in graph.initializers.values():
            assert value.const_value is not None
            self._set_constant(str(value.name), value.const_value.numpy())
        for value in graph.inputs:
            sizes = [s if isinstance(s, int) else None for s in value.shape or ()]
            if sizes and sizes[0] is None:
                sizes[0] = self.batch
            kind = ir.DataType.FLOAT if value.dtype is None else value.dtype
            self._set_type(
                str(value.name), onnx.helper.make_tensor_type_proto(int(kind), sizes or None)
            )
        for node in graph:
            self._visit(node)

    def _visit(self, node: ir.Node) -> None:
        inputs = [None if value is None else str(value.name) for value in node.inputs]
        proto = ir.to_proto(node)
        found = self._constant(proto, inputs)
        if found is not None:
            for name, values in zip(proto.output, found, strict=True):
                self._set_constant(name, values)
            return
        try:
            schema = onnx.defs.get_schema(
                node.op_type, self.model.graph.opset_imports[node.domain], node.domain
            )
            given = [name for name in inputs if name]
            types = shape_inference.infer_node_outputs(
                schema,
                proto,
                {name: self.types[name] for name in given},
                {
                    name: numpy_helper.from_array(self.constants[name], name)
                    for name in given
                    if name in self.constants and self.constants[name].nbytes <= _LARGEST
                },
                opset_imports=[
                    onnx.helper.make_opsetid(domain, version)
                    for domain, version in self.model.graph.opset_imports.items()
                ],
                ir_version=self.model.ir_version,
            )
        except (KeyError, onnx.defs.SchemaError, shape_inference.InferenceError):
            return  # of other domains, or behind what is not known
        for name, kind in types.items():
            self._set_type(name, kind)

    def _constant(self, proto: onnx.NodeProto, inputs: list[str | None]) -> list[Array] | None:
        """Results of a node, None if more than constants and shapes decide them."""
        if proto.domain or proto.op_type in _KEPT or any(a.g.node for a in proto.attribute):
            return None
        if proto.op_type in ("Shape", "Size"):
            shape = self.shapes.get(str(inputs[0]))
            if shape is None:
                return None
            if proto.op_type == "Size":
                return [np.array(np.prod(shape, dtype=np.int64))]
            ends = {a.name: a.i for a in proto.attribute}
            return [np.array(shape[ends.get("start", 0) : ends.get("end", len(shape))], np.int64)]
        given = [name for name in inputs if name]
        if not given or not all(name in self.constants for name in given):
            return None
        feeds = {name: self.constants[name] for name in given}
        graph = onnx.helper.make_graph(
            [proto],
            "node",
            [_unknown(name) for name in feeds],
            [_unknown(name) for name in proto.output if name],
        )
        version = self.model.graph.opset_imports[""]
        made = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", version)], ir_version=8
        )
        try:
            found = [np.asarray(v) for v in ReferenceEvaluator(made).run(None, feeds)]
        except (NotImplementedError, RuntimeError, TypeError, ValueError):
            return None
        large = sum(values.nbytes for values in found)
        return None if large > max(_LARGEST, sum(v.nbytes for v in feeds.values())) else found

    def _set_constant(self, name: str, values: Array) -> None:
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        self.constants[name] = values
        self._set_type(name, onnx.helper.make_tensor_type_proto(kind, values.shape))

    def _set_type(self, name: str, kind: onnx.TypeProto) -> None:
        self.types[name] = kind
        sizes = [dim.dim_value or None for dim in kind.tensor_type.shape.dim]
        known = tuple(size for size in sizes if size)
        if kind.tensor_type.HasField("shape") and len(known) == len(sizes):
            self.shapes[name] = known


def _unknown(name: str) -> onnx.ValueInfoProto:
    return onnx.helper.make_empty_tensor_value_info(name)


def _same(first: Mapping[str, Array], second: Mapping[str, Array], name: str) -> Array | None:
    """A constant that has the same values in both, else None."""
    one, two = first.get(name), second.get(name)
    same = one is not None and two is not None and np.array_equal(one, two)
    return one if same else None


def _fold(graph: ir.Graph, value: ir.Value, values: Array) -> None:
    """Let all readers of a value read a constant."""
    folded = _constant_of(graph, f"{value.name}_folded", values)
    value.replace_all_uses_with(folded)


def _constant_of(graph: ir.Graph, name: str, values: Array) -> ir.Value:
    constant = ir.val(name, const_value=ir.tensor(np.asarray(values, order="C"), name=name))
    graph.register_initializer(constant)
    return constant


def _scale(graph: ir.Graph, node: ir.Node, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Give a Resize constant scales for its sizes, if both are known."""
    source, target = node.inputs[0], node.outputs[0]
    before, after = shapes.get(str(source and source.name)), shapes.get(str(target.name))
    plain = attribute(node, "axes", None) is None
    if operand(node, 3) is None or before is None or after is None or not plain:
        return False
    constant = _constant_of(graph, f"{node.name}_scales", scales_between(before, after))
    node.resize_inputs(3)
    node.replace_input_with(2, constant)
    return True


def scales_between(before: Sequence[int], after: Sequence[int]) -> npt.NDArray[np.float32]:
    """Scales by which a Resize of maps of one shape gives the other."""
    scales = [np.float32(new / old) for old, new in zip(before, after, strict=True)]
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        # Readers multiply in single or double precision, and a row less would be an error.
        while min(old * float(scales[index]), np.float32(old) * scales[index]) < new:
            scales[index] = np.nextafter(scales[index], np.float32(np.inf))
    return np.array(scales, np.float32)


def _copy_batch(graph: ir.Graph, node: ir.Node, first: _Evaluation, second: _Evaluation) -> bool:
    """Let a Reshape whose target names the batch copy it, if that is its first size."""
    source, target = node.inputs[0], operand(node, 1)
    if source is None or target is None or attribute(node, "allowzero", 0):
        return False
    one, two = (e.constants.get(str(target.name)) for e in (first, second))
    if one is None or two is None or np.array_equal(one, two) or 0 in (one.size, two.size):
        return False
    sizes = [e.shapes.get(str(source.name), (0,))[0] for e in (first, second)]
    kept = np.array_equal(one[1:], two[1:]) and [one[0], two[0]] == sizes
    if kept:
        copied = np.concatenate([[0], one[1:]]).astype(np.int64)
        node.replace_input_with(1, _constant_of(graph, f"{node.name}_target", copied))
    return bool(kept)


def _note_shape(value: ir.Value, first: _Evaluation, second: _Evaluation) -> None:
    """Give a value its type and shape, with an open size where the two differ."""
    name = str(value.name)
    one, two = first.shapes.get(name), second.shapes.get(name)
    if one is None or two is None or len(one) != len(two) or value.is_graph_output():
        return
    value.dtype = ir.DataType(first.types[name].tensor_type.elem_type)
    value.shape = ir.Shape([a if a == b else None for a, b in zip(one, two, strict=True)])
