"""Frames become the net's input inside the graph as they do in the runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.bundle.manifest import InputSpec
from support.graphs import ops
from support.pixels import Small, assert_runtime_masks, noise, run_pixels

NAMES = ("red", "green", "blue")


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_normalisation_is_folded_exactly_at_borders_too(data: st.DataObject) -> None:
    channels = tuple(data.draw(st.permutations(NAMES)))[: data.draw(st.integers(1, 3))]
    value = st.floats(0.0625, 0.9375, width=32)
    numbers = st.lists(value, min_size=len(channels), max_size=len(channels)).map(tuple)
    spec = InputSpec(
        data.draw(st.integers(4, 20)),
        data.draw(st.integers(4, 20)),
        channels=channels,
        mean=data.draw(numbers),
        std=data.draw(numbers),
        levels=data.draw(st.sampled_from([(0.0, 255.0), (10.0, 200.0)])),
    )
    pads = data.draw(st.integers(0, 2))
    small = Small.of(spec, pads=pads, bias=data.draw(st.booleans()))
    model = small.pixels()
    folded = ops(model) - {"Cast", "Transpose", "Gather"}
    assert "Mul" not in folded
    assert "w" not in {constant.name for constant in model.graph.initializer}, "it is not read"
    assert ("Sub" in folded) == (pads > 0), "a padded convolution needs the mean at 0"
    assert_runtime_masks(small, model, noise(spec))


def test_the_border_of_a_dark_net_is_right() -> None:
    # One convolution that sums up 9 pixels: a border padded with raw zeros instead of the mean
    # would tell the wrong class at once.
    spec = InputSpec(6, 6, channels=("red",), mean=(0.5,), std=(0.1,))
    small = Small.of(spec, classes=2)
    for constant in small.model.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        changed = {
            "w": np.ones_like,
            "b": np.zeros_like,
            "offset": np.zeros_like,
        }.get(constant.name, np.copy)(values)
        if constant.name == "head":
            changed = np.stack([np.full_like(values[0], 0.01), np.full_like(values[0], 0.02)])
        constant.CopyFrom(onnx.numpy_helper.from_array(changed, constant.name))
    frame = np.full((6, 6, 3), 128, np.uint8)
    found = run_pixels(small.pixels(), [frame])["masks"]
    assert found.all(), "128 is above the mean everywhere, so all sums are positive"
    assert_runtime_masks(small, small.pixels(), [frame])


@pytest.mark.parametrize("flavour", ["int8.cpu", "int8"])
def test_quantized_graphs_keep_the_runtimes_arithmetic(flavour: str) -> None:
    small = Small.of(InputSpec(8, 8))
    assert {"Mul", "Add"} <= ops(small.pixels(flavour=flavour))  # type: ignore[arg-type]


@pytest.mark.parametrize("reader", ["twice", "grouped"])
def test_what_cannot_be_folded_stays_in_front(reader: str) -> None:
    spec = InputSpec(8, 8)
    small = Small.of(spec)
    nodes = small.model.graph.node
    if reader == "twice":
        nodes.insert(0, onnx.helper.make_node("Identity", ["image"], ["copy"]))
        nodes.insert(2, onnx.helper.make_node("ReduceMax", ["copy"], ["top"], keepdims=1))
        nodes.insert(3, onnx.helper.make_node("Add", ["c", "top"], ["sum"]))
        next(node for node in nodes if node.op_type == "Relu").input[0] = "sum"
    else:
        conv = next(node for node in nodes if node.name == "first")
        conv.attribute.append(onnx.helper.make_attribute("group", 3))
        weight = next(t for t in small.model.graph.initializer if t.name == "w")
        part = onnx.numpy_helper.to_array(weight)[:, :1]
        weight.CopyFrom(onnx.numpy_helper.from_array(part.copy(), "w"))
    model = small.pixels()
    assert {"Mul", "Add"} <= ops(model)
    assert_runtime_masks(small, model, noise(spec))


def test_gray_is_computed_as_the_runtime_does() -> None:
    spec = InputSpec(64, 64, channels=("gray",))
    small = Small.of(spec)
    model = small.pixels()
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:] == [64, 64, 3]
    found = assert_runtime_masks(small, model, noise(spec))
    outputs = small.outputs(noise(spec))
    # The same luma, to the bit: the presence is a mean of all pixels.
    np.testing.assert_allclose(found["presence"], outputs.presence, atol=1e-6)


def test_other_channels_and_depths_are_the_inputs_own() -> None:
    spec = InputSpec(
        8, 8, channels=("red", "green", "blue", "nir"), depth="uint16", levels=(0.0, 4095.0),
        mean=(0.4,) * 4, std=(0.2,) * 4,
    )  # fmt: skip
    small = Small.of(spec)
    model = small.pixels()
    declared = model.graph.input[0].type.tensor_type
    assert declared.elem_type == onnx.TensorProto.UINT16
    assert declared.shape.dim[3].dim_value == 4
    assert_runtime_masks(small, model, noise(spec))
