"""Types and sizes of a whole graph."""

from __future__ import annotations

from onnx import TensorProto

from .quantizers import half_scale
from .sketch import TENSORRT, Case, Sketch


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


def uint8_inside(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.result = TensorProto.UINT8
    if bad:
        sketch.node("Cast", ["data"], "bytes", to=TensorProto.UINT8)
        sketch.node("Transpose", ["bytes"], perm=[0, 3, 1, 2])
    else:
        sketch.node("Transpose", ["data"], "moved", perm=[0, 3, 1, 2])
        sketch.node("Cast", ["moved"], to=TensorProto.UINT8)
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


CASES: list[Case] = [
    ("half-graph", {"trt8.6", "trt10"}, half_graph),
    ("float-around-int8", {"trt11", "rtx"}, float_around_int8),
    ("rtx-int8", {"rtx"}, rtx_int8),
    ("uint8-input", TENSORRT, uint8_input),
    ("uint8-inside", TENSORRT, uint8_inside),
    ("int64-output", TENSORRT, int64_output),
    ("dynamic-size", TENSORRT, dynamic_size),
]
