"""Activations in other forms: the same values."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeunet.exporting.graphs.passes import HardSwishInInt8, PReluToLeakyRelu
from support.graphs import ops, run
from support.passes import assert_left_alone, assert_same, chain, images, rewritten_by


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), (6, 1, 1)])
@pytest.mark.parametrize("slope", [0.25, -0.5, 1.5, 0.0])
def test_a_prelu_with_one_slope_is_a_leaky_relu(shape: tuple[int, ...], slope: float) -> None:
    node = helper.make_node("PRelu", ["x", "slopes"], ["logits"], name="act")
    model = chain(node, slopes=np.full(shape, slope, np.float32))
    found = rewritten_by(PReluToLeakyRelu(), model)
    assert ops(found) == {"Einsum", "LeakyRelu"}
    assert_same(found, model)


def test_a_prelu_with_a_slope_for_each_channel_stays() -> None:
    node = helper.make_node("PRelu", ["x", "slopes"], ["logits"], name="act")
    slopes = np.linspace(0, 1, 6, dtype=np.float32).reshape(6, 1, 1)
    assert_left_alone(PReluToLeakyRelu(), chain(node, slopes=slopes), images())


LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)


def between_pairs(
    low: float, high: float, *, byte: type = np.uint8, read_twice: bool = False
) -> onnx.ModelProto:
    """Bytes of a range -> HardSwish -> bytes of the range that it has for them."""
    out_low, out_high = -0.375, high
    shift = 0 if byte == np.uint8 else -128
    constants = {
        "s": np.float32((high - low) / 255),
        "z": byte(round(-255 * low / (high - low)) + shift),
        "t": np.float32((out_high - out_low) / 255),
        "u": byte(round(-255 * out_low / (out_high - out_low)) + shift),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["image", "s", "z"], ["x"]),
        helper.make_node("HardSwish", ["x"], ["y"], name="swish"),
        helper.make_node("QuantizeLinear", ["y", "t", "u"], ["logits"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(byte))
    ends = [helper.make_tensor_value_info(n, kind, LEVELS.shape) for n in ("image", "logits")]
    if read_twice:
        nodes.append(helper.make_node("Neg", ["y"], ["other"]))
        ends.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, LEVELS.shape))
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "swish", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@settings(deadline=None, max_examples=25)
@given(low=st.floats(-12, 0), high=st.floats(0.25, 12))
def test_a_hardswish_in_int8_rounds_its_gate_and_its_result(low: float, high: float) -> None:
    model = between_pairs(low, high)
    found = rewritten_by(HardSwishInInt8(), model)
    onnx.checker.check_model(found, full_check=True)
    assert "HardSwish" not in ops(found)
    (wanted,), (got,) = run(model, LEVELS), run(found, LEVELS)
    gate = 0.5 / 255 * 3  # the gate is 0 or 1, exactly, for all that is beyond 3
    step = (high + 0.375) / 255
    assert np.abs(wanted.astype(int) - got.astype(int)).max() <= 1 + gate / step


def test_a_hardswish_that_signed_bytes_or_floats_need_stays() -> None:
    assert_left_alone(HardSwishInInt8(), between_pairs(-3, 6, read_twice=True), LEVELS)
    signed = between_pairs(-3, 6, byte=np.int8)
    assert_left_alone(HardSwishInInt8(), signed, LEVELS.view(np.int8))
    alone = chain(helper.make_node("HardSwish", ["x"], ["logits"], name="swish"))
    assert_left_alone(HardSwishInInt8(), alone, images())
