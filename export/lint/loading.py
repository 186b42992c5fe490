"""Reading ONNX files of any origin: whole, valid and with all their weights, or not at all.

Reading parses protocol buffers and runs nothing of what the file holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, inliner, numpy_helper
from onnx.checker import ValidationError
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_model,
    uses_external_data,
)
from onnx.shape_inference import InferenceError, infer_shapes

from edgeunet.errors import GraphError

from .graph import graphs_of, opset_of


def load_model(path: Path) -> onnx.ModelProto:
    """Read a file, types and shapes inferred, local functions put where they are called.

    Raises:
        GraphError: no file, not ONNX, truncated, not valid, or weights that are missing or lie
            outside the file's folder.
    """
    model = _parse(path)
    for tensor in _tensors(model):
        if uses_external_data(tensor):
            _check_external(tensor, path)
    try:
        # Without the weights, so that files beyond the 2 GB of a protocol buffer are inferred too.
        model = infer_shapes(inliner.inline_local_functions(model), data_prop=True)
        load_external_data_for_model(model, str(path.parent))
        for tensor in _tensors(model):
            numpy_helper.to_array(tensor)
    except (InferenceError, ValidationError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise GraphError(f"{path} is not valid ONNX: {_first_line(error)}") from None
    _check_sources(model, path)
    return model


def _parse(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise GraphError(f"{path} is not a file; an ONNX model was wanted.")
    try:
        model = onnx.load(path, "protobuf", load_external_data=False)  # not by the suffix
    except DecodeError:
        raise GraphError(
            f"{path} is not an ONNX model, or was cut off. Export or download it again."
        ) from None
    if not opset_of(model) or not model.graph.node:
        raise GraphError(
            f"{path} holds no graph of ONNX operators; it is no ONNX model, or was cut off."
        )
    return model


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor that a file can keep its data outside of."""
    graphs = list(graphs_of(model.graph))
    for graph in graphs:
        yield from graph.initializer
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for function in model.functions for node in function.node]
    for node in nodes:
        for held in node.attribute:
            yield from (held.t, *held.tensors) if held.HasField("t") else held.tensors


def _check_external(tensor: TensorProto, path: Path) -> None:
    """Weights come from plain files inside the model's folder: a location is untrusted input."""
    info = ExternalDataInfo(tensor)
    where = f"{path} keeps {tensor.name!r} in {info.location!r}"
    names = PurePosixPath(info.location), PureWindowsPath(info.location)
    if not info.location or any(n.is_absolute() or n.drive or ".." in n.parts for n in names):
        raise GraphError(f"{where}, outside its own folder. Refused.")
    file = path.parent
    for part in names[0].parts:
        file /= part
        if file.is_symlink():
            raise GraphError(f"{where}, behind a symbolic link. Refused: put the file there.")
    if not file.is_file():
        raise GraphError(f"{where}, which does not exist. Put it beside the model.")
    if (info.offset or 0) + (info.length or 0) > file.stat().st_size:
        raise GraphError(f"{where}, which is too short. Copy or download it again.")


def _check_sources(model: onnx.ModelProto, path: Path) -> None:
    """Everything that a node reads must be fed, held or made by another node.

    ONNX's own checker also refuses what builders take, such as outputs without a shape.
    """
    graphs = list(graphs_of(model.graph))
    nodes = [node for graph in graphs for node in graph.node]
    known = {""}
    for graph in graphs:
        known.update(value.name for value in (*graph.input, *graph.initializer))
        known.update(tensor.values.name for tensor in graph.sparse_initializer)
    known.update(name for node in nodes for name in node.output)
    for node in nodes:
        for name in node.input:
            if name not in known:
                raise GraphError(
                    f"{path} is not valid ONNX: {node.op_type} {node.name!r} reads {name!r}, "
                    "which nothing makes. Export it again."
                )


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
