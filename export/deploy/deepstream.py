"""Target `deepstream`: a graph and settings for `nvinfer`, the plug-in of NVIDIA DeepStream.

What nvinfer does is read in the sources of DeepStream 9.2: `nvdsinfer_conversion.cu` prepares
frames, and `parseSemanticSegmentationOutput` takes the best class of each pixel.
"""

from __future__ import annotations

from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgeunet.bundle.manifest import RGB, Flavour, InputSpec, Manifest
from edgeunet.data.normalise import scaling
from edgeunet.errors import ExportError, UsageError, printable
from edgeunet.files import write_bytes
from edgeunet.runtime.backends.ort import OrtNet

from ..graphs.passes.graph import constant, save, set_constant
from ..graphs.pixels.frames import first_convolution, per_channel, read_planes
from ..graphs.pixels.geometry import Geometry, Nodes
from ..graphs.pixels.masks import put_out_probabilities
from ..lint import Target as Builder
from ..lint import lint_all
from .base import Deployment, Target

GRAPH, LABELS, SETTINGS, APP = (
    "model.onnx",
    "labels.txt",
    "config_infer_primary.txt",
    "deepstream_app.txt",
)
PLANES, SCORES = "planes", "scores"
CALIBRATION = "explicit.cache"
_GRAPHS: dict[Flavour, Flavour] = {"int8": "int8", "fp16": "fp32", "fp32": "fp32"}
"""The bundle's graph; TensorRT makes FP16 of FP32 itself, and of Q/DQ INT8."""
_MODES: dict[Flavour, int] = {"fp32": 0, "int8": 1, "fp16": 2}  # of `network-mode`
_BUILDERS: tuple[Builder, ...] = ("nvinfer", "trt8.6")
_PLAIN = "Use edgeunet's own runtime for this net"


@dataclass(frozen=True)
class Preparation:
    """What nvinfer does to each plane of a frame: scale * (value - offset).

    bgr: whether blue comes first. offsets: empty for none.
    raw: whether the graph has to do all the rest, as the net does not see red, green and blue.
    """

    bgr: bool = False
    scale: float = 1.0
    offsets: tuple[float, ...] = ()
    raw: bool = True

    @classmethod
    def of(cls, spec: InputSpec) -> Preparation:
        """The offsets are the net's; its scales are divided by their geometric mean."""
        if spec.channels not in (RGB, RGB[::-1]):
            return cls()
        gain, shift = (values.astype(np.float64) for values in scaling(spec))
        scale = np.float32(np.exp(np.log(gain).mean()))
        offsets = (-shift / gain).astype(np.float32)
        return cls(spec.channels != RGB, float(scale), tuple(map(float, offsets)), raw=False)


def write(deployment: Deployment) -> None:
    """Write the graph, its settings and labels, and do on the golden frames what nvinfer does.

    Raises:
        UsageError: see `check_input`. ExportError: TensorRT or nvinfer does not take the graph.
        ParityError: other masks than the runtime's.
    """
    manifest, flavour, folder = deployment.bundle.manifest, deployment.flavour, deployment.folder
    spec = manifest.input
    check_input(spec)
    held, prepared = _GRAPHS[flavour], Preparation.of(spec)
    graph = deployment.bundle.file(deployment.bundle.model_path(held)).read()
    model = to_scores(ir.from_proto(onnx.load_from_string(graph)), manifest, held, prepared)
    save(model, folder / GRAPH)
    _lint(folder / GRAPH)
    labels = "".join(f"{label_of(name)}\n" for name in manifest.classes)
    write_bytes(folder / LABELS, labels.encode())
    if flavour == "int8":
        write_bytes(folder / CALIBRATION, b"TRT-8601-EntropyCalibration2\n")
    values = _values(spec, flavour, len(manifest.classes), prepared)
    for name in (SETTINGS, APP):
        deployment.write_template(f"deepstream/{name}", name, **values)
    with OrtNet(folder / GRAPH, flavour=held) as net:
        deployment.prove(f"{GRAPH} with {SETTINGS}", Nvinfer.read(folder / SETTINGS, net), held)
    deployment.write_page("deepstream/README.md", max_batch=manifest.max_batch, **values)


def check_input(spec: InputSpec) -> None:
    """Refuse frames that nvinfer cannot prepare.

    Raises:
        UsageError: measured images, windows, other values than bytes, other channels than red,
            green, blue and gray, a filter that it lacks, or padding in another colour than black.
    """
    if spec.window is not None:
        raise UsageError(
            f"the net sees {spec.window.describe()}; nvinfer takes nets that see whole frames. "
            f"{_PLAIN}."
        )
    if spec.statistics is not None:
        raise UsageError(
            f"images are normalised by the {spec.statistics.describe()} of each; nvinfer has "
            f"fixed numbers. {_PLAIN}."
        )
    if spec.depth != "uint8" or spec.frame_channels != RGB:
        raise UsageError(
            f"frames are {spec.depth} of {', '.join(spec.frame_channels)}; nvinfer decodes films "
            f"to bytes of red, green and blue. {_PLAIN}."
        )
    if spec.filter != "bilinear":
        raise UsageError(
            f"frames are resized by the filter {spec.filter}; nvinfer has none that was compared "
            f"with it. {_PLAIN}, or train and export with bilinear."
        )
    if spec.pads and spec.fill != 0:
        filled = "their mean colour" if spec.fill is None else f"the value {spec.fill:g}"
        raise UsageError(
            f"frames are padded with {filled}; nvinfer pads with black. Train with --fill 0 or "
            "--resize stretch, or use edgeunet's own runtime."
        )
    if spec.fitted_size(spec.height, spec.width) != (spec.height, spec.width):
        raise UsageError(
            f"frames of the net's size, {spec.height}x{spec.width}, are padded too, which nvinfer "
            "does not do. Export with a --size of multiples of 8."
        )


def to_scores(
    model: ir.Model, manifest: Manifest, flavour: Flavour, prepared: Preparation
) -> ir.Model:
    """Graph `image` -> `logits`, `presence`; becomes one to `scores`, and is returned.

    Planes (N, 3, H, W) are what nvinfer makes of a frame; scores (N, C, H, W) are the softmax over
    the classes, FP32, and 0 for those that the gate closes.
    """
    graph, spec, nodes = model.graph, manifest.input, Nodes(model)
    (image,) = graph.inputs
    for value in (value for node in graph.all_nodes() for value in node.outputs):
        if value.name in (PLANES, SCORES):
            value.name = f"{value.name}_inner"
    size, kind = (spec.height, spec.width), ir.TensorType(ir.DataType.FLOAT)
    planes = ir.val(PLANES, type=kind, shape=ir.Shape(["batch", len(RGB), *size]))
    whole = np.array(size, np.int64)
    prepares = (
        read_planes(nodes, planes, image, spec, Geometry(whole, whole), folds=False)
        if prepared.raw
        else _rescaled(nodes, planes, image, spec, prepared.scale, folds=flavour == "fp32")
    )
    image.replace_all_uses_with(prepares)
    graph.inputs[:] = [planes]
    graph.insert_before(graph[0], nodes.take())

    put_out_probabilities(graph, nodes, manifest, SCORES)
    RemoveUnusedNodesPass()(model)
    return model


def _rescaled(
    nodes: Nodes, planes: ir.Value, image: ir.Value, spec: InputSpec, scale: float, *, folds: bool
) -> ir.Value:
    """The planes, times the part of each channel's scale that nvinfer leaves.

    The first convolution's weights have it if it may be: a quantizer in front of it has one scale
    for all channels.
    """
    factors = per_channel(scaling(spec)[0].astype(np.float64) / scale)
    if (factors == 1).all():
        return planes
    conv = first_convolution(image) if folds else None
    if conv is None:
        return nodes("Mul", planes, factors)
    weight = constant(conv.inputs[1])
    assert weight is not None
    set_constant(conv, 1, (weight * factors).astype(np.float32))
    return planes


def _lint(path: Path) -> None:
    for report in lint_all(path, _BUILDERS):
        if not report.ok:
            first = report.errors[0]
            raise ExportError(
                f"{report.target} does not take the graph, by the rule {first.rule} at "
                f"{first.node or 'the whole graph'}: {first.message}"
            )


def label_of(name: str) -> str:
    r"""A class's name as a line of `labels.txt`, where ; divides and an empty line does not count.

    Example:
        >>> from edgeunet.exporting.deploy.deepstream import label_of
        >>> label_of("a;b"), label_of(" ")
        ('a,b', '-')
    """
    return printable(name).replace(";", ",").strip() or "-"


def _values(
    spec: InputSpec, flavour: Flavour, count: int, prepared: Preparation
) -> dict[str, object]:
    """What the templates say."""
    return {
        "graph": GRAPH,
        "labels": LABELS,
        "settings": SETTINGS,
        "app": APP,
        "calibration": CALIBRATION if flavour == "int8" else None,
        "precision": flavour,
        "mode": _MODES[flavour],
        "planes": PLANES,
        "output": SCORES,
        "count": count,
        "rows": spec.height,
        "columns": spec.width,
        "bgr": prepared.bgr,
        "scale": f"{prepared.scale:.9g}",
        "offsets": [f"{offset:.9g}" for offset in prepared.offsets],
        # A muxer of the net's size would stretch frames that are to be padded.
        "mux_rows": 720 if spec.pads else spec.height,
        "mux_columns": 1280 if spec.pads else spec.width,
        "pads": spec.pads,
        "centred": spec.resize == "pad_centre",
    }


@dataclass(frozen=True)
class Nvinfer:
    """What nvinfer does around a graph, by the numbers in its settings, on frames of its size.

    scale, threshold: FP32. offsets: (3,) FP32. order: of the channels.
    """

    net: OrtNet
    scale: np.float32
    offsets: npt.NDArray[np.float32]
    order: slice
    threshold: np.float32

    @classmethod
    def read(cls, settings: Path, net: OrtNet) -> Nvinfer:
        """From `config_infer_primary.txt`."""
        parser = ConfigParser(interpolation=None)
        parser.read_string(settings.read_text(encoding="utf-8"))
        held = parser["property"]
        offsets = [float(value) for value in held.get("offsets", "0;0;0").split(";")]
        return cls(
            net,
            np.float32(held.getfloat("net-scale-factor")),
            np.array(offsets, np.float32),
            slice(None, None, -1 if held.getint("model-color-format") else 1),
            np.float32(held.getfloat("segmentation-threshold")),
        )

    def __call__(self, frames: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Frames (N, H, W, 3) uint8, RGB -> class ids (N, H, W), -1 for a pixel without a class."""
        values = self.scale * (frames[..., self.order].astype(np.float32) - self.offsets)
        (scores,) = self.net.run(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
        return np.where(scores.max(axis=1) > self.threshold, scores.argmax(axis=1), -1)


TARGET = Target(
    name="deepstream",
    makes="a graph, settings and labels for nvinfer, and an example of an application",
    needs="NVIDIA DeepStream 6.1 or newer, on a GPU",
    flavours=("int8", "fp16", "fp32"),
    write=write,
)
