"""The INT8 graphs: what their consumers demand, and that they still compute the net."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import flavour_file
from edgeunet.exporting.graphs.passes.graph import origin
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8.quantize import quantize_for_tensorrt
from edgeunet.exporting.lint import lint
from edgeunet.models import create_model
from edgeunet.runtime.backends.preprocess import Preprocessor
from support.int8 import constants, graph, some_table


@pytest.mark.parametrize("flavour", ["int8", "int8.fp16"])
def test_tensorrt_gets_symmetric_signed_explicit_zero_points(
    int8_bundle: Path, flavour: str
) -> None:
    found = graph(int8_bundle, flavour)
    values = constants(found)
    pairs = [n for n in found.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        assert len(node.input) == 3, f"{node.name} leaves its zero point out"
        zero, scale = values[node.input[2]], values[node.input[1]]
        assert zero.dtype == np.int8, node.name
        assert not zero.any(), node.name
        assert (scale > 0).all(), node.name
        assert scale.dtype == (np.float32 if flavour == "int8" else np.float16), node.name


@pytest.mark.parametrize("flavour", ["int8", "int8.fp16"])
def test_tensorrt_gets_float_biases_and_weights_per_channel(
    int8_bundle: Path, flavour: str
) -> None:
    found = graph(int8_bundle, flavour)
    values = constants(found)
    producer = {name: node for node in found.node for name in node.output}
    convs = [node for node in found.node if node.op_type == "Conv"]
    quantized = [c for c in convs if producer.get(c.input[1]) is not None]
    assert len(quantized) == len(convs) - 1, "only the first stays float"
    for conv in convs:
        assert conv.input[2] in values, f"{conv.name}: the bias is not a float constant"
    for conv in quantized:
        dequantize = producer[conv.input[1]]
        scale = values[dequantize.input[1]]
        kernel = values[producer[dequantize.input[0]].input[0]]
        assert scale.shape == (kernel.shape[0],), conv.name
        assert {a.i for a in dequantize.attribute if a.name == "axis"} == {0}, conv.name


def test_cpu_gets_unsigned_activations(int8_bundle: Path) -> None:
    found = graph(int8_bundle, "int8.cpu")
    values = constants(found)
    activations = [n for n in found.node if n.op_type == "QuantizeLinear"]
    assert {values[node.input[2]].dtype for node in activations} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("flavour", ["int8", "int8.fp16", "int8.cpu", "int8.openvino"])
def test_int8_logits_follow_the_reference(int8_bundle: Path, flavour: str) -> None:
    bundle = open_bundle(int8_bundle)
    golden = bundle.golden()
    images = Preprocessor(bundle.manifest.input)(list(golden.frames))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    path = int8_bundle / flavour_file(flavour)  # type: ignore[arg-type]
    found = onnxruntime.InferenceSession(str(path), options).run(None, {"image": images})[0]
    error = np.abs(found - golden.logits).mean() / golden.logits.std()
    assert error < 0.1


def test_moving_values_does_not_change_their_range(int8_bundle: Path) -> None:
    found = graph(int8_bundle, "int8.cpu")
    values = constants(found)
    producer = {name: node for node in found.node for name in node.output}
    readers = {name: node for node in found.node for name in node.input}
    moves = [
        node
        for node in found.node
        if node.op_type in ("Reshape", "Transpose")
        and producer[node.input[0]].op_type == "DequantizeLinear"
    ]
    moved = {origin(node.name) for node in moves}
    assert sum(name.endswith("depth_to_space") for name in moved) == 4
    for node in moves:
        before, after = producer[node.input[0]], readers[node.output[0]]
        assert values[before.input[1]] == values[after.input[1]], node.name


def test_tensorrt_gets_one_scale_around_a_concat_and_no_pair_where_it_would_hurt(
    tmp_path: Path,
) -> None:
    """Linted: the rules know what TensorRT makes of it. U-Net++ has Resize, Eff-UNet has SiLU."""
    for model, width in (("unetpp", 4), ("eff_unet", 8)):
        net = create_model(model, num_classes=3, width=width).eval()
        reference, signed = tmp_path / f"{model}.onnx", tmp_path / f"{model}.int8.onnx"
        trace(net, reference, height=64, width=64, channels=3)
        table = some_table(reference)
        quantize_for_tensorrt(reference, signed, table)
        rules = {finding.rule for finding in lint(signed, "trt10").findings}
        assert not rules & {"concat-scales", "resize-input", "silu"}, model
        graph = onnx.load(signed).graph
        assert any(node.op_type == "QuantizeLinear" for node in graph.node)
