"""Files that are read, and those that are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgeunet.errors import ExportError, GraphError, UsageError
from edgeunet.exporting.origins.onnx_reading import (
    check_operators,
    chosen_output,
    image_input,
    open_graph,
)
from support.onnx_forms import FORMS, Builder

FLOAT = TensorProto.FLOAT
ENDS = (("x", FLOAT, ["n", 3, 8, 8]), ("y", FLOAT, None))


def made(build: Callable[[Builder], object], *, opset: int = 17) -> ir.Model:
    b = Builder(opset=opset)
    build(b)
    b.nodes[-1].output[0] = "y"
    ends = [helper.make_tensor_value_info(*end) for end in ENDS]
    graph = helper.make_graph(b.nodes, "net", ends[:1], ends[1:], b.constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)]
    return ir.from_proto(
        onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets))
    )


def branches(b: Builder) -> None:
    values = [helper.make_tensor_value_info("inner", FLOAT, None)]
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["inner"])], "b", [], values)
    b.add("If", b.exact(np.array(True)), then_branch=branch, else_branch=branch)


def deep(b: Builder) -> None:
    volume = b.add("Unsqueeze", "x", b.const(np.array([2])))
    b.add("Conv", volume, b.const(np.ones((1, 3, 1, 1, 1))))


REFUSED: dict[str, tuple[Callable[[Builder], object], str]] = {
    "3-D": (deep, r"'Conv_\d' \(Conv\) of 3 dimensions; expected a net of 2-D images"),
    "control flow": (branches, r"'If_0' \(If\): control flow, expected a plain graph"),
    "custom": (lambda b: b.add("Swirl", "x", domain="mine"), r"Swirl\) of the domain 'mine'"),
    "quantized": (
        lambda b: b.add("QuantizeLinear", "x", b.const(np.float32(1)), b.exact(np.uint8(0))),
        "quantized already. Pass the float net",
    ),
    "random": (lambda b: b.add("RandomNormalLike", "x"), "its answers differ with each call"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_operators_are_refused_by_name(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(ExportError, match=message):
        check_operators(made(build))


@pytest.mark.parametrize("opset", [9, 22])
def test_opset_is_refused(opset: int) -> None:
    model = made(lambda b: b.add("Relu", "x"))
    model.opset_imports[""] = opset
    with pytest.raises(ExportError, match=f"opset {opset}; expected 11 to 21"):
        check_operators(model)


def test_several_inputs_are_listed() -> None:
    model = made(lambda b: b.add("Relu", "x"))
    model.graph.inputs.append(ir.val("depth", ir.DataType.FLOAT, ir.Shape([1, 1, 8, 8])))
    with pytest.raises(ExportError, match=r"2 inputs \(x nx3x8x8, depth 1x1x8x8\); expected one"):
        image_input(model)


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        (ir.DataType.FLOAT, [1, 3, 4, 8, 8], "'x' is 1x3x4x8x8; expected 4 dimensions"),
        (ir.DataType.INT64, ["n", 3, 8, 8], "'x' holds INT64; expected floats or uint8"),
    ],
)
def test_input_that_is_no_image_is_refused(
    dtype: ir.DataType, shape: list[int | str], message: str
) -> None:
    model = made(lambda b: b.add("Relu", "x"))
    model.graph.inputs[:] = [ir.val("x", dtype, ir.Shape(shape))]
    with pytest.raises(ExportError, match=message):
        image_input(model)


def test_weights_among_the_inputs_are_no_inputs() -> None:
    model = made(lambda b: b.add("Mul", "x", b.const(np.float32([2]))))
    model.graph.inputs.append(next(iter(model.graph.initializers.values())))
    assert image_input(model).name == "x"


def test_one_of_several_outputs_must_be_named() -> None:
    model = made(lambda b: b.add("Relu", b.add("Neg", "x")))
    inner = next(node for node in model.graph if node.op_type == "Neg").outputs[0]
    assert chosen_output(model, inner.name) is inner
    model.graph.outputs.append(inner)
    with pytest.raises(UsageError, match=r"2 outputs \(y nx3x8x8, Neg_0:0 nx3x8x8\).*--head NAME"):
        chosen_output(model, None)
    assert chosen_output(model, "y") is model.graph.outputs[0]
    with pytest.raises(UsageError, match="no output 'z'"):
        chosen_output(model, "z")


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    path = FORMS["dynamo, opset 18"]().write(tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx.data").is_file()
    file = open_graph(path)
    assert not any(each.external_data for each in file.original.graph.initializer)
    onnx.checker.check_model(file.original)


def test_weights_behind_a_link_are_refused(tmp_path: Path) -> None:
    path = FORMS["dynamo, opset 18"]().write(tmp_path / "net.onnx")
    (tmp_path / "net.onnx.data").rename(tmp_path / "elsewhere")
    (tmp_path / "net.onnx.data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GraphError, match="behind a symbolic link"):
        open_graph(path)


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    path = FORMS["dynamo, opset 18"]().write(tmp_path / "net.onnx")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../net.onnx.data"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match="outside its own folder"):
        open_graph(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a file"),
        (b"\x0a\xff\xff", "is not an ONNX model"),
        (b"", "holds no graph"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not"),
        (b"PK\3\4archive/data.pkl", r"is PyTorch's weights.*--model NAME --weights FILE"),
    ],
)
def test_file_that_is_no_graph_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GraphError, match=message):
        open_graph(path)
