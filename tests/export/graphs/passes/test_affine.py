"""What stands behind convolutions against the convolutions alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeunet.exporting.graphs.passes import Clean, FoldAffine
from edgeunet.exporting.graphs.passes.graph import attribute
from edgeunet.exporting.origins.onnx_opsets import inferred
from support.onnx_forms import Array, Builder, run

RNG = np.random.default_rng(7)


def image(height: int, width: int) -> Array:
    return RNG.normal(size=(2, 4, height, width)).astype(np.float32)


def rewritten(b: Builder, given: Array) -> ir.Model:
    """The graph after the pass, compared with what it was."""
    model = b.model(("x", 1, ["n", *given.shape[1:]]), ("y", 1, ["n", None, None, None]))
    found = inferred(ir.from_proto(model))
    ir.passes.Sequential(FoldAffine(), Clean())(found)
    proto = ir.to_proto(inferred(found))
    np.testing.assert_allclose(run(proto, given), run(model, given), atol=1e-4)
    return found


def normalisation(b: Builder, x: str, count: int) -> str:
    values = [b.const(RNG.uniform(0.5, 2, count)) for _ in range(4)]
    return b.add("BatchNormalization", x, *values, epsilon=0.01)


def affine(b: Builder, x: str, op: str, count: int) -> str:
    if op == "BatchNormalization":
        return normalisation(b, x, count)
    values = b.const(RNG.normal(size=(1, count, 1, 1)))
    return b.add(op, values, x) if op == "Add" else b.add(op, x, values)


@pytest.mark.parametrize("op", ["Add", "BatchNormalization", "Mul", "Sub"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("conv", ["Conv", "ConvTranspose"])
def test_what_is_behind_a_convolution_moves_inside(
    conv: str, groups: int, bias: bool, op: str
) -> None:
    b = Builder()
    shape = (6, 4 // groups, 3, 3) if conv == "Conv" else (4, 6 // groups, 3, 3)
    inputs = [b.const(RNG.normal(size=shape)), *([b.const(RNG.normal(size=6))] if bias else [])]
    y = b.add(conv, "x", *inputs, group=groups, pads=[1] * 4)
    b.add("Relu", affine(b, affine(b, y, op, 6), "Add", 6))
    model = rewritten(b, image(5, 6))
    assert [node.op_type for node in model.graph] == [conv, "Relu"]
    assert attribute(next(iter(model.graph)), "pads", None) == (1, 1, 1, 1)


@pytest.mark.parametrize("what", ["map", "read twice", "subtracted", "computed"])
def test_what_is_no_scale_and_shift_stays(what: str) -> None:
    b = Builder()
    y = b.add("Conv", "x", b.const(RNG.normal(size=(4, 4, 1, 1))))
    if what == "map":
        b.add("Add", y, b.const(RNG.normal(size=(1, 4, 5, 6))))
    elif what == "read twice":
        b.add("Add", b.add("Mul", y, b.const(np.float32(2))), y)
    elif what == "subtracted":
        b.add("Sub", b.const(np.float32(2)), y)
    else:
        b.add("Mul", y, b.add("Sigmoid", "x"))
    before = [node.op_type for node in b.nodes]
    assert [node.op_type for node in rewritten(b, image(5, 6)).graph] == before


@pytest.mark.parametrize("op", ["BatchNormalization", "Mul"])
def test_convolution_over_one_dimension_keeps_what_is_behind_it(op: str) -> None:
    b = Builder()
    y = b.add("Conv", "x", b.const(RNG.normal(size=(4, 4, 3))), pads=[1, 1])
    y = (
        normalisation(b, y, 4)
        if op == "BatchNormalization"
        else b.add(op, y, b.const(np.float32(2)))
    )
    b.add("Unsqueeze", y, b.const(np.array([3])))
    before = [node.op_type for node in b.nodes]
    given = image(5, 6)[..., 0]
    assert [node.op_type for node in rewritten(b, given).graph] == before
