"""Graphs in FP16: the same interface, nearly the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import ExportError
from edgeunet.exporting.graphs.fp16 import half
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8.quantize import quantize_for_cpu
from edgeunet.models import create_model
from support.exports import table_of
from support.graphs import run
from support.passes import chain


def single(node: onnx.NodeProto, *constants: onnx.TensorProto) -> onnx.ModelProto:
    """Model `image` -> node -> `logits`."""
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("image", "logits")
    ]
    graph = helper.make_graph([node], "single", value[:1], value[1:], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


ALIGNED = [
    ("unet", {"upsampling": "bilinear", "align_corners": True}),
    ("unetpp", {"align_corners": True}),
]


@pytest.mark.parametrize(("name", "arguments"), ALIGNED)
def test_aligned_corners_survive_every_flavour(
    name: str, arguments: dict[str, object], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = create_model(name, num_classes=4, width=8, **arguments).eval()
    full, halved, integer = (tmp_path / f"{n}.onnx" for n in ("fp32", "fp16", "int8"))
    trace(net, full, height=64, width=96, channels=3)
    half(full, halved)
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    frames = [np.random.default_rng(n).integers(0, 256, (64, 96, 3), np.uint8) for n in range(2)]
    table = table_of(full, frames, InputSpec(64, 96))
    quantize_for_cpu(full, integer, table)
    with torch.inference_mode():
        expected = net(torch.from_numpy(image)).numpy()
    spread = float(np.ptp(expected))
    for path, tolerance in ((full, 1e-4), (halved, 5e-3), (integer, 0.1 * spread)):
        model = onnx.load(path)
        resizes = [node for node in model.graph.node if node.op_type == "Resize"]
        assert len(resizes) == (4 if name == "unet" else 10)
        for node in resizes:
            given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            assert given["coordinate_transformation_mode"] == b"align_corners"
        np.testing.assert_allclose(run(model, image)[0], expected, atol=tolerance)


def test_half_keeps_the_interface_and_nearly_the_values(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = create_model("unetpp", num_classes=4, width=8, cgm=True).eval()
    trace(net, tmp_path / "fp32.onnx", height=64, width=96, channels=3)
    half(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    full, converted = onnx.load(tmp_path / "fp32.onnx"), onnx.load(tmp_path / "fp16.onnx")
    ends = [*converted.graph.input, *converted.graph.output]
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}
    scales = {node.input[2] for node in converted.graph.node if node.op_type == "Resize"}
    floats = {t.name for t in converted.graph.initializer if t.data_type == TensorProto.FLOAT}
    assert floats <= scales, "only what ONNX fixes at FP32 may stay FP32"
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    for expected, found in zip(run(full, image), run(converted, image), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize(("name", "value"), [("weight", 7e4), ("scale", 1e-9)])
def test_half_refuses_what_fp16_cannot_hold(name: str, value: float, tmp_path: Path) -> None:
    op = "Mul" if name == "weight" else "QuantizeLinear"
    node = helper.make_node(op, ["image", name], ["logits"])
    onnx.save(single(node, numpy_helper.from_array(np.float32([value]), name)), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=f"{name} holds .* FP16"):
        half(tmp_path / "m.onnx", tmp_path / "half.onnx")
    assert not (tmp_path / "half.onnx").exists()


@pytest.mark.parametrize("value", [1e-9, -2.0])
def test_a_factor_that_is_called_a_scale_may_be_anything(value: float, tmp_path: Path) -> None:
    node = helper.make_node("Mul", ["x", "norm_scale"], ["logits"], name="mul")
    onnx.save(chain(node, norm_scale=np.array([value])), tmp_path / "m.onnx")
    half(tmp_path / "m.onnx", tmp_path / "half.onnx")
    assert (tmp_path / "half.onnx").exists()


@pytest.mark.parametrize("filled", [None, 0.5])
def test_filled_tensors_become_fp16_too(filled: float | None, tmp_path: Path) -> None:
    """An FP32 tensor would meet FP16 in the Add."""
    value = {} if filled is None else {"value": helper.make_tensor("v", 1, [1], [filled])}
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["made"], **value),
        helper.make_node("Add", ["image", "made"], ["logits"]),
    ]
    ends = [helper.make_tensor_value_info(name, 1, ["batch", 2]) for name in ("image", "logits")]
    model = helper.make_model(
        helper.make_graph(nodes, "filled", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "full.onnx")
    half(tmp_path / "full.onnx", tmp_path / "half.onnx")
    (found,) = run(onnx.load(tmp_path / "half.onnx"), np.ones((3, 2), np.float32))
    assert (found == 1 + (filled or 0)).all()
