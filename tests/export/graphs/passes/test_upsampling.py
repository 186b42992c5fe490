"""Transposed convolutions become DepthToSpace."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeunet.export.graphs.passes.upsampling import deconv_to_depth_to_space
from support.graphs import ops, run, single


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
    rewritten = deconv_to_depth_to_space(model)
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
    model = deconv(**attributes)
    assert deconv_to_depth_to_space(model) == model
