"""Any segmentation graph -> the contract of bundles: `image` (batch, C, H, W) to `logits`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, NameFixPass

from edgeunet.bundle.manifest import MAX_CLASSES, RGB
from edgeunet.errors import ExportError, UsageError

from ..graphs.passes import Clean, FoldAffine, Prepare
from ..graphs.passes.graph import producer
from .onnx_batch import BATCH, check_symbolic, free_batch
from .onnx_classes import to_two_classes
from .onnx_fold import ExplicitPads
from .onnx_head import Head, cut_head
from .onnx_image import (
    Layout,
    Normalisation,
    find_layout,
    input_size,
    set_batch,
    take_normalisation,
    to_contract,
)
from .onnx_layout import SinkTransposes
from .onnx_metadata import Metadata, read_metadata
from .onnx_opsets import DropCasts, forget_shapes, inferred, to_float32, to_opset
from .onnx_reading import check_operators, chosen_output, image_input, shown_shape

_IR_VERSION = 8
_USUAL_CHANNELS = {1: ("gray",), 3: RGB}


@dataclass(frozen=True)
class GraphInput:
    """The input of a graph as it came.

    name, dtype: of the tensor. layout: of its axes. batch_is_one: it takes one image at a time.
    """

    name: str
    dtype: Literal["float16", "float32", "float64", "uint8"]
    layout: Layout
    batch_is_one: bool


@dataclass(frozen=True)
class Normalised:
    """A graph of the contract, and what it was before.

    model: input `image` FP32 (batch, C, H, W), output `logits` FP32 (batch, classes, h, w).
    input: of the graph as it came. head: its logits, and what was cut off behind them.
    size: height and width of the image. channels: their number. classes: number of classes.
    one_channel: whether the two classes were one channel.
    normalisation: what the graph does, or did, with raw values; None if it takes normalised ones.
    metadata: what the file tells of itself.
    """

    model: ir.Model
    input: GraphInput
    head: Head
    size: tuple[int, int]
    channels: int
    classes: int
    one_channel: bool
    normalisation: Normalisation | None
    metadata: Metadata

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the channels of `image`; None for numbers of channels without usual names."""
        names = _USUAL_CHANNELS.get(self.channels)
        if names is None or self.channels == 1:
            return names
        if self.metadata.bgr:
            names = names[::-1]
        order = self.normalisation.order if self.normalisation else range(self.channels)
        return tuple(names[place] for place in order)

    def told(self) -> Iterator[str]:
        """What was found and changed, a line each."""
        rows, columns = self.size
        given = self.input
        yield (
            f"input {given.name!r}: {given.layout} {given.dtype}, {self.channels} channels, "
            f"{rows}x{columns}"
        )
        if given.batch_is_one:
            yield "a fixed batch of 1, made dynamic"
        found = self.normalisation
        if found is not None:
            yield from _told(found)
        yield f"{self.head.told}; {self.classes} classes"
        if self.one_channel:
            yield "one channel became two classes, background and foreground"
        elif self.head.activation == "sigmoid" and self.head.decision == "none":
            yield "classes of a sigmoid may overlap; the mask takes the largest"


def _told(found: Normalisation) -> Iterator[str]:
    if found.order != tuple(range(len(found.order))):
        yield f"channels in the order {', '.join(map(str, found.order))} inside; taken out"
    levels = "levels unknown" if found.levels is None else "levels {:g},{:g}".format(*found.levels)
    if found.inside:
        yield f"the graph takes raw values, {levels}, and normalises them inside"
    elif found.levels is not None:
        mean, std = _shown(found.mean), _shown(found.std)
        yield f"normalisation inside: {levels}, mean {mean}, std {std}; taken out"


def _shown(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.4g}" for value in values)


def normalise(
    model: ir.Model, *, size: tuple[int, int] | None = None, output: str | None = None
) -> Normalised:
    """Bring a segmentation graph to the contract of bundles. The model that is given changes.

    The logits stay the same function of the raw image: what stood in front of the first
    convolution and behind the logits is told instead of computed.

    Args:
        model: of opset 11 to 21, see `check_operators`, with shapes inferred.
        size: height and width for a graph that leaves them open.
        output: name of the output, or of any value inside, that holds the logits.

    Raises:
        ExportError: a graph that cannot become a bundle; it names the node.
        UsageError: a size or an output that must be told, or does not fit.
    """
    check_operators(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    metadata = read_metadata(model.metadata_props)
    image = image_input(model)
    name, dtype = str(image.name), image.dtype
    layout, channels = find_layout(image)
    chosen = size
    size, batch_is_one = input_size(image, layout, size or _open_size(image, metadata))
    channels = _channels(image, layout, channels)
    head = cut_head(model, chosen_output(model, output))
    assert dtype is not None
    model = to_opset(model)
    Clean()(model)
    NameFixPass()(model)  # before new nodes are named after old ones
    to_float32(model)
    to_contract(model, layout, (channels, *size), batch=1)
    forget_shapes(model)
    _channels_first_output(model, head)
    try:
        model = inferred(model)
    except ExportError as error:
        fitting = None if chosen is None else _fitting_size(model, size)
        if fitting is None:
            raise
        raise UsageError(
            f"--size {size[0]}x{size[1]} does not fit the graph; expected one that does, such "
            f"as --size {fitting[0]}x{fitting[1]}. ({error})"
        ) from None
    DropCasts()(model)
    free_batch(model, fixed=batch_is_one)
    ir.passes.Sequential(ExplicitPads(), SinkTransposes(), Clean())(model)
    normalisation = take_normalisation(model, byte=dtype == ir.DataType.UINT8)
    ir.passes.Sequential(Clean(), FoldAffine(), Clean())(model)
    model = _infer_again(model, 1)
    classes = _classes(model, head, size)
    to_two_classes(model, head)
    set_batch(model, BATCH)
    Prepare()(model)
    model = _infer_again(model, BATCH)
    check_symbolic(model)
    _finish(model, max(classes, 2))
    given = GraphInput(name, _dtype(dtype), layout, batch_is_one)
    two = classes == 1
    return Normalised(
        model, given, head, size, channels, max(classes, 2), two, normalisation, metadata
    )


def _dtype(dtype: ir.DataType) -> Literal["float16", "float32", "float64", "uint8"]:
    name: Literal["float16", "float32", "float64", "uint8"] = dtype.numpy().name
    return name


def _open_size(image: ir.Value, metadata: Metadata) -> tuple[int, int] | None:
    """The size that the metadata tell, for a graph that leaves its own open."""
    assert image.shape is not None
    open_sides = sum(not isinstance(side, int) for side in image.shape[1:])
    return metadata.size if open_sides >= 2 else None


def _fitting_size(model: ir.Model, size: tuple[int, int]) -> tuple[int, int] | None:
    """The next size that the graph takes, with sides that can be halved; None if there is none."""
    (image,) = model.graph.inputs
    kept = image.shape
    assert kept is not None
    for step in (2**power for power in range(1, 8)):
        height, width = (math.ceil(side / step) * step for side in size)
        image.shape = ir.Shape([*kept[:2], height, width])
        with suppress(ExportError):
            inferred(model)
            return height, width
    return None


def _channels(image: ir.Value, layout: Layout, found: int | None) -> int:
    assert image.shape is not None
    own = image.shape[1 if layout == "NCHW" else 3]
    channels = own if isinstance(own, int) else found
    if channels is None:
        raise ExportError(
            f"the input {image.name!r} is {shown_shape(image)}; expected a fixed number of "
            "channels. Export the net again."
        )
    return channels


def _channels_first_output(model: ir.Model, head: Head) -> None:
    """Put the logits out as (batch, classes, h, w), under that name."""
    graph = model.graph
    (value,) = graph.outputs
    if head.axis == 3:
        node = ir.node("Transpose", [value], {"perm": (0, 3, 1, 2)}, name="logits_channels_first")
        before, last = value, producer(value)
        assert last is not None
        value = node.outputs[0]
        value.type = ir.TensorType(ir.DataType.FLOAT)
        before.name = f"{before.name}_channels_last" if before.name == "logits" else before.name
        last.append([node])
        graph.outputs[:] = [value]
    for node in graph:
        for each in node.outputs:
            if each is not value and each.name == "logits":
                each.name = "logits_inside"
    value.name, value.shape = "logits", None


def _infer_again(model: ir.Model, batch: int | str) -> ir.Model:
    """Forget the shapes, and infer them for a batch."""
    forget_shapes(model)
    set_batch(model, batch)
    model.graph.outputs[0].shape = None
    return inferred(model)


def _classes(model: ir.Model, head: Head, size: tuple[int, int]) -> int:
    (logits,) = model.graph.outputs
    classes = logits.shape[1] if logits.shape is not None and len(logits.shape) == 4 else None
    if not isinstance(classes, int):
        raise ExportError(
            f"the output is {shown_shape(logits)}; expected a fixed number of classes. Export the "
            "net with a fixed size."
        )
    sides = [side for side in (logits.shape or ())[2:] if isinstance(side, int)]
    if len(sides) == 2 and abs(sides[0] * size[1] - sides[1] * size[0]) > max(size):
        raise ExportError(
            f"the output is {shown_shape(logits)} for images of {size[0]}x{size[1]}; expected "
            "maps of the same shape (batch, classes, h, w). Name the logits: --head NAME."
        )
    if classes > MAX_CLASSES:
        raise ExportError(f"the output has {classes} classes; at most {MAX_CLASSES} are possible.")
    if classes == 1 and (
        head.activation in ("softmax", "log_softmax") or head.decision == "argmax"
    ):
        raise ExportError(
            f"the output has a {head.activation if head.decision == 'none' else head.decision} of "
            "one channel, which says nothing. Name the logits: --head NAME."
        )
    if classes > 1 and head.decision == "threshold":
        raise ExportError(
            f"the output compares each of {classes} classes with a threshold, so that classes may "
            "overlap; expected one channel, or an ArgMax. Name the logits: --head NAME."
        )
    return classes


def _finish(model: ir.Model, classes: int) -> None:
    """Names, versions and shapes as a traced net has them."""
    NameFixPass()(model)
    (logits,) = model.graph.outputs
    sides = tuple(logits.shape)[2:] if logits.shape is not None else (None, None)
    logits.shape = ir.Shape([BATCH, classes, *sides])
    model.ir_version = _IR_VERSION
    model.metadata_props.clear()
    model.producer_name, model.producer_version = "edgeunet", None
    for node in model.graph:
        node.version = None
