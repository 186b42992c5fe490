"""Reading ONNX files of any origin: whole, valid and with all their weights, or not at all.

Reading parses protocol buffers. It runs nothing that the file holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper, inliner, numpy_helper
from onnx.checker import ValidationError
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_model,
    uses_external_data,
)
from onnx.shape_inference import InferenceError, infer_shapes
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from edgeunet.errors import GraphError

_SPARSE = (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS)
MAX_NODES = 1_000_000
_INVALID = (
    AssertionError,
    InferenceError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValidationError,
    ValueError,
)


def load_model(path: Path) -> ir.Model:
    """Read a file, infer types and shapes, inline local functions.

    Constants are initializers in the result, even if the file has Constant nodes.

    Raises:
        GraphError: the file is missing, not ONNX, truncated or not valid; or weights are missing
            or lie outside the file's folder; or local functions that would expand without bound.
    """
    proto = _parse(path)
    for tensor in _tensors(proto):
        if uses_external_data(tensor):
            _check_external(tensor, path)
    _check_functions(proto, path)
    try:
        # Without the weights, so that files beyond the 2 GB of a protocol buffer are inferred too.
        proto = infer_shapes(inliner.inline_local_functions(proto), data_prop=True)
        load_external_data_for_model(proto, str(path.parent))
        for tensor in _tensors(proto):
            numpy_helper.to_array(tensor)
        _check_sources(proto)
        _leave_out_what_rules_do_not_read(proto)
        model = ir.from_proto(proto)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    except _INVALID as error:
        raise GraphError(f"{path} is not valid ONNX: {_reason(error)}") from None
    return model


def _parse(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise GraphError(f"{path} is not a file; expected an ONNX model.")
    try:
        proto = onnx.load(path, "protobuf", load_external_data=False)  # not by the suffix
    except DecodeError:
        raise GraphError(
            f"{path} is not an ONNX model, or was cut off. Export or download it again."
        ) from None
    for entry in proto.opset_import:
        if entry.domain == "ai.onnx":  # the standard's own operators have two names
            entry.domain = ""
    opset = next((entry.version for entry in proto.opset_import if not entry.domain), 0)
    if not opset or not proto.graph.node:
        raise GraphError(
            f"{path} holds no graph of ONNX operators; it is not an ONNX model, or was cut off. "
            "Export or download it again."
        )
    return proto


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for held in node.attribute:
            for inner in (held.g, *held.graphs) if held.HasField("g") else held.graphs:
                yield from _graphs(inner)


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor whose data a file can keep elsewhere."""
    graphs = list(_graphs(model.graph))
    for graph in graphs:
        yield from graph.initializer
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for function in model.functions for node in function.node]
    for node in nodes:
        for held in node.attribute:
            yield from (held.t, *held.tensors) if held.HasField("t") else held.tensors


def _check_functions(model: onnx.ModelProto, path: Path) -> None:
    """Refuse functions whose expansion is endless or huge: 30 may call the next one twice each."""
    functions = {(each.domain, each.name): each for each in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    pending = list(functions)
    open_calls: set[tuple[str, str]] = set()
    while pending:
        key = pending[-1]
        called = [(node.domain, node.op_type) for node in _nodes_of(functions[key])]
        waiting = [each for each in called if each in functions and each not in sizes]
        if key not in sizes and waiting:
            open_calls.add(key)
            if open_calls.intersection(waiting):
                raise GraphError(f"{path} has a function {key[1]!r} that calls itself. Refused.")
            pending += waiting
            continue
        pending.pop()
        open_calls.discard(key)
        sizes[key] = sum(sizes.get(each, 1) for each in called)
        if sizes[key] > MAX_NODES:
            raise GraphError(
                f"{path} has functions that expand to more than {MAX_NODES} nodes. Refused."
            )


def _nodes_of(function: onnx.FunctionProto) -> list[onnx.NodeProto]:
    """The nodes of a function, with those inside its nodes."""
    inner = [
        graph
        for node in function.node
        for held in node.attribute
        for graph in (*([held.g] if held.HasField("g") else []), *held.graphs)
    ]
    graphs = [each for graph in inner for each in _graphs(graph)]
    return [*function.node, *(node for graph in graphs for node in graph.node)]


def _check_external(tensor: TensorProto, path: Path) -> None:
    """A location is untrusted input: weights come from plain files inside the model's folder."""
    info = ExternalDataInfo(tensor)
    where = f"{path} keeps {tensor.name!r} in {info.location!r}"
    names = PurePosixPath(info.location), PureWindowsPath(info.location)
    if not info.location or any(n.is_absolute() or n.drive or ".." in n.parts for n in names):
        raise GraphError(f"{where}, outside its own folder. Refused: put the file beside it.")
    file = path.parent
    for part in names[0].parts:
        file /= part
        if file.is_symlink():
            raise GraphError(f"{where}, behind a symbolic link. Refused: put the file there.")
    if not file.is_file():
        raise GraphError(f"{where}, which does not exist. Put it beside the model.")
    if (info.offset or 0) + (info.length or 0) > file.stat().st_size:
        raise GraphError(f"{where}, which is too short. Copy or download it again.")


def _check_sources(model: onnx.ModelProto) -> None:
    """ValueError if a node reads a tensor that is not fed, stored or computed.

    ONNX's own checker also refuses what builders accept, such as outputs without a shape.
    """
    graphs = list(_graphs(model.graph))
    nodes = [node for graph in graphs for node in graph.node]
    known = {""}
    for graph in graphs:
        known.update(value.name for value in (*graph.input, *graph.initializer))
        known.update(tensor.values.name for tensor in graph.sparse_initializer)
    known.update(name for node in nodes for name in node.output)
    for node in nodes:
        for name in node.input:
            if name not in known:
                raise ValueError(
                    f"{node.op_type} {node.name!r} reads {name!r}, which nothing makes. "
                    "Export it again."
                )


def _leave_out_what_rules_do_not_read(model: onnx.ModelProto) -> None:
    """Sparse values and types of values that are no tensors, which `onnx_ir` does not know."""
    for graph in list(_graphs(model.graph)):
        for value in (*graph.value_info, *graph.input, *graph.output):
            if not value.type.HasField("tensor_type"):
                value.ClearField("type")
        for node in graph.node:
            for held in [held for held in node.attribute if held.type in _SPARSE]:
                node.attribute.remove(held)
        for tensor in graph.sparse_initializer:
            graph.node.insert(0, helper.make_node("Constant", [], [tensor.values.name]))


def _reason(error: BaseException) -> str:
    """First line of what the innermost error says."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
