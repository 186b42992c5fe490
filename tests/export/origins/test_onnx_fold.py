"""Rules of padding against numbers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.exporting.graphs.passes import Clean
from edgeunet.exporting.origins.onnx_fold import ExplicitPads
from edgeunet.exporting.origins.onnx_opsets import inferred
from support.onnx_forms import Array, Builder, run

RNG = np.random.default_rng(7)


def image(height: int, width: int) -> Array:
    return RNG.normal(size=(2, 4, height, width)).astype(np.float32)


def rewritten(b: Builder, given_: Array) -> ir.Model:
    """The graph after the pass, compared with what it was."""
    model = b.model(("x", 1, ["n", *given_.shape[1:]]), ("y", 1, ["n", None, None, None]))
    found = inferred(ir.from_proto(model))
    ir.passes.Sequential(ExplicitPads(), Clean())(found)
    proto = ir.to_proto(inferred(found))
    np.testing.assert_allclose(run(proto, given_), run(model, given_), atol=1e-4)
    return found


@settings(max_examples=30, deadline=None)
@given(
    op=st.sampled_from(["Conv", "ConvTranspose", "MaxPool"]),
    rule=st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
)
def test_rules_become_numbers(
    op: str, rule: str, kernel: tuple[int, int], strides: tuple[int, int], size: tuple[int, int]
) -> None:
    if op != "Conv":  # a kernel smaller than its stride would need negative padding
        kernel = (max(kernel[0], strides[0]), max(kernel[1], strides[1]))
    b = Builder()
    inputs = [] if op == "MaxPool" else [b.const(RNG.normal(size=(4, 4, *kernel)))]
    b.add(op, "x", *inputs, kernel_shape=kernel, strides=strides, auto_pad=rule)
    (node,) = rewritten(b, image(*size)).graph
    assert "auto_pad" not in node.attributes


def test_output_size_becomes_padding() -> None:
    b = Builder()
    kernel = b.const(RNG.normal(size=(4, 3, 3, 3)))
    b.add("ConvTranspose", "x", kernel, strides=[2, 2], output_shape=[10, 13])
    (node,) = rewritten(b, image(5, 6)).graph
    assert "output_shape" not in node.attributes
