"""Resize: what TensorRT takes of it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from .graph import Graph, attribute, operand
from .rule import TENSORRT, Broken, Rule

_COORDINATES = (
    "half_pixel",
    "pytorch_half_pixel",
    "tf_half_pixel_for_nn",
    "asymmetric",
    "align_corners",
)


def scales(graph: Graph) -> Broken:
    """8.x: "Resize scales must be an initializer", and an Identity in between is too much.

    Newer parsers take them as a shape tensor, which no DLA does.
    """
    for node, name in _computed(graph, 2):
        yield (
            node,
            f"computes its scales ({name}); TensorRT 8.x and every DLA want constants. "
            "Export with fixed sizes, or fold constants.",
        )


def sizes(graph: Graph) -> Broken:
    """TensorRT reads computed sizes as a shape tensor; the DLA takes constants alone."""
    for node, name in _computed(graph, 3):
        yield (
            node,
            f"computes its sizes ({name}), so it cannot run on a DLA. Export with fixed "
            "height and width, or write scales.",
        )


def antialias(graph: Graph) -> Broken:
    """Parsers of 10 and later refuse; 8.x's does not know the attribute and leaves it out."""
    for node in graph.of_type("Resize"):
        if attribute(node, "antialias", 0):
            yield (
                node,
                "is antialiased, which TensorRT has not. Resize without antialias, as was trained.",
            )


def coordinates(graph: Graph) -> Broken:
    """Parsers refuse coordinate modes and policies beyond those that TensorRT has."""
    for node in graph.of_type("Resize"):
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
                f"rounds with {nearest} in tf_half_pixel_for_nn; TensorRT has round_prefer_floor "
                "alone there.",
            )
        if policy != "stretch":
            yield (
                node,
                f"keep_aspect_ratio_policy is {policy}; TensorRT has stretch alone. "
                "Write the sizes that come out.",
            )


def _computed(graph: Graph, index: int) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Each Resize with an input at `index` that is no constant, and that input's name."""
    for node in graph.of_type("Resize"):
        name = operand(node, index)
        if name and not graph.is_constant(name):
            yield node, name


RULES = (
    Rule("resize-scales", "error", ("trt8.6",), scales),
    Rule("resize-scales", "warning", ("trt10", "trt11"), scales),
    Rule("resize-sizes", "warning", ("trt8.6", "trt10", "trt11"), sizes),
    Rule("resize-antialias", "error", TENSORRT, antialias),
    Rule("resize-coordinates", "error", TENSORRT, coordinates),
)
