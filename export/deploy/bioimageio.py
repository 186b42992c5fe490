"""Target `bioimageio`: a package of BioImage.IO, for ilastik, QuPath, deepImageJ and napari."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgeunet.bundle.manifest import InputSpec, Manifest
from edgeunet.data.fit import Frame, gray_of, visible
from edgeunet.data.resize import resize_frame
from edgeunet.files import write_bytes
from edgeunet.parity.pixels import PixelsParity
from edgeunet.runtime.backends.ort import OrtNet, open_flavour
from edgeunet.runtime.frames import Batch
from edgeunet.runtime.sinks.overlay import overlay
from edgeunet.runtime.sinks.pictures import encode_picture

from ..graphs.passes.graph import save
from ..graphs.pixels.geometry import Nodes
from ..graphs.pixels.masks import put_out_probabilities
from ..origins.bioimageio_steps import applied, steps_of
from .base import Deployment, Target
from .bioimageio_rdf import (
    IMAGE,
    PROBABILITIES,
    Credits,
    channels_of,
    check_input,
    credit_entries,
    describe_model,
    halo_of,
    scaling_of,
    steps_before,
    to_yaml,
)

WEIGHTS, DESCRIPTION, ARCHIVE = "weights.onnx", "rdf.yaml", "package.zip"
FILES = (DESCRIPTION, WEIGHTS, "image.npy", "probabilities.npy", "cover.png", "README.md")
"""Files of the package, which the archive holds too."""

_WANTED = 0.999  # of the pixels of the golden frames, as of other FP32 graphs
_COVER = 256  # pixels of each of the two squares
_THEN = (1980, 1, 1, 0, 0, 0)  # the first time that an archive can hold

Planes = npt.NDArray[np.float32]


def write(deployment: Deployment) -> None:
    """Write the package as a folder and as an archive of the same files.

    Raises:
        UsageError: an input that the format cannot describe. ParityError: other masks than the
            runtime's on the golden frames.
    """
    manifest, folder = deployment.bundle.manifest, deployment.folder
    check_input(manifest.input)
    credit = _credit(deployment)
    credit_entries(credit)  # raises before anything is computed
    graph = deployment.bundle.file(deployment.bundle.model_path(deployment.flavour))
    model = to_probabilities(ir.from_proto(onnx.load_from_string(graph.read())), manifest)
    save(model, folder / WEIGHTS)
    _write_tensors(deployment)
    deployment.write_template("bioimageio/README.md", "README.md", **_words(deployment))
    opset = model.opset_imports[""]
    described = describe_model(manifest, credit, folder, opset=opset)
    write_bytes(folder / DESCRIPTION, to_yaml(described).encode())
    with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
        for name in FILES:
            member = zipfile.ZipInfo(name, _THEN)
            member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(member, (folder / name).read_bytes())


def to_probabilities(model: ir.Model, manifest: Manifest) -> ir.Model:
    """Graph `image` -> `logits`, `presence`; becomes one to `probabilities`, and is returned.

    The image is what the description's steps give, (N, C, H, W), and so are the probabilities, of
    the same size. Those of classes that the gate closes are 0.
    """
    graph, spec, nodes = model.graph, manifest.input, Nodes(model)
    (image,) = graph.inputs
    size, names = (spec.height, spec.width), channels_of(spec)
    for value in (value for node in graph.all_nodes() for value in node.outputs):
        if value.name in (IMAGE, PROBABILITIES):
            value.name = f"{value.name}_inner"
    kind = ir.TensorType(ir.DataType.FLOAT)
    given = ir.val(IMAGE, type=kind, shape=ir.Shape(["batch", len(names), *size]))
    maps = given
    if names != spec.channels:
        maps = nodes(
            "Gather", maps, np.array([names.index(name) for name in spec.channels]), axis=1
        )
    gain, shift = (each.reshape(1, -1, 1, 1) for each in scaling_of(spec))
    if (gain != 1).any() or shift.any():
        maps = nodes("Add", nodes("Mul", maps, gain), shift)
    image.replace_all_uses_with(maps)
    graph.inputs[:] = [given]
    graph.insert_before(graph[0], nodes.take())

    put_out_probabilities(graph, nodes, manifest, PROBABILITIES)
    return model


def _write_tensors(deployment: Deployment) -> None:
    """Compare the package with the runtime on all golden frames; write one, its answer and a cover.

    The one in whose mask are the most classes.
    """
    bundle, folder = deployment.bundle, deployment.folder
    spec = bundle.manifest.input
    steps = steps_of(steps_before(spec), "bcyx", IMAGE)
    equal = pixels = most = 0
    flavour = deployment.flavour
    with OrtNet(folder / WEIGHTS) as net, open_flavour(bundle, flavour) as backend:
        for frame in _frames(bundle.golden().frames, spec):
            image = _planes(frame, spec)
            prepared = applied(steps, image.astype(np.float64), "bcyx").astype(np.float32)
            (answer,) = net.run(prepared)
            mask = backend.segment(Batch.of([frame])).masks[0]
            equal += int(np.count_nonzero(answer[0].argmax(axis=0) == mask))
            pixels += mask.size
            if (classes := len(np.unique(mask))) > most:
                most = classes
                np.save(folder / "image.npy", image)
                np.save(folder / "probabilities.npy", answer)
                picture = visible(frame, spec.frame_channels, spec.levels)
                cover = _cover(picture, overlay(picture, mask, bundle.manifest.palette))
                write_bytes(folder / "cover.png", cover)
    found = PixelsParity(WEIGHTS, equal / pixels, pixels - equal, _WANTED)
    deployment.require(WEIGHTS, found, how=f" with the steps of {DESCRIPTION}")


def _frames(frames: npt.NDArray[Any], spec: InputSpec) -> Iterator[Frame]:
    """Frames at the size of the net's input: resized, or cut out if the net has windows."""
    size = (spec.height, spec.width)
    for frame in frames:
        if spec.window is None:
            yield resize_frame(frame, size, spec.filter)
            continue
        missing = [max(0, side - length) for side, length in zip(size, frame.shape, strict=False)]
        ends = [(0, missing[0]), (0, missing[1]), (0, 0)]
        yield np.ascontiguousarray(np.pad(frame, ends, "symmetric")[: size[0], : size[1]])


def _planes(frame: Frame, spec: InputSpec) -> Planes:
    """A frame (H, W, C) as the package takes it: (1, C, H, W), raw values."""
    names = channels_of(spec)
    if names == ("gray",):
        frame = gray_of(frame) if frame.shape[2] > 1 else frame
    else:
        frame = frame[..., [spec.frame_channels.index(name) for name in names]]
    return np.ascontiguousarray(frame.transpose(2, 0, 1)[None], np.float32)


def _cover(*pictures: Frame) -> bytes:
    """Pictures side by side, the square in the middle of each, as PNG."""
    squares = []
    for picture in pictures:
        side = min(picture.shape[:2])
        top, left = ((length - side) // 2 for length in picture.shape[:2])
        square = picture[top : top + side, left : left + side]
        squares.append(cv2.resize(square, (_COVER, _COVER), interpolation=cv2.INTER_AREA))
    return encode_picture(np.hstack(squares), ".png")


def _credit(deployment: Deployment) -> Credits:
    options = deployment.options
    return Credits(options.authors, options.cite, options.license)


def _words(deployment: Deployment) -> dict[str, object]:
    """What the page says."""
    credit, manifest = _credit(deployment), deployment.bundle.manifest
    spec = manifest.input
    return {
        "model": manifest.model,
        "weights": manifest.weights,
        "origin": manifest.origin,
        "classes": manifest.classes,
        "channels": channels_of(spec),
        "height": spec.height,
        "width": spec.width,
        "levels": "{:g} to {:g}".format(*spec.levels),
        "depth": spec.depth,
        "halo": halo_of(spec),
        "window": spec.window is not None,
        "statistics": None if spec.statistics is None else spec.statistics.describe(),
        "gated": manifest.gate is not None,
        "authors": credit.authors,
        "cited": credit.cited,
        "archive": ARCHIVE,
    }


TARGET = Target(
    name="bioimageio",
    makes="a package of BioImage.IO 0.5 with ONNX weights, as a folder and as a ZIP file",
    needs="ilastik, QuPath, deepImageJ, napari, or another program that reads that format",
    flavours=("fp32",),
    write=write,
    options=("authors", "cite", "license"),
)
