"""Sums of bytes that would end on halves get a wider range; nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeunet.exporting.int8.halves import avoid_halves
from edgeunet.exporting.int8.shared_ranges import Range

BYTES = np.arange(256)


def graph(*nodes: tuple[str, str, str]) -> ir.Model:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("a", "b", "y")
    ]
    made = [helper.make_node(kind, inputs.split(), [output]) for kind, inputs, output in nodes]
    whole: onnx.GraphProto = helper.make_graph(made, "g", ends[:2], ends[2:])
    return ir.from_proto(helper.make_model(whole))


SUM = graph(("Add", "a b", "y"))


def share_of_halves(first: Range, second: Range, total: Range) -> float:
    """By integers as ONNX Runtime's QLinearAdd has them, over all pairs of bytes."""
    scales = [np.float64(high - low) / 255 for low, high in (first, second, total)]
    values = [
        (BYTES - np.rint(-low / scale)) * scale
        for (low, _), scale in zip((first, second), scales, strict=False)
    ]
    sums = np.add.outer(*values) / scales[2]
    return float(np.mean(np.abs(sums - np.floor(sums) - 0.5) < 1e-5))


@pytest.mark.parametrize("share", [0.5, 0.25, 0.75, 1 / 6, 47 / 94])
def test_sum_of_a_simple_scale_is_widened(share: float) -> None:
    ranges = {"a": (-9.0, 9.3713377), "b": (-12 * share, 12 * share), "y": (-12.0, 12.0)}
    assert share_of_halves(*ranges.values()) > 5e-4
    found = avoid_halves(SUM, ranges)
    assert share_of_halves(*found.values()) < 1e-4
    assert {name: found[name] for name in "ab"} == {name: ranges[name] for name in "ab"}
    assert 12 < found["y"][1] == -found["y"][0] < 12.2


def test_other_sums_keep_their_range() -> None:
    ranges = {"a": (-9.0, 9.3713377), "b": (-4.3271, 5.1234567), "y": (-12.0, 12.0)}
    assert avoid_halves(SUM, ranges) == ranges


def test_sum_before_a_relu_has_the_range_of_the_relu() -> None:
    model = graph(("Add", "a b", "sum"), ("Relu", "sum", "y"))
    ranges = {"a": (-9.0, 9.3713377), "b": (-3.0, 3.0), "sum": (-12.0, 12.0), "y": (0.0, 12.0)}
    found = avoid_halves(model, ranges)
    assert found["sum"] == ranges["sum"]
    assert found["y"][0] == 0
    assert found["y"][1] > 12


def test_what_a_clip_ends_is_kept() -> None:
    model = graph(("Add", "a b", "sum"), ("Clip", "sum", "y"))
    ranges = {"a": (-3.0, 3.0), "b": (-3.0, 3.0), "sum": (0.0, 6.0), "y": (0.0, 6.0)}
    assert avoid_halves(model, ranges) == ranges


def test_later_sums_see_the_wider_range_and_equal_ranges_stay_equal() -> None:
    model = graph(("Add", "a b", "sum"), ("Transpose", "sum", "moved"), ("Add", "moved b", "y"))
    wide = (-12.0, 12.0)
    ranges = {
        "a": (-9.0, 9.3713377),
        "b": (-6.0, 6.0),
        "sum": wide,
        "moved": wide,
        "y": (-24.0, 24.0),
    }
    found = avoid_halves(model, ranges)
    assert found["moved"] == found["sum"] != wide
    assert share_of_halves(found["moved"], found["b"], found["y"]) < 1e-4


def test_sum_without_a_range_is_left_alone() -> None:
    assert avoid_halves(SUM, {"a": (-1.0, 1.0), "y": (0.0, 0.0)}) == {
        "a": (-1.0, 1.0),
        "y": (0.0, 0.0),
    }


limits = st.tuples(st.floats(-10, 0), st.floats(0, 10))


@given(st.fixed_dictionaries({"a": limits, "b": limits, "y": limits}))
@example({"a": (0.0, 0.0), "b": (0.0, 1.0), "y": (-2.3e-308, 0.0)})
def test_no_range_narrows_or_grows_much(ranges: dict[str, Range]) -> None:
    found = avoid_halves(SUM, ranges)
    for name, (low, high) in ranges.items():
        assert low * 1.0151 <= found[name][0] <= low
        assert high <= found[name][1] <= high * 1.0151
