"""What DeepStream's nvinfer needs of a segmentation graph."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .sketch import Case, Sketch


def frame(*, scored: bool = True) -> Sketch:
    """A graph that nvinfer takes, from RGB planes to a score for each of three classes.

    scored: False draws no node.
    """
    sketch = Sketch()
    sketch.shape = ["batch", 3, 8, 8]
    if scored:
        sketch.node("Softmax", ["data"], axis=1)
    return sketch


def two_inputs(bad: bool) -> Sketch:
    sketch = frame()
    sketch.more_inputs = {"more": [1]} if bad else {}
    return sketch


def half_input(bad: bool) -> Sketch:
    sketch = frame()
    sketch.data = TensorProto.FLOAT16 if bad else TensorProto.FLOAT
    sketch.result = sketch.data
    return sketch


def four_channels(bad: bool) -> Sketch:
    sketch = frame()
    sketch.shape[1] = 4 if bad else 1
    return sketch


def flat_input(bad: bool) -> Sketch:
    sketch = frame()
    sketch.shape = ["batch", 192] if bad else sketch.shape
    return sketch


def pixels(bad: bool) -> Sketch:
    sketch = frame()
    sketch.shape = ["batch", 8, 8, 3] if bad else sketch.shape
    return sketch


def one_frame(bad: bool) -> Sketch:
    sketch = frame()
    sketch.shape[0] = 1 if bad else "batch"
    return sketch


def any_size(bad: bool) -> Sketch:
    sketch = frame()
    sketch.shape[2] = "height" if bad else 8
    return sketch


def two_outputs(bad: bool) -> Sketch:
    sketch = frame()
    sketch.more_outputs = ["data_copy"] if bad else []
    sketch.node("Identity", ["data"], "data_copy")
    return sketch


def ids(bad: bool) -> Sketch:
    sketch = frame(scored=not bad)
    if bad:
        sketch.node("ArgMax", ["data"], axis=1, keepdims=1)
        sketch.result = TensorProto.INT64
    return sketch


def class_map(bad: bool) -> Sketch:
    sketch = frame(scored=not bad)
    if bad:
        sketch.node("ReduceMax", [sketch.node("Sigmoid", ["data"], "s")], axes=[1], keepdims=0)
    return sketch


def smaller_scores(bad: bool) -> Sketch:
    sketch = frame(scored=False)
    source = sketch.node("Softmax", ["data"], "soft", axis=1)
    side = 2 if bad else 1
    sketch.node("MaxPool", [source], kernel_shape=[side] * 2, strides=[side] * 2)
    return sketch


def logits(bad: bool) -> Sketch:
    sketch = frame(scored=False)
    weights = sketch.constant("w", np.ones((3, 3, 1, 1), np.float32))
    if bad:
        sketch.node("Conv", ["data", weights])
    else:
        sketch.node("Softmax", [sketch.node("Conv", ["data", weights], "c")], axis=1)
    return sketch


def clipped(bad: bool) -> Sketch:
    """From 0 on is as good as a Sigmoid; from below is not."""
    sketch = frame(scored=False)
    least = sketch.constant("least", np.float32(-1 if bad else 0))
    sketch.node("Identity", [sketch.node("Clip", ["data", least], "clipped")])
    return sketch


def pairs(bad: bool) -> Sketch:
    sketch = frame(scored=False)
    sketch.node("Softmax", [sketch.pair("data") if bad else "data"], axis=1)
    return sketch


ONLY = {"nvinfer"}

CASES: list[Case] = [
    ("one-input", ONLY, two_inputs),
    ("input-type", ONLY, half_input),
    ("input-shape", ONLY, four_channels),
    ("input-shape", ONLY, flat_input),
    ("channels-last", ONLY, pixels),
    ("fixed-batch", ONLY, one_frame),
    ("infer-dims", ONLY, any_size),
    ("one-output", ONLY, two_outputs),
    ("output-type", ONLY, ids),
    ("output-shape", ONLY, class_map),
    ("output-size", ONLY, smaller_scores),
    ("scores", ONLY, logits),
    ("scores", ONLY, clipped),
    ("explicit-int8", ONLY, pairs),
]
