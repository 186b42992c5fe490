"""One tiny net as ONNX files of other people: exporters, layouts, types, what is behind it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
SIZE = (24, 32)
WIDTH = 8
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])

Answer = Literal["logits", "sigmoid", "probabilities", "log", "ids", "binary"]


def weights_of(classes: int, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)

    def kernel(*shape: int) -> Array:
        return rng.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    w = {
        "a": kernel(WIDTH, 3, 3, 3), "a_bias": kernel(WIDTH, 1)[:, 0],
        "gate": kernel(WIDTH, WIDTH), "gate_bias": kernel(WIDTH, 1)[:, 0],
        "c": kernel(WIDTH, WIDTH + 3, 3, 3), "c_bias": kernel(WIDTH, 1)[:, 0],
        "head": kernel(classes, WIDTH, 1, 1), "head_bias": kernel(classes, 1)[:, 0],
    }  # fmt: skip
    # Centred, or one class has all pixels.
    logits = plain_logits(w, frames())
    scale = 4 / logits.std((0, 2, 3))
    w["head"] *= scale.reshape(-1, 1, 1, 1)
    w["head_bias"] = (w["head_bias"] - logits.mean((0, 2, 3))) * scale
    return w


class Builder:
    """Nodes and constants of a graph; every call returns the name of what it makes."""

    def __init__(self, *, opset: int = 17, dtype: type = np.float32) -> None:
        self.opset, self.dtype = opset, dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        made = [f"{name}:{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, name=name, **attributes))
        return made[0]

    def const(self, values: npt.ArrayLike) -> str:
        array = np.asarray(values)
        if array.dtype.kind == "f":
            array = array.astype(self.dtype)
        return self.exact(array)

    def exact(self, array: Array) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def reduce(self, op: str, x: str, axes: Sequence[int], *, keepdims: int = 1) -> str:
        """Axes are an attribute before opset 18; of ReduceSum before 13."""
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.add(op, x, self.const(np.array(axes)), keepdims=keepdims)
        return self.add(op, x, axes=list(axes), keepdims=keepdims)

    def model(
        self,
        given: tuple[str, int, Sequence[int | str]],
        made: tuple[str, int, Sequence[int | str]],
        **metadata: str,
    ) -> onnx.ModelProto:
        ends = [helper.make_tensor_value_info(*end) for end in (given, made)]
        self.nodes[-1].output[0] = made[0]
        graph = helper.make_graph(self.nodes, "net", ends[:1], ends[1:], self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model


def body(b: Builder, x: str, w: dict[str, Array], *, static: bool = False) -> str:
    """Image (N, 3, H, W) -> logits (N, classes, H, W), channels first."""
    image = x
    y = b.add("Conv", x, b.const(w["a"]), b.const(w["a_bias"]), pads=[1] * 4, strides=[2, 2])
    y = b.add("Relu", y)
    gate = b.reduce("ReduceMean", y, [2, 3], keepdims=0)
    gate = b.add("Gemm", gate, b.const(w["gate"]), b.const(w["gate_bias"]), transB=1)
    shape = np.array([1 if static else -1, WIDTH, 1, 1])
    gate = b.add("Reshape", b.add("Sigmoid", gate), b.const(shape))
    y = b.add("Mul", y, gate)
    linear = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    empty = "" if b.opset > 12 else b.exact(np.zeros(0, np.float32))
    if static:
        y = b.add("Resize", y, empty, empty, b.const(np.array([1, WIDTH, *SIZE])), **linear)
    else:
        y = b.add("Resize", y, empty, b.exact(np.float32([1, 1, 2, 2])), **linear)
    y = b.add("Concat", y, image, axis=1)
    y = b.add("Relu", b.add("Conv", y, b.const(w["c"]), b.const(w["c_bias"]), pads=[1] * 4))
    return b.add("Conv", y, b.const(w["head"]), b.const(w["head_bias"]))


def body_nhwc(b: Builder, x: str, w: dict[str, Array]) -> str:
    """The same as tf2onnx writes it: channels last, padding and biases written out."""

    def first(value: str) -> str:
        return b.add("Transpose", value, perm=[0, 3, 1, 2])

    def last(value: str) -> str:
        return b.add("Transpose", value, perm=[0, 2, 3, 1])

    def conv(value: str, name: str, **attributes: Any) -> str:
        made = last(b.add("Conv", first(value), b.const(w[name]), **attributes))
        return b.add("Add", made, b.const(w[f"{name}_bias"]))

    image = x
    padded = b.add("Pad", x, b.const(np.array([0, 1, 1, 0, 0, 1, 1, 0])))
    y = b.add("Relu", conv(padded, "a", strides=[2, 2], auto_pad="VALID"))
    gate = b.reduce("ReduceMean", y, [1, 2])
    gate = b.add("MatMul", gate, b.const(w["gate"].T))
    y = b.add("Mul", y, b.add("Sigmoid", b.add("Add", gate, b.const(w["gate_bias"]))))
    scales = b.exact(np.float32([1, 1, 2, 2]))
    linear = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    y = last(b.add("Resize", first(y), "", scales, **linear))
    y = b.add("Concat", y, image, axis=3)
    y = b.add("Relu", conv(y, "c", auto_pad="SAME_UPPER"))
    return conv(y, "head")


def resize(b: Builder, x: str) -> str:
    return b.add("Resize", x, "", b.exact(np.float32([1, 1, 2, 2])), mode="linear")


def behind_logits(
    build: Callable[[Builder, str], object],
    *,
    classes: int = 3,
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> ir.Model:
    """A convolution of `x` (N, 3, 4, 6) to logits `z`, and what is built behind."""
    b = Builder(opset=opset)
    kernel = np.random.default_rng(4).normal(size=(classes, 3, 1, 1))
    b.add("Conv", "x", b.const(kernel))
    b.nodes[0].output[0] = "z"
    build(b, "z")
    b.nodes[-1].output[0] = "y"
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 6]),
            helper.make_tensor_value_info("y", kind, None)]  # fmt: skip
    made = helper.make_graph(b.nodes, "net", ends[:1], ends[1:], b.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


class Torch(torch.nn.Module):
    """The same net for torch's exporter."""

    def __init__(self, w: dict[str, Array], activation: str) -> None:
        super().__init__()
        classes = len(w["head"])
        self.a = torch.nn.Conv2d(3, WIDTH, 3, stride=2, padding=1)
        self.gate = torch.nn.Linear(WIDTH, WIDTH)
        self.c = torch.nn.Conv2d(WIDTH + 3, WIDTH, 3, padding=1)
        self.head = torch.nn.Conv2d(WIDTH, classes, 1)
        self.activation = activation
        for name in ("a", "gate", "c", "head"):
            layer = getattr(self, name)
            layer.weight.data = torch.from_numpy(w[name])
            layer.bias.data = torch.from_numpy(w[f"{name}_bias"])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.a(image))
        gate = torch.sigmoid(self.gate(y.mean((2, 3))))
        y = y * gate.view(len(image), WIDTH, 1, 1)
        y = torch.nn.functional.interpolate(y, size=image.shape[2:], mode="bilinear")
        z = self.head(torch.relu(self.c(torch.cat([y, image], 1))))
        return torch.softmax(z, 1) if self.activation == "softmax" else z


@dataclass(frozen=True)
class Form:
    """A graph; what it is fed for RGB bytes (N, H, W, 3); and what its answer means.

    feed: bytes -> the graph's input. answer: of the output. channels_last: of the output.
    threshold: of a sigmoid. tolerance: of the logits.
    """

    model: onnx.ModelProto
    weights: dict[str, Array]
    feed: Callable[[Array], Array]
    answer: Answer = "logits"
    channels_last: bool = False
    threshold: float = 0.5
    tolerance: float = 1e-4
    external: bool = False

    def write(self, path: Path) -> Path:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)  # saving weights outside changes the model
        beside = {"location": f"{path.name}.data", "size_threshold": 0}
        onnx.save(model, path, save_as_external_data=self.external, **beside)
        return path


def normal(frames: Array) -> Array:
    """Bytes (N, H, W, 3) -> normalised (N, 3, H, W)."""
    return ((frames / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)


def frames(count: int = 2, *, seed: int = 0) -> Array:
    """Bytes with areas and noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3)).repeat(SIZE[0] // 4, 1).repeat(SIZE[1] // 4, 2)
    return np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)


def plain_logits(weights: dict[str, Array], given: Array) -> Array:
    """Logits (N, classes, H, W) of the plain net for RGB bytes (N, H, W, 3)."""
    b = Builder()
    body(b, "x", weights)
    classes = len(weights["head"])
    model = b.model(("x", TensorProto.FLOAT, ["n", 3, *SIZE]),
                    ("y", TensorProto.FLOAT, ["n", classes, None, None]))  # fmt: skip
    return run(model, normal(given))


def run(model: onnx.ModelProto, image: Array, *, one_by_one: bool = False) -> Array:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    name = session.get_inputs()[0].name
    if one_by_one:
        return np.concatenate([session.run(None, {name: each[None]})[0] for each in image])
    return session.run(None, {name: image})[0]


def answers(form: Form, given: Array) -> tuple[Array, Array]:
    """Class ids (N, H, W) of the graph itself, and how sure they are (N, H, W): 0 for a tie."""
    found = run(form.model, form.feed(given), one_by_one=True).astype(np.float64)
    if form.answer == "ids":
        ids = found.reshape(len(given), *SIZE)
        return ids, np.ones(ids.shape)
    if form.answer in ("sigmoid", "binary") or (form.answer == "logits" and 1 in found.shape[1::2]):
        found = found.reshape(len(given), *SIZE)
        limit = {"sigmoid": form.threshold, "binary": 0.5, "logits": 0}[form.answer]
        return found > limit, np.abs(found - limit)
    if form.channels_last:
        found = np.moveaxis(found, 3, 1)
    ordered = np.sort(found, axis=1)
    return found.argmax(1), ordered[:, -1] - ordered[:, -2]


# The forms


def _exported(opset: int, *, dynamic: bool) -> Form:
    w = weights_of(3, opset)
    content = io.BytesIO()
    names = {"input_names": ["pixels"], "output_names": ["answer"]}
    axes = {"dynamic_axes": {"pixels": {0: "n", 2: "h", 3: "w"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Torch(w, "softmax").eval(), (torch.zeros(1, 3, *SIZE),), content,
            opset_version=opset, dynamo=False, **(names | axes if dynamic else {}),
        )  # fmt: skip
    return Form(onnx.load_model_from_string(content.getvalue()), w, normal, "probabilities")


def _dynamo() -> Form:
    """Opset 18: axes are inputs, sizes come from Shape with start and end, weights lie outside."""
    w = weights_of(3, 18)
    b = Builder(opset=18)
    sides = [b.add("Shape", "x", start=axis, end=axis + 1) for axis in (2, 3)]
    y = b.add("Conv", "x", b.const(w["a"]), b.const(w["a_bias"]), pads=[1] * 4, strides=[2, 2],
              auto_pad="NOTSET", group=1, dilations=[1, 1])  # fmt: skip
    y = b.add("Relu", y)
    gate = b.reduce("ReduceMean", y, [2, 3], keepdims=0)
    gate = b.add("Gemm", gate, b.const(w["gate"]), b.const(w["gate_bias"]), transB=1, beta=1.0)
    batch = b.add("Shape", y, start=0, end=1)
    shape = b.add("Concat", batch, b.const(np.array([WIDTH, 1, 1])), axis=0)
    y = b.add("Mul", y, b.add("Reshape", b.add("Sigmoid", gate), shape, allowzero=1))
    sizes = b.add("Concat", b.add("Shape", y, start=0, end=2), b.add("Concat", *sides, axis=0),
                  axis=0)  # fmt: skip
    y = b.add("Resize", y, "", "", sizes, mode="linear", antialias=0,
              coordinate_transformation_mode="half_pixel", nearest_mode="floor",
              keep_aspect_ratio_policy="stretch")  # fmt: skip
    y = b.add("Concat", y, "x", axis=1)
    y = b.add("Relu", b.add("Conv", y, b.const(w["c"]), b.const(w["c_bias"]), pads=[1] * 4))
    b.add("Softmax", b.add("Conv", y, b.const(w["head"]), b.const(w["head_bias"])), axis=1)
    model = b.model(("x", TensorProto.FLOAT, ["s0", 3, "s1", "s2"]),
                    ("softmax", TensorProto.FLOAT, ["s0", 3, "s1", "s2"]))  # fmt: skip
    return Form(model, w, normal, "probabilities", external=True)


def _tensorflow() -> Form:
    """tf2onnx: channels last throughout, softmax in primitive operators."""
    w = weights_of(3, 4)
    b = Builder(opset=15)
    z = body_nhwc(b, "input_1:0", w)
    power = b.add("Exp", b.add("Sub", z, b.reduce("ReduceMax", z, [3])))
    b.add("Div", power, b.reduce("ReduceSum", power, [3]))
    model = b.model(("input_1:0", TensorProto.FLOAT, ["unk", *SIZE, 3]),
                    ("Identity:0", TensorProto.FLOAT, ["unk", *SIZE, 3]))  # fmt: skip
    return Form(model, w, lambda f: normal(f).transpose(0, 2, 3, 1), "probabilities", True)


def _bytes() -> Form:
    """Bytes (N, H, W, 3) with the normalisation inside."""
    w = weights_of(3, 5)
    b = Builder(opset=13)
    x = b.add("Transpose", b.add("Cast", "frame", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = b.add("Sub", x, b.const(255 * MEAN.reshape(1, 3, 1, 1)))
    x = b.add("Div", x, b.const(255 * STD.reshape(3, 1, 1)))
    body(b, x, w)
    model = b.model(("frame", TensorProto.UINT8, ["n", *SIZE, 3]),
                    ("logits", TensorProto.FLOAT, ["n", 3, *SIZE]))  # fmt: skip
    return Form(model, w, lambda f: f)


def _static() -> Form:
    """A batch of 1 in a Reshape and in the sizes of a Resize."""
    w = weights_of(3, 6)
    b = Builder(opset=13)
    body(b, "image", w, static=True)
    model = b.model(("image", TensorProto.FLOAT, [1, 3, *SIZE]),
                    ("logits", TensorProto.FLOAT, [1, 3, *SIZE]))  # fmt: skip
    return Form(model, w, normal)


def _one(answer: Answer, opset: int, *, threshold: float = 0.5) -> Form:
    """One channel: a logit, its sigmoid, or a mask of it."""
    w = weights_of(1, 7)
    b = Builder(opset=opset)
    z = body(b, "x", w)
    shape: list[int | str] = ["n", 1, *SIZE]
    kind = TensorProto.FLOAT
    if answer != "logits":
        z = b.add("Sigmoid", z)
    if answer == "binary":
        squeezed = b.add("Squeeze", z, b.const(np.array([1])))
        b.add("Cast", b.add("Greater", squeezed, b.const(threshold)), to=TensorProto.UINT8)
        shape, kind = ["n", *SIZE], TensorProto.UINT8
    model = b.model(("x", TensorProto.FLOAT, ["n", 3, *SIZE]), ("y", kind, shape))
    return Form(model, w, normal, answer)


def _argmax() -> Form:
    """Class ids as bytes."""
    w = weights_of(4, 8)
    b = Builder(opset=12)
    ids = b.add("ArgMax", body(b, "x", w), axis=1, keepdims=0)
    b.add("Cast", ids, to=TensorProto.UINT8)
    model = b.model(("x", TensorProto.FLOAT, ["n", 3, *SIZE]),
                    ("ids", TensorProto.UINT8, ["n", *SIZE]))  # fmt: skip
    return Form(model, w, normal, "ids")


def _resized(*, probabilities: bool = False) -> Form:
    """Logits, or probabilities, of half the size, then a Resize, then softmax or argmax."""
    w = weights_of(3, 9)
    b = Builder(opset=14)
    z = body(b, "x", w)
    z = b.add("AveragePool", z, kernel_shape=[2, 2], strides=[2, 2])
    if probabilities:
        z = b.add("Softmax", z, axis=1)
    z = b.add("Resize", z, "", b.exact(np.float32([1, 1, 2, 2])), mode="linear")
    made: tuple[str, int, Sequence[int | str]] = ("y", TensorProto.FLOAT, ["n", 3, *SIZE])
    if probabilities:
        b.add("ArgMax", z, axis=1, keepdims=1)
        made = ("y", TensorProto.INT64, ["n", 1, *SIZE])
    else:
        b.add("Softmax", z, axis=1)
    model = b.model(("x", TensorProto.FLOAT, ["n", 3, *SIZE]), made)
    return Form(model, w, normal, "ids" if probabilities else "probabilities")


def _half() -> Form:
    """FP16 throughout."""
    w = weights_of(3, 10)
    b = Builder(opset=17, dtype=np.float16)
    body(b, "x", w)
    model = b.model(("x", TensorProto.FLOAT16, ["n", 3, *SIZE]),
                    ("y", TensorProto.FLOAT16, ["n", 3, *SIZE]))  # fmt: skip
    return Form(model, w, lambda f: normal(f).astype(np.float16), tolerance=0.05)


def _double() -> Form:
    """FP64 of opset 21 that turns RGB in 0..1 round and normalises it for a net of BGR."""
    w = weights_of(3, 11)
    b = Builder(opset=21)
    c = w["c"][:, [*range(WIDTH), *range(WIDTH, WIDTH + 3)[::-1]]]
    mean, std = (b.exact(values[::-1].reshape(3, 1, 1)) for values in (MEAN, STD))
    x = b.add("Gather", "x", b.const(np.array([2, 1, 0])), axis=1)
    x = b.add("Cast", b.add("Div", b.add("Sub", x, mean), std), to=TensorProto.FLOAT)
    logarithms = b.add("LogSoftmax", body(b, x, {**w, "a": w["a"][:, ::-1], "c": c}), axis=1)
    b.add("Cast", logarithms, to=TensorProto.DOUBLE)
    model = b.model(("x", TensorProto.DOUBLE, ["n", 3, *SIZE]),
                    ("y", TensorProto.DOUBLE, ["n", 3, *SIZE]))  # fmt: skip
    return Form(model, w, lambda f: f.transpose(0, 3, 1, 2) / 255, "log")


FORMS: dict[str, Callable[[], Form]] = {
    "argmax": _argmax,
    "bytes": _bytes,
    "double": _double,
    "dynamo, opset 18": _dynamo,
    "half": _half,
    "legacy, opset 11": lambda: _exported(11, dynamic=True),
    "legacy, opset 17": lambda: _exported(17, dynamic=False),
    "one logit": lambda: _one("logits", 16),
    "resized logits": _resized,
    "resized probabilities": lambda: _resized(probabilities=True),
    "sigmoid": lambda: _one("sigmoid", 12),
    "static batch": _static,
    "tensorflow": _tensorflow,
    "threshold": lambda: _one("binary", 13, threshold=0.3),
}
"""Name of a form -> its graph."""
