"""Operators and their versions."""

from __future__ import annotations

import numpy as np

from .sketch import EVERY, TENSORRT, Case, Sketch


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


CASES: list[Case] = [
    ("opset", {"trt8.6"}, newest_opset),
    ("reduce-axes", {"trt8.6"}, reduce_axes),
    ("reduce-axes", {"trt8.6"}, reduce_sum_axes),
    ("unknown-op", EVERY, unknown_op),
    ("unknown-op", {"trt8.6", "ort-cpu"}, newer_op),
    ("custom-domain", EVERY, custom_domain),
    ("custom-domain", TENSORRT, ort_domain),
]
