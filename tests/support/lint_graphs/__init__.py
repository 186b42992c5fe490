"""Graphs for the linter: for each rule one that breaks it, and its twin that does not.

One file for each file of rules.
"""

from . import nvinfer, onnx_runtime, operators, placement, precision, quantizers, resize
from .sketch import Case, Draw, Sketch

__all__ = ["CASES", "Draw", "Sketch"]

CASES: list[Case] = [
    *operators.CASES,
    *quantizers.CASES,
    *placement.CASES,
    *resize.CASES,
    *precision.CASES,
    *nvinfer.CASES,
    *onnx_runtime.CASES,
]
