"""PyTorch as the engine inside the stand-in for TensorRT computes what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import Flavour
from edgeunet.runtime.backends.ort import open_flavour
from support.fake_tensorrt.context import Bound
from support.fake_tensorrt.plan import Plan, PlanTensor
from support.torch_engine import TorchEngine, TorchGraph, TorchNet

Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("flavour", ["fp32", "fp16", "int8", "int8.fp16"])
def test_graph_of_a_gated_bundle_gives_onnx_runtime_s_logits(
    gated_bundle: Path, flavour: Flavour, wide: bool
) -> None:
    bundle = open_bundle(gated_bundle)
    net = TorchGraph(bundle.model_path(flavour).read_bytes(), "cpu", wide=wide)
    assert net.types == {"image": torch.float32}, "edgeunet's graphs have FP32 ends"
    with open_flavour(bundle, flavour, threads=1) as backend:
        images = backend.preprocess(list(bundle.golden().frames[:2]))
        wanted, found = backend.net.infer(images), net({"image": torch.from_numpy(images)})
    # One step of INT8 that rounds the other way changes what follows, of the presence before its
    # sigmoid: near 0.5 that makes a quarter of the step.
    for answer, expected in (
        (found["logits"], torch.from_numpy(wanted.logits)),
        (found["presence"].logit(), torch.from_numpy(wanted.presence).logit()),
    ):
        close = 1e-3 if flavour == "fp32" else 0.05 * float(expected.abs().max())
        assert float((answer - expected).abs().max()) < close


def test_graph_of_a_nested_net_gives_onnx_runtime_s_logits(depths_bundle: Path) -> None:
    bundle = open_bundle(depths_bundle)
    with open_flavour(bundle, "fp32", threads=1) as backend:
        images = backend.preprocess(list(bundle.golden().frames[:1]))
        wanted = backend.net.infer(images).logits
    found = TorchNet(bundle.model_path("fp32").read_bytes()).infer(images).logits
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3)


def graph(kind: str, *constants: Array, channels: int = 4, **attributes: Any) -> bytes:
    """One operator from `image` to `logits`."""
    names = [f"constant{index}" if array.size else "" for index, array in enumerate(constants)]
    node = helper.make_node(kind, ["image", *names], ["logits"], name=kind, **attributes)
    model = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, 6, 10])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(array, name)
            for array, name in zip(constants, names, strict=True)
            if name
        ],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(model, opset_imports=[opset], ir_version=8).SerializeToString()


def image(count: int = 2, channels: int = 4) -> Array:
    return np.random.default_rng(0).normal(size=(count, channels, 6, 10)).astype(np.float32)


KERNEL = np.random.default_rng(1).normal(size=(6, 2, 3, 3)).astype(np.float32)
VECTORS = tuple(np.random.default_rng(2).uniform(0.5, 1.5, (4, 4)).astype(np.float32))
NONE = np.empty(0, np.float32)


@pytest.mark.parametrize(
    "content",
    [
        graph("Conv", KERNEL, group=2, strides=[2, 1], pads=[1, 2, 1, 2], dilations=[1, 2]),
        graph("Conv", KERNEL, VECTORS[0].repeat(2)[:6], group=2, pads=[0, 1, 2, 0]),
        graph("BatchNormalization", *VECTORS, epsilon=1e-3),
        graph("Clip", np.float32(-0.5), np.float32(0.5)),
        graph("Clip", NONE, np.array(0.5, np.float32)),
        graph("DepthToSpace", blocksize=2),
        graph("DepthToSpace", blocksize=2, mode="CRD"),
        graph("GlobalAveragePool"),
        graph("MaxPool", kernel_shape=[2, 3], strides=[2, 3]),
        graph("Mul", VECTORS[0].reshape(4, 1, 1)),
        graph("Relu"),
        graph("Resize", NONE, np.array([1, 1, 2, 3], np.float32), mode="linear"),
        graph("Resize", NONE, NONE, np.array([2, 4, 3, 25], np.int64), mode="linear"),
        graph("Sigmoid"),
    ],
    ids=lambda content: onnx.load_from_string(content).graph.node[0].op_type,
)
def test_operator_gives_what_onnx_runtime_gives(content: bytes) -> None:
    images = image()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"image": images})
    np.testing.assert_allclose(TorchNet(content).infer(images).logits, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (graph("Softplus"), "no Softplus here"),
        (graph("Resize", NONE, np.array([1, 1, 2, 2], np.float32), mode="nearest"), "no Resize"),
        (graph("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), "no MaxPool"),
    ],
)
def test_what_is_not_known_is_refused_by_name(content: bytes, named: str) -> None:
    with pytest.raises(NotImplementedError, match=named):
        TorchNet(content).infer(image())


def test_engine_reads_and_writes_at_the_addresses_it_is_given() -> None:
    """In the tensors' own types: an image in FP16 for a graph that takes FP32."""
    given = image().astype(np.float16)
    found = np.full((2, 4, 6, 10), -1, np.float16)
    bound = [
        Bound(PlanTensor(name, name == "image", "HALF", ("batch", 4, 6, 10)), at, given.shape)
        for name, at in (("image", given.ctypes.data), ("logits", found.ctypes.data))
    ]
    plan = cast("Plan", SimpleNamespace(onnx=graph("Relu")))
    TorchEngine("cpu").compute(plan, bound)
    assert np.array_equal(found, np.maximum(given, 0))
