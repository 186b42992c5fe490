"""Graphs of other people, brought to the contract, against themselves."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from edgeunet.errors import ExportError, UsageError
from edgeunet.exporting.graphs.passes.graph import OPSET, save
from edgeunet.exporting.origins.onnx_batch import check_batch
from edgeunet.exporting.origins.onnx_forms import Normalised, normalise
from edgeunet.exporting.origins.onnx_reading import open_graph
from support.onnx_forms import (
    FORMS,
    SIZE,
    Answer,
    Array,
    Builder,
    Form,
    answers,
    behind_logits,
    frames,
    normal,
    plain_logits,
    run,
)


def normalised(form: Form, folder: Path) -> tuple[Normalised, onnx.ModelProto]:
    given = open_graph(form.write(folder / "given.onnx"))
    found = normalise(given.model, size=SIZE)
    save(found.model, folder / "found.onnx")
    check_batch(folder / "found.onnx")
    return found, onnx.load(folder / "found.onnx")


def image_of(found: Normalised, given: Array) -> Array:
    """What the contract feeds for RGB bytes (N, H, W, 3)."""
    if found.normalisation is None:
        return normal(given)
    names = found.names
    assert names is not None
    ordered = given[..., [("red", "green", "blue").index(name) for name in names]] / 255
    values = (ordered - found.normalisation.mean) / found.normalisation.std
    return values.transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.parametrize("name", FORMS)
def test_form_is_equal_to_its_original(name: str, tmp_path: Path) -> None:
    form = FORMS[name]()
    found, model = normalised(form, tmp_path)
    given = frames()
    logits = run(model, image_of(found, given))
    ids, margins = answers(form, given)
    wrong = logits.argmax(1) != ids
    assert margins[wrong].max(initial=0) < form.tolerance
    assert len(np.unique(ids)) > 1
    wanted = plain_logits(form.weights, given)
    if wanted.shape[1] == 1:
        logits, wanted = (
            logits[:, 1:] - logits[:, :1],
            wanted - found.head.threshold,
        )
    if not name.startswith("resized"):
        np.testing.assert_allclose(logits, wanted, rtol=0, atol=form.tolerance)


@pytest.mark.parametrize("name", FORMS)
def test_form_has_the_contract(name: str, tmp_path: Path) -> None:
    found, model = normalised(FORMS[name](), tmp_path)
    (image,), (logits,) = model.graph.input, model.graph.output
    ends = [
        (end.name, [dim.dim_param or dim.dim_value for dim in end.type.tensor_type.shape.dim])
        for end in (image, logits)
    ]
    assert ends[0] == ("image", ["batch", 3, *SIZE])
    assert ends[1] == ("logits", ["batch", found.classes, *SIZE])
    assert {end.type.tensor_type.elem_type for end in (image, logits)} == {1}
    assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
    names = [node.name for node in model.graph.node]
    assert "" not in names and len(set(names)) == len(names)


# Any net


@st.composite
def nets(draw: st.DrawFn) -> Form:
    """A net of two convolutions with random weights, in one of the layouts, types and opsets."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    opset, last = draw(st.sampled_from([11, 13, 16, 18, 21])), draw(st.booleans())
    classes = draw(st.integers(1, 4))
    byte, fixed, stride = draw(st.booleans()), draw(st.booleans()), draw(st.integers(1, 2))
    b = Builder(opset=opset)
    axes = (1, 1, 1, 3) if last else (1, 3, 1, 1)

    def conv(x: str, outputs: int, inputs: int, size: int, **attributes: object) -> str:
        kernel = b.const(rng.normal(0, 2 / size / inputs**0.5, (outputs, inputs, size, size)))
        if last:
            x = b.add("Transpose", x, perm=[0, 3, 1, 2])
        x = b.add("Conv", x, kernel, **attributes)
        return b.add("Transpose", x, perm=[0, 2, 3, 1]) if last else x

    x = b.add("Cast", "in", to=TensorProto.FLOAT) if byte else "in"
    white = 255 if byte or draw(st.booleans()) else 1
    x = b.add("Sub", x, b.const(white * rng.uniform(0.3, 0.6, axes)))
    x = b.add("Div", x, b.const(white * rng.uniform(0.2, 0.5, axes)))
    y = conv(x, 6, 3, draw(st.sampled_from([1, 3])), strides=[stride] * 2, auto_pad="SAME_UPPER")
    y = b.add(draw(st.sampled_from(["Relu", "LeakyRelu", "Sigmoid"])), y)
    if stride == 2:
        empty = "" if opset > 12 else b.exact(np.zeros(0, np.float32))
        up = [1, 2, 2, 1] if last else [1, 1, 2, 2]
        y = b.add("Resize", y, empty, b.exact(np.float32(up)), mode="nearest")
    y = b.add("Concat", y, x, axis=3 if last else 1)
    z = conv(y, classes, 9, 1)
    mean = b.reduce("ReduceMean", z, [1, 2] if last else [2, 3])  # or one class has all pixels
    z = b.add("Sub", z, mean)
    kind: Answer = draw(st.sampled_from(["logits", "sigmoid"] if classes == 1 else
                                        ["logits", "probabilities", "ids"]))  # fmt: skip
    axis = 3 if last else 1
    if kind == "sigmoid":
        b.add("Sigmoid", z)
    elif kind == "probabilities":
        power = b.add("Exp", z)
        b.add("Div", power, b.reduce("ReduceSum", power, [axis]))
    elif kind == "ids":
        b.add("ArgMax", z, axis=axis, keepdims=0)
    batch: int | str = 1 if fixed else "n"
    shape = [batch, *SIZE] if kind == "ids" else [batch, *SIZE, classes]
    if not last and kind != "ids":
        shape = [batch, classes, *SIZE]
    model = b.model(
        ("in", TensorProto.UINT8 if byte else TensorProto.FLOAT,
         [batch, *SIZE, 3] if last else [batch, 3, *SIZE]),
        ("out", TensorProto.INT64 if kind == "ids" else TensorProto.FLOAT, shape),
    )  # fmt: skip

    def feed(given: Array) -> Array:
        ordered = given if last else given.transpose(0, 3, 1, 2)
        return ordered if byte else (ordered * (white / 255)).astype(np.float32)

    return Form(model, {}, feed, kind, channels_last=last)


@settings(max_examples=40, deadline=None)
@given(nets())
def test_any_net_has_the_masks_of_its_original(form: Form) -> None:
    with TemporaryDirectory() as folder:
        found, model = normalised(form, Path(folder))
    image = frames()
    logits = run(model, image_of(found, image))
    ids, margins = answers(form, image)
    assert margins[logits.argmax(1) != ids].max(initial=0) < 1e-4
    assert found.normalisation is not None and not found.normalisation.inside


# What is told, and what is refused


def test_told(tmp_path: Path) -> None:
    assert list(normalised(FORMS["bytes"](), tmp_path)[0].told()) == [
        "input 'frame': NHWC uint8, 3 channels, 24x32",
        "normalisation inside: levels 0,255, mean 0.485,0.456,0.406, std 0.229,0.224,0.225; "
        "taken out",
        "the output holds logits; 3 classes",
    ]
    assert list(normalised(FORMS["threshold"](), tmp_path)[0].told())[1:] == [
        "cut off behind the logits: Cast, Greater 0.3, Sigmoid; 2 classes",
        "one channel became two classes, background and foreground",
    ]


def test_channels_have_the_order_of_the_net(tmp_path: Path) -> None:
    assert normalised(FORMS["double"](), tmp_path)[0].names == ("blue", "green", "red")
    form = FORMS["argmax"]()
    onnx.helper.set_model_props(form.model, {"model_info reverse_input_channels": "False"})
    assert normalised(form, tmp_path)[0].names == ("blue", "green", "red")


REFUSED: dict[str, tuple[ir.Model, str]] = {
    "each class": (
        behind_logits(
            lambda b, z: b.add("Greater", b.add("Sigmoid", z), b.const(np.float32(0.5))),
            kind=TensorProto.BOOL,
        ),
        "compares each of 3 classes with a threshold, so that classes may overlap",
    ),
    "nothing to decide": (
        behind_logits(lambda b, z: b.add("Softmax", z, axis=1), classes=1),
        "a softmax of one channel, which says nothing",
    ),
    "turned": (
        behind_logits(lambda b, z: b.add("Transpose", z, perm=[0, 1, 3, 2])),
        "height and width in another order than the image",
    ),
    "other shape": (
        behind_logits(lambda b, z: b.add("Reshape", z, b.const(np.array([-1, 3, 12, 2])))),
        "for images of 4x6; expected maps of the same shape",
    ),
    "too many classes": (
        behind_logits(lambda b, z: b.add("Relu", z), classes=300),
        "300 classes; at most 256 are possible",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_graph_that_no_bundle_can_hold_is_refused(name: str) -> None:
    model, message = REFUSED[name]
    with pytest.raises(ExportError, match=message):
        normalise(model)


def test_size_that_is_open_must_be_told() -> None:
    form = FORMS["legacy, opset 11"]()
    with pytest.raises(UsageError, match=r"leaves the size open\. Pass --size HxW"):
        normalise(ir.from_proto(onnx.shape_inference.infer_shapes(form.model)))
    onnx.helper.set_model_props(form.model, {"imgsz": "[24, 32]"})
    model = ir.from_proto(onnx.shape_inference.infer_shapes(form.model))
    assert normalise(model).size == SIZE


def test_size_that_the_graph_cannot_halve_is_answered_with_one_that_it_can() -> None:
    net = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 3, H, W] image, float[4, 3, 1, 1] w, float[3, 3, 2, 2] up)
            => (float[N, 4, h, w] y)
        {
            half = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (image)
            again = ConvTranspose <strides = [2, 2]> (half, up)
            both = Add (again, image)
            y = Conv (both, w)
        }
    """)
    weights = {"w": (4, 3, 1, 1), "up": (3, 3, 2, 2)}
    for name, shape in weights.items():
        values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        net.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    del net.graph.input[1:]
    with pytest.raises(UsageError, match=r"--size 25x32 does not fit .* --size 26x32\."):
        normalise(ir.from_proto(net), size=(25, 32))
    assert normalise(ir.from_proto(net), size=(26, 32)).size == (26, 32)
