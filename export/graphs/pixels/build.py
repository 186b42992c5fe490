"""A bundle's graph -> one from frames to masks: what the runtime does around the net, inside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import Flavour, InputSpec, Manifest, flavour_file, pixels_file
from edgeunet.errors import UsageError

from ...lint import lint_flavours
from ..passes.graph import load, save
from .frames import declare_frames, read_frames
from .geometry import Nodes, any_geometry, fixed_geometry
from .masks import confidence, covered_logits, decide, gated
from .metadata import metadata_of


@dataclass(frozen=True)
class PixelsForm:
    """What a graph from frames to masks takes and gives.

    any_size: frames and masks may have any size, one in each batch; otherwise the net's.
    confidence: whether the graph also puts out `confidence`.

    Example:
        >>> from edgeunet.exporting import PixelsForm
        >>> PixelsForm(confidence=True)
        PixelsForm(any_size=False, confidence=True)
    """

    any_size: bool = False
    confidence: bool = False


def write_pixels(
    bundle: Bundle, flavour: Flavour, path: str | Path, form: PixelsForm | None = None
) -> None:
    """Write one of a bundle's graphs with pre- and post-processing in it.

    | | | |
    |---|---|---|
    | `frames` | uint8 (N, H, W, 3) | RGB; for other nets their own channels and depth |
    | `masks` | uint8 (N, H, W) | class ids, after the gate |
    | `presence` | float32 (N, C) | of graphs with a gate |
    | `confidence` | uint8 (N, H, W) | if asked for: the softmax of the pixel's class, 255 for 1 |

    Masks are those of `edgeunet.load(bundle)` up to rounding; `edgeunet parity` counts the pixels
    that differ. Metadata tell other tools the classes and the input, see `metadata`. The whole net
    runs for each frame, also if the gate closes.

    Args:
        path: of the file to write.
        form: None for frames of the net's size, without confidence.

    Raises:
        UsageError: a flavour that the bundle does not have, or an input that a graph cannot make
            of frames, see `check_form`.

    Example:
        >>> from edgeunet.exporting import write_pixels
        >>> from edgeunet.runtime import open_bundle
        >>> write_pixels(open_bundle(bundle), "fp32", "cells.onnx")
        >>> import onnxruntime
        >>> session = onnxruntime.InferenceSession("cells.onnx")
        >>> [masks] = session.run(["masks"], {"frames": np.zeros((2, 64, 96, 3), np.uint8)})
        >>> masks.shape
        (2, 64, 96)
    """
    form = form or PixelsForm()
    graph = bundle.model_path(flavour)
    check_form(bundle.manifest.input, form)
    model = ir.from_proto(onnx.load_from_string(bundle.file(graph).read()))
    save(to_pixels(model, bundle.manifest, flavour, form), Path(path))


def write_all_pixels(folder: Path, manifest: Manifest, form: PixelsForm) -> None:
    """Write `model.*.pixels.onnx` beside each graph of a bundle that is being made, and lint them.

    Raises:
        UsageError: see `check_form`. ExportError: see `lint_flavours`.
    """
    check_form(manifest.input, form)
    for flavour in manifest.flavours:
        model = load(folder / flavour_file(flavour))
        save(to_pixels(model, manifest, flavour, form), folder / pixels_file(flavour))
    lint_flavours(folder, manifest.flavours, file=pixels_file)


_WITHOUT_GRAPH = (
    "`edgeunet run` and the Python backend of `edgeunet deploy --to triton` need no such graph, and"
)


def check_form(spec: InputSpec, form: PixelsForm | None) -> None:
    """Refuse what a graph cannot do to frames.

    Args:
        form: None is never refused.

    Raises:
        UsageError: images that are measured or cut into windows, or a filter that ONNX's Resize
            lacks, if frames must be resized.
    """
    if form is None:
        return
    if spec.window is not None:
        raise UsageError(
            f"expected a net that sees whole frames, but this one sees {spec.window.describe()}, "
            f"and a graph cannot cut those. {_WITHOUT_GRAPH} cut windows."
        )
    if spec.statistics is not None:
        raise UsageError(
            "expected an input that fixed numbers normalise, but this one is normalised by the "
            f"{spec.statistics.describe()} of each image, and a graph from pixels to masks has "
            f"fixed numbers alone. {_WITHOUT_GRAPH} measure images."
        )
    size = (spec.height, spec.width)
    resizes = form.any_size or spec.fitted_size(*size) != size
    if resizes and spec.filter != "bilinear":
        remedy = (
            "A graph for frames of the net's size resizes none, for targets that take one; "
            "`edgeunet run` and `edgeunet deploy --to cpp` resize by every filter."
            if form.any_size
            else "Export with a --size of multiples of 8, so that no frame of it is resized."
        )
        raise UsageError(
            f"frames are resized by the filter {spec.filter}, and ONNX's Resize of opset 17 has "
            f"bilinear alone. {remedy}"
        )


def to_pixels(model: ir.Model, manifest: Manifest, flavour: Flavour, form: PixelsForm) -> ir.Model:
    """Graph `image` -> `logits`, `presence`; becomes one from `frames` to `masks`, and is returned.

    Args:
        manifest: of the bundle; hashes of files are not used.
    """
    graph, spec, nodes = model.graph, manifest.input, Nodes(model)
    (image,), (logits, *rest) = graph.inputs, graph.outputs
    _free_names(graph)
    frames = declare_frames(spec, any_size=form.any_size)
    floats = nodes("Cast", frames, to=ir.DataType.FLOAT)  # the only thing TensorRT does to bytes
    geometry = (
        any_geometry(nodes, floats, spec, manifest.logits_size)
        if form.any_size
        else fixed_geometry(spec, manifest.logits_size)
    )
    quantized = flavour.startswith("int8")
    prepared = read_frames(nodes, floats, image, spec, geometry, folds=not quantized)
    image.replace_all_uses_with(prepared)
    graph.inputs[:] = [frames]
    graph.insert_before(graph[0], nodes.take())

    decided = covered_logits(nodes, logits, geometry)
    if manifest.gate is not None:
        decided = gated(nodes, decided, rest[0], manifest.gate)
    outputs = {"masks": decide(nodes, decided, manifest, geometry, flavour)}
    if form.confidence:
        outputs["confidence"] = confidence(nodes, decided, manifest, geometry, flavour)
    graph.extend(nodes.take())
    size = ("height", "width") if form.any_size else (spec.height, spec.width)
    for name, value in outputs.items():
        value.name, value.dtype = name, ir.DataType.UINT8
        value.shape = ir.Shape(["batch", *size])
    graph.outputs[:] = [outputs.pop("masks"), *rest, *outputs.values()]
    model.metadata_props.clear()
    model.metadata_props.update(
        metadata_of(manifest, flavour, any_size=form.any_size, confidence=form.confidence)
    )
    RemoveUnusedNodesPass()(model)  # weights that were folded
    return model


def _free_names(graph: ir.Graph) -> None:
    """Rename inner values that have the names of the new ends."""
    for node in graph.all_nodes():
        for value in node.outputs:
            if value.name in ("frames", "masks", "confidence"):
                value.name = f"{value.name}_inner"
