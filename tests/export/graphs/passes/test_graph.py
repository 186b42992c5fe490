"""What the passes read from a graph."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgeunet.export.graphs.passes.graph import (
    Chain,
    attributes,
    is_plain_conv,
    map_shapes,
    needed_for,
    origin,
    part,
    readers,
    rebuilt,
)
from support.graphs import ops, run
from support.passes import chain, images, weights

MODEL = chain(
    helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["y"], ["z"], name="relu"),
    w=weights(6, 6, 3, 3),
)


def test_attributes_are_those_that_are_stated() -> None:
    assert attributes(MODEL.graph.node[1]) == {"pads": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    ("op", "stated", "plain"),
    [
        ("Conv", {}, True),
        ("Conv", {"strides": [1, 1], "group": 1}, True),
        ("Conv", {"strides": [2, 2]}, False),
        ("Conv", {"group": 2}, False),
        ("ConvTranspose", {}, False),
    ],
)
def test_plain_convolutions(op: str, stated: dict[str, object], plain: bool) -> None:
    assert is_plain_conv(helper.make_node(op, ["x", "w"], ["y"], **stated)) is plain


def test_tensors_are_found_by_who_reads_and_needs_them() -> None:
    assert [node.name for node in readers(MODEL)["y"]] == ["relu"]
    assert needed_for("y", MODEL) == {"image", "x", "w", "y"}
    assert map_shapes(MODEL)["y"] == map_shapes(MODEL)["image"]


def test_names_of_parts_lead_back_to_their_node() -> None:
    node = MODEL.graph.node[1]
    assert origin(part(node, "a")) == origin("conv") == "conv"


def test_a_chain_computes_in_order_and_leaves_the_model_as_it_was() -> None:
    output = MODEL.graph.output[0].name
    links = Chain(MODEL.graph.node[-1], "image")
    links.add("Mul", "twice", 2.0)
    links.add("Add", "more", 1.5, output=output)
    model = rebuilt(MODEL, links.nodes, links.constants)
    (found,) = run(model, images())
    np.testing.assert_allclose(found, images() * 2 + 1.5, rtol=1e-6)
    assert ops(MODEL) == {"Neg", "Conv", "Relu"}
