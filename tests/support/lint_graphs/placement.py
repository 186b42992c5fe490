"""Where Q/DQ pairs stand."""

from __future__ import annotations

import numpy as np

from .sketch import EVERY, TENSORRT, Case, Sketch


def resize_input(bad: bool) -> Sketch:
    sketch = Sketch()
    large = sketch.enlarge(sketch.pair("data") if bad else "data", "large")
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


CASES: list[Case] = [
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
]
