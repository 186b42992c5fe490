"""Graphs of newer and older opsets and of other floats against their form in a bundle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from edgeunet.errors import ExportError
from edgeunet.exporting.graphs.passes.graph import OPSET
from edgeunet.exporting.origins.onnx_opsets import DropCasts, inferred, to_float32, to_opset
from support.onnx_forms import Array, Builder, run

SHAPE = (6, 5, 8)  # C, H, W
RNG = np.random.default_rng(3)
SIX = RNG.uniform(0.5, 2, 6).astype(np.float32)


def images() -> Array:
    return RNG.normal(size=(2, *SHAPE)).astype(np.float32)


def graph(build: Callable[[Builder], object], *, opset: int, made: int = 1) -> onnx.ModelProto:
    b = Builder(opset=opset)
    build(b)
    model = b.model(("x", made, ["n", *SHAPE]), ("y", made, ["n", None, None, None]))
    return onnx.shape_inference.infer_shapes(model)


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    proto = ir.to_proto(inferred(to_opset(ir.from_proto(model))))
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == OPSET
    return proto


def split(b: Builder) -> None:
    b.add("Split", "x", outputs=2, num_outputs=2, axis=2)
    parts = b.nodes[-1].output
    b.add("Concat", parts[1], parts[0], axis=2)


def grid(b: Builder) -> None:
    shape = b.add("Concat", b.add("Shape", "x", start=0, end=1), b.const(np.array([4, 4, 2])),
                  axis=0)  # fmt: skip
    b.add("GridSample", "x", b.add("Expand", b.const(np.float32(0.3)), shape), mode="linear")


NEWER: dict[str, tuple[int, Callable[[Builder], object]]] = {
    "GELU": (20, lambda b: b.add("Gelu", "x")),
    "GELU by tanh": (20, lambda b: b.add("Gelu", "x", approximate="tanh")),
    "group norm": (
        21,
        lambda b: b.add("GroupNormalization", "x", b.const(SIX), b.const(SIX), num_groups=2),
    ),
    "grid": (20, grid),
    "mish": (18, lambda b: b.add("Mish", "x")),
    "pad": (
        21,
        lambda b: b.add(
            "Pad", "x", b.const(np.array([1, 0, 2, 3])), "", b.const(np.array([2, -1]))
        ),
    ),
    "pool": (19, lambda b: b.add("AveragePool", "x", kernel_shape=[2, 2], dilations=[1, 1])),
    "reduce": (18, lambda b: b.add("ReduceMax", "x", b.const(np.array([-1])))),
    "reduce nothing": (18, lambda b: b.add("ReduceMean", "x", noop_with_empty_axes=1)),
    "resize": (
        18,
        lambda b: b.add("Resize", "x", "", "", b.const(np.array([7, 9])), axes=[2, 3],
                        mode="linear", antialias=0),
    ),
    "resize by scales": (
        19,
        lambda b: b.add("Resize", "x", "", b.exact(np.float32([2])), axes=[3], mode="nearest"),
    ),
    "split": (18, split),
}  # fmt: skip


@pytest.mark.parametrize("name", NEWER)
def test_newer_operator_computes_the_same(name: str) -> None:
    opset, build = NEWER[name]
    model, image = graph(build, opset=opset), images()[: 1 if name == "resize" else 2]
    np.testing.assert_allclose(run(converted(model), image), run(model, image), atol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda b: b.add("Resize", "x", "", b.exact(np.float32([1, 1, 0.5, 0.5])), antialias=1,
                            mode="linear"),
            r"'Resize_0' \(Resize with antialias\) needs opset 21",
        ),
        (lambda b: b.add("BitwiseNot", "x"), r"'BitwiseNot_0' \(BitwiseNot\) needs opset 21"),
    ],
)  # fmt: skip
def test_what_the_opset_cannot_say_is_refused(
    build: Callable[[Builder], object], message: str
) -> None:
    b = Builder(opset=21)
    build(b)
    kind = TensorProto.FLOAT if b.nodes[0].op_type == "Resize" else TensorProto.INT32
    model = b.model(("x", kind, ["n", *SHAPE]), ("y", kind, ["n", None, None, None]))
    with pytest.raises(ExportError, match=message):
        to_opset(ir.from_proto(model))


@pytest.mark.parametrize("opset", [11, 12, 15])
def test_older_graph_computes_the_same(opset: int) -> None:
    def build(b: Builder) -> None:
        y = b.reduce("ReduceSum", "x", [2, 3])
        y = b.add("Mul", b.add("Clip", "x", b.const(np.float32(-1))), y)
        b.add("Softmax", b.add("Transpose", y, perm=[0, 2, 3, 1]), axis=3)

    model, image = graph(build, opset=opset), images()
    np.testing.assert_allclose(run(converted(model), image), run(model, image), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_fp32(dtype: type) -> None:
    b = Builder(dtype=dtype)
    kind = TensorProto.FLOAT16 if dtype is np.float16 else TensorProto.DOUBLE
    y = b.add("Cast", b.add("Mul", "x", b.const(SIX.reshape(6, 1, 1))), to=kind)
    b.add("Add", y, b.const(np.float32(1)))
    model = b.model(("x", kind, ["n", *SHAPE]), ("y", kind, ["n", *SHAPE]))
    found = ir.from_proto(model)
    to_float32(found)
    found = inferred(found)
    DropCasts()(found)
    proto = ir.to_proto(found)
    assert [node.op_type for node in proto.graph.node] == ["Mul", "Add"]
    image = images()
    wanted = run(model, image.astype(dtype)).astype(np.float32)
    np.testing.assert_allclose(run(proto, image), wanted, rtol=4e-3, atol=4e-3)


def test_shapes_that_do_not_fit_are_one_line() -> None:
    b = Builder()
    b.add("Add", "x", b.const(np.ones((1, 5, 1, 1))))
    b.nodes[-1].output[0] = "y"
    ends = [onnx.helper.make_tensor_value_info(n, 1, ["n", *SHAPE]) for n in "xy"]
    graph_ = onnx.helper.make_graph(b.nodes, "net", ends[:1], ends[1:], b.constants)
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = ir.from_proto(onnx.helper.make_model(graph_, opset_imports=opsets))
    with pytest.raises(ExportError, match=r"shapes do not fit together: .*Add_0") as caught:
        inferred(model)
    assert "\n" not in str(caught.value)


def test_weights_are_the_same_behind_the_inference() -> None:
    b = Builder()
    y = b.add("Conv", "x", b.const(RNG.normal(size=(64, 6, 3, 3))))
    b.add("Conv", y, b.const(RNG.normal(size=(5, 64, 3, 3))))
    model = b.model(("x", 1, ["n", *SHAPE]), ("y", 1, ["n", None, None, None]))
    given = ir.from_proto(model)
    found = inferred(given)
    image = images()
    for each in (given, found):
        proto = ir.to_proto(each)
        assert [value.name for value in proto.graph.input] == ["x"]
        np.testing.assert_array_equal(run(proto, image), run(model, image))
    assert list(found.graph.initializers) == list(given.graph.initializers)
    assert found.graph.outputs[0].shape is not None
    assert found.graph.outputs[0].shape[1:] == (5, 1, 4)
