"""Reading foreign ONNX files: whole ones are read; damaged and unsafe ones are refused by name."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.external_data_helper import set_external_data

from edgeunet.errors import GraphError
from edgeunet.exporting.lint import lint
from edgeunet.exporting.lint.loading import load_model
from support.lint_graphs import Sketch


def convolution() -> onnx.ModelProto:
    sketch = Sketch()
    weights = sketch.constant("weights", np.ones((4, 4, 1, 1), np.float32))
    sketch.node("Conv", ["data", weights])
    return sketch.model()


def refusal(path: Path) -> str:
    with pytest.raises(GraphError) as error:
        lint(path, "trt10")
    return str(error.value)


def external(folder: Path, location: str, *, length: int = 64) -> Path:
    """A model that keeps its weights at a location; the file itself is not written."""
    model = convolution()
    set_external_data(model.graph.initializer[0], location, offset=0, length=length)
    model.graph.initializer[0].ClearField("raw_data")
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.onnx").endswith("no.onnx is not a file; expected an ONNX model.")


def test_directory(tmp_path: Path) -> None:
    assert "is not a file" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x80\x04\x95 a pickle", b"[1, 2]"])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    assert "ONNX model, or was cut off" in refusal(path)


def test_suffix_does_not_choose_the_parser(tmp_path: Path) -> None:
    onnx.save(convolution(), tmp_path / "a.onnx")
    (tmp_path / "a.onnx").rename(tmp_path / "a.json")
    assert lint(tmp_path / "a.json", "rtx").ok
    (tmp_path / "b.json").write_text("{}")
    assert "ONNX model, or was cut off" in refusal(tmp_path / "b.json")


@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_file(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "cut.onnx"
    whole = convolution().SerializeToString()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "cut.onnx" in refusal(path)


def test_graph_that_reads_what_nobody_makes(tmp_path: Path) -> None:
    sketch = Sketch()
    sketch.node("Relu", ["nowhere"])
    onnx.save(sketch.model(), tmp_path / "a.onnx")
    assert "Relu 'result.Relu' reads 'nowhere', which nothing makes" in refusal(tmp_path / "a.onnx")


def test_weights_that_are_not_what_their_shape_says(tmp_path: Path) -> None:
    model = convolution()
    model.graph.initializer[0].raw_data = bytes(60)
    onnx.save(model, tmp_path / "a.onnx")
    assert "is not valid ONNX" in refusal(tmp_path / "a.onnx")


def test_unknown_operator_is_read_and_named(tmp_path: Path) -> None:
    sketch = Sketch()
    sketch.node("Rellu", ["data"])
    onnx.save(sketch.model(), tmp_path / "a.onnx")
    (found,) = lint(tmp_path / "a.onnx", "ort-cpu").errors
    assert "Rellu is no operator of ONNX opset 17" in found.message


def test_output_that_two_nodes_make(tmp_path: Path) -> None:
    sketch = Sketch()
    sketch.node("Relu", ["data"])
    sketch.node("Neg", ["data"])
    onnx.save(sketch.model(), tmp_path / "a.onnx")
    assert "is not valid ONNX: Output 'result' is redeclared" in refusal(tmp_path / "a.onnx")


def test_sparse_weights_are_read_and_the_rest_is_judged(tmp_path: Path) -> None:
    sketch = Sketch()
    values = onnx.helper.make_tensor("sparse", onnx.TensorProto.FLOAT, [1], [2.0])
    places = onnx.helper.make_tensor("places", onnx.TensorProto.INT64, [1], [3])
    sparse = onnx.helper.make_sparse_tensor(values, places, [1, 4, 8, 8])
    sketch.node("Constant", [], "held", sparse_value=sparse)
    sketch.node("Add", ["sparse", "held"], "sum")
    sketch.node("Rellu", ["sum"])
    model = sketch.model()
    model.graph.sparse_initializer.append(sparse)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    (found,) = lint(path, "ort-cpu").errors
    assert found.rule == "unknown-op"


def test_inputs_that_are_no_tensors_are_read(tmp_path: Path) -> None:
    sketch = Sketch()
    sketch.node("Relu", ["data"])
    model = sketch.model()
    number = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    table = onnx.helper.make_map_type_proto(onnx.TensorProto.INT64, number)
    model.graph.input.append(onnx.helper.make_value_info("table", table))
    onnx.save(model, tmp_path / "a.onnx")
    assert lint(tmp_path / "a.onnx", "ort-cpu").ok


# Weights outside the file


def test_external_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = external(tmp_path, "data/weights.bin")
    (tmp_path / "data" / "weights.bin").write_bytes(bytes(64))
    assert lint(path, "trt8.6").findings == ()


def test_external_scales_are_judged(tmp_path: Path) -> None:
    sketch = Sketch()
    sketch.node("Relu", [sketch.pair("data", np.float32(-1))])
    onnx.save(
        sketch.model(), tmp_path / "a.onnx",
        save_as_external_data=True, location="a.data", size_threshold=0,
    )  # fmt: skip
    assert {found.rule for found in lint(tmp_path / "a.onnx", "rtx").errors} == {"scale"}


def test_missing_external_weights(tmp_path: Path) -> None:
    text = refusal(external(tmp_path, "weights.bin"))
    assert "keeps 'weights' in 'weights.bin', which does not exist" in text


def test_short_external_weights(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").write_bytes(bytes(63))
    assert "too short" in refusal(path)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "a/../../secret.bin", "..\\secret.bin", "C:\\secret.bin", ""]
)
def test_weights_outside_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (tmp_path / "model" / "a").mkdir(parents=True)
    assert "outside its own folder" in refusal(external(tmp_path / "model", location))


def test_weights_at_an_absolute_path(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    assert "outside its own folder" in refusal(external(tmp_path, str(tmp_path / "weights.bin")))


def test_weights_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(tmp_path / "secret.bin")
    assert "behind a symbolic link" in refusal(external(folder, "weights.bin"))


def test_weights_behind_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "weights.bin").write_bytes(bytes(64))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "data").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "behind a symbolic link" in refusal(external(folder, "data/weights.bin"))


def test_constant_nodes_keep_no_weights_outside_either(tmp_path: Path) -> None:
    path = external(tmp_path, "../secret.bin")
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer.pop()
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["weights"], value=tensor))
    path.write_bytes(model.SerializeToString())
    assert "outside its own folder" in refusal(path)


# Local functions


def with_functions(*calls: tuple[str, str, int]) -> onnx.ModelProto:
    """Functions, each of which calls another one several times in a row; the graph calls f0."""
    node, opsets = onnx.helper.make_node, [onnx.helper.make_opsetid(d, 17) for d in ("", "own")]
    functions = []
    for name, called, times in calls:
        domain = "own" if called.startswith("f") else ""
        values = ["x", *(f"v{index}" for index in range(times - 1)), "y"]
        nodes = [node(called, [a], [b], domain=domain) for a, b in pairwise(values)]
        functions.append(onnx.helper.make_function("own", name, ["x"], ["y"], nodes, opsets))
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4, 8, 8])
        for name in ("data", "out")
    ]
    graph = onnx.helper.make_graph(
        [node("f0", ["data"], ["out"], domain="own")], "net", ends[:1], ends[1:]
    )
    return onnx.helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


def test_functions_are_expanded(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(with_functions(("f0", "f1", 3), ("f1", "Relu", 2)), path)
    assert [node.op_type for node in load_model(path).graph] == ["Relu"] * 6


def test_functions_that_expand_without_bound_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    calls = [(f"f{index}", f"f{index + 1}", 2) for index in range(40)]
    onnx.save(with_functions(*calls, ("f40", "Relu", 1)), path)
    assert path.stat().st_size < 10_000
    assert "expand to more than 1000000 nodes. Refused." in refusal(path)


@pytest.mark.parametrize("calls", [[("f0", "f0", 1)], [("f0", "f1", 2), ("f1", "f0", 1)]])
def test_functions_that_call_themselves_are_refused(
    tmp_path: Path, calls: list[tuple[str, str, int]]
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(with_functions(*calls), path)
    assert "that calls itself. Refused." in refusal(path)
