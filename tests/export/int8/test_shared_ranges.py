"""Ranges around Concats and moves: one for all, and clamps that stay where they fold."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeunet.exporting.int8.shared_ranges import (
    balance_ranges,
    cut_unused,
    inherit_ranges,
    share_ranges,
)

IMAGE = [1, 2, 4, 4]
LISTS = ("shape", "rows")


def graph(*nodes: onnx.NodeProto) -> ir.Model:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, IMAGE) for name in ("x", "y")]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    constants = [weight, *(helper.make_tensor(name, TensorProto.INT64, [1], [1]) for name in LISTS)]
    return ir.from_proto(
        helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], constants))
    )


def node(kind: str, inputs: str, output: str) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output])


DECODER = graph(
    node("Conv", "x w", "c"),
    node("Relu", "c", "skip"),
    node("MaxPool", "skip", "pooled"),
    node("Conv", "pooled w", "deep"),
    node("Relu", "deep", "low"),
    node("Resize", "low", "up"),
    node("Concat", "skip up", "both"),
    node("Conv", "both w", "signed"),
    node("DepthToSpace", "signed", "risen"),
    node("Concat", "both risen", "mixed"),
    node("Conv", "mixed w", "y"),
)
RANGES = {
    **{"x": (-2.0, 2.0), "c": (-3.0, 3.0), "skip": (0.0, 1.0), "pooled": (0.0, 2.0)},
    **{"deep": (-9.0, 9.0), "low": (0.0, 5.0), "up": (0.0, 4.0), "both": (0.0, 3.0)},
    **{"signed": (-6.0, 1.0), "risen": (-5.0, 2.0), "mixed": (-4.0, 3.5), "y": (-7.0, 7.0)},
}


@pytest.mark.parametrize(
    ("keep_clamps", "inner", "outer", "mixed"),
    [
        (False, (-6.0, 5.0), (-6.0, 5.0), (-6.0, 5.0)),
        (True, (0.0, 5.0), (-6.0, 2.0), (-4.0, 3.5)),
    ],
)
def test_what_meets_has_the_widest_range(
    keep_clamps: bool, inner: object, outer: object, mixed: object
) -> None:
    found = share_ranges(DECODER, RANGES, keep_clamps=keep_clamps)
    assert {found[name] for name in ("skip", "pooled", "low", "up", "both")} == {inner}
    assert {found[name] for name in ("signed", "risen")} == {outer}
    assert found["mixed"] == mixed
    assert {name: found[name] for name in ("x", "c", "deep", "y")} == {
        name: RANGES[name] for name in ("x", "c", "deep", "y")
    }


limits = st.tuples(st.floats(-10, 0), st.floats(0, 10))


@given(
    ranges=st.fixed_dictionaries(dict.fromkeys(RANGES, limits)),
    keep_clamps=st.booleans(),
)
def test_no_range_narrows_and_a_second_time_changes_nothing(
    ranges: dict[str, tuple[float, float]], keep_clamps: bool
) -> None:
    found = share_ranges(DECODER, ranges, keep_clamps=keep_clamps)
    assert all(
        found[name][0] <= low and high <= found[name][1] for name, (low, high) in ranges.items()
    )
    assert share_ranges(DECODER, found, keep_clamps=keep_clamps) == found


def test_tensors_without_a_range_are_left_out() -> None:
    found = share_ranges(DECODER, {"skip": (0.0, 1.0), "both": (0.0, 2.0)}, keep_clamps=True)
    assert found == {"skip": (0.0, 2.0), "both": (0.0, 2.0)}


def test_what_is_moved_has_the_range_of_where_it_goes_or_else_comes_from() -> None:
    model = graph(
        node("Conv", "x w", "made"),
        node("Transpose", "made", "turned"),
        node("Reshape", "turned shape", "flat"),
        node("Relu", "flat", "kept"),
        node("Gather", "kept rows", "gathered"),
        node("Transpose", "gathered", "y"),
    )
    found = inherit_ranges(model, {"flat": (-1.0, 2.0), "kept": (0.0, 3.0)})
    assert found.pop("made") == found.pop("turned") == found.pop("flat") == (-1.0, 2.0)
    assert set(found) == {"kept", "gathered", "y"}
    assert set(found.values()) == {(0.0, 3.0)}


def test_levels_are_not_spent_on_what_a_hardswish_makes_zero() -> None:
    ranges = {"c": (-20.0, 6.0), "d": (-2.0, 6.0), "e": (-20.0, -1.0), "f": (-20.0, 6.0)}
    names = {"c": "HardSwish", "d": "HardSwish", "e": "HardSwish", "f": "Sigmoid"}
    swishes = [node(kind, name, f"{name}_out") for name, kind in names.items()]
    read_twice = [node("Conv", "x w", "g"), node("HardSwish", "g", "h"), node("Neg", "g", "y")]
    convs = [node("Conv", "x w", name) for name in names]
    found = cut_unused(graph(*convs, *swishes, *read_twice), {**ranges, "g": (-9.0, 9.0)})
    assert found == {
        "c": (-3.0, 6.0),
        "d": (-2.0, 6.0),
        "e": (-3.0, 0.0),
        "f": (-20.0, 6.0),
        "g": (-9.0, 9.0),
    }


KERNELS = {"wide": [2, 2, 3, 3], "point": [2, 2, 1, 1], "depthwise": [2, 1, 3, 3]}


def convolved(kernel: str) -> ir.Model:
    """A map, convolved with a kernel of one of those shapes."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, IMAGE) for name in ("x", "y")]
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    weight = onnx.numpy_helper.from_array(np.ones(KERNELS[kernel], np.float32), "w")
    return ir.from_proto(
        helper.make_model(helper.make_graph([conv], "g", ends[:1], ends[1:], [weight]))
    )


@given(low=st.floats(-1e4, -1e-4), high=st.floats(0, 1e4))
def test_signed_values_that_are_summed_over_pixels_are_symmetric(low: float, high: float) -> None:
    ranges = {"x": (low, high), "beside": (low, high), "other": (low - 1, high)}
    found = balance_ranges(convolved("wide"), ranges, ["conv"])
    lowest, highest = found["x"]
    assert lowest <= low * (1 - 1e-9) and highest >= high * (1 - 1e-9)
    assert lowest == pytest.approx(low) or highest == pytest.approx(high), "no wider than that"
    lowest, highest = np.float32(lowest), np.float32(highest)  # as ONNX Runtime's quantizer has it
    assert round(-lowest / ((highest - lowest) / 255)) == 128
    assert found["beside"] == found["x"], "tensors that met have one range"
    assert found["other"] == ranges["other"]


@pytest.mark.parametrize(
    ("kernel", "nodes", "low"),
    [("point", ["conv"], -1.0), ("depthwise", ["conv"], -1.0), ("wide", [], -1.0),
     ("wide", ["conv"], 0.0)],
    ids=["a pixel", "depthwise", "in float", "unsigned"],
)  # fmt: skip
def test_other_ranges_keep_their_zero_point(kernel: str, nodes: list[str], low: float) -> None:
    ranges = {"x": (low, 5.0)}
    assert balance_ranges(convolved(kernel), ranges, nodes) == ranges
