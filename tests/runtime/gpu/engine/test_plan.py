"""Every graph that is meant for a strongly typed builder, through a real one: TensorRT-RTX.

It parses and builds without a GPU. That proves the graphs legal; nothing here is run.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from edgeunet.bundle.bundle import BundleFile
from edgeunet.bundle.engines import EngineRequest
from edgeunet.bundle.manifest import PARTS, InputSpec, Part, flavour_file, part_file
from edgeunet.data.cells import snapshots
from edgeunet.errors import EngineError, GraphError
from edgeunet.exporting.graphs.fp16 import half
from edgeunet.exporting.graphs.split import split_flavours
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8.emitters import write_int8
from edgeunet.files import sha256
from edgeunet.models import create_model, list_models
from edgeunet.runtime.gpu.engine import Toolkit, load_toolkit
from edgeunet.runtime.gpu.engine.plan import compile_plan
from edgeunet.runtime.gpu.engine.precision import quantized_nodes, without_pairs
from support.exports import table_of

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")

SIZE = 64
NETS: dict[str, dict[str, Any]] = {
    **{name: {"model": name} for name in list_models()},
    **{f"unetpp depth {depth}": {"model": "unetpp", "depth": depth} for depth in (1, 2, 3)},
    # The gate is one and the same branch in all of them: two variants are enough.
    **{f"{name} gated": {"model": name, "cgm": True} for name in ("mobile_unet", "unet3p")},
}
Export = Callable[[str], Path]


@pytest.fixture(scope="module")
def toolkit() -> Toolkit:
    return load_toolkit("rtx")


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Folder with the FP32, FP16 and INT8 graphs of a net by its name, exported once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("graphs")
            write_graphs(made[name], **NETS[name])
        return made[name]

    return folder


def write_graphs(folder: Path, *, model: str, **arguments: Any) -> None:
    torch.manual_seed(0)
    net = create_model(model, num_classes=3, width=8, **arguments).eval()
    reference = folder / flavour_file("fp32")
    trace(net, reference, height=SIZE, width=SIZE, channels=3)
    half(reference, folder / flavour_file("fp16"))
    frames = [frame.image for frame in snapshots(1, height=SIZE, width=SIZE, seed=0)]
    write_int8(folder, table_of(reference, frames, InputSpec(SIZE, SIZE)))


def write_graph(path: Path, op: str, *, batch: int | str = "batch") -> Path:
    """A graph of one node named "the one"."""
    shape = [batch, 3, 8, 8]
    node = helper.make_node(op, ["image"], ["logits"], name="the one")
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def build(
    toolkit: Toolkit,
    graph: Path,
    *,
    targets: Sequence[str] = ("sm89",),
    max_batch: int = 4,
    fp32_head: bool = False,
    progress: Callable[[float], None] = lambda done: None,
) -> bytes:
    """The plan of a graph; a strongly typed builder reads no precision."""
    request = EngineRequest(
        runtime=toolkit.name,
        version=toolkit.version,
        gpu=None,
        targets=tuple(targets),
        precision="fp32",
        flavour="fp32",
        part=None,
        max_batch=max_batch,
        dla=None,
        onnx_sha256="not read here",
    )
    file = BundleFile(graph, sha256(graph))
    return compile_plan(toolkit, file, request, fp32_head=fp32_head, progress=progress).content


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", NETS)
def test_every_net_builds(name: str, precision: Any, export: Export, toolkit: Toolkit) -> None:
    graph = export(name) / flavour_file(toolkit.flavours[precision])
    plan = build(toolkit, graph, targets=toolkit.default_targets)
    assert len(plan) > 10_000


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("part", PARTS)
def test_the_parts_of_a_gated_net_build(
    part: Part, precision: Any, export: Export, toolkit: Toolkit
) -> None:
    folder = export("mobile_unet gated")
    flavour = toolkit.flavours[precision]
    split_flavours(folder, (flavour,))
    assert len(build(toolkit, folder / part_file(flavour, part))) > 10_000


def test_a_net_with_its_head_in_fp32_builds(export: Export, toolkit: Toolkit) -> None:
    graph = export("mobile_unet") / flavour_file("fp16")
    assert len(build(toolkit, graph, fp32_head=True)) > 10_000


def test_a_net_builds_with_some_of_its_layers_out_of_int8(
    export: Export, tmp_path: Path, toolkit: Toolkit
) -> None:
    model = onnx.load(export("mobile_unet") / flavour_file("int8.fp16"))
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    depthwise = [
        node.name
        for node in convolutions
        if any(each.name == "group" and each.i > 1 for each in node.attribute)
    ]
    printed = " + ".join(depthwise)
    assert 10 < len(quantized_nodes(model, printed)) < len(convolutions)
    without_pairs(model, quantized_nodes(model, printed))
    assert quantized_nodes(model, printed) == []
    onnx.save(model, tmp_path / "mixed.onnx")
    assert len(build(toolkit, tmp_path / "mixed.onnx")) > 10_000


@pytest.mark.parametrize("target", load_toolkit("rtx").targets)
def test_every_target_builds(target: str, tmp_path: Path, toolkit: Toolkit) -> None:
    graph = write_graph(tmp_path / "relu.onnx", "Relu")
    assert build(toolkit, graph, targets=[target], max_batch=1)


def test_progress_rises_to_the_end(tmp_path: Path, toolkit: Toolkit) -> None:
    told: list[float] = []
    graph = write_graph(tmp_path / "relu.onnx", "Relu")
    build(toolkit, graph, progress=told.append)
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] == 1.0


def test_an_interruption_ends_the_build_and_is_raised(tmp_path: Path, toolkit: Toolkit) -> None:
    def interrupt(done: float) -> None:
        raise KeyboardInterrupt

    graph = write_graph(tmp_path / "relu.onnx", "Relu")
    with pytest.raises(KeyboardInterrupt):
        build(toolkit, graph, progress=interrupt)


def test_ctrl_c_ends_the_build(tmp_path: Path, toolkit: Toolkit) -> None:
    """As it comes: before a call of the logger, which has nobody to raise to."""
    before = signal.getsignal(signal.SIGINT)
    told: list[float] = []

    def press(done: float) -> None:
        told.append(done)
        if len(told) == 1:  # a second one ends the process
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.001)  # the main thread runs the handler here, and nothing is raised

    graph = write_graph(tmp_path / "relu.onnx", "Relu")
    with pytest.raises(KeyboardInterrupt):
        build(toolkit, graph, progress=press)
    interrupted, told[1:] = len(told), []
    build(toolkit, graph, progress=press)
    assert interrupted < len(told) - 1
    assert signal.getsignal(signal.SIGINT) is before


# Refusals


def refusal(toolkit: Toolkit, graph: Path) -> str:
    with pytest.raises(EngineError) as error:
        build(toolkit, graph)
    return str(error.value)


def test_an_unsupported_operator_is_named_with_its_node(tmp_path: Path, toolkit: Toolkit) -> None:
    message = refusal(toolkit, write_graph(tmp_path / "det.onnx", "Det"))
    assert f"TensorRT-RTX cannot parse {tmp_path / 'det.onnx'}" in message
    assert "node 'the one' (Det): UNSUPPORTED_NODE" in message


def test_the_builders_own_words_are_in_the_error(tmp_path: Path, toolkit: Toolkit) -> None:
    """A graph whose batch is fixed at 2 parses, but has no profile of 1 to 4."""
    message = refusal(toolkit, write_graph(tmp_path / "fixed.onnx", "Relu", batch=2))
    assert f"TensorRT-RTX cannot build {tmp_path / 'fixed.onnx'}" in message
    assert "profile" in message


def test_a_build_has_its_own_words_while_the_error_of_another_lives(
    tmp_path: Path, toolkit: Toolkit
) -> None:
    """TensorRT ignores a logger while a builder with another one is alive."""
    graph = write_graph(tmp_path / "fixed.onnx", "Relu", batch=2)
    with pytest.raises(EngineError) as first:
        build(toolkit, graph)
    assert refusal(toolkit, graph) == str(first.value)


def test_what_is_no_graph_is_refused(tmp_path: Path, toolkit: Toolkit) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("no graph")
    with pytest.raises(GraphError, match=r"text\.onnx is not an ONNX model"):
        build(toolkit, path)


def test_a_strongly_typed_builder_gets_graphs_that_name_their_types(toolkit: Toolkit) -> None:
    assert toolkit.flavours == {"fp32": "fp32", "fp16": "fp16", "int8": "int8.fp16"}
