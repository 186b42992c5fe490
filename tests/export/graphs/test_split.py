"""A gated graph in two parts: one after the other they compute what the whole does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from edgeunet.bundle.manifest import InputSpec
from edgeunet.exporting.graphs.fp16 import half
from edgeunet.exporting.graphs.passes.graph import load
from edgeunet.exporting.graphs.split import split
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8.quantize import quantize_for_cpu, quantize_for_tensorrt
from edgeunet.models import create_model, list_models
from support.exports import table_of

SIZE = (64, 96)


def session(model: ir.Model, *, as_written: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def images() -> npt.NDArray[np.float32]:
    return np.random.default_rng(9).normal(size=(2, 3, *SIZE)).astype(np.float32)


@pytest.fixture(scope="module", params=list_models())
def graphs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ir.Model]:
    """The graphs of a gated variant, by flavour."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    net = create_model(request.param, num_classes=3, width=8, cgm=True).eval()
    fp32, fp16 = folder / "fp32.onnx", folder / "fp16.onnx"
    for_cpu, int8 = folder / "int8.cpu.onnx", folder / "int8.onnx"
    trace(net, fp32, height=SIZE[0], width=SIZE[1], channels=3)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (*SIZE, 3), np.uint8) for _ in range(2)]
    table = table_of(fp32, frames, InputSpec(*SIZE))
    half(fp32, fp16)
    quantize_for_cpu(fp32, for_cpu, table)
    quantize_for_tensorrt(fp32, int8, table)
    return {path.stem: load(path) for path in (fp32, fp16, for_cpu, int8)}


@pytest.mark.parametrize("flavour", ["fp32", "fp16", "int8.cpu", "int8"])
def test_parts_compute_what_the_whole_does(graphs: dict[str, ir.Model], flavour: str) -> None:
    parts = split(graphs[flavour], integers=flavour == "int8.cpu")
    encoder, decoder = (session(part, as_written=flavour == "int8") for part in parts)
    presence, *features = encoder.run(None, {"image": images()})
    names = [value.name for value in decoder.get_inputs()]
    assert names == [value.name for value in encoder.get_outputs()][1:]
    logits = decoder.run(["logits"], dict(zip(names, features, strict=True)))[0]
    whole = session(graphs[flavour], as_written=flavour == "int8")
    wanted = whole.run(["logits", "presence"], {"image": images()})
    # Another layout of the features may round elsewhere; INT8 sums are exact.
    tolerance = {"fp32": 1e-4, "fp16": 1e-2}.get(flavour, 0)
    np.testing.assert_allclose(logits, wanted[0], rtol=0, atol=tolerance)
    np.testing.assert_allclose(presence, wanted[1], rtol=0, atol=tolerance)


def test_quantized_features_cross_as_int8(graphs: dict[str, ir.Model]) -> None:
    encoder, decoder = map(session, split(graphs["int8.cpu"], integers=True))
    crossing = decoder.get_inputs()
    assert len(crossing) >= 4
    assert {value.type for value in crossing} == {"tensor(uint8)"}
    assert encoder.get_outputs()[0].name == "presence"


@pytest.mark.parametrize("flavour", ["fp16", "int8"])
def test_features_cross_in_the_type_that_tensorrt_takes(
    graphs: dict[str, ir.Model], flavour: str
) -> None:
    crossing = split(graphs[flavour])[1].graph.inputs
    wanted = ir.DataType.FLOAT16 if flavour == "fp16" else ir.DataType.FLOAT
    assert len(crossing) >= 4
    assert {value.dtype for value in crossing} == {wanted}


def test_no_convolution_is_computed_twice(graphs: dict[str, ir.Model]) -> None:
    whole = [node.name for node in graphs["int8.cpu"].graph if node.op_type == "Conv"]
    parts = [
        node.name
        for part in split(graphs["int8.cpu"], integers=True)
        for node in part.graph
        if node.op_type == "Conv"
    ]
    assert sorted(parts) == sorted(whole)
