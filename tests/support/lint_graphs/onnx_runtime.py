"""What ONNX Runtime's CPU kernels run in INT8."""

from __future__ import annotations

import numpy as np

from .sketch import ZERO, Case, Sketch


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
    large = sketch.enlarge(sketch.pair("data", np.float32(0.1), zero), "large")
    sketch.pair(large, np.float32(0.2 if bad else 0.1), zero, name="result")
    return sketch


def narrow_sums(bad: bool) -> Sketch:
    sketch = Sketch()
    kernel = np.zeros((4, 4, 1, 1), np.int8)
    # Neighbours are summed in pairs, and these two are not in one.
    kernel[1, 0, 0, 0] = kernel[1, 1 if bad else 2, 0, 0] = 65
    held = [sketch.constant("kernel", kernel), sketch.constant("scales", np.full(4, 0.1, "f"))]
    sketch.node("DequantizeLinear", held, "weights", axis=0)
    sketch.node("Conv", [sketch.pair("data", zero=np.uint8(0)), "weights"])
    return sketch


def narrow_sums_behind_pairs(bad: bool) -> Sketch:
    sketch = Sketch()
    sketch.shape = [1, 4, 8, 3]
    matrix = np.float32([[0, 65], [0, 64 if bad else 63], [99, 99]])
    scales, zeros = np.float32([0.1, 1]), np.zeros(2, np.int8)
    weights = sketch.pair(sketch.constant("matrix", matrix), scales, zeros, axis=1)
    sketch.node("MatMul", [sketch.pair("data", zero=np.uint8(0)), weights])
    return sketch


CASES: list[Case] = [
    ("narrow-sums", {"ort-cpu"}, narrow_sums),
    ("narrow-sums", {"ort-cpu"}, narrow_sums_behind_pairs),
    ("unfolded-activation", {"ort-cpu"}, unfolded_relu),
    ("unfolded-activation", {"ort-cpu"}, unfolded_clip),
    ("split-activation", {"ort-cpu"}, split_activation),
    ("resize-two-scales", {"ort-cpu"}, resize_two_scales),
]
