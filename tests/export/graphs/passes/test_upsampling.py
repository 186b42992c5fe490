"""Upsampling as other operators: the same function afterwards."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeunet.exporting.graphs.passes import (
    DeconvToDepthToSpace,
    DepthToSpaceToDeconv,
    DepthToSpaceToPixelShuffle,
    DropResize,
    PixelShuffleToDepthToSpace,
    ResizeToConv,
    ResizeToDeconv,
    ResizeToGather,
)
from support.graphs import ops, run
from support.passes import (
    SHAPE,
    assert_left_alone,
    assert_same,
    chain,
    images,
    product,
    resized,
    rewritten_by,
    weights,
)


def single(node: onnx.NodeProto, *constants: onnx.TensorProto) -> onnx.ModelProto:
    """Model `image` -> node -> `logits`."""
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("image", "logits")
    ]
    graph = helper.make_graph([node], "single", value[:1], value[1:], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def deconv(bias: bool = True, **attributes: object) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    size = attributes.get("kernel_shape", [2, 2])[0]
    tensors = [numpy_helper.from_array(rng.normal(size=(6, 5, size, size)).astype("f"), "w")]
    if bias:
        tensors.append(numpy_helper.from_array(rng.normal(size=5).astype("f"), "b"))
    inputs = ["image", *(tensor.name for tensor in tensors)]
    defaults = {"kernel_shape": [2, 2], "strides": [2, 2]}
    node = helper.make_node("ConvTranspose", inputs, ["logits"], **{**defaults, **attributes})
    return single(node, *tensors)


@pytest.mark.parametrize("bias", [True, False])
def test_deconv_becomes_depth_to_space_with_the_same_output(bias: bool) -> None:
    model = deconv(bias)
    rewritten = rewritten_by(DeconvToDepthToSpace(), model)
    image = np.random.default_rng(1).normal(size=(2, 6, 7, 9)).astype(np.float32)
    assert ops(rewritten) == {"Conv", "DepthToSpace"}
    np.testing.assert_allclose(run(rewritten, image)[0], run(model, image)[0], atol=1e-5)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3]},
        {"strides": [1, 1]},
        {"pads": [1, 1, 1, 1]},
        {"output_padding": [1, 1]},
        {"dilations": [2, 2]},
    ],
)
def test_deconv_that_overlaps_or_pads_is_left_alone(attributes: dict[str, list[int]]) -> None:
    image = np.random.default_rng(1).normal(size=(2, 6, 7, 9)).astype(np.float32)
    assert_left_alone(DeconvToDepthToSpace(), deconv(**attributes), image)


def spread(activation: str | None, **changed: object) -> onnx.ModelProto:
    """A convolution to 4 * 3 channels, its activation, and DepthToSpace."""
    given: dict[str, object] = {"size": 1, "blocksize": 2, "mode": "DCR", "once": True, **changed}
    size, places = int(given["size"]), int(given["blocksize"]) ** 2
    bias = np.tile(weights(3), places) + (np.arange(3 * places) if "biases" in changed else 0)
    settings = {"kernel_shape": [size, size], "pads": [size // 2] * 4}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["sums"], name="conv", **settings),
        helper.make_node(activation or "Identity", ["sums"], ["active"], name="active"),
        helper.make_node(
            "DepthToSpace",
            ["active" if activation else "sums"],
            ["pixels"],
            blocksize=given["blocksize"],
            mode=given["mode"],
        ),
        product("pixels", "logits", "head"),
    ]
    if activation is None:
        del nodes[1]
    if not given["once"]:
        nodes[-1:] = [
            product("pixels", "some", "head"),
            helper.make_node("ReduceMean", ["sums"], ["mean"], axes=[1, 2, 3]),
            helper.make_node("Add", ["some", "mean"], ["logits"]),
        ]
    held = weights(3 * places, SHAPE[0], size, size)
    return chain(*nodes, w=held, b=bias.astype(np.float32))


@pytest.mark.parametrize("activation", [None, "Relu"])
def test_depth_to_space_becomes_the_deconvolution_that_it_was(activation: str | None) -> None:
    model = spread(activation)
    found = rewritten_by(DepthToSpaceToDeconv(), model)
    assert {"ConvTranspose"} <= ops(found) and not ops(found) & {"Conv", "DepthToSpace"}
    assert_same(found, model)


@pytest.mark.parametrize(
    "model",
    [
        spread("Relu", size=3),
        spread("Relu", mode="CRD"),
        spread("Relu", blocksize=3),
        spread("Relu", biases="differ"),
        spread("Relu", once=False),
        spread("Sigmoid"),
    ],
    ids=["3x3", "other order", "3x3 blocks", "biases", "read twice", "sigmoid"],
)
def test_other_depth_to_spaces_stay(model: onnx.ModelProto) -> None:
    assert_left_alone(DepthToSpaceToDeconv(), model, images())


def test_passes_for_int8_leave_float_nodes_alone() -> None:
    assert_left_alone(DepthToSpaceToDeconv(["active"]), spread("Relu"), images())
    assert_left_alone(ResizeToDeconv(["other"]), resized((3, 4, 4)), images()[:, :3, :4, :4])


def test_a_deconvolution_of_many_channels_would_cost_more_than_a_resize() -> None:
    assert_left_alone(ResizeToDeconv(), resized((17, 4, 4)), np.ones((1, 17, 4, 4), np.float32))


@settings(deadline=None, max_examples=20)
@given(
    channels=st.integers(1, 5),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    form=st.sampled_from([ResizeToConv, ResizeToDeconv]),
)
def test_upsampling_as_a_convolution_computes_the_same(
    channels: int, height: int, width: int, form: type[ResizeToConv]
) -> None:
    model = resized((channels, height, width))
    rewritten = rewritten_by(form(), model)
    assert "Resize" not in ops(rewritten)
    image = np.random.default_rng(1).normal(size=(2, channels, height, width)).astype("f")
    np.testing.assert_allclose(run(rewritten, image)[0], run(model, image)[0], atol=1e-6)


def test_upsampling_of_an_unsized_map_stays_a_resize() -> None:
    assert_left_alone(ResizeToConv(), resized((3, None, None)), images()[:, :3])


@pytest.mark.parametrize(
    ("scales", "changed"),
    [
        ((1, 1, 2, 4), {}),
        ((1, 2, 2, 2), {}),
        ((1, 1, 2, 2), {"mode": "nearest"}),
        ((1, 1, 2, 2), {"coordinate_transformation_mode": "align_corners"}),
        ((1, 1, 2, 2), {"coordinate_transformation_mode": "asymmetric"}),
    ],
)
def test_other_resizes_stay(scales: tuple[float, ...], changed: dict[str, str]) -> None:
    model = resized((2, 4, 4), scales=scales, **changed)
    image = None if scales[1] != 1 else images()[:, :2, :, :4]
    assert_left_alone(ResizeToConv(), model, image)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    scales=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    place=st.sampled_from(["asymmetric", "half_pixel"]),
    rounding=st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
)
def test_nearest_pixels_are_gathered(
    sizes: tuple[int, int], scales: tuple[int, int], place: str, rounding: str
) -> None:
    model = resized(
        (2, *sizes),
        scales=(1, 1, *scales),
        mode="nearest",
        coordinate_transformation_mode=place,
        nearest_mode=rounding,
    )
    rewritten = rewritten_by(ResizeToGather(), model)
    assert ops(rewritten) == {"Gather", "Transpose"}
    image = np.random.default_rng(1).normal(size=(2, 2, *sizes)).astype("f")
    np.testing.assert_array_equal(run(rewritten, image)[0], run(model, image)[0])


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((2, None, None), {"mode": "nearest"}),
        ((2, 4, 4), {"mode": "linear"}),
        ((2, 4, 4), {"mode": "nearest", "coordinate_transformation_mode": "align_corners"}),
    ],
)
def test_other_resizes_are_not_gathered(
    shape: tuple[int | None, ...], settings: dict[str, str]
) -> None:
    assert_left_alone(ResizeToGather(), resized(shape, **settings), images()[:, :2, :, :4])


@pytest.mark.parametrize("rewrite", [ResizeToConv, ResizeToGather])
def test_a_resize_that_runs_in_float_stays(
    rewrite: type[ResizeToConv] | type[ResizeToGather],
) -> None:
    mode = "linear" if rewrite is ResizeToConv else "nearest"
    model = resized((2, 4, 4), mode=mode)
    assert_left_alone(rewrite(["other"]), model, images()[:, :2, :, :4])
    assert "Resize" not in ops(rewritten_by(rewrite(["up"]), model))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["Relu", None])
def test_pixel_shuffle_reads_permuted_channels(activation: str | None, bias: bool) -> None:
    constants = {"w": weights(12, 6, 3, 3)} | ({"b": weights(12)} if bias else {})
    nodes = [helper.make_node("Conv", ["x", *constants], ["y"], name="conv", pads=[1] * 4)]
    if activation:
        nodes.append(helper.make_node(activation, ["y"], ["z"], name="activation"))
    nodes.append(shuffle("z" if activation else "y"))
    model = chain(*nodes, **constants)
    rewritten = rewritten_by(PixelShuffleToDepthToSpace(), model)
    for shuffled, mode in (
        (rewritten, b"DCR"),
        (rewritten_by(DepthToSpaceToPixelShuffle(), rewritten), b"CRD"),
    ):
        (node,) = (node for node in shuffled.graph.node if node.op_type == "DepthToSpace")
        assert {a.name: a.s for a in node.attribute}["mode"] == mode
        assert_same(shuffled, model)


def test_pixel_shuffle_of_what_others_read_stays() -> None:
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1] * 4),
        shuffle("y"),
        helper.make_node("GlobalAveragePool", ["y"], ["mean"], name="mean"),
        helper.make_node("ReduceMax", ["mean"], ["one"], name="one", axes=[1]),
        helper.make_node("Add", ["logits_", "one"], ["logits"], name="sum"),
        w=weights(12, 6, 3, 3),
    )
    model.graph.node[2].output[0] = "logits_"
    assert_left_alone(PixelShuffleToDepthToSpace(), model, images())


def test_pixel_shuffle_of_an_output_stays() -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1] * 4)
    model = chain(conv, shuffle("y"), w=weights(12, 6, 3, 3))
    model.graph.output.append(helper.make_tensor_value_info("y", 1, ["n", 12, None, None]))
    assert_left_alone(PixelShuffleToDepthToSpace(), model, images())


def shuffle(source: str) -> onnx.NodeProto:
    return helper.make_node(
        "DepthToSpace", [source], ["logits"], name="shuffle", blocksize=2, mode="CRD"
    )


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_a_resize_to_the_same_size_is_dropped(mode: str) -> None:
    resize = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="up", mode=mode)
    last = helper.make_node("Neg", ["y"], ["logits"], name="last")
    model = chain(resize, last, scales=np.float32([1, 1, 1, 1]))
    found = rewritten_by(DropResize(), model)
    assert ops(found) == {"Einsum", "Neg"}
    assert_same(found, model)
    other = chain(resize, last, scales=np.float32([1, 1, 1, 2]))
    assert_left_alone(DropResize(), other, images())
