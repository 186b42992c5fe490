"""A small net with its manifest, as a graph from frames to masks, and what the runtime gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeunet.bundle.manifest import Flavour, InputSpec, Manifest, covered
from edgeunet.data.palettes import default_palette
from edgeunet.exporting.graphs.pixels import PixelsForm
from edgeunet.exporting.graphs.pixels.build import to_pixels
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.backends.postprocess import Postprocessor, open_classes
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.frames import Frame, NetOutputs

NEAR = 1e-3
"""Logits as close as that may be rounded either way."""


def small_net(
    spec: InputSpec, classes: int, *, pads: int = 1, stride: int = 1, bias: bool = True
) -> onnx.ModelProto:
    """Two convolutions and a presence for each class, as traced graphs have them."""
    rng = np.random.default_rng(7)
    channels = len(spec.channels)
    shapes = {"w": (6, channels, 3, 3), "b": (6,), "head": (classes, 6, 1, 1)}
    constants = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    # Where no feature is above 0, biases keep logits from being equal up to rounding.
    constants["offset"] = rng.normal(size=classes)
    constants["gate"] = rng.normal(size=(classes, 6, 1, 1))
    first = ["image", "w", "b"] if bias else ["image", "w"]
    nodes = [
        helper.make_node("Conv", first, ["c"], name="first", pads=[pads] * 4, strides=[stride] * 2),
        helper.make_node("Relu", ["c"], ["features"]),
        helper.make_node("Conv", ["features", "head", "offset"], ["logits"], name="head"),
        helper.make_node("GlobalAveragePool", ["features"], ["mean"]),
        helper.make_node("Conv", ["mean", "gate"], ["scores"]),
        helper.make_node("Sigmoid", ["scores"], ["masks"]),  # a name that is needed afterwards
        helper.make_node("Flatten", ["masks"], ["presence"]),
    ]
    ends = {
        "image": ["batch", channels, spec.height, spec.width],
        "logits": ["batch", classes, None, None],
        "presence": ["batch", classes],
    }
    image, *outputs = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in ends.items()
    )
    tensors = [
        numpy_helper.from_array(values.astype(np.float32), name)
        for name, values in constants.items()
    ]
    graph = helper.make_graph(nodes, "small", [image], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@dataclass(frozen=True)
class Small:
    """A net, and the manifest that a bundle of it would have."""

    model: onnx.ModelProto
    manifest: Manifest

    @classmethod
    def of(
        cls, spec: InputSpec, classes: int = 3, gate: tuple[float, ...] | None = None, **net: Any
    ) -> Small:
        return cls.around(small_net(spec, classes, **net), spec, classes, gate)

    @classmethod
    def around(
        cls,
        model: onnx.ModelProto,
        spec: InputSpec,
        classes: int,
        gate: tuple[float, ...] | None = None,
    ) -> Small:
        """The manifest for a net that is there."""
        image = np.zeros((1, len(spec.channels), spec.height, spec.width), np.float32)
        height, width = OrtNet(model.SerializeToString()).infer(image).logits.shape[2:]
        manifest = Manifest(
            model="small",
            arguments={},
            weights="none",
            precision="fp32",
            classes=tuple(f"class {index}" for index in range(classes)),
            palette=default_palette(classes),
            input=spec,
            logits_size=(height, width),
            max_batch=4,
            files={},
            versions={},
            reference="graph",
            origin="a test",
            gate=gate,
        )
        return cls(model, manifest)

    def pixels(
        self, form: PixelsForm | None = None, *, flavour: Flavour = "fp32"
    ) -> onnx.ModelProto:
        model = ir.from_proto(onnx.shape_inference.infer_shapes(self.model))
        found = ir.to_proto(to_pixels(model, self.manifest, flavour, form or PixelsForm()))
        onnx.checker.check_model(found, full_check=True)
        return found

    def outputs(self, frames: list[Frame]) -> NetOutputs:
        """Of the net, for frames that the runtime prepares."""
        images = Preprocessor(self.manifest.input)(frames)
        return OrtNet(self.model.SerializeToString()).infer(images)

    def finish(self) -> Postprocessor:
        return Postprocessor(self.manifest.input, self.manifest.gate)


def run_pixels(model: onnx.ModelProto, frames: list[Frame]) -> dict[str, npt.NDArray[Any]]:
    """Outputs by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {"frames": np.stack(frames)}), strict=True))


def assert_runtime_masks(
    small: Small, model: onnx.ModelProto, frames: list[Frame]
) -> dict[str, npt.NDArray[Any]]:
    """The graph gives the runtime's masks, but where two classes are equal up to rounding."""
    found = run_pixels(model, frames)
    outputs, finish = small.outputs(frames), small.finish()
    size = frames[0].shape[:2]
    expected = finish(*outputs, size)
    assert found["masks"].dtype == np.uint8
    assert found["masks"].shape == expected.shape
    np.testing.assert_allclose(found["presence"], outputs.presence, atol=1e-4)
    rows, columns = covered(small.manifest.input, outputs.logits.shape[2:], size)
    assert outputs.presence is not None
    opened = open_classes(outputs.presence, small.manifest.gate)
    for mask, wanted, logits, kept in zip(
        found["masks"], expected, outputs.logits, opened, strict=True
    ):
        planes = np.stack([finish.enlarged(plane[rows, columns], size) for plane in logits])
        ids = np.flatnonzero(kept) if kept.any() else np.array([0])
        assert np.isin(mask, ids).all()
        chosen = np.take_along_axis(planes, mask[None].astype(np.int64), 0)[0]
        best = np.take_along_axis(planes, wanted[None].astype(np.int64), 0)[0]
        assert (best - chosen).max() <= NEAR * max(1.0, float(np.abs(planes).max()))
        assert np.count_nonzero(mask != wanted) <= max(2, 0.01 * mask.size)
    return found


def noise(spec: InputSpec, *, size: tuple[int, int] | None = None, count: int = 2) -> list[Frame]:
    """Frames with structure and noise, of the net's size unless another is given."""
    rng = np.random.default_rng(3)
    height, width = size or (spec.height, spec.width)
    low, high = (0, 256) if spec.depth == "uint8" else map(int, spec.levels)
    shape = (height, width, len(spec.frame_channels))
    return [rng.integers(low, high, shape).astype(spec.depth) for _ in range(count)]
