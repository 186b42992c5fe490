"""Opens ONNX files of other people, and refuses by name what cannot become a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import onnx
import onnx_ir as ir
from onnx import inliner
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_model,
    uses_external_data,
)
from onnx_ir.passes.common import RemoveInitializersFromInputsPass

from edgeunet.bundle.graphs import MAX_BYTES
from edgeunet.errors import ExportError, GraphError, UsageError
from edgeunet.files import read_file

from ..graphs.passes.graph import of_type
from ..lint.loading import load_model

OLDEST, NEWEST = 11, 21
"""Opsets that are read."""

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
_IMAGES = (*_FLOATS, ir.DataType.UINT8)
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_RANDOM = (
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"),
    *("RandomUniform", "RandomUniformLike"),
)
_QUANTIZED = (
    *("ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"),
    *("QLinearConv", "QLinearMatMul", "QuantizeLinear"),
)
# What a file is that begins so, and what to do.
_OTHER_FILES = (
    (b"version https://git-lfs", "a Git LFS pointer", "Run `git lfs pull` in its repository."),
    (b"PK\3\4", "PyTorch's weights or an archive", "Pass weights by --model NAME --weights FILE."),
    (b"<", "a web page", "Download the file that the page offers, not the page."),
)
_SPATIAL = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")


class GraphFile(NamedTuple):
    """An ONNX file: as it came, with all its weights inside; and to read and change."""

    original: onnx.ModelProto
    model: ir.Model


def open_graph(path: Path) -> GraphFile:
    """Read an ONNX file with the weights beside it. Its local functions are inlined.

    Raises:
        GraphError: not a valid ONNX model, larger than 1 GB, or weights outside its own folder.
        ExportError: see `check_operators`.
    """
    proto = _parsed(path)
    files = {ExternalDataInfo(each).location for each in _external(proto)}
    model = load_model(path)  # refuses files that are not beside the graph
    size = sum((path.parent / name).stat().st_size for name in files)
    if size > MAX_BYTES:
        raise GraphError(f"{path} has {size} bytes of weights; at most {MAX_BYTES} are read.")
    check_operators(model, name=str(path))
    load_external_data_for_model(proto, str(path.parent))
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    return GraphFile(proto, model)


def _parsed(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise GraphError(f"{path} is not a file; expected an ONNX model.")
    try:
        content = read_file(path, most=MAX_BYTES)
        for start, kind, remedy in _OTHER_FILES:
            if content.startswith(start):
                raise GraphError(f"{path} is {kind}, not an ONNX model. {remedy}")
        return onnx.load_model_from_string(content)
    except GraphError:
        raise
    except OSError as error:
        raise GraphError(f"{path} cannot be read: {error}") from None
    except Exception as error:  # protocol buffers raise classes of their own
        if type(error).__name__ != "DecodeError":
            raise
        raise GraphError(
            f"{path} is not an ONNX model, or was cut off. Export or download it again."
        ) from None


def _external(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [each for each in proto.graph.initializer if uses_external_data(each)]


def check_operators(model: ir.Model, *, name: str = "the graph") -> None:
    """Refuse what no bundle can hold.

    Raises:
        ExportError: an opset that is not read, operators that are not ONNX's own, control flow,
            random numbers, 3-D convolutions, sparse weights, or a net that is quantized already.
    """
    opset = model.opset_imports.get("", 0)
    if not OLDEST <= opset <= NEWEST:
        raise ExportError(
            f"{name} has opset {opset}; expected {OLDEST} to {NEWEST}. Export it again with "
            "opset_version=17."
        )
    for node in model.graph.all_nodes():
        what = f"{name} has the node {node.name!r} ({node.op_type})"
        if node.domain not in ("", "ai.onnx"):
            raise ExportError(
                f"{what} of the domain {node.domain!r}; expected ONNX's own operators. Export the "
                "net without custom operators."
            )
        if node.op_type in _CONTROL_FLOW:
            raise ExportError(
                f"{what}: control flow, expected a plain graph. Export the net in evaluation mode "
                "with fixed branches, or simplify the file with onnxsim first."
            )
        if node.op_type in _RANDOM:
            raise ExportError(
                f"{what}: its answers differ with each call. Export the net in evaluation mode."
            )
        if node.op_type in _QUANTIZED:
            raise ExportError(
                f"{what}: the net is quantized already. Pass the float net that it was made from, "
                "and --int8."
            )
        if node.op_type == "Constant" and not node.attributes:
            raise ExportError(f"{what} without dense values. Export the net with dense weights.")
    for node in of_type(model.graph, *_SPATIAL):
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        if shape is not None and len(shape) != 4:
            raise ExportError(
                f"{name} has the node {node.name!r} ({node.op_type}) of {len(shape) - 2} "
                "dimensions; expected a net of 2-D images."
            )


def image_input(model: ir.Model) -> ir.Value:
    """The one input of a graph, which must be a batch of images.

    Raises:
        ExportError: several inputs, another rank than 4, or a type that no image has.
    """
    RemoveInitializersFromInputsPass()(model)
    inputs = model.graph.inputs
    if len(inputs) != 1:
        shown = ", ".join(f"{value.name} {shown_shape(value)}" for value in inputs) or "none"
        raise ExportError(
            f"the graph has {len(inputs)} inputs ({shown}); expected one, the image. Export the "
            "net with the image alone, and everything else as constants."
        )
    (image,) = inputs
    if image.shape is None or len(image.shape) != 4:
        raise ExportError(
            f"the input {image.name!r} is {shown_shape(image)}; expected 4 dimensions, a batch of "
            "2-D images."
        )
    if image.dtype not in _IMAGES:
        raise ExportError(
            f"the input {image.name!r} holds {image.dtype}; expected floats or uint8."
        )
    return image


def chosen_output(model: ir.Model, name: str | None) -> ir.Value:
    """The output of this name, or any value inside; without a name the only output.

    Raises:
        UsageError: several outputs and no name, or a name that the graph does not have.
    """
    outputs = list(model.graph.outputs)
    listed = ", ".join(f"{value.name} {shown_shape(value)}" for value in outputs)
    if name is None:
        if len(outputs) != 1:
            raise UsageError(
                f"the graph has {len(outputs)} outputs ({listed}). Name the one with the classes: "
                "--head NAME."
            )
        return outputs[0]
    inside = (value for node in model.graph for value in node.outputs)
    found = [value for value in (*outputs, *inside) if value.name == name]
    if not found:
        raise UsageError(f"the graph has no output {name!r}. It has {listed}.")
    return found[0]


def shown_shape(value: ir.Value) -> str:
    """Shape of a value for messages: 1x3xHxW."""
    if value.shape is None:
        return "of unknown shape"
    return "x".join(str(getattr(size, "value", size) or "?") for size in value.shape) or "a scalar"
