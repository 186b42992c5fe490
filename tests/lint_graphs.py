"""Graphs for the linter: for each rule one that breaks it, and its twin that does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TENSORRT = {"trt8.6", "trt10", "trt11", "rtx"}
EVERY = TENSORRT | {"ort-cpu"}
ZERO = np.zeros((), np.int8)
TENTH = np.full((), 0.1, np.float32)


class Sketch:
    """A graph `data` (1, 4, 8, 8) -> `result`, drawn node by node."""

    def __init__(self, opset: int = 17, *, data: int = TensorProto.FLOAT) -> None:
        self.opset = opset
        self.data = data
        self.shape: list[Any] = [1, 4, 8, 8]
        self.result = TensorProto.FLOAT
        self.domains: tuple[str, ...] = ()
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: Sequence[str], output: str = "result", **given: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}.{op}", **given))
        return output

    def constant(self, name: str, values: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def pair(
        self,
        source: str,
        scale: Any = TENTH,
        zero: Any = ZERO,
        *,
        name: str | None = None,
        **given: Any,
    ) -> str:
        """Q and DQ behind a tensor; the name of what comes out. zero: None leaves it out."""
        name = name or f"{source}_dq"
        inputs = [self.constant(f"{name}_scale", scale)]
        if zero is not None:
            inputs.append(self.constant(f"{name}_zero", zero))
        quantized = self.node("QuantizeLinear", [source, *inputs], f"{name}_q", **given)
        return self.node("DequantizeLinear", [quantized, *inputs], name, **given)

    def weights(self, axis: int | None = 0, name: str = "weights") -> str:
        """Weights (4, 4, 1, 1) behind Q/DQ with a scale for each channel; None writes no axis."""
        self.constant(name, np.ones((4, 4, 1, 1), np.float32))
        given = {} if axis is None else {"axis": axis}
        return self.pair(name, np.full(4, 0.1, np.float32), np.zeros(4, np.int8), **given)

    def model(self) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info("data", self.data, self.shape)]
        outputs = [helper.make_tensor_value_info("result", self.result, None)]
        graph = helper.make_graph(self.nodes, "sketch", inputs, outputs, self.constants)
        opsets = [("", self.opset), *((domain, 1) for domain in self.domains)]
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*entry) for entry in opsets], ir_version=8
        )


def newest_opset(bad: bool) -> Sketch:
    sketch = Sketch(18 if bad else 17)
    sketch.node("Relu", ["data"])
    return sketch


def reduce_axes(bad: bool) -> Sketch:
    sketch = Sketch(18 if bad else 17)
    if bad:
        sketch.node("ReduceMean", ["data", sketch.constant("axes", np.array([2, 3]))])
    else:
        sketch.node("ReduceMean", ["data"], axes=[2, 3])
    return sketch


def reduce_sum_axes(bad: bool) -> Sketch:
    """ReduceSum has its axes as an input since opset 13, which 8.x reads: only the mean is bad."""
    sketch = Sketch(18 if bad else 17)
    op = "ReduceMax" if bad else "ReduceSum"
    sketch.node(op, ["data", sketch.constant("axes", np.array([2, 3]))])
    return sketch


def unknown_op(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("Rellu" if bad else "Relu", ["data"])
    return sketch


def newer_op(bad: bool) -> Sketch:
    """Gelu came with opset 20."""
    sketch = Sketch(19 if bad else 20)
    sketch.node("Gelu", ["data"])
    return sketch


def custom_domain(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.domains = ("org.example",)
    sketch.node("Relu", ["data"], domain="org.example" if bad else "")
    return sketch


def ort_domain(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.domains = ("com.microsoft",)
    sketch.node("Gelu" if bad else "Relu", ["data"], domain="com.microsoft" if bad else "")
    return sketch


def three_inputs(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("Relu", [sketch.pair("data", zero=None if bad else ZERO)])
    return sketch


def implicit_uint8(bad: bool) -> Sketch:
    sketch = Sketch(21)
    given = {} if bad else {"output_dtype": TensorProto.INT8}
    scale = sketch.constant("scale", np.float32(0.1))
    sketch.node("QuantizeLinear", ["data", scale], "quantized", **given)
    sketch.node("DequantizeLinear", ["quantized", scale])
    return sketch


def zero_point(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("Relu", [sketch.pair("data", zero=np.int8(-128 if bad else 0))])
    return sketch


def unsigned(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("Relu", [sketch.pair("data", zero=np.uint8(0) if bad else ZERO)])
    return sketch


def unsigned_weights(bad: bool) -> Sketch:
    sketch = Sketch()
    kind = np.uint8 if bad else np.int8
    sketch.constant("weights", np.ones((4, 4, 1, 1), kind))
    scale, zero = sketch.constant("scale", np.float32(1)), sketch.constant("zero", kind(0))
    sketch.node("DequantizeLinear", ["weights", scale, zero], "dequantized")
    sketch.node("Conv", [sketch.pair("data"), "dequantized"])
    return sketch


def zero_scale(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("Relu", [sketch.pair("data", np.float32(0 if bad else 0.1))])
    return sketch


def nan_scale(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("Relu", [sketch.pair("data", np.float32(np.nan if bad else 0.1))])
    return sketch


def half_scale(bad: bool) -> Sketch:
    sketch = Sketch(19, data=TensorProto.FLOAT16 if bad else TensorProto.FLOAT)
    sketch.result = sketch.data
    sketch.node("Relu", [sketch.pair("data", (np.float16 if bad else np.float32)(0.1))])
    return sketch


def half_opset(bad: bool) -> Sketch:
    sketch = half_scale(True)
    sketch.opset = 17 if bad else 19
    return sketch


def axis(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("Conv", [sketch.pair("data"), sketch.weights(None if bad else 0)])
    return sketch


def weight_axis(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("Conv", [sketch.pair("data"), sketch.weights(1 if bad else -4)])
    return sketch


def deconv_weight_axis(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("ConvTranspose", [sketch.pair("data"), sketch.weights(0 if bad else 1)])
    return sketch


def per_channel_activation(bad: bool) -> Sketch:
    sketch = Sketch()
    many = np.full(4, 0.1, np.float32), np.zeros(4, np.int8)
    sketch.node("Relu", [sketch.pair("data", *many, axis=1) if bad else sketch.pair("data")])
    return sketch


def int32_bias(bad: bool) -> Sketch:
    sketch = Sketch()
    bias = sketch.constant("bias", np.zeros(4, np.int32 if bad else np.float32))
    if bad:
        scale, zero = sketch.constant("s", np.float32(0.1)), sketch.constant("z", np.int32(0))
        bias = sketch.node("DequantizeLinear", [bias, scale, zero], "bias_dq")
    sketch.node("Conv", [sketch.pair("data"), sketch.weights(), bias])
    return sketch


def enlarge(sketch: Sketch, source: str, output: str = "result", **given: Any) -> str:
    """Resize to twice the height and width."""
    scales = sketch.constant("scales", np.array([1, 1, 2, 2], np.float32))
    return sketch.node("Resize", [source, "", scales], output, mode="linear", **given)


def resize_input(bad: bool) -> Sketch:
    sketch = Sketch()
    large = enlarge(sketch, sketch.pair("data") if bad else "data", "large")
    sketch.node("Conv", [sketch.pair(large), sketch.weights()])
    return sketch


def concat_scales(bad: bool) -> Sketch:
    sketch = Sketch()
    parts = [sketch.pair("data", np.float32(1), name="left")]
    parts.append(sketch.pair("data", np.float32(1 + bad), name="right"))
    sketch.pair(sketch.node("Concat", parts, "joined", axis=1), np.float32(1), name="result")
    return sketch


def concat_output(bad: bool) -> Sketch:
    sketch = Sketch()
    parts = [sketch.pair("data", np.float32(1), name=f"part{index}") for index in (1, 2)]
    sketch.pair(sketch.node("Concat", parts, "joined", axis=1), np.float32(1 + bad), name="result")
    return sketch


def concat_float(bad: bool) -> Sketch:
    sketch = Sketch()
    left = sketch.pair("data", name="left")
    sketch.node("Concat", [left, "data" if bad else sketch.pair("data", name="right")], axis=1)
    return sketch


def residual(bad: bool) -> Sketch:
    sketch = Sketch()
    branch = sketch.node("Relu", ["data"], "branch")
    sketch.node("Add", [sketch.pair("data"), branch if bad else sketch.pair(branch)])
    return sketch


def residual_of_conv(bad: bool) -> Sketch:
    """The convolution's own output is what TensorRT fuses the Add with; the other wants a pair."""
    sketch = Sketch()
    quantized = sketch.pair("data")
    summed = sketch.node("Conv", [quantized, sketch.weights()], "convolved")
    sketch.node("Add", [sketch.pair(summed), "data"] if bad else [summed, quantized])
    return sketch


def silu(bad: bool) -> Sketch:
    sketch = Sketch()
    gate = sketch.node("Sigmoid", ["data"], "gate")
    sketch.node("Mul", ["data", sketch.pair(gate) if bad else gate], "product")
    sketch.pair("product", name="result")
    return sketch


def silu_input(bad: bool) -> Sketch:
    sketch = Sketch()
    source = sketch.pair("data") if bad else "data"
    sketch.node("Mul", [source, sketch.node("Sigmoid", [source], "gate")])
    return sketch


def squeeze_and_excite(bad: bool) -> Sketch:
    """A Sigmoid that weighs another tensor is no SiLU."""
    sketch = silu(True)
    if not bad:
        sketch.nodes[0].input[0] = sketch.node("GlobalAveragePool", ["data"], "pooled")
        sketch.nodes.insert(0, sketch.nodes.pop())
    return sketch


def int8_deconv(bad: bool) -> Sketch:
    sketch = Sketch()
    if bad:
        sketch.node("ConvTranspose", [sketch.pair("data"), sketch.weights(1)])
    else:
        weights = sketch.constant("float", np.ones((4, 4, 1, 1), np.float32))
        sketch.node("ConvTranspose", ["data", weights])
    return sketch


def one_sided(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("Conv", ["data" if bad else sketch.pair("data"), sketch.weights()])
    return sketch


def one_sided_weights(bad: bool) -> Sketch:
    sketch = Sketch()
    weights = sketch.constant("float", np.ones((4, 4, 1, 1), np.float32))
    sketch.node("Conv", [sketch.pair("data") if bad else "data", weights])
    return sketch


def resize_scales(bad: bool) -> Sketch:
    sketch = Sketch()
    scales = sketch.constant("scales", np.array([1, 1, 2, 2], np.float32))
    name = sketch.node("Identity", [scales], "computed") if bad else scales
    sketch.node("Resize", ["data", "", name], mode="linear")
    return sketch


def resize_sizes(bad: bool) -> Sketch:
    sketch = Sketch()
    sizes = sketch.constant("sizes", np.array([1, 4, 16, 16], np.int64))
    if bad:
        sizes = sketch.node("Mul", [sketch.node("Shape", ["data"], "shape"), sizes], "computed")
    sketch.node("Resize", ["data", "", "", sizes], mode="linear")
    return sketch


def antialias(bad: bool) -> Sketch:
    sketch = Sketch(18)
    enlarge(sketch, "data", antialias=int(bad))
    return sketch


def coordinates(bad: bool) -> Sketch:
    sketch = Sketch()
    roi = sketch.constant("roi", np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32))
    scales = sketch.constant("scales", np.array([1, 1, 2, 2], np.float32))
    mode = "tf_crop_and_resize" if bad else "align_corners"
    sketch.node("Resize", ["data", roi, scales], mode="linear", coordinate_transformation_mode=mode)
    return sketch


def nearest_mode(bad: bool) -> Sketch:
    sketch = Sketch()
    scales = sketch.constant("scales", np.array([1, 1, 2, 2], np.float32))
    sketch.node(
        "Resize", ["data", "", scales],
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="tf_half_pixel_for_nn" if bad else "asymmetric",
    )  # fmt: skip
    return sketch


def aspect_policy(bad: bool) -> Sketch:
    sketch = Sketch(18)
    sizes = sketch.constant("sizes", np.array([16, 16], np.int64))
    policy = "not_larger" if bad else "stretch"
    sketch.node(
        "Resize", ["data", "", "", sizes],
        mode="linear", axes=[2, 3], keep_aspect_ratio_policy=policy,
    )  # fmt: skip
    return sketch


def half_graph(bad: bool) -> Sketch:
    sketch = Sketch()
    inner = TensorProto.FLOAT16 if bad else TensorProto.DOUBLE
    sketch.node("Cast", ["data"], "inner", to=inner)
    sketch.node("Cast", ["inner"], to=TensorProto.FLOAT)
    return sketch


def float_around_int8(bad: bool) -> Sketch:
    return half_scale(not bad)


def rtx_int8(bad: bool) -> Sketch:
    sketch = Sketch()
    if bad:
        sketch.node("Conv", [sketch.pair("data"), sketch.weights()])
    else:
        sketch.node("Relu", [sketch.pair("data")])
    return sketch


def uint8_input(bad: bool) -> Sketch:
    sketch = Sketch(data=TensorProto.UINT8)
    if bad:
        sketch.node("Transpose", ["data"], "moved", perm=[0, 3, 1, 2])
        sketch.node("Cast", ["moved"], to=TensorProto.FLOAT)
    else:
        sketch.node("Cast", ["data"], "float", to=TensorProto.FLOAT)
        sketch.node("Transpose", ["float"], perm=[0, 3, 1, 2])
    return sketch


def int64_output(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("ArgMax", ["data"], "result" if bad else "classes", axis=1)
    if not bad:
        sketch.node("Cast", ["classes"], to=TensorProto.INT32)
    sketch.result = TensorProto.INT64 if bad else TensorProto.INT32
    return sketch


def dynamic_size(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.shape = ["batch", 4, "height" if bad else 8, 8]
    sketch.node("Relu", ["data"])
    return sketch


def unfolded_relu(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.node("Relu", ["data"], "positive")
    sketch.pair("positive", zero=ZERO if bad else np.uint8(0), name="result")
    return sketch


def unfolded_clip(bad: bool) -> Sketch:
    sketch = Sketch()
    limits = [sketch.constant("low", np.float32(0)), sketch.constant("high", np.float32(6))]
    sketch.node("Clip", ["data", *limits], "clipped")
    sketch.pair("clipped", zero=np.int8(0 if bad else -128), name="result")
    return sketch


def split_activation(bad: bool) -> Sketch:
    sketch = Sketch()
    summed = sketch.node("Conv", [sketch.pair("data"), sketch.weights()], "summed")
    sketch.node("Relu", [sketch.pair(summed, zero=np.uint8(0)) if bad else summed])
    return sketch


def resize_two_scales(bad: bool) -> Sketch:
    sketch = Sketch()
    zero = np.uint8(3)
    large = enlarge(sketch, sketch.pair("data", np.float32(0.1), zero), "large")
    sketch.pair(large, np.float32(0.2 if bad else 0.1), zero, name="result")
    return sketch


Draw = Callable[[bool], Sketch]
CASES: list[tuple[str, set[str], Draw]] = [
    ("opset", {"trt8.6"}, newest_opset),
    ("reduce-axes", {"trt8.6"}, reduce_axes),
    ("reduce-axes", {"trt8.6"}, reduce_sum_axes),
    ("unknown-op", EVERY, unknown_op),
    ("unknown-op", {"trt8.6", "ort-cpu"}, newer_op),
    ("custom-domain", EVERY, custom_domain),
    ("custom-domain", TENSORRT, ort_domain),
    ("three-inputs", {"trt8.6"}, three_inputs),
    ("implicit-uint8", {"trt10", "trt11", "rtx"}, implicit_uint8),
    ("zero-point", TENSORRT, zero_point),
    ("signed", TENSORRT, unsigned),
    ("signed", TENSORRT, unsigned_weights),
    ("scale", TENSORRT, zero_scale),
    ("scale", TENSORRT, nan_scale),
    ("float32-scale", {"trt8.6"}, half_scale),
    ("half-opset", {"ort-cpu"}, half_opset),
    ("axis", TENSORRT, axis),
    ("weight-axis", TENSORRT, weight_axis),
    ("weight-axis", TENSORRT, deconv_weight_axis),
    ("per-channel-activation", TENSORRT, per_channel_activation),
    ("int32-bias", TENSORRT, int32_bias),
    ("resize-input", TENSORRT, resize_input),
    ("concat-scales", TENSORRT, concat_scales),
    ("concat-scales", TENSORRT, concat_output),
    ("concat-scales", TENSORRT, concat_float),
    ("residual", TENSORRT, residual),
    ("residual", TENSORRT, residual_of_conv),
    ("silu", TENSORRT, silu),
    ("silu", TENSORRT, silu_input),
    ("silu", TENSORRT, squeeze_and_excite),
    ("int8-conv-transpose", EVERY, int8_deconv),
    ("one-sided", EVERY, one_sided),
    ("one-sided", EVERY, one_sided_weights),
    ("resize-scales", TENSORRT - {"rtx"}, resize_scales),
    ("resize-sizes", {"trt8.6", "trt10", "trt11"}, resize_sizes),
    ("resize-antialias", TENSORRT, antialias),
    ("resize-coordinates", TENSORRT, coordinates),
    ("resize-coordinates", TENSORRT, nearest_mode),
    ("resize-coordinates", TENSORRT, aspect_policy),
    ("half-graph", {"trt8.6", "trt10"}, half_graph),
    ("float-around-int8", {"trt11", "rtx"}, float_around_int8),
    ("rtx-int8", {"rtx"}, rtx_int8),
    ("uint8-input", TENSORRT, uint8_input),
    ("int64-output", TENSORRT, int64_output),
    ("dynamic-size", TENSORRT, dynamic_size),
    ("unfolded-activation", {"ort-cpu"}, unfolded_relu),
    ("unfolded-activation", {"ort-cpu"}, unfolded_clip),
    ("split-activation", {"ort-cpu"}, split_activation),
    ("resize-two-scales", {"ort-cpu"}, resize_two_scales),
]
"""Rule, the targets it holds for, and what draws the bad graph or its good twin."""
