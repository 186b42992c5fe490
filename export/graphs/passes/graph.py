"""What passes and lint rules read from a model, and how passes write new nodes into it.

Files are converted at the borders, `load` and `save`; everything between works on `onnx_ir` models.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgeunet.errors import ExportError, first_line

Array = npt.NDArray[Any]

OPSET = 17
"""Of the reference graphs: the newest opset that TensorRT 8.x reads correctly."""

_PART = "::"


def load(path: Path) -> ir.Model:
    """Read an ONNX file with all its weights, also those in files beside it."""
    return ir.from_proto(onnx.load(path))


def save(model: ir.Model, path: Path) -> None:
    """Infer all types and shapes, check the model and write it.

    Raises:
        ExportError: the model is not valid ONNX.
    """
    try:
        proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True)
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise ExportError(
            f"{path.name} would not be valid ONNX: {first_line(error)}. Please report this net."
        ) from None
    onnx.save(proto, path)


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that computes a value, None if there is none or, with op types, none of these."""
    node = None if value is None else value.producer()
    return node if node is None or not op_types or node.op_type in op_types else None


def of_type(graph: ir.Graph, *op_types: str) -> Iterator[ir.Node]:
    """Nodes of these operators, also in the branches of If and the bodies of Loop and Scan."""
    return (node for node in graph.all_nodes() if node.op_type in op_types)


def operand(node: ir.Node, index: int) -> ir.Value | None:
    """An input of a node, None if an optional one is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def names(values: Iterable[ir.Value | None]) -> list[str]:
    """Names of the values that are there."""
    return [str(value.name) for value in values if value is not None]


def nodes_for(value: ir.Value) -> set[ir.Node]:
    """All nodes that a value is computed from."""
    found: set[ir.Node] = set()
    waiting: list[ir.Value | None] = [value]
    while waiting:
        node = producer(waiting.pop())
        if node is not None and node not in found:
            found.add(node)
            waiting.extend(node.inputs)
    return found


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """Value of an attribute; lists are tuples."""
    return node.attributes[name].value if name in node.attributes else default


def constant(value: ir.Value | None) -> Array | None:
    """Values of an initializer, None for anything else."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def weights(node: ir.Node) -> list[Array]:
    """The constants among a node's inputs, such as weight and bias."""
    found = (constant(value) for value in node.inputs)
    return [values for values in found if values is not None]


def map_shape(value: ir.Value | None) -> tuple[int, ...]:
    """(C, H, W) of a feature map, () unless all three are fixed."""
    sizes = () if value is None or value.shape is None else tuple(value.shape)[1:]
    fixed = tuple(size for size in sizes if isinstance(size, int))
    return fixed if len(fixed) == len(sizes) == 3 else ()


_CONVOLVES = ("Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul")


def reads_image(node: ir.Node) -> bool:
    """Whether a way from an input of the graph to a node passes no convolution or product."""
    seen: set[ir.Value] = set()
    waiting = list(node.inputs)
    while waiting:
        value = waiting.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        if value.is_graph_input():
            return True
        before = producer(value)
        if before is not None and before.op_type not in _CONVOLVES:
            waiting.extend(before.inputs)
    return False


def nodes_behind_heads(graph: ir.Graph) -> set[ir.Node]:
    """Nodes between the last convolutions and the first output, such as a Resize or a Softmax."""
    found: set[ir.Node] = set()
    waiting: list[ir.Value | None] = [graph.outputs[0]]
    while waiting:
        node = producer(waiting.pop())
        if node is not None and node not in found and node.op_type not in _CONVOLVES:
            found.add(node)
            waiting.extend(node.inputs)
    return found


def is_head(node: ir.Node) -> bool:
    """Whether a node is one of the last convolutions: only what is behind those reads its output.

    The first output of the graph counts as such a reader.
    """
    graph, output = node.graph, node.outputs[0]
    if not isinstance(graph, ir.Graph) or node.op_type not in _CONVOLVES:
        return False
    readers = output.consumers()
    if not readers:
        return output is graph.outputs[0]
    return nodes_behind_heads(graph).issuperset(readers)


def is_plain_conv(node: ir.Node) -> bool:
    """Whether a node is a Conv with constant weights, one group, stride 1 and dilation 1."""
    return (
        node.op_type == "Conv"
        and bool(weights(node))
        and attribute(node, "group", 1) == 1
        and attribute(node, "strides", (1, 1)) == (1, 1)
        and attribute(node, "dilations", (1, 1)) == (1, 1)
    )


def set_constant(node: ir.Node, index: int, values: Array) -> None:
    """Give a node a constant of its own as an input, in the array's type."""
    assert node.graph is not None
    name = _free_name(node.graph, f"{node.outputs[0].name}_input{index}")
    value = ir.val(name, const_value=ir.tensor(np.ascontiguousarray(values)))
    node.graph.register_initializer(value)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def _free_name(graph: ir.Graph, name: str) -> str:
    """The name, longer if a constant has it: two passes may rewrite the same node."""
    while name in graph.initializers:
        name += "_"
    return name


def remove(node: ir.Node) -> None:
    """Take a node that nothing reads out of its graph."""
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def origin(name: str | None) -> str:
    """Name of the node that a pass made this node from; the name itself if no pass made it."""
    return str(name).split(_PART)[0]


class NodePass(ir.passes.InPlacePass):
    """Rewrites every node that matches. Afterwards none does."""

    @abc.abstractmethod
    def matches(self, node: ir.Node) -> bool:
        """Whether the pass has to rewrite this node."""

    @abc.abstractmethod
    def rewrite(self, node: ir.Node) -> None:
        """Change the graph so that the node no longer matches."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Go through the nodes in the graph's order."""
        modified = False
        for node in model.graph:
            if self.matches(node):
                self.rewrite(node)
                modified = True
        return ir.passes.PassResult(model, modified)

    def ensures(self, model: ir.Model) -> None:
        """PostconditionError if a node still matches."""
        left = [str(node.name) for node in model.graph if self.matches(node)]
        if left:
            raise ir.passes.PostconditionError(f"{type(self).__name__} left {', '.join(left)}")


class MapPass(NodePass):
    """A pass that reads the shapes of feature maps. Maps without a fixed size do not match."""

    def requires(self, model: ir.Model) -> None:
        """PreconditionError if shape inference has not run."""
        inner = [v for node in model.graph for v in node.outputs if not v.is_graph_output()]
        if inner and all(value.shape is None for value in inner):
            raise ir.passes.PreconditionError("No shapes. Run onnx's shape inference first.")


class Int8MapPass(MapPass):
    """A `MapPass` for nodes that run in INT8; others stay as they are.

    Args:
        nodes: their names, None for all.
    """

    def __init__(self, nodes: Collection[str] | None = None) -> None:
        self._nodes = nodes

    def chosen(self, node: ir.Node) -> bool:
        """Whether a node is one of them."""
        return self._nodes is None or node.name in self._nodes


class Chain:
    """New nodes in place of a node or behind it. Each reads the output of the one before.

    Args:
        node: the node that the new ones are named after.
        source: what the first new node reads.
        separator: stands between the node's name and the new one's; `origin` knows the default.
    """

    def __init__(self, node: ir.Node, source: ir.Value | None, separator: str = _PART) -> None:
        self.node, self.output = node, source
        self.nodes: list[ir.Node] = []
        self._separator = separator

    def add(self, op: str, name: str, *constants: npt.ArrayLike, **attributes: Any) -> None:
        """Append a node that reads the output so far, then the constants.

        Args:
            name: empty for the name of the original node itself, which decides about INT8.
            constants: integers become INT64, as sizes and indices must be; the rest FP32.
        """
        assert self.node.graph is not None
        name = f"{self.node.name}{self._separator}{name}" if name else str(self.node.name)
        inputs = [self.output]
        for index, values in enumerate(constants):
            whole = np.issubdtype(np.asarray(values).dtype, np.integer)
            array = np.ascontiguousarray(values, np.int64 if whole else np.float32)
            free = _free_name(self.node.graph, f"{name}_constant{index}")
            value = ir.val(free, const_value=ir.tensor(array))
            self.node.graph.register_initializer(value)
            inputs.append(value)
        self.nodes.append(ir.node(op, inputs, attributes, name=name))
        self.output = self.nodes[-1].outputs[0]
        self.output.name = f"{name}_output"

    def spread(self, shape: tuple[int, ...], *, block: tuple[int, int]) -> None:
        """Append nodes that turn channels into positions, as DepthToSpace does.

        (N, rows * columns * C, H / rows, W / columns) -> (N, C, H, W). Source channel
        (row * columns + column) * C + c is channel c of the pixel at that place in the block.
        ONNX Runtime computes INT8 with channels last. There the outer Transposes cancel out with
        those of the neighbouring convolutions; columns cost nothing, and rows are moved in runs
        of columns * C values.

        Args:
            shape: (C, H, W) of the result. block: (rows, columns).
        """
        (channels, height, width), (rows, columns) = shape, block
        self.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
        if rows > 1:
            self.add("Reshape", "rows", [-1, width // columns, rows, columns * channels])
            self.add("Transpose", "interleaved", perm=[0, 2, 1, 3])
        self.add("Reshape", "columns", [-1, height, width, channels])
        self.add("Transpose", "channels_first", perm=[0, 3, 1, 2])

    def replace_node(self) -> None:
        """Put the new nodes in place of the original one."""
        self._take_name_and_readers(self.node.outputs[0])
        self.node.prepend(self.nodes)
        remove(self.node)

    def insert_behind(self, node: ir.Node, name: str) -> None:
        """Put the new nodes, whose source is the output of `node`, between it and its readers.

        Args:
            name: of that output from now on; the chain's output takes its old name.
        """
        old = node.outputs[0]
        self._take_name_and_readers(old)
        self.nodes[0].replace_input_with(0, old)
        old.name, old.shape = f"{self.node.name}{self._separator}{name}", None
        node.append(self.nodes)

    def _take_name_and_readers(self, old: ir.Value) -> None:
        assert self.output is not None
        self.output.name, self.output.type, self.output.shape = old.name, old.type, old.shape
        old.replace_all_uses_with(self.output, replace_graph_outputs=True)
