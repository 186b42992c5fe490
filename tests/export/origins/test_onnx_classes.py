"""One channel and probabilities against logits of two classes and more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from edgeunet.exporting.graphs.passes import ConvToMatMul
from edgeunet.exporting.graphs.passes.graph import producer
from edgeunet.exporting.origins.onnx_classes import to_two_classes
from edgeunet.exporting.origins.onnx_head import Head, cut_head
from edgeunet.exporting.origins.onnx_opsets import inferred
from support.onnx_forms import Array, Builder, behind_logits, resize, run

IMAGE = np.random.default_rng(5).normal(size=(2, 3, 4, 6)).astype(np.float32)


def rewritten(model: ir.Model) -> tuple[Head, Array, ir.Model]:
    """The head, the output of the graph that was cut there, and the graph with classes."""
    head = cut_head(model)
    model = inferred(model)
    before = run(ir.to_proto(model), IMAGE)
    to_two_classes(model, head)
    return head, before, inferred(model)


@pytest.mark.parametrize("build", [
    lambda b, z: b.add("Sigmoid", z),
    lambda b, z: b.add("Sigmoid", resize(b, z)),
    lambda b, z: b.add("Sigmoid", b.add("Add", z, b.reduce("ReduceMean", z, [2, 3]))),
    lambda b, z: b.add("Identity", b.add("Relu", z)),
])  # fmt: skip
def test_softmax_of_the_two_classes_is_the_sigmoid(
    build: Callable[[Builder, str], object],
) -> None:
    _, z, model = rewritten(behind_logits(build, classes=1))
    found = run(ir.to_proto(model), IMAGE)
    np.testing.assert_allclose(found, np.concatenate([-z / 2, z / 2], 1), atol=1e-6)


def test_convolution_is_widened_also_in_front_of_a_resize() -> None:
    for build in (lambda b, z: b.add("Sigmoid", z), lambda b, z: b.add("Sigmoid", resize(b, z))):
        _, _, model = rewritten(behind_logits(build, classes=1))
        assert [node.op_type for node in model.graph].count("Conv") == 1


def test_threshold_moves_into_the_logits() -> None:
    def build(b: Builder, z: str) -> None:
        b.add("Greater", b.add("Sigmoid", z), b.const(np.float32(0.2)))

    _, z, model = rewritten(behind_logits(build, classes=1, kind=TensorProto.BOOL))
    found = run(ir.to_proto(model), IMAGE).argmax(1)
    assert 0 < found.mean() < 1
    np.testing.assert_array_equal(found, (1 / (1 + np.exp(-z)) > 0.2)[:, 0])


def test_more_classes_stay() -> None:
    model = inferred(behind_logits(lambda b, z: b.add("Relu", z)))
    before = [node.op_type for node in model.graph]
    to_two_classes(model, Head("y"))
    assert [node.op_type for node in model.graph] == before


def test_probabilities_become_logarithms() -> None:
    _, p, model = rewritten(behind_logits(lambda b, z: resize(b, b.add("Softmax", z, axis=1))))
    found = run(ir.to_proto(model), IMAGE)
    np.testing.assert_allclose(np.exp(found), np.maximum(p, 2**-14), atol=1e-6)
    last = producer(model.graph.outputs[0])
    assert last is not None and last.op_type == "Log"
    assert model.graph.outputs[0].name == "y"


def test_probabilities_of_one_channel_become_two_logarithms() -> None:
    def build(b: Builder, z: str) -> None:
        p = resize(b, b.add("Sigmoid", z))
        b.add("Cast", b.add("Greater", p, b.const(np.float32(0.4))), to=TensorProto.UINT8)

    head, p, model = rewritten(behind_logits(build, classes=1, kind=TensorProto.UINT8))
    assert head.probabilities
    np.testing.assert_array_equal(run(ir.to_proto(model), IMAGE).argmax(1), p[:, 0] > 0.4)


def test_later_passes_can_rewrite_the_same_convolution() -> None:
    """Both name their constants after it."""
    _, z, model = rewritten(behind_logits(lambda b, z: b.add("Sigmoid", z), classes=1))
    ConvToMatMul()(model)
    assert "MatMul" in [node.op_type for node in model.graph]
    found = run(ir.to_proto(model), IMAGE)
    np.testing.assert_allclose(found, np.concatenate([-z / 2, z / 2], 1), atol=1e-6)
