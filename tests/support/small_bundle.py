"""Bundles of one or two convolutions, for engines; and processes of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeunet.bundle.bundle import CHECKPOINT_NAME
from edgeunet.bundle.golden import GOLDEN_NAME
from edgeunet.bundle.manifest import (
    FLAVOURS,
    PARTS,
    InputSpec,
    Manifest,
    Precision,
    flavour_file,
    part_file,
)
from edgeunet.bundle.schema import encode
from edgeunet.exporting.graphs.fp16 import half
from edgeunet.exporting.graphs.split import split_flavours
from edgeunet.exporting.int8.emitters import STRONGLY_TYPED_OPSET
from edgeunet.files import sha256, write_json

ROOT = Path(__file__).parents[2]


def write_bundle(
    root: Path,
    *,
    precision: Precision = "fp16",
    gated: bool = False,
    max_batch: int = 4,
    weight: float = 1.0,
) -> Path:
    """A bundle of a net from 3 to 2 channels at 16x16; on the CPU, its INT8 is FP32."""
    root.mkdir(exist_ok=True)
    flavours = FLAVOURS[precision]
    inferred = onnx.shape_inference.infer_shapes(_net(weight, gated=gated))
    paths = {flavour: root / flavour_file(flavour) for flavour in flavours}
    onnx.save(inferred, paths["fp32"])
    if "fp16" in paths:
        half(paths["fp32"], paths["fp16"])
    if "int8" in paths:
        for flavour in ("int8.cpu", "int8.openvino", "int8.qnn"):
            shutil.copy(paths["fp32"], paths[flavour])
        onnx.save(onnx.shape_inference.infer_shapes(with_pairs(inferred)), paths["int8"])
        half(paths["int8"], paths["int8.fp16"], opset=STRONGLY_TYPED_OPSET)
    (root / CHECKPOINT_NAME).write_bytes(b"not read here")
    np.savez(
        root / GOLDEN_NAME,
        frames=np.zeros((1, 16, 16, 3), np.uint8),
        masks=np.zeros((1, 16, 16), np.uint8),
        logits=np.zeros((1, 2, 16, 16), np.float32),
    )
    names = [*map(flavour_file, flavours), GOLDEN_NAME, CHECKPOINT_NAME]
    if gated:
        split_flavours(root, flavours)
        names += [part_file(flavour, part) for flavour in flavours for part in PARTS]
    manifest = Manifest(
        reference="checkpoint",
        origin="PyTorch",
        model="unet",
        arguments={},
        weights="none",
        precision=precision,
        classes=("a", "b"),
        palette=((0, 0, 0), (255, 0, 0)),
        input=InputSpec(16, 16),
        logits_size=(16, 16),
        max_batch=max_batch,
        files={name: sha256(root / name) for name in names},
        versions={},
        gate=(0.5, 0.5) if gated else None,
    )
    write_json(root / "manifest.json", encode(manifest))
    return root


def _net(weight: float, *, gated: bool) -> onnx.ModelProto:
    """`image` -> convolution -> `logits`; gated, a second one too, and `presence`."""
    kernel = np.full((2, 3, 1, 1), weight, np.float32)
    nodes = [helper.make_node("Conv", ["image", "kernel"], ["logits"], name="conv")]
    constants = [numpy_helper.from_array(kernel, "kernel")]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2, 16, 16])]
    if gated:
        nodes = [
            helper.make_node("Conv", ["image", "kernel"], ["feature"], name="conv"),
            helper.make_node("GlobalAveragePool", ["feature"], ["mean"], name="pool"),
            helper.make_node("Flatten", ["mean"], ["presence"], name="flatten"),
            helper.make_node("Conv", ["feature", "head"], ["logits"], name="decode"),
        ]
        head = np.eye(2, dtype=np.float32)[..., None, None]
        constants.append(numpy_helper.from_array(head, "head"))
        outputs.append(helper.make_tensor_value_info("presence", TensorProto.FLOAT, ["batch", 2]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        outputs,
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_pairs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each convolution reads its data and its kernel through a Q/DQ pair."""
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    graph.initializer.append(numpy_helper.from_array(np.float32(0.25), "step_scale"))
    graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    del graph.node[:]
    for node in model.graph.node:
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        for index, name in enumerate(node.input[:2] if node.op_type == "Conv" else ()):
            ends = [f"{name}_q_{node.name}", f"{name}_dq_{node.name}"]
            for operator, read, end in zip(
                ("QuantizeLinear", "DequantizeLinear"), (name, ends[0]), ends, strict=True
            ):
                inputs = [read, "step_scale", "zero"]
                graph.node.append(
                    helper.make_node(operator, inputs, [end], name=f"{name}_{operator}_{node.name}")
                )
            kept.input[index] = ends[1]
        graph.node.append(kept)
    return quantized


def names(folder: Path) -> list[str]:
    """Files that are not hidden: the lock is."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
