"""How much a graph loses, counted on masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec, flavour_file
from edgeunet.bundle.steps import Window
from edgeunet.exporting.int8.judge import Judge, Loss, Tally
from edgeunet.metrics import IGNORE
from edgeunet.parity import golden_samples
from edgeunet.runtime.sources.labelled import LabelledFrame

MASK = np.array([[0, 0, 1, 1]], np.uint8)
OTHER = np.array([[0, 1, 1, 1]], np.uint8)


def test_agreement_is_the_mean_of_the_frames() -> None:
    tally = Tally(2)
    tally.add(MASK, MASK, None)
    tally.add(MASK, OTHER, None)
    assert tally.agreement == pytest.approx((1 + 0.75) / 2)
    assert tally.miou is None, "nothing has a label"


def test_labels_count_where_they_are_not_ignored() -> None:
    tally = Tally(2)
    tally.add(MASK, OTHER, np.full_like(MASK, IGNORE))
    assert tally.miou is None
    tally.add(MASK, OTHER, MASK)
    assert tally.miou == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_graph_loses_nothing_against_itself_and_much_if_it_is_wrong(
    fp32_bundle: Path, wrong_bundle: Path
) -> None:
    bundle = open_bundle(fp32_bundle)
    graph = fp32_bundle / flavour_file("fp32")
    judge = Judge(graph, golden_samples(bundle), bundle.manifest.input, gate=None)
    assert judge.loss(graph, "fp32") == Loss(None, 0)
    assert judge.loss(wrong_bundle / flavour_file("fp32"), "fp32").differ > 10


def test_graphs_for_tensorrt_are_judged_with_the_ends_of_an_engine(tmp_path: Path) -> None:
    """The second class leads by less than FP16 resolves, and so it loses in an engine."""
    graph = tmp_path / "graph.onnx"
    kernel = np.array([[1, 0, 0], [1, 0, 0]], np.float32)[..., None, None]
    model = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel", "bias"], ["logits"])],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2, 16, 16])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(np.float32([0, 1e-5]), "bias"),
        ],
    )
    onnx.save(helper.make_model(model, opset_imports=[helper.make_opsetid("", 17)]), graph)
    sample = LabelledFrame("white", np.full((16, 16, 3), 255, np.uint8), None)
    judge = Judge(graph, [sample], InputSpec(16, 16), gate=None)
    assert judge.loss(graph, "int8.cpu").differ == 0
    assert judge.loss(graph, "int8").differ == judge.loss(graph, "int8.fp16").differ == 100


def test_net_that_runs_on_windows_is_judged_on_the_middle_of_each_sample(tmp_path: Path) -> None:
    """Labels outside of the window do not count: there the net would be wrong."""
    graph = tmp_path / "graph.onnx"
    kernel = np.array([[-1, 0, 0], [1, 0, 0]], np.float32)[..., None, None]
    model = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel"], ["logits"])],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2, 16, 16])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    onnx.save(helper.make_model(model, opset_imports=[helper.make_opsetid("", 17)]), graph)
    image = np.random.default_rng(0).integers(0, 256, (30, 12, 3), np.uint8)
    labels = (image[..., 0] < 127.5).astype(np.uint8)  # the opposite
    labels[7:23] = image[7:23, :, 0] > 127.5
    spec = InputSpec(16, 16, mean=(0.5,) * 3, std=(1,) * 3, window=Window())
    judge = Judge(graph, [LabelledFrame("noise", image, labels)], spec, gate=None)
    assert judge.miou == 1
