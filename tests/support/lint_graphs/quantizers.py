"""QuantizeLinear and DequantizeLinear themselves."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .sketch import TENSORRT, ZERO, Case, Sketch


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


CASES: list[Case] = [
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
]
