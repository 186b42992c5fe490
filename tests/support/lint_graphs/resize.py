"""Resize, as TensorRT takes it."""

from __future__ import annotations

import numpy as np

from .sketch import TENSORRT, Case, Sketch


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
    sketch.enlarge("data", antialias=int(bad))
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


CASES: list[Case] = [
    ("resize-scales", TENSORRT - {"rtx"}, resize_scales),
    ("resize-sizes", {"trt8.6", "trt10", "trt11"}, resize_sizes),
    ("resize-antialias", TENSORRT, antialias),
    ("resize-coordinates", TENSORRT, coordinates),
    ("resize-coordinates", TENSORRT, nearest_mode),
    ("resize-coordinates", TENSORRT, aspect_policy),
]
