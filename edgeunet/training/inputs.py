"""The input of a net to train: what the data set, its options and the start say about it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..bundle.manifest import (
    BYTE_FILTERS,
    BYTE_LEVELS,
    RGB,
    Filter,
    InputSpec,
    Levels,
    Resize,
    imagenet,
)
from ..data.datasets import Dataset
from ..data.fit import Fit, Reading, few_bits, is_usual
from ..data.images import Picture
from ..errors import UsageError

MEASURED_IMAGES = 96
"""Training images that mean and standard deviation are measured on, evenly spaced."""

_log = logging.getLogger(__name__)


def input_for(
    dataset: Dataset,
    first: Picture,
    size: tuple[int, int],
    *,
    reading: Reading,
    resize: Resize | None = None,
    fill: float | None = None,
    filter: Filter | None = None,  # noqa: A002
    start: InputSpec | None = None,
    tell: Callable[[str], None] = _log.warning,
) -> InputSpec:
    """The input of a net that is to be trained on a data set.

    Channels, levels and statistics that are not given are those of the start. Without one, images
    of gray and RGB make a net of RGB, and others one of their own channels; 8 bit means 0 to 255
    and 16 bit 0 to 65535. Mean and standard deviation are ImageNet's for RGB or gray of 8 bit, and
    measured on the training images otherwise.

    Args:
        first: the first image; the others must agree with it. size: height and width.
        reading: the net's channels and levels, if they are given. resize, fill, filter: None for
            the start's; a fill needs padding.
        start: input of the weights to start from.
        tell: gets a note if the values fill a small part of their range.

    Raises:
        UsageError: int16 and float images whose levels, or images whose channels are not given, or
            a fill without padding, or a filter that rounds to bytes for other images.
    """
    depth = first.pixels.dtype.name
    levels, spec_depth = _levels(first, reading.levels, start)
    channels = reading.channels or (_channels(first) if start is None else start.channels)
    height, width = size
    known = start or InputSpec(height, width)
    resize = resize or known.resize
    if fill is not None and known.statistics is not None:
        raise UsageError(
            f"got fill {fill:g}, but the weights take images that are measured, and padding is 0 "
            "then. Leave it out."
        )
    if fill is not None and resize == "stretch":
        raise UsageError(f"got fill {fill:g} without padding. Pass --resize pad or pad_centre too.")
    window = known.window if resize == "stretch" else None
    if fill is None and (resize != "stretch" or window is not None):
        fill = known.fill
    filter = filter or known.filter  # noqa: A001
    if filter in BYTE_FILTERS and spec_depth != "uint8":
        raise UsageError(
            f"the filter {filter} rounds to bytes, but the images are {spec_depth}. Pass --filter "
            "antialias, which is the nearest to it."
        )
    if filter in BYTE_FILTERS and known.statistics is not None and known.statistics.masks:
        raise UsageError(
            f"the filter {filter} rounds to bytes, but the weights take images of which only some "
            "pixels are measured. Pass --filter antialias, which is the nearest to it."
        )
    spec = InputSpec(
        height,
        width,
        channels=channels,
        levels=levels,
        depth=spec_depth,  # type: ignore[arg-type]  # one of DEPTHS
        resize=resize,
        filter=filter,
        fill=fill,
        statistics=known.statistics,
        window=window,
        mean=(0.0,) * len(channels),
        std=(1.0,) * len(channels),
    )
    form = (spec.channels, spec.levels, spec.depth)
    if start is not None and form == (start.channels, start.levels, start.depth):
        return replace(spec, mean=start.mean, std=start.std)
    if spec.statistics is not None:
        return spec
    if set(channels) <= {*RGB, "gray"} and form[1:] == (BYTE_LEVELS, "uint8"):
        mean, std = imagenet(channels)
        return replace(spec, mean=mean, std=std)
    mean, std, largest = measure(dataset, spec)
    if depth == "uint16" and reading.levels is None and (note := few_bits(int(largest))):
        tell(f"{dataset.name} is 16 bit, but {note}")
    return replace(spec, mean=mean, std=std)


def measure(
    dataset: Dataset, spec: InputSpec
) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Mean and standard deviation of each channel in 0..1, and the largest raw value."""
    fit = Fit(spec, channels=spec.channels)
    samples = dataset.samples("train")
    black, white = spec.levels
    moments, largest = [], -np.inf
    for sample in samples[:: max(1, len(samples) // MEASURED_IMAGES)]:
        frame = fit.read(sample.image)
        largest = max(largest, float(frame.max()))
        values = (frame.reshape(-1, frame.shape[2]) - np.float64(black)) / (white - black)
        moments.append([values.mean(0), np.square(values).mean(0)])
    mean, square = np.mean(moments, axis=0)
    deviation = np.sqrt(np.maximum(square - np.square(mean), 0.0))
    deviation[deviation < 1e-6] = 1.0  # a constant channel
    return _digits(mean), _digits(deviation), largest


def _digits(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Rounded to what matters, so that a card can be read."""
    return tuple(float(f"{value:.6g}") for value in values)


def _levels(
    first: Picture, given: tuple[float, ...] | None, start: InputSpec | None
) -> tuple[Levels, str]:
    """Levels of the net and the depth of its frames."""
    depth = first.pixels.dtype.name
    if given is not None:
        black, white = given
        return (black, white), depth
    if start is not None:
        return start.levels, start.depth
    usual: dict[str, Levels] = {"uint8": BYTE_LEVELS, "uint16": (0.0, 65535.0)}
    if depth not in usual:
        low, high = float(first.pixels.min()), float(first.pixels.max())
        raise UsageError(
            f"the images are {depth}, the first from {low:g} to {high:g}. Say which values mean "
            "black and white: --levels LO,HI."
        )
    return usual[depth], depth


def _channels(first: Picture) -> tuple[str, ...]:
    """Channels of a net for such images."""
    if is_usual(first.channels, first.pixels.shape[2]):
        return RGB
    if first.channels:
        return tuple(name for name in first.channels if name != "alpha")
    raise UsageError(
        f"the images have {first.pixels.shape[2]} channels without names. Name them in their "
        "order: --channels red,green,blue,nir, for example."
    )
