"""Graphs in which some nodes run in another precision: layers out of INT8, and the head in FP32.

Only builds that need such a graph import `onnx`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgeunet.errors import EngineError, MissingDependencyError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_HEADS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_RANGE = re.compile(r"ForeignNode\[(.*?)\.\.\.(.*)\]", re.DOTALL)


def parse_graph(content: bytes) -> ModelProto:
    """Parse a graph that `check_graph` has accepted.

    Raises:
        MissingDependencyError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingDependencyError("onnx", "trt", hint="Or only: pip install onnx.") from None
    return onnx.load_from_string(content)


def quantized_nodes(model: ModelProto, printed: str) -> list[str]:
    """Names of the nodes that read Q/DQ pairs, of those that TensorRT means by a layer's name.

    A layer has the names of all nodes that TensorRT fused: "conv + relu",
    "weight + weight_QuantizeLinear + conv", "conv + PWN(PWN(sigmoid), mul)", "conv1 || conv2".
    "{ForeignNode[first...last]}" stands for all nodes on the ways from the first to the last. First
    and last may be tensors, and so may the name of a pair that is a layer by itself.

    Args:
        printed: the layer's name in TensorRT's log.
    """
    graph = model.graph
    found = _RANGE.search(printed)
    if found is None:
        meant = _mentioned(graph, printed)
    else:
        first, last = (_mentioned(graph, end) for end in found.groups())
        meant = _between(graph, first, last) if first and last else first or last
    producers = _producers(graph)

    def behind_pairs(nodes: Iterable[NodeProto]) -> list[str]:
        return [
            node.name
            for node in nodes
            if node.name
            and node.op_type not in _PAIR
            and any(_behind_pair(name, producers) for name in node.input)
        ]

    if names := behind_pairs(meant):
        return names
    outputs = {name for node in meant if node.op_type in _PAIR for name in node.output}
    readers = []
    for node in graph.node:
        if not outputs.isdisjoint(node.input):
            readers.append(node)
            outputs.update(node.output if node.op_type in _PAIR else ())
    return behind_pairs(readers)


def without_pairs(model: ModelProto, names: Collection[str]) -> None:
    """Let some nodes read what stands in front of their Q/DQ pairs.

    Pairs stay for the other nodes that read them, and behind a node for its readers.

    Args:
        names: of nodes of the graph, see `quantized_nodes`.
    """
    graph = model.graph
    producers = _producers(graph)
    for node in graph.node:
        if node.name in names:
            for index, name in enumerate(node.input):
                node.input[index] = _behind_pair(name, producers) or name
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):  # the graph is sorted
        if node.op_type not in _PAIR or not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(node.input)
    _set_nodes(graph, reversed(kept))


def head_nodes(model: ModelProto) -> list[str]:
    """Names of the nodes from the last convolutions on to the logits, in the graph's order.

    Raises:
        EngineError: the graph has no logits: it is the encoder of a gated net.
    """
    return [node.name for node in _head(model.graph)]


def head_in_fp32(model: ModelProto) -> None:
    """Compute the head of an FP16 graph in FP32, between Casts. Raises as `head_nodes`."""
    graph = model.graph
    produced = {name for node in _head(graph) for name in node.output}
    rest = (node for node in graph.node if produced.isdisjoint(node.output))
    read_outside = {name for node in rest for name in node.input}
    renamed = {name: f"{name}_in_fp32" for name in read_outside & produced}
    for value in graph.output:  # FP32 already
        renamed.pop(value.name, None)
    widened = _Widened(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        if produced.isdisjoint(node.output):
            nodes.append(node)
            continue
        for index, name in enumerate(node.input):
            if name in produced:
                node.input[index] = renamed.get(name, name)
            elif name:
                node.input[index] = widened.read(name, nodes)
        if node.op_type == "Cast":
            _cast_to(node, "FLOAT")
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in renamed:
                node.output[index] = renamed[name]
                nodes.append(_cast(renamed[name], name, "FLOAT16"))
    _set_nodes(graph, nodes)


class _Widened:
    """FP32 forms of FP16 tensors, each made once."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._constants = {each.name: each for each in graph.initializer}
        self._made: dict[str, str] = {}

    def read(self, name: str, nodes: list[NodeProto]) -> str:
        """Name of the FP32 form. What is computed is cast by a node that joins `nodes`."""
        from onnx import TensorProto, numpy_helper

        constant = self._constants.get(name)
        if constant is not None and constant.data_type != TensorProto.FLOAT16:
            return name  # such as the scales of a Resize
        if name not in self._made:
            wide = self._made[name] = f"{name}_in_fp32"
            if constant is None:
                nodes.append(_cast(name, wide, "FLOAT"))
            else:
                values = numpy_helper.to_array(constant).astype(np.float32)
                self._graph.initializer.append(numpy_helper.from_array(values, wide))
        return self._made[name]


def _cast(source: str, target: str, kind: str) -> NodeProto:
    from onnx import helper

    node = helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=1)
    _cast_to(node, kind)
    return node


def _cast_to(node: NodeProto, kind: str) -> None:
    from onnx import TensorProto

    (to,) = node.attribute
    to.i = TensorProto.DataType.Value(kind)


def _head(graph: GraphProto) -> list[NodeProto]:
    if all(value.name != "logits" for value in graph.output):
        raise EngineError("expected a graph with logits, got one without: it has no head.")
    producers = _producers(graph)
    waiting, names = deque(["logits"]), set[str]()
    while waiting:
        node = producers.get(waiting.popleft())
        if node is not None and names.isdisjoint(node.output):
            names.update(node.output)
            if node.op_type not in _HEADS:
                waiting.extend(node.input)
    return [node for node in graph.node if not names.isdisjoint(node.output)]


def _set_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Replace the nodes, and drop what then nothing reads, or is wrong about types."""
    from onnx import NodeProto

    copies = []
    for node in nodes:
        copies.append(NodeProto())
        copies[-1].CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)
    del graph.value_info[:]
    read = {name for node in graph.node for name in node.input}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in read:
            del graph.initializer[index]


def _producers(graph: GraphProto) -> dict[str, NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def _behind_pair(name: str, producers: Mapping[str, NodeProto]) -> str | None:
    """The tensor in front of the Q/DQ pair that puts out `name`; None if no pair does."""
    dequantize = producers.get(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = producers.get(dequantize.input[0])
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return None
    return str(quantize.input[0])


def _mentioned(graph: GraphProto, printed: str) -> list[NodeProto]:
    """Nodes whose names occur in a text; if there are none, nodes that read a tensor named there.

    A name ends where no character follows that could continue it: "conv1" is not in "conv12", and
    not in "conv1.weight".
    """

    def occurs(name: str) -> bool:
        return name in printed and bool(
            re.search(rf"(?<![\w/:.-]){re.escape(name)}(?![\w/:-]|\.\w)", printed)
        )

    nodes = [node for node in graph.node if node.name and occurs(node.name)]
    if nodes:
        return nodes
    tensors = {name for node in graph.node for name in node.input if name and occurs(name)}
    return [node for node in graph.node if not tensors.isdisjoint(node.input)]


def _between(
    graph: GraphProto, first: Sequence[NodeProto], last: Sequence[NodeProto]
) -> list[NodeProto]:
    """Nodes on the ways from the first to the last, with both."""
    behind = {name for node in first for name in node.output}
    for node in graph.node:  # the graph is sorted
        if not behind.isdisjoint(node.input):
            behind.update(node.output)
    before = {name for node in last for name in node.output}
    for node in reversed(graph.node):
        if not before.isdisjoint(node.output):
            before.update(node.input)
    ends = {name for node in (*first, *last) for name in node.output}
    meant = (behind & before) | ends
    return [node for node in graph.node if not meant.isdisjoint(node.output)]
