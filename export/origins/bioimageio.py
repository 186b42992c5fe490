"""`--model bioimageio:PACKAGE`: the microscopists' format, a folder or ZIP file with rdf.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeunet.bundle.manifest import BYTE_LEVELS, RGB, InputSpec, Levels, channel_names, depth_of
from edgeunet.bundle.steps import SMALLEST_STEP, Window
from edgeunet.data.preparation import Preparation
from edgeunet.errors import (
    CheckpointError,
    ExportError,
    GraphError,
    ShapeError,
    UsageError,
)

from ..options import ExportOptions, class_names
from .base import Origin
from .bioimageio_check import check_answer, check_input, frame_of, sides_of
from .bioimageio_nets import open_net
from .bioimageio_package import Package, open_package, quoted
from .bioimageio_rdf import Description, Tensor, read_description
from .bioimageio_steps import (
    Above,
    Activation,
    Cast,
    Clip,
    Head,
    Measured,
    Values,
    prepared,
    unsaid,
)
from .folders import refuse_options

_LEVELS: dict[str, Levels] = {
    "uint8": BYTE_LEVELS,
    "uint16": (0.0, 65535.0),
    "int16": (-32768.0, 32767.0),
    "float32": (0.0, 1.0),
}
_TOLD = (CheckpointError, ExportError, GraphError, ShapeError, UsageError)
_LISTED = 8  # names in an error
_UNTOLD_HALO = 1 / 8  # of a window's side


def open_bioimageio(name: str, options: ExportOptions) -> Origin:
    """A package of version 0.4 or 0.5: ONNX weights, or a state dict of a known library's net.

    The origin's masks are those of the net on windows of the size of its test image, with the halo
    that the description tells. Its answer to the test image must be the package's. That image
    becomes a golden frame.

    Args:
        name: of the folder, or of the ZIP file.

    Raises:
        UsageError: no such file, an output, a channel, a size or names of channels that must be
            chosen, or options that the package leaves no choice of.
        CheckpointError: a package that is damaged or unsafe, or that a bundle cannot follow, by
            name. ExportError, GraphError: see `OnnxOrigin`. MissingDependencyError: the library of
            its net is not installed.
    """
    with open_package(name) as package:
        return _opened(package, options)


def _opened(package: Package, options: ExportOptions) -> Origin:
    told_by = f"{package.path}'s {package.description}"
    refuse_options(options, told_by, but=["arch", "head", "size", "channels", "levels"])
    description = read_description(package)
    given, number = description.input, _output(description, options.head)
    output = description.outputs[number]
    try:
        head = _head(output, _channel(output, options.arch))
        shown, wanted = (
            None if tensor.test is None else package.array(tensor.test)
            for tensor in (given, output)
        )
        size = given.window(options.size, None if shown is None else sides_of(shown, given))
        spec, clip, notes = _input(given, output, size, shown, options)
        net = open_net(package, description, number, spec, clip, head, options)
        if shown is not None and wanted is not None:
            tolerance = description.tolerance(net.weights, output.name)
            notes.append(check_answer(net, given, output, shown, wanted, tolerance))
        else:
            notes.append("it has no test tensors: that its net is run as meant is not checked")
        origin = net.origin(_names(output, head, options))
    except _TOLD as error:
        if type(error) not in _TOLD:
            raise  # of another text, such as what to install
        folder = f"{package.root}/"  # ZIP files are unpacked elsewhere
        said = str(error).replace(folder, f"{package.path}/")
        told = said.startswith(str(package.path))
        raise type(error)(said if told else f"{told_by}: {said}") from None
    name = package.path.absolute().name.removesuffix(".zip")
    origin.title, origin.weights = "the BioImage.IO package", f"{name}/{net.weights}"
    origin.card = replace(origin.card, model=f"bioimageio:{name}")
    origin.notes += notes
    frame = None if shown is None else frame_of(shown, given, spec)
    if frame is not None and shown is not None:
        check_input(frame, spec, given, shown, clip)
        origin.frames = (frame,)
    elif shown is not None:
        origin.notes.append(
            f"its test image holds values that are not {spec.depth}: it is no golden frame"
        )
    return origin


# What the description says


def _output(description: Description, wanted: str | None) -> int:
    """Number of the output with the classes."""
    names = [output.name for output in description.outputs]
    listed = ", ".join(map(quoted, names[:_LISTED]))
    if wanted is None and len(names) != 1:
        raise UsageError(f"the net has the outputs {listed}. Name the classes: --head NAME.")
    if wanted is not None and wanted not in names:
        raise UsageError(f"the net has no output {quoted(wanted)}; it has {listed}.")
    return 0 if wanted is None else names.index(wanted)


def _channel(output: Tensor, arch: Sequence[str]) -> int | None:
    """The one channel of an output that is wanted, by `--arch channel=NAME`; None for all."""
    if not arch:
        return None
    key, _, value = arch[0].partition("=")
    if len(arch) > 1 or key.strip() != "channel":
        raise UsageError(
            f"got --arch {quoted(','.join(arch))}; for bioimageio: expected channel=NAME."
        )
    numbers = [str(number) for number in range(len(output.channels))]
    for names in (output.channels, numbers):
        if value in names:
            return names.index(value)
    raise UsageError(
        f"{quoted(output.name)} has no channel {quoted(value)}; it has {_listed(output)}."
    )


def _listed(output: Tensor) -> str:
    names = output.channels if all(output.channels) else map(str, range(len(output.channels)))
    return ", ".join(map(quoted, list(names)[:_LISTED]))


def _head(output: Tensor, channel: int | None) -> Head:
    """What stands behind the net, as far as it decides.

    Raises:
        CheckpointError: a step that is more than a decision for each pixel, or classes that
            overlap.
    """
    sigmoid, threshold, probable = False, None, False
    one = channel is not None or len(output.channels) == 1
    for step in output.steps:
        floats = isinstance(step, Cast) and np.dtype(step.dtype).kind == "f"
        if threshold is not None and isinstance(step, (Cast, Clip)):
            continue
        if isinstance(step, Activation) and not (sigmoid or probable) and step.kind == "sigmoid":
            sigmoid = True
        elif isinstance(step, Activation) and not (sigmoid or probable) and channel is None:
            probable = True
        elif isinstance(step, Above) and not probable:
            threshold = step.threshold
        elif isinstance(step, Clip) and (sigmoid or probable) and step.low <= 0 and step.high >= 1:
            continue
        elif floats or (isinstance(step, Cast) and not (sigmoid or probable)):
            continue  # of whole numbers: what the graph decided itself
        else:
            raise unsaid(output.name, type(step).__name__.lower())
    if (sigmoid or threshold is not None) and not one:
        raise CheckpointError(
            f"{quoted(output.name)} decides on each of its {len(output.channels)} channels "
            f"({_listed(output)}) by itself, so that they may overlap; a bundle has one class for "
            "each pixel. Choose one channel: --arch channel=NAME."
        )
    axis = output.axes.find("c")
    return Head(channel, len(output.channels), axis, sigmoid, threshold)


def _names(output: Tensor, head: Head, options: ExportOptions) -> tuple[str, ...]:
    """Names of the classes, as `named_classes` takes them."""
    if options.classes:
        return class_names(options.classes)
    names = output.classes
    if head.channel is not None:
        return names[head.channel : head.channel + 1]
    return names or (output.values if len(output.values) == len(output.channels) > 1 else ())


def _input(
    given: Tensor,
    output: Tensor,
    size: tuple[int, int],
    shown: Values | None,
    options: ExportOptions,
) -> tuple[InputSpec, Clip | None, list[str]]:
    """The input in front of the net, what clips it there, and notes."""
    user = options.preparation or Preparation()
    channels, notes = _channels(given, user.channels)
    depth = _depth(given.dtype, shown)
    low, high = user.levels or _LEVELS[depth]
    depth = depth_of((low, high))
    if user.levels is None:
        notes.append(
            f"frames are {depth}, as {'the test image' if shown is not None else 'its input'}; "
            "pass --levels for others"
        )
    found, clip = prepared(given.steps, len(channels), (low, high), depth, given.name)
    spec = replace(found, channels=channels).input(Path(given.name), size, len(channels), None)
    if any(isinstance(step, Measured) for step in given.steps):
        notes.append("each image is measured as a whole, also if it is larger than a window")
    margins = [output.halo.get(axis, 0) for axis in "yx"]
    if not any(margins):
        margins = [int(side * _UNTOLD_HALO) for side in size]
    step = min((side - 2 * each) / side for side, each in zip(size, margins, strict=True))
    if step < SMALLEST_STEP:
        raise UsageError(
            f"windows of {size[0]}x{size[1]} are little more than the halo of {margins[0]} and "
            f"{margins[1]} pixels that {quoted(output.name)} has. Pass a larger --size."
        )
    notes.append(
        f"it runs on windows of {size[0]}x{size[1]}; their outer {margins[0]} and {margins[1]} "
        "pixels decide only at the border of an image"
    )
    return replace(spec, window=Window(step=step, blend="none")), clip, notes


def _channels(given: Tensor, user: tuple[str, ...] | None) -> tuple[tuple[str, ...], list[str]]:
    """Names of the channels: a user's, the description's, or the usual ones of their number."""
    count = len(given.channels)
    if user is not None:
        if len(user) != count:
            raise UsageError(f"the net takes {count} channels, got {len(user)} names.")
        return user, []
    own = tuple(each.strip().lower() for each in given.channels)
    if count == 1:
        return ("gray",), []
    if [each[:1] for each in own] == list("rgb"):
        return RGB, []
    if not given.classes and count == 3:
        return RGB, ["its channels have no names: assumed red, green and blue"]
    try:
        return channel_names(own), []
    except UsageError:
        raise UsageError(
            f"{quoted(given.name)} has {count} channels, called {_listed(given)}. Name them: "
            "--channels NAME,…."
        ) from None


def _depth(dtype: str, shown: Values | None) -> str:
    """Type of the frames: the net's, else the smallest that holds the test image."""
    if dtype in ("uint8", "uint16", "int16"):
        return dtype
    if shown is None:
        return "uint8"
    whole = bool((shown == np.rint(shown)).all())
    for depth in ("uint8", "uint16", "int16"):
        low, high = np.iinfo(depth).min, np.iinfo(depth).max
        # Zeros and ones are more likely a picture of floats.
        if whole and shown.min() >= low and 1 < shown.max() <= high:
            return depth
    return "float32"
