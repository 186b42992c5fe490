"""Graphs with channels last against the same with channels first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.exporting.graphs.passes import Clean
from edgeunet.exporting.origins.onnx_layout import SinkTransposes
from edgeunet.exporting.origins.onnx_opsets import inferred
from support.onnx_forms import Array, Builder, run

SHAPE = (4, 6, 8)  # C, H, W
RNG = np.random.default_rng(6)
IMAGE = RNG.normal(size=(2, *SHAPE)).astype(np.float32)
CHANNELS = RNG.uniform(0.5, 1.5, SHAPE[0]).astype(np.float32)


def first(b: Builder, x: str) -> str:
    return b.add("Transpose", x, perm=[0, 3, 1, 2])


def last(b: Builder, x: str) -> str:
    return b.add("Transpose", x, perm=[0, 2, 3, 1])


def gate(b: Builder, x: str) -> str:
    return b.add("Mul", x, b.add("Sigmoid", b.reduce("ReduceMean", x, [1, 2])))


def flat_gate(b: Builder, x: str) -> str:
    row = b.add("Mul", b.reduce("ReduceMean", x, [1, 2], keepdims=0), b.const(CHANNELS))
    return b.add("Mul", x, b.add("Reshape", row, b.const(np.array([-1, 1, 1, 4]))))


def split(b: Builder, x: str) -> str:
    b.add("Split", x, outputs=2, axis=-1)
    left, right = b.nodes[-1].output
    return b.add("Concat", right, left, axis=-1)


def resized(b: Builder, x: str) -> str:
    twice = b.add("Resize", x, "", b.exact(np.float32([1, 2, 1, 1])), mode="nearest")
    return b.add("MaxPool", first(b, twice), kernel_shape=[2, 1], strides=[2, 1])


STEPS: dict[str, Callable[[Builder, str], str]] = {
    "add": lambda b, x: b.add("Add", x, b.const(CHANNELS)),
    "clip": lambda b, x: b.add("Clip", x, b.const(np.float32(-1)), b.const(np.float32(2))),
    "concat": lambda b, x: b.add("Slice", b.add("Concat", x, b.add("Neg", x), axis=3),
                                 b.const(np.array([2])), b.const(np.array([6])),
                                 b.const(np.array([3]))),
    "flat gate": flat_gate,
    "gate": gate,
    "leaky": lambda b, x: b.add("LeakyRelu", x, alpha=0.1),
    "pad": lambda b, x: b.add("Slice", b.add("Pad", x, b.const(np.array([0, 1, 0, 0, 0, 0, 2, 0]))),
                              b.const(np.array([1, 0])), b.const(np.array([7, 8])),
                              b.const(np.array([1, 2]))),
    "pool": lambda b, x: last(b, b.add("MaxPool", first(b, x), kernel_shape=[3, 3], pads=[1] * 4)),
    "prelu": lambda b, x: b.add("PRelu", x, b.const(CHANNELS.reshape(1, 1, 4))),
    "resize": lambda b, x: last(b, resized(b, x)),
    "scale": lambda b, x: b.add("Mul", b.const(np.float32(0.5)), x),
    "skip": lambda b, x: b.add("Add", x, b.add("Relu", x)),
    "softmax": lambda b, x: b.add("Softmax", x, axis=3),
    "split": split,
    "where": lambda b, x: b.add("Where", b.add("Greater", x, b.const(np.float32(0))), x,
                                b.const(CHANNELS)),
}  # fmt: skip


def graph(steps: list[str]) -> onnx.ModelProto:
    b = Builder()
    x = last(b, "x")
    for name in steps:
        x = STEPS[name](b, x)
    first(b, x)
    ends = ["n", *SHAPE]
    return b.model(("x", 1, ends), ("y", 1, ["n", None, None, None]))


def sunk(model: onnx.ModelProto) -> onnx.ModelProto:
    found = inferred(ir.from_proto(model))
    SinkTransposes()(found)
    Clean()(found)
    proto: onnx.ModelProto = ir.to_proto(inferred(found))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def assert_same(model: onnx.ModelProto, image: Array = IMAGE) -> list[str]:
    """Compares the outputs; returns the operators."""
    proto = sunk(model)
    np.testing.assert_allclose(run(proto, image), run(model, image), atol=1e-6)
    return [node.op_type for node in proto.graph.node]


@pytest.mark.parametrize("name", STEPS)
def test_step_computes_the_same_without_transposes(name: str) -> None:
    ops = assert_same(graph([name, "add"]))
    assert ops.count("Transpose") == (1 if name in ("flat gate",) else 0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6))
def test_any_steps_compute_the_same(steps: list[str]) -> None:
    assert_same(graph(steps))


def test_shape_of_a_transposed_map_is_that_of_the_map() -> None:
    b = Builder()
    x = last(b, "x")
    b.add("Expand", b.const(np.float32(2)), b.add("Shape", x))
    model = b.model(("x", 1, ["n", *SHAPE]), ("y", 1, ["n", None, None, None]))
    assert "Transpose" not in assert_same(model)


def test_transposes_that_matter_stay() -> None:
    b = Builder()
    b.add("MatMul", last(b, "x"), b.const(RNG.normal(size=(4, 5))))
    model = b.model(("x", 1, ["n", *SHAPE]), ("y", 1, ["n", 6, 8, 5]))
    assert assert_same(model) == ["Transpose", "MatMul"]


def test_transpose_of_two_kinds_stays_in_front_of_a_sum() -> None:
    b = Builder()
    b.add(
        "Add",
        b.add("Transpose", "x", perm=[0, 1, 3, 2]),
        b.add("Transpose", "x", perm=[0, 2, 1, 3]),
    )
    image = RNG.normal(size=(2, 5, 5, 5)).astype(np.float32)
    model = b.model(("x", 1, ["n", 5, 5, 5]), ("y", 1, ["n", 5, 5, 5]))
    assert assert_same(model, image).count("Transpose") == 2
