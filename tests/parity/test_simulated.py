"""Graphs for TensorRT, rewritten for ONNX Runtime: other types within, the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import flavour_file
from edgeunet.parity.simulated import in_fp32
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.backends.preprocess import Preprocessor


@pytest.mark.parametrize("stretch", [1.0, 1e-3, 1e6], ids=["frame", "faint", "beyond FP16"])
def test_graph_gives_the_same_bits(int8_bundle: Path, stretch: float) -> None:
    content = (int8_bundle / flavour_file("int8.fp16")).read_bytes()
    changed = in_fp32(content)
    bundle = open_bundle(int8_bundle)
    image = Preprocessor(bundle.manifest.input)(list(bundle.golden().frames[:1]))
    as_written, rewritten = (
        OrtNet(graph, flavour="int8.fp16").run(image * np.float32(stretch))[0]
        for graph in (content, changed)
    )
    np.testing.assert_array_equal(rewritten, as_written)


def test_nothing_slow_is_left(int8_bundle: Path) -> None:
    model = onnx.load(int8_bundle / flavour_file("int8.fp16"))
    slow = [node for node in model.graph.node if node.op_type in ("Clip", "QuantizeLinear")]
    assert {node.op_type for node in slow} == {"Clip", "QuantizeLinear"}
    changed = onnx.shape_inference.infer_shapes(
        onnx.load_from_string(in_fp32(model.SerializeToString())), strict_mode=True
    )
    onnx.checker.check_model(changed, full_check=True)
    types = {v.name: v.type.tensor_type.elem_type for v in changed.graph.value_info}
    types |= {tensor.name: tensor.data_type for tensor in changed.graph.initializer}
    read = [
        types[node.input[0]]
        for node in changed.graph.node
        if node.op_type in ("Clip", "QuantizeLinear")
    ]
    assert read == [onnx.TensorProto.FLOAT] * len(slow)


def test_graph_of_fp32_is_left_as_it_is(int8_bundle: Path) -> None:
    model = onnx.load(int8_bundle / flavour_file("int8"))
    assert onnx.load_from_string(in_fp32(model.SerializeToString())) == model
