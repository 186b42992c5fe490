"""Graphs in which some nodes run in another precision: what stays of Q/DQ pairs, and of FP16."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeunet.errors import EngineError, MissingDependencyError
from edgeunet.exporting.graphs.fp16 import half
from edgeunet.runtime.gpu.engine.precision import (
    head_in_fp32,
    head_nodes,
    parse_graph,
    quantized_nodes,
    without_pairs,
)

# A chain of these nodes, all from 2 channels to 2, with pairs before the convolutions and the Add.
NODES = ("conv1", "relu1", "conv12", "/block.0/conv", "/block.0/act/Sigmoid", "/block.0/act/Mul",
         "add", "head")  # fmt: skip
QUANTIZED = ("conv1", "conv12", "/block.0/conv", "add", "head")


def net(*, pairs: bool = True) -> onnx.ModelProto:
    """The chain of `NODES`; the Add adds the output of relu1."""
    nodes: list[onnx.NodeProto] = []
    rng = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(np.float32(1 / 64), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
    ]

    def behind_pair(name: str) -> str:
        if not pairs:
            return name
        ends = (f"{name}_q", f"{name}_dq")
        if all(node.output[0] != ends[1] for node in nodes):
            for operator, read, end in (
                ("QuantizeLinear", name, ends[0]),
                ("DequantizeLinear", *ends),
            ):
                inputs = [read, "scale", "zero"]
                nodes.append(helper.make_node(operator, inputs, [end], name=f"{name}_{operator}"))
        return ends[1]

    def conv(name: str, read: str, out: str) -> None:
        weight = f"{name}.weight"
        values = rng.uniform(-0.5, 0.5, (2, 2, 1, 1)).astype(np.float32)
        constants.append(numpy_helper.from_array(values, weight))
        inputs = [behind_pair(read), behind_pair(weight)]
        nodes.append(helper.make_node("Conv", inputs, [out], name=name))

    conv("conv1", "image", "a")
    nodes.append(helper.make_node("Relu", ["a"], ["b"], name="relu1"))
    conv("conv12", "b", "c")
    conv("/block.0/conv", "c", "d")
    nodes.append(helper.make_node("Sigmoid", ["d"], ["e"], name="/block.0/act/Sigmoid"))
    nodes.append(helper.make_node("Mul", ["d", "e"], ["f"], name="/block.0/act/Mul"))
    nodes.append(helper.make_node("Add", [behind_pair("f"), behind_pair("b")], ["g"], name="add"))
    conv("head", "g", "logits")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2, 4, 4])
        for name in ("image", "logits")
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def run(model: onnx.ModelProto) -> np.ndarray:
    image = np.random.default_rng(1).uniform(-1, 1, (1, 2, 4, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(["logits"], {"image": image})
    return np.asarray(logits)


# Names that TensorRT prints


@pytest.mark.parametrize(
    ("printed", "meant"),
    [
        ("conv1", ["conv1"]),
        ("conv1 + relu1", ["conv1"]),
        ("conv1.weight + conv1.weight_QuantizeLinear + conv1 + relu1", ["conv1"]),
        ("conv12", ["conv12"]),
        ("conv12 || head", ["conv12", "head"]),
        ("/block.0/conv + PWN(PWN(/block.0/act/Sigmoid), /block.0/act/Mul)", ["/block.0/conv"]),
        ("PWN(/block.0/act/Sigmoid)", []),  # it reads no pair
        ("{ForeignNode[conv12.../block.0/act/Mul]}", ["conv12", "/block.0/conv"]),
        ("{ForeignNode[conv12...add]}", ["conv12", "/block.0/conv", "add"]),
        ("{ForeignNode[(Unnamed Layer* 7) [Shuffle]...conv12 + add]}", ["conv12", "add"]),
        ("{ForeignNode[conv12.weight[Constant].../block.0/conv]}", ["conv12", "/block.0/conv"]),
        ("{ForeignNode[conv1...(Unnamed Layer* 9) [Constant]]}", ["conv1"]),
        ("b_QuantizeLinear", ["conv12", "add"]),  # a pair alone: whoever reads it
        ("PWN(/block.0/act/Mul) + f_QuantizeLinear", ["add"]),
        ("conv12.weight", ["conv12"]),  # a tensor alone: its pair's reader
        ("(Unnamed Layer* 3) [Convolution]", []),
        ("conv123", []),
        ("", []),
    ],
)
def test_layer_that_is_named_after_all_fused_nodes(printed: str, meant: Sequence[str]) -> None:
    assert quantized_nodes(net(), printed) == meant


def test_range_follows_the_ways_between_its_ends() -> None:
    """relu1 feeds the Add by two ways, and the head is on none."""
    assert quantized_nodes(net(), "{ForeignNode[relu1...add]}") == [
        "conv12",
        "/block.0/conv",
        "add",
    ]


@given(st.text() | st.lists(st.sampled_from([*NODES, "...", "[", "]", "+", " "])).map("".join))
def test_any_name_is_read(printed: str) -> None:
    model = net()
    assert set(quantized_nodes(model, printed)) <= set(QUANTIZED)
    assert set(quantized_nodes(model, f"{{ForeignNode[{printed}]}}")) <= set(QUANTIZED)


# Out of INT8


def pairs_before(model: onnx.ModelProto) -> list[str]:
    return [name for name in NODES if quantized_nodes(model, name) == [name]]


@given(st.sets(st.sampled_from(QUANTIZED)))
def test_only_the_named_nodes_lose_their_pairs(chosen: set[str]) -> None:
    model = net()
    without_pairs(model, chosen)
    onnx.checker.check_model(model, full_check=True)
    assert pairs_before(model) == [name for name in QUANTIZED if name not in chosen]
    read = {name for node in model.graph.node for name in node.input}
    assert {node.output[0] for node in model.graph.node} - read == {"logits"}
    assert {each.name for each in model.graph.initializer} <= read


def test_without_any_pair_it_is_the_float_net() -> None:
    model = net()
    without_pairs(model, QUANTIZED)
    assert [node.name for node in model.graph.node] == list(NODES)
    np.testing.assert_array_equal(run(model), run(net(pairs=False)))
    assert not np.array_equal(run(model), run(net()))


# The head in FP32


@pytest.fixture
def fp16(tmp_path: Path) -> onnx.ModelProto:
    onnx.save(onnx.shape_inference.infer_shapes(net(pairs=False)), tmp_path / "fp32.onnx")
    half(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    return parse_graph((tmp_path / "fp16.onnx").read_bytes())


def types(model: onnx.ModelProto) -> dict[str, str]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    values = (*inferred.graph.value_info, *inferred.graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    return {
        node.name: TensorProto.DataType.Name(kinds[node.output[0]]) for node in inferred.graph.node
    }


def test_head_alone_is_widened(fp16: onnx.ModelProto) -> None:
    assert head_nodes(fp16) == ["head", "logits_to_fp32"]
    before = {name: kind for name, kind in types(fp16).items() if name in NODES}
    assert set(before.values()) == {"FLOAT16"}
    head_in_fp32(fp16)
    onnx.checker.check_model(fp16, full_check=True)
    after = {name: kind for name, kind in types(fp16).items() if name in NODES}
    assert after == {**before, "head": "FLOAT"}
    weights = {each.name: each.data_type for each in fp16.graph.initializer}
    (head,) = (node for node in fp16.graph.node if node.name == "head")
    assert weights[head.input[1]] == TensorProto.FLOAT and "head.weight" not in weights
    assert np.isfinite(run(fp16)).all()


def test_head_behind_other_nodes_reaches_to_the_last_convolutions(tmp_path: Path) -> None:
    """As in ensembles: the mean of two heads, one of which another output reads too."""
    model = net(pairs=False)
    graph = model.graph
    graph.node[-1].output[0] = "one"
    graph.node.append(helper.make_node("Conv", ["g", "conv1.weight"], ["two"], name="head2"))
    graph.node.append(helper.make_node("Mean", ["one", "two"], ["logits"], name="mean"))
    graph.node.append(helper.make_node("Neg", ["one"], ["presence"], name="neg"))
    presence = helper.make_tensor_value_info("presence", TensorProto.FLOAT, ["batch", 2, 4, 4])
    graph.output.append(presence)
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "fp32.onnx")
    half(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    fp16 = parse_graph((tmp_path / "fp16.onnx").read_bytes())
    assert head_nodes(fp16) == ["head", "head2", "mean", "logits_to_fp32"]
    head_in_fp32(fp16)
    onnx.checker.check_model(fp16, full_check=True)
    found = types(fp16)
    assert [found[name] for name in ("head", "head2", "mean", "neg", "conv1")] == [
        "FLOAT", "FLOAT", "FLOAT", "FLOAT16", "FLOAT16",
    ]  # fmt: skip
    assert np.isfinite(run(fp16)).all()


def test_graph_without_logits_has_no_head() -> None:
    model = net()
    model.graph.output[0].name = "presence"
    with pytest.raises(EngineError, match="expected a graph with logits"):
        head_nodes(model)


def test_missing_onnx_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"\.\[trt\].* Or only: pip install onnx"):
        parse_graph(b"")
