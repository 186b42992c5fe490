"""What NVIDIA DeepStream's `nvinfer` needs of a segmentation graph, beside what TensorRT needs.

Read in the sources of DeepStream 9.2, `nvdsinfer`: `nvdsinfer_model_builder.cpp`,
`nvdsinfer_context_impl.cpp` and `nvdsinfer_context_impl_output_parsing.cpp`; the parser of older
releases is a part of the last one.
"""

from __future__ import annotations

import onnx_ir as ir

from ..graphs.passes.graph import constant, of_type, operand
from .precision import fed
from .quantizers import DQ, Q
from .rule import Broken, Rule, Target

_NVINFER: tuple[Target, ...] = ("nvinfer",)
_COLOURS = (1, 3)
_AT_LEAST_0 = ("HardSigmoid", "Relu", "Sigmoid", "Softmax")
# Operators behind which values are in the range that they had before.
_KEEP_RANGE = ("Cast", "Identity", "Reshape", "Slice", "Transpose")


def one_input(graph: ir.Graph) -> Broken:
    """Frames go to the first input; the others get what a library of the user's writes there."""
    for value in fed(graph)[1:]:
        yield (
            str(value.name),
            "is a second input, and nvinfer fills the first one alone. Make it a constant.",
        )


def input_type(graph: ir.Graph) -> Broken:
    """The kernels of `nvdsinfer_conversion.cu` write FP32, whatever the input is."""
    for value in fed(graph)[:1]:
        if value.dtype not in (ir.DataType.FLOAT, None):
            yield (
                str(value.name),
                f"is {value.dtype.name}, and nvinfer writes FLOAT into it. Begin with a Cast, or "
                "export planes in FP32.",
            )


def input_shape(graph: ir.Graph) -> Broken:
    """Refused: "default input_layer is not a image[CHW]", "network input channels is not 3"."""
    for value in fed(graph)[:1]:
        shape = value.shape
        if shape is None:
            continue
        if len(shape) != 4:
            yield (
                str(value.name),
                f"has {len(shape)} dimensions; nvinfer feeds (batch, channels, height, width). "
                "Export it with four.",
            )
        elif _channels_last(shape):
            continue
        elif isinstance(shape[1], int) and shape[1] not in _COLOURS:
            yield (
                str(value.name),
                f"has {shape[1]} channels; nvinfer makes 1 (gray) or 3 (RGB or BGR) of a frame. "
                "Feed others by Gst-nvdspreprocess.",
            )


def channels_last(graph: ir.Graph) -> Broken:
    """Planes are the default; pixels need a setting, which came with DeepStream 6."""
    for value in fed(graph)[:1]:
        if value.shape is not None and len(value.shape) == 4 and _channels_last(value.shape):
            yield (
                str(value.name),
                "has its channels last. Set network-input-order=1, or export planes.",
            )


def fixed_batch(graph: ir.Graph) -> Broken:
    """Its batch is made dynamic, whatever the file says; shapes inside may still have it."""
    for value in fed(graph)[:1]:
        if value.shape is not None and len(value.shape) and isinstance(value.shape[0], int):
            yield (
                str(value.name),
                f"has a batch of {value.shape[0]}. Export with a dynamic batch, or set "
                f"batch-size={value.shape[0]}.",
            )


def infer_dims(graph: ir.Graph) -> Broken:
    """Refused without that setting: "Explicit config dims is invalid"."""
    for value in fed(graph)[:1]:
        shape = value.shape
        if shape is not None and any(shape.is_dynamic(axis) for axis in range(1, len(shape))):
            yield (
                str(value.name),
                "has a dynamic channel, height or width. Set infer-dims=channels;height;width, or "
                "export with a fixed size.",
            )


def one_output(graph: ir.Graph) -> Broken:
    """The parser reads the first output, and all are copied to the host for each frame."""
    for value in graph.outputs[1:]:
        yield (
            str(value.name),
            "is a second output, which nvinfer copies to the host and does not read. Remove it.",
        )


def output_type(graph: ir.Graph) -> Broken:
    """Newer releases refuse it: "supports datatype FP32 only"; older ones read it as FP32."""
    for value in graph.outputs:
        if value.dtype not in (ir.DataType.FLOAT, None):
            yield (
                str(value.name),
                f"is {value.dtype.name}, and nvinfer reads FLOAT. Put out a score for each class "
                "in FP32.",
            )


def output_shape(graph: ir.Graph) -> Broken:
    """The dimensions behind the batch are taken for classes, height and width, unchecked."""
    for value in graph.outputs[:1]:
        if value.shape is not None and len(value.shape) != 4:
            yield (
                str(value.name),
                f"has {len(value.shape)} dimensions; nvinfer reads (batch, classes, height, "
                "width) and takes the class with the highest score. Leave the ArgMax out.",
            )


def output_size(graph: ir.Graph) -> Broken:
    """Newer releases read as many pixels as the input has, beyond the end of a smaller output."""
    if not fed(graph):
        return
    given, found = fed(graph)[0].shape, graph.outputs[0].shape
    if given is None or found is None or len(given) != 4 or len(found) != 4:
        return
    wanted, size = (_size(shape, _channels_last(given)) for shape in (given, found))
    if all(isinstance(side, int) for side in (*wanted, *size)) and wanted != size:
        yield (
            str(graph.outputs[0].name),
            f"has {size[0]}x{size[1]} scores for an input of {wanted[0]}x{wanted[1]}. Enlarge the "
            "scores in the graph.",
        )


def scores(graph: ir.Graph) -> Broken:
    """The best score so far begins with -1, and a threshold of at least 0 must be exceeded."""
    value: ir.Value | None = graph.outputs[0]
    while value is not None and (node := value.producer()) is not None:
        bottom = constant(operand(node, 1)) if node.op_type == "Clip" else None
        if node.op_type in _AT_LEAST_0 or (bottom is not None and bottom.min() >= 0):
            return
        linear = node.op_type == "Resize" and node.attributes.get_string("mode") != "cubic"
        if not linear and node.op_type not in _KEEP_RANGE:
            break
        value = operand(node, 0)
    yield (
        str(graph.outputs[0].name),
        "may be negative, and a pixel without a score above 0 gets the class -1. End with a "
        "Softmax over the classes.",
    )


def explicit_int8(graph: ir.Graph) -> Broken:
    """Without a calibration file: "Trying FP16 mode", in which TensorRT refuses Q/DQ."""
    if any(True for _ in of_type(graph, Q, DQ)):
        yield (
            "",
            "has Q/DQ, for which nvinfer sets TensorRT's INT8 flag only with network-mode=1 and an "
            "int8-calib-file that exists; or build the engine with trtexec.",
        )


def _channels_last(shape: ir.Shape) -> bool:
    return shape[1] not in _COLOURS and shape[3] in _COLOURS


def _size(shape: ir.Shape, last: bool) -> tuple[object, object]:
    """Height and width."""
    return (shape[1], shape[2]) if last else (shape[2], shape[3])


RULES = (
    Rule("one-input", "error", _NVINFER, one_input),
    Rule("input-type", "error", _NVINFER, input_type),
    Rule("input-shape", "error", _NVINFER, input_shape),
    Rule("channels-last", "warning", _NVINFER, channels_last),
    Rule("fixed-batch", "warning", _NVINFER, fixed_batch),
    Rule("infer-dims", "warning", _NVINFER, infer_dims),
    Rule("one-output", "warning", _NVINFER, one_output),
    Rule("output-type", "error", _NVINFER, output_type),
    Rule("output-shape", "error", _NVINFER, output_shape),
    Rule("output-size", "error", _NVINFER, output_size),
    Rule("scores", "error", _NVINFER, scores),
    Rule("explicit-int8", "warning", _NVINFER, explicit_int8),
)
