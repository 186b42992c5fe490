"""Graphs that were traced for one image, and what tells that they are wrong for two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeunet.errors import ExportError
from edgeunet.exporting.origins.onnx_batch import BATCH, check_batch, check_symbolic, free_batch
from edgeunet.exporting.origins.onnx_image import set_batch
from edgeunet.exporting.origins.onnx_opsets import forget_shapes, inferred
from support.onnx_forms import Builder, run

SHAPE = (4, 4, 6)
RNG = np.random.default_rng(8)


def graph(build: Callable[[Builder], object], *, batch: int | str = 1) -> onnx.ModelProto:
    b = Builder()
    build(b)
    b.add("Neg", b.nodes[-1].output[0])
    return b.model(("image", 1, [batch, *SHAPE]), ("logits", 1, [batch, None, None, None]))


def freed(model: onnx.ModelProto, *, fixed: bool = True) -> ir.Model:
    found = inferred(ir.from_proto(model))
    free_batch(found, fixed=fixed)
    forget_shapes(found)
    set_batch(found, BATCH)
    found.graph.outputs[0].shape = None
    return inferred(found)


def reshape(*target: int) -> Callable[[Builder], object]:
    return lambda b: b.add("Reshape", "image", b.const(np.array(target)))


def resize(b: Builder) -> None:
    b.add("Resize", "image", "", "", b.const(np.array([1, 4, 7, 9])), mode="linear")


def nothing(b: Builder) -> None:
    b.add("Concat", b.exact(np.zeros((1, 0, 4, 6), np.float32)), "image", axis=1)


def windows(b: Builder) -> None:
    """Attention of Swin: two windows of each image go into the batch and come back."""
    y = b.add("Reshape", "image", b.const(np.array([1, 4, 2, 2, 6])))
    y = b.add("Transpose", y, perm=[0, 2, 1, 3, 4])
    y = b.add("Softmax", b.add("Reshape", y, b.const(np.array([2, 4, 12]))), axis=0 + 2)
    y = b.add("Reshape", y, b.const(np.array([1, 2, 4, 2, 6])))
    y = b.add("Transpose", y, perm=[0, 2, 1, 3, 4])
    b.add("Reshape", y, b.const(np.array([1, 4, 4, 6])))


@pytest.mark.parametrize(
    "build", [reshape(1, 2, 8, 6), reshape(1, -1, 8, 6), reshape(0, 2, 8, 6), reshape(-1, 2, 8, 6),
              nothing, resize, windows],
)  # fmt: skip
def test_batch_is_taken_out_of_constants(
    build: Callable[[Builder], object], tmp_path: Path
) -> None:
    model = graph(build)
    found = ir.to_proto(freed(model))
    images = RNG.normal(size=(3, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(run(found, images), run(model, images, one_by_one=True), atol=1e-6)
    onnx.save(found, tmp_path / "net.onnx")
    check_batch(tmp_path / "net.onnx")


def test_reshape_of_constants_stays() -> None:
    def build(b: Builder) -> None:
        values = b.add("Reshape", b.const(np.ones(4)), b.const(np.array([1, 4, 1, 1])))
        b.add("Add", "image", values)

    model = graph(build)
    before = [node.input[1] for node in model.graph.node if node.op_type == "Reshape"]
    after = ir.to_proto(freed(model)).graph.node
    assert [node.input[1] for node in after if node.op_type == "Reshape"] == before


def test_trace_with_a_dynamic_batch_is_freed_too() -> None:
    found = freed(graph(reshape(1, 2, 8, 6)), fixed=False)
    assert run(ir.to_proto(found), np.zeros((2, *SHAPE), np.float32)).shape == (2, 2, 8, 6)


def test_node_that_fixes_the_batch_is_named() -> None:
    def first(b: Builder) -> None:
        b.add("Gather", "image", b.const(np.array([0])), axis=0)

    model = freed(graph(first))
    with pytest.raises(ExportError, match=r"'Gather_0' \(Gather\) fixes the batch to 1.*dynamic"):
        check_symbolic(model)
    check_symbolic(freed(graph(resize)))


MIXING: dict[str, tuple[Callable[[Builder], object], str]] = {
    "mean": (
        lambda b: b.add("Sub", "image", b.reduce("ReduceMean", "image", [0])),
        r"differs by \d.*; the first node that mixes them is 'ReduceMean_\d' \(ReduceMean\)",
    ),
    "order": (
        lambda b: b.add("Reshape", b.add("Transpose", "image", perm=[1, 0, 2, 3]),
                        b.const(np.array([-1, 4, 4, 6]))),
        r"the first node that mixes them is 'Reshape_\d' \(Reshape\)",
    ),
    "sequence first": (
        lambda b: b.add("Transpose", b.add("Reshape", "image", b.const(np.array([4, 1, 4, 6]))),
                        perm=[1, 0, 2, 3]),
        r"takes no batch of 2: the node 'Reshape_\d' \(Reshape\) failed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXING)
def test_graph_that_mixes_images_is_refused_by_name(name: str, tmp_path: Path) -> None:
    build, message = MIXING[name]
    onnx.save(graph(build, batch="n"), tmp_path / "net.onnx")
    with pytest.raises(ExportError, match=message):
        check_batch(tmp_path / "net.onnx")
