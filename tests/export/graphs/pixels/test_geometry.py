"""Frames of any size are resized and padded in the graph as in the runtime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.bundle.manifest import InputSpec, covered
from edgeunet.exporting.graphs.pixels import PixelsForm
from edgeunet.exporting.graphs.pixels.geometry import Nodes, any_geometry, fixed_geometry
from support.pixels import Small, assert_runtime_masks, noise

RESIZES = ("stretch", "pad", "pad_centre")


@settings(deadline=None, max_examples=30)
@given(
    resize=st.sampled_from(RESIZES),
    fill=st.sampled_from([None, 114.0]),
    net=st.tuples(st.integers(16, 48), st.integers(16, 48)),
    frame=st.tuples(st.integers(5, 90), st.integers(5, 90)),
    stride=st.sampled_from([1, 2]),
)
def test_any_size_is_taken(
    resize: str, fill: float | None, net: tuple[int, int], frame: tuple[int, int], stride: int
) -> None:
    fill = None if resize == "stretch" else fill
    spec = InputSpec(*net, resize=resize, fill=fill)  # type: ignore[arg-type]
    small = Small.of(spec, stride=stride)
    model = small.pixels(PixelsForm(any_size=True))
    assert_runtime_masks(small, model, noise(spec, size=frame))
    assert_runtime_masks(small, model, noise(spec, count=1))  # the same graph, another size


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("fill", [None, 114.0])
@pytest.mark.parametrize("size", [(20, 36), (24, 32)])
def test_a_fixed_size_needs_no_resize_but_where_padding_does(
    resize: str, fill: float | None, size: tuple[int, int]
) -> None:
    fill = None if resize == "stretch" else fill
    spec = InputSpec(*size, resize=resize, fill=fill)  # type: ignore[arg-type]
    small = Small.of(spec)
    model = small.pixels()
    resizes = {"Resize", "Pad"} & {node.op_type for node in model.graph.node}
    # Padded frames have sides of multiples of 8, so one of 20x36 shrinks a little.
    assert bool(resizes) == (resize != "stretch" and size == (20, 36))
    assert "Shape" not in {node.op_type for node in model.graph.node}
    assert_runtime_masks(small, model, noise(spec))


@pytest.mark.parametrize("resize", RESIZES)
def test_constants_are_those_of_the_input(resize: str) -> None:
    spec = InputSpec(20, 36, resize=resize)  # type: ignore[arg-type]
    geometry = fixed_geometry(spec, (10, 18))
    assert np.asarray(geometry.fitted).tolist() == list(spec.fitted_size(20, 36))
    assert (geometry.first is None) == (resize == "stretch")
    if resize != "stretch":
        rows, columns = covered(spec, (10, 18), (20, 36))
        assert np.asarray(geometry.first).tolist() == [rows.start, columns.start]
        assert np.asarray(geometry.last).tolist() == [rows.stop, columns.stop]


def test_stretched_frames_need_no_arithmetic() -> None:
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 17})
    nodes = Nodes(ir.Model(graph, ir_version=8))
    any_geometry(nodes, ir.val("frames"), InputSpec(8, 8), (8, 8))
    assert [node.op_type for node in nodes.take()] == ["Shape", "Slice"]
    assert nodes.take() == []
