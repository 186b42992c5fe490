"""Each graph pass: the same function afterwards, and its postcondition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import ExportError, ShapeError
from edgeunet.export.graphs.fp16 import half
from edgeunet.export.graphs.passes import Clean, DeconvToDepthToSpace, ResizeInFloat, ResizeToConv
from edgeunet.export.graphs.trace import trace
from edgeunet.export.int8.quantize import quantize_for_cpu
from edgeunet.models import create_model, list_models
from support.exports import table_of
from support.graphs import Array, ops, run


def rewritten_by(rewrite: ir.passes.PassBase, model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model, with shapes inferred, after a pass."""
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    return ir.to_proto(rewrite(inferred).model)


def assert_left_alone(
    rewrite: ir.passes.PassBase, model: onnx.ModelProto, image: Array | None
) -> None:
    """The same nodes, and the same outputs; image: None if ONNX Runtime does not run the model."""
    found = rewritten_by(rewrite, model)
    nodes = [
        [(node.name, node.op_type, list(node.input), list(node.output)) for node in m.graph.node]
        for m in (found, model)
    ]
    assert nodes[0] == nodes[1]
    if image is not None:
        for output, wanted in zip(run(found, image), run(model, image), strict=True):
            np.testing.assert_array_equal(output, wanted)


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


def test_clean_removes_what_computes_nothing() -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2))),
        helper.make_node("Identity", ["two"], ["also_two"]),
        helper.make_node("Mul", ["image", "also_two"], ["logits"]),
        helper.make_node("Neg", ["image"], ["nobody_reads_this"]),
    ]
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3])
        for name in ("image", "logits")
    ]
    unused = numpy_helper.from_array(np.zeros(3, np.float32), "unused")
    graph = helper.make_graph(nodes, "waste", value[:1], value[1:], [unused])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    cleaned = rewritten_by(Clean(), model)
    assert ops(cleaned) == {"Mul"}
    assert len(cleaned.graph.initializer) == 1
    image = np.float32([[1, 2, 3]])
    np.testing.assert_array_equal(run(cleaned, image)[0], 2 * image)


@pytest.mark.parametrize("cgm", [False, True])
@pytest.mark.parametrize("name", list_models())
def test_trace_computes_what_the_net_computes_for_any_batch(
    name: str, cgm: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = create_model(name, num_classes=4, width=8, cgm=cgm).eval()
    trace(net, tmp_path / "net.onnx", height=64, width=96, channels=3)
    model = onnx.load(tmp_path / "net.onnx")
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
    assert not ops(model) & {"ConvTranspose", "Identity", "Constant", "Shape", "Range"}
    assert [value.name for value in model.graph.output] == ["logits", "presence"][: 1 + cgm]
    image = torch.randn(3, 3, 64, 96)
    with torch.inference_mode():
        logits, presence = net.predict(image)
    found = run(model, image.numpy())
    np.testing.assert_allclose(found[0], logits.numpy(), atol=1e-4)
    if presence is not None:
        np.testing.assert_allclose(found[1], presence.numpy(), atol=1e-4)


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


@pytest.mark.parametrize(("name", "value"), [("weight", 7e4), ("x_scale", 1e-9)])
def test_half_refuses_what_fp16_cannot_hold(name: str, value: float, tmp_path: Path) -> None:
    node = helper.make_node("Mul", ["image", name], ["logits"])
    onnx.save(single(node, numpy_helper.from_array(np.float32([value]), name)), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=f"{name} holds .* FP16"):
        half(tmp_path / "m.onnx", tmp_path / "half.onnx")
    assert not (tmp_path / "half.onnx").exists()


@pytest.mark.parametrize("size", [(361, 480), (64, 65), (0, 32)])
def test_a_size_that_the_net_cannot_take_is_refused_with_one_that_it_can(
    size: tuple[int, int],
) -> None:
    net = create_model("mobile_unet", num_classes=2, width=8)
    with pytest.raises(ShapeError, match="multiples of 32") as error:
        net.check_size(*size)
    proposed = str(error.value).split("--size ")[1].rstrip(".")
    height, width = (int(side) for side in proposed.split("x"))
    net.check_size(height, width)


def test_unpadded_unet_traces_with_its_mirrored_borders(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = create_model("unet", num_classes=2, width=4, padding="valid").eval()
    trace(net, tmp_path / "net.onnx", height=112, width=128, channels=3)
    image = torch.randn(2, 3, 112, 128)
    (found,) = run(onnx.load(tmp_path / "net.onnx"), image.numpy())
    with torch.inference_mode():
        wanted = net.predict(image)[0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def paired() -> onnx.ModelProto:
    """A pair whose result a Resize and a Relu read; their sum is the output."""
    constants = [
        numpy_helper.from_array(np.float32(0.5), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
        numpy_helper.from_array(np.array([1, 1, 1, 1], np.float32), "once"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["rounded"]),
        helper.make_node("Relu", ["rounded"], ["positive"]),
        helper.make_node("Resize", ["rounded", "", "once"], ["same"]),
        helper.make_node("Resize", ["positive", "", "once"], ["other"]),
        helper.make_node("Concat", ["same", "other"], ["logits"], axis=1),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 2, 2])
        for name, channels in (("image", 1), ("logits", 2))
    ]
    graph = helper.make_graph(nodes, "paired", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_resize_reads_what_stands_before_the_pair() -> None:
    before = paired()
    after = rewritten_by(ResizeInFloat(), before)
    image = np.array([[[[0.3, -0.6], [1.1, 2.0]]]], np.float32)
    (old,), (new,) = run(before, image), run(after, image)
    np.testing.assert_array_equal(new[:, :1], image)  # unrounded
    assert not np.array_equal(old[:, :1], image)
    np.testing.assert_array_equal(new[:, 1:], old[:, 1:])  # other readers, other Resizes
    assert [n.input[0] for n in after.graph.node if n.op_type == "Resize"] == ["image", "positive"]


def test_a_pass_that_reads_shapes_refuses_a_model_without_any() -> None:
    model = ir.from_proto(paired())
    with pytest.raises(ir.passes.PreconditionError, match="Run onnx's shape inference"):
        ResizeToConv()(model)


def test_a_pass_that_leaves_what_it_should_rewrite_is_an_error() -> None:
    class Idle(ResizeInFloat):
        def rewrite(self, node: ir.Node) -> None:
            pass

    with pytest.raises(ir.passes.PostconditionError, match="Idle left "):
        Idle()(ir.from_proto(paired()))
