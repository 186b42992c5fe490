"""Where the logits are, whatever stands behind them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto

from edgeunet.errors import ExportError
from edgeunet.exporting.origins.onnx_head import Head, channel_axis, cut_head
from support.onnx_forms import Array, Builder, behind_logits, resize

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def axis_last(b: Builder, z: str) -> str:
    return b.add("Transpose", z, perm=[0, 2, 3, 1])


def primitive(b: Builder, z: str, *, largest: bool = True, product: bool = False) -> str:
    shifted = b.add("Sub", z, b.reduce("ReduceMax", z, [1])) if largest else z
    power = b.add("Exp", shifted)
    total = b.reduce("ReduceSum", power, [1])
    return (
        b.add("Mul", power, b.add("Reciprocal", total)) if product else b.add("Div", power, total)
    )


def log_sum(b: Builder, z: str) -> str:
    return b.add("Sub", z, b.reduce("ReduceLogSumExp", z, [1]))


def crossed(b: Builder, z: str) -> str:
    """What torch's exporter writes for opset 11."""
    turned = b.add("Softmax", b.add("Transpose", z, perm=[0, 3, 2, 1]), axis=3)
    return b.add("Transpose", turned, perm=[0, 3, 2, 1])


def one_channel(b: Builder, z: str) -> str:
    """tf2onnx writes the Transpose of one channel as a Reshape."""
    mean = b.add("Relu", z)
    return b.add("Reshape", b.add("Sigmoid", mean), b.const(np.array([-1, 4, 6, 1])))


def keras_dynamic(b: Builder, z: str) -> str:
    """Rows of pixels, of a size that is computed."""
    x = axis_last(b, z)
    batch = b.add("Slice", b.add("Shape", x), b.const(np.array([0])), b.const(np.array([1])))
    shape = b.add("Concat", batch, b.const(np.array([-1, 3])), axis=0)
    return b.add("Softmax", b.add("Reshape", x, shape), axis=-1)


def keras(b: Builder, z: str) -> str:
    rows = b.add("Reshape", axis_last(b, z), b.const(np.array([-1, 24, 3])))
    return b.add("Softmax", rows, axis=-1)


FOUND: dict[str, tuple[Callable[[Builder, str], object], Head]] = {
    "argmax": (
        lambda b, z: b.add("ArgMax", b.add("Softmax", z, axis=1), axis=1, keepdims=0),
        Head("z", 1, "softmax", "argmax", cut=("ArgMax", "Softmax")),
    ),
    "argmax of the last axis": (
        lambda b, z: b.add("ArgMax", axis_last(b, z), axis=-1),
        Head("z", 1, decision="argmax", cut=("ArgMax",)),
    ),
    "cast": (lambda b, z: b.add("Cast", z, to=FLOAT), Head("z", cut=("Cast",))),
    "crossed": (crossed, Head("z", 1, "softmax", cut=("Softmax",))),
    "keras": (keras, Head("z", 1, "softmax", cut=("Softmax", "Reshape"))),
    "keras, dynamic": (keras_dynamic, Head("z", 1, "softmax", cut=("Softmax", "Reshape"))),
    "log of softmax": (
        lambda b, z: b.add("Log", b.add("Softmax", z, axis=1)),
        Head("z", 1, "log_softmax", cut=("Log, Softmax",)),
    ),
    "log softmax": (
        lambda b, z: b.add("LogSoftmax", z, axis=-3),
        Head("z", 1, "log_softmax", cut=("LogSoftmax",)),
    ),
    "log softmax in primitive operators": (
        log_sum,
        Head("z", 1, "log_softmax", cut=("LogSoftmax in primitive operators",)),
    ),
    "softmax in primitive operators": (
        primitive,
        Head("z", 1, "softmax", cut=("softmax in primitive operators",)),
    ),
    "the same without the largest": (
        lambda b, z: primitive(b, z, largest=False, product=True),
        Head("z", 1, "softmax", cut=("softmax in primitive operators",)),
    ),
    "sigmoid": (lambda b, z: b.add("Sigmoid", z), Head("z", 1, "sigmoid", cut=("Sigmoid",))),
}


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("opset", [12, 17])
def test_head_is_found_and_cut(name: str, opset: int) -> None:
    build, wanted = FOUND[name]
    model = behind_logits(build, opset=opset, kind=INT if "argmax" in name else FLOAT)
    assert cut_head(model) == wanted
    assert [node.op_type for node in model.graph] == ["Conv"]
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_one_channel_on_another_axis() -> None:
    model = behind_logits(one_channel, classes=1)
    head = cut_head(model)
    assert (head.axis, head.activation) == (1, "sigmoid")
    assert [node.op_type for node in model.graph] == ["Conv", "Relu"]


@pytest.mark.parametrize("limit", [0.5, 0.3])
def test_threshold_becomes_a_logit(limit: float) -> None:
    def build(b: Builder, z: str) -> None:
        b.add("Greater", b.add("Sigmoid", z), b.const(np.float32(limit)))

    head = cut_head(behind_logits(build, classes=1, kind=TensorProto.BOOL))
    assert (head.activation, head.decision) == ("sigmoid", "threshold")
    assert head.threshold == pytest.approx(np.log(limit / (1 - limit)), abs=1e-6)


def test_rounded_sigmoid_is_a_threshold() -> None:
    head = cut_head(behind_logits(lambda b, z: b.add("Round", b.add("Sigmoid", z)), classes=1))
    assert (head.decision, head.threshold) == ("threshold", 0)


def test_resize_of_logits_stays_and_the_rest_goes() -> None:
    model = behind_logits(lambda b, z: b.add("Softmax", resize(b, z), axis=1))
    head = cut_head(model)
    assert (head.activation, head.probabilities) == ("softmax", False)
    assert [node.op_type for node in model.graph] == ["Conv", "Resize"]


def test_resize_of_probabilities_stays_with_them() -> None:
    def build(b: Builder, z: str) -> None:
        b.add("ArgMax", resize(b, primitive(b, z)), axis=1)

    model = behind_logits(build, kind=INT)
    head = cut_head(model)
    assert (head.activation, head.decision, head.probabilities) == ("softmax", "argmax", True)
    assert [node.op_type for node in model.graph][-2:] == ["Div", "Resize"]


def ids_resized(b: Builder, z: str) -> None:
    ids = b.add("Cast", b.add("ArgMax", z, axis=1), to=FLOAT)
    b.add("Resize", ids, "", b.exact(np.float32([1, 1, 2, 2])), mode="nearest")


REFUSED: dict[str, tuple[Callable[[Builder, str], object], int, str]] = {
    "flat": (
        lambda b, z: b.add("Flatten", z), FLOAT, "has 2 dimensions; expected maps of classes",
    ),
    "ids enlarged": (ids_resized, FLOAT, r"enlarges class ids behind an ArgMax.*--head z"),
    "integers": (
        lambda b, z: b.add("Cast", b.add("Mul", z, b.const(np.float32(255))), to=INT), INT,
        r"'y' holds INT64, made by the node 'Mul_1' \(Mul\)",
    ),
    "limit": (
        lambda b, z: b.add("Greater", b.add("Sigmoid", z), b.const(np.float32(1.5))),
        TensorProto.BOOL, "compares a sigmoid with 1.5; expected a number between 0 and 1",
    ),
    "rows": (
        lambda b, z: b.add("Softmax", z, axis=2), FLOAT, "are on axis 2; expected 1 or 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_outputs_are_refused(name: str) -> None:
    build, kind, message = REFUSED[name]
    with pytest.raises(ExportError, match=message):
        cut_head(behind_logits(build, kind=kind))


@pytest.mark.parametrize(
    "build",
    [
        lambda b, z: b.add("Div", b.add("Exp", z), b.reduce("ReduceMax", z, [1])),
        lambda b, z: b.add("Sub", z, b.reduce("ReduceMean", z, [1])),
        lambda b, z: b.add("Tanh", z),
    ],
)
def test_what_only_looks_alike_stays(build: Callable[[Builder, str], object]) -> None:
    model = behind_logits(build)
    before = [node.op_type for node in model.graph]
    assert cut_head(model) == Head("y")
    assert [node.op_type for node in model.graph] == before


def test_channels_are_where_the_convolution_put_them() -> None:
    model = behind_logits(
        lambda b, z: b.add("Relu", b.add("Add", axis_last(b, z), b.const(_bias())))
    )
    assert channel_axis(model.graph.outputs[0]) == 3
    assert cut_head(model).axis == 3


def test_channels_behind_a_reshape_are_the_smallest_side() -> None:
    def build(b: Builder, z: str) -> None:
        b.add("Reshape", z, b.const(np.array([-1, 12, 3, 2])))

    assert channel_axis(behind_logits(build).graph.outputs[0]) == 3


def _bias() -> Array:
    return np.ones(3, np.float32)
