"""Convolutions behind a doubling as convolutions before it: the same function afterwards."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeunet.exporting.graphs.passes import (
    DeconvToPhases,
    UpsampledConvToDeconv,
    UpsampledConvToPhases,
    phases,
)
from support.graphs import ops
from support.passes import (
    SHAPE,
    assert_left_alone,
    assert_same,
    chain,
    images,
    product,
    rewritten_by,
    weight_shape,
    weights,
)

CHANNELS, HEIGHT, WIDTH = SHAPE
TWICE = np.float32([1, 1, 2, 2])


def conv(source: str, target: str, **settings: object) -> onnx.NodeProto:
    defaults = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return helper.make_node(
        "Conv", [source, "w", "b"], [target], name="conv", **defaults | settings
    )


def doubled(source: str, target: str, **settings: str) -> onnx.NodeProto:
    defaults = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    inputs = [source, "", "scales"]
    return helper.make_node("Resize", inputs, [target], name=target, **defaults | settings)


def decoder(
    skip: int = 0,
    *,
    first: bool = True,
    activation: str = "Relu",
    outputs: int = 5,
    scales: np.ndarray = TWICE,
    resize: dict[str, str] | None = None,
    **settings: object,
) -> onnx.ModelProto:
    """A map, doubled, joined with `skip` channels of its own size, and convolved.

    first: whether the doubled channels are the first of the Concat.
    """
    nodes = [doubled("x", "up", **resize or {})]
    constants = {"scales": scales}
    if skip:
        # The skip connection: each channel once more, from another doubling.
        constants["some"] = np.arange(skip) % CHANNELS
        nodes.append(helper.make_node("Resize", ["image", "", "scales"], ["large"], mode="linear"))
        nodes.append(helper.make_node("Gather", ["large", "some"], ["skip"], axis=1))
        both = ["up", "skip"] if first else ["skip", "up"]
        nodes.append(helper.make_node("Concat", both, ["joined"], name="concat", axis=1))
    nodes.append(conv("joined" if skip else "up", "sums", **settings))
    bounds = ["low", "high"] if activation == "Clip" else []
    if bounds:
        constants |= {"low": np.float32(0), "high": np.float32(1)}
    nodes.append(helper.make_node(activation, ["sums", *bounds], ["active"], name="active"))
    nodes.append(product("active", "logits", "head"))
    constants |= {"w": weights(outputs, CHANNELS + skip, 3, 3), "b": weights(outputs)}
    return chain(*nodes, **constants)


@settings(deadline=None, max_examples=20)
@given(
    skip=st.integers(0, 4),
    first=st.booleans(),
    activation=st.sampled_from(["Relu", "Clip", "Neg"]),
    outputs=st.integers(1, 6),
    whole=st.booleans(),
)
def test_a_convolution_behind_doubled_pixels_computes_the_same(
    skip: int, first: bool, activation: str, outputs: int, whole: bool
) -> None:
    model = decoder(skip, first=first, activation=activation, outputs=outputs)
    with patch.object(phases, "_SAVES", 2.0):  # so small a map saves nothing
        found = rewritten_by(UpsampledConvToPhases(whole=whole), model)
    assert ("DepthToSpace" in ops(found)) == whole
    (small,) = (node for node in found.graph.node if node.op_type == "Conv")
    assert weight_shape(found, small) == (4 * outputs, CHANNELS + 4 * skip, 2, 2)
    assert_same(found, model)


@pytest.mark.parametrize("mode", ["asymmetric", "half_pixel"])
def test_both_ways_to_say_that_pixels_repeat_are_known(mode: str) -> None:
    settings = {"coordinate_transformation_mode": mode, "nearest_mode": "round_prefer_floor"}
    settings |= {"nearest_mode": "floor"} if mode == "asymmetric" else {}
    model = decoder(2, resize=settings)
    found = rewritten_by(UpsampledConvToPhases(), model)
    assert {node.op_type for node in found.graph.node if "conv" in node.name} > {"Conv", "Slice"}
    assert_same(found, model)


@pytest.mark.parametrize(
    "model",
    [
        decoder(5),
        decoder(scales=np.float32([1, 1, 3, 3])),
        decoder(scales=np.float32([1, 1, 2, 1])),
        decoder(resize={"mode": "linear", "coordinate_transformation_mode": "half_pixel"}),
        decoder(resize={"nearest_mode": "ceil"}),
        decoder(pads=[0, 0, 0, 0]),
        decoder(strides=[2, 2]),
        decoder(dilations=[2, 2], pads=[2, 2, 2, 2]),
    ],
    ids=["more skipped", "three times", "rows alone", "bilinear", "shifted", "no border", "stride",
         "dilated"],
)  # fmt: skip
def test_other_convolutions_stay(model: onnx.ModelProto) -> None:
    assert_left_alone(UpsampledConvToPhases(), model, images())


def test_a_convolution_that_runs_in_float_stays() -> None:
    assert_left_alone(UpsampledConvToPhases(nodes=["other"]), decoder(), images())
    assert_left_alone(UpsampledConvToDeconv(nodes=["other"]), decoder(), images())


def test_moved_pixels_must_save_more_products() -> None:
    """Of 4x8 pixels with 6 channels, 0.63 of the products; 0.89 with a skip of one channel."""
    assert "DepthToSpace" in ops(rewritten_by(UpsampledConvToPhases(whole=True), decoder()))
    assert_left_alone(UpsampledConvToPhases(whole=True), decoder(1), images())
    assert "Slice" in ops(rewritten_by(UpsampledConvToPhases(), decoder(1)))


@settings(deadline=None, max_examples=20)
@given(
    activation=st.sampled_from(["Relu", "Clip", "Neg"]),
    outputs=st.integers(1, 6),
    mode=st.sampled_from(["asymmetric", "half_pixel"]),
)
def test_a_convolution_of_doubled_pixels_alone_becomes_a_transposed_one(
    activation: str, outputs: int, mode: str
) -> None:
    nearest = {"asymmetric": "floor", "half_pixel": "round_prefer_floor"}[mode]
    resize = {"coordinate_transformation_mode": mode, "nearest_mode": nearest}
    model = decoder(activation=activation, outputs=outputs, resize=resize)
    found = rewritten_by(UpsampledConvToDeconv(), model)
    assert "Conv" not in ops(found)
    (doubling,) = (node for node in found.graph.node if node.op_type == "ConvTranspose")
    assert doubling.name == "conv" and weight_shape(found, doubling) == (CHANNELS, outputs, 4, 4)
    assert_same(found, model)


@pytest.mark.parametrize(
    "model",
    [
        decoder(2),
        decoder(scales=np.float32([1, 1, 3, 3])),
        decoder(resize={"mode": "linear", "coordinate_transformation_mode": "half_pixel"}),
        decoder(pads=[0, 0, 0, 0]),
        decoder(strides=[2, 2]),
    ],
    ids=["a skip", "three times", "bilinear", "no border", "stride"],
)
def test_no_other_convolution_becomes_a_transposed_one(model: onnx.ModelProto) -> None:
    assert_left_alone(UpsampledConvToDeconv(), model, images())


def deconv(size: int, **settings: object) -> onnx.ModelProto:
    extra = [1, 1] if size == 3 else [0, 0]
    defaults = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": extra}
    attributes = {"kernel_shape": [size, size], **defaults, **settings}
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w", "b"], ["sums"], name="deconv", **attributes),
        helper.make_node("Relu", ["sums"], ["active"], name="active"),
        product("active", "logits", "head"),
    ]
    return chain(*nodes, w=weights(CHANNELS, 5, size, size), b=weights(5))


@pytest.mark.parametrize("size", [3, 4])
def test_a_transposed_convolution_that_doubles_becomes_a_convolution(size: int) -> None:
    model = deconv(size)
    found = rewritten_by(DeconvToPhases(), model)
    assert "ConvTranspose" not in ops(found)
    assert ("Slice" in ops(found)) == (size == 4), "with 3 rows, nothing is computed outside"
    assert_same(found, model)


@pytest.mark.parametrize(
    "model",
    [
        deconv(4, strides=[1, 1]),
        deconv(4, pads=[0, 0, 0, 0]),
        deconv(3, output_padding=[0, 0]),
        deconv(4, output_padding=[1, 1]),
        deconv(2, pads=[0, 0, 0, 0]),
    ],
    ids=["stride 1", "no border", "odd", "one more", "2x2"],
)
def test_other_transposed_convolutions_stay(model: onnx.ModelProto) -> None:
    assert_left_alone(DeconvToPhases(), model, images())
