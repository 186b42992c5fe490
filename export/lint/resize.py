"""Resize: which forms of it TensorRT reads."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ..graphs.passes.graph import attribute, of_type, operand
from .rule import TENSORRT, Broken, Rule

_COORDINATES = (
    "half_pixel",
    "pytorch_half_pixel",
    "tf_half_pixel_for_nn",
    "asymmetric",
    "align_corners",
)


def scales(graph: ir.Graph) -> Broken:
    """8.x: "Resize scales must be an initializer"; even behind an Identity they are none.

    Newer parsers take them as a shape tensor, which no DLA does.
    """
    for node, name in _computed(graph, 2):
        yield (
            node,
            f"computes its scales ({name}); TensorRT 8.x and every DLA need constants. "
            "Export with fixed sizes, or fold constants.",
        )


def sizes(graph: ir.Graph) -> Broken:
    """TensorRT reads computed sizes as a shape tensor; the DLA takes constants alone."""
    for node, name in _computed(graph, 3):
        yield (
            node,
            f"computes its sizes ({name}), so it cannot run on a DLA. Export with fixed "
            "height and width, or write scales.",
        )


def antialias(graph: ir.Graph) -> Broken:
    """Parsers of 10 and later refuse it; 8.x's ignores the attribute."""
    for node in of_type(graph, "Resize"):
        if attribute(node, "antialias", 0):
            yield (
                node,
                "is antialiased, which TensorRT cannot do. Resize without it, as in training.",
            )


def coordinates(graph: ir.Graph) -> Broken:
    """Parsers refuse coordinate modes and policies beyond those that TensorRT has."""
    for node in of_type(graph, "Resize"):
        found = attribute(node, "coordinate_transformation_mode", "half_pixel")
        nearest = attribute(node, "nearest_mode", "round_prefer_floor")
        policy = attribute(node, "keep_aspect_ratio_policy", "stretch")
        if found not in _COORDINATES:
            yield (
                node,
                f"coordinate mode is {found}; TensorRT has {', '.join(_COORDINATES)}. "
                "Export with one of them.",
            )
        elif found == "tf_half_pixel_for_nn" and nearest != "round_prefer_floor":
            yield (
                node,
                f"rounds with {nearest} in tf_half_pixel_for_nn; TensorRT has only "
                "round_prefer_floor there. Export with that.",
            )
        if policy != "stretch":
            yield (
                node,
                f"keep_aspect_ratio_policy is {policy}; TensorRT has only stretch. "
                "Write the resulting sizes.",
            )


def _computed(graph: ir.Graph, index: int) -> Iterator[tuple[ir.Node, str]]:
    """Each Resize whose input at `index` is not a constant, and that input's name."""
    for node in of_type(graph, "Resize"):
        value = operand(node, index)
        if value is not None and value.const_value is None:
            yield node, str(value.name)


RULES = (
    Rule("resize-scales", "error", ("trt8.6",), scales),
    Rule("resize-scales", "warning", ("trt10", "trt11"), scales),
    Rule("resize-sizes", "warning", ("trt8.6", "trt10", "trt11"), sizes),
    Rule("resize-antialias", "error", TENSORRT, antialias),
    Rule("resize-coordinates", "error", TENSORRT, coordinates),
)
