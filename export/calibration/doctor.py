"""Refuses calibration data from which no useful table can come, and says why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from edgeunet.errors import CalibrationError
from edgeunet.manifest import InputSpec
from edgeunet.models import SegmentationNet

from .frames import Frames
from .moments import Distance, distance
from .selection import SAME, Descriptor

# Measured: frames of cells, streets, magnetic tiles and membranes have 3 grey levels and more, the
# same divided by 255 once too often at most 0.4.
_CONTRAST = 1.0
# Measured, median over the frames: 0.87 to 0.98 in those data sets, 0.38 with strong sensor noise
# on cells; 0.00 in uniform noise, with and without JPEG.
_SMOOTHNESS = 0.1
# Measured on Mobile U-Net with cells and with CamVid: at most 1.2 for exposures of a third to twice
# the training's, 1.6 at a quarter and 1.8 at three times, where most is saturated; 2.4 and more
# where the normalisation was left out.
_SPREAD = 2.2
# Measured likewise: at most 3.9, and 46 and more where values went to 255 instead of 1.
_SHIFT = 12.0

_WANTED = "Pass --calib a few dozen frames as the application sees them"


def examine(
    net: SegmentationNet,
    candidates: Mapping[int, Descriptor],
    typical: Frames,
    spec: InputSpec,
) -> str:
    """Examine frames before anything is calibrated on them.

    Returns:
        What the comparison with the training data said, or that there was none.

    Raises:
        CalibrationError: one frame only, frames that are constant, noise or all equal, or so unlike
            the training data that they must be prepared wrongly.
    """
    check_pixels(candidates, typical.source.name)
    found = distance(net, typical, spec)
    if found is None:
        return "not compared with the training data: the net has no batch normalisation"
    check_distance(found, typical.source.name, spec)
    return (
        f"distance from the training data: mean {found.mean:.2f} standard deviations, variance "
        f"{np.exp(found.variance):.2f}x"
    )


def check_pixels(candidates: Mapping[int, Descriptor], source: str) -> None:
    """CalibrationError for one frame, and for frames that are constant, noise or all equal."""
    if len(candidates) < 2:
        raise CalibrationError(
            f"{source} holds one frame; its values say nothing of other scenes. {_WANTED}."
        )
    spread = max(descriptor.spread for descriptor in candidates.values())
    if spread < _CONTRAST:
        levels = [d.vector[-6:-3].mean() * np.sqrt(6) for d in candidates.values()]
        raise CalibrationError(
            f"all {len(candidates)} frames of {source} are constant: their standard deviations are "
            f"at most {spread:.2f} of 255 grey levels, their means {min(levels):.0f} to "
            f"{max(levels):.0f}. {_WANTED}, 8 bit, 0 to 255; if they were scaled to 0..1 before "
            "they were saved, save them without."
        )
    smoothness = float(np.median([d.smoothness for d in candidates.values()]))
    if smoothness < _SMOOTHNESS:
        raise CalibrationError(
            f"the frames of {source} are noise: neighbouring pixels correlate with "
            f"{smoothness:.2f}, in pictures with 0.4 and more. {_WANTED}."
        )
    vectors = np.stack([descriptor.vector for descriptor in candidates.values()])
    farthest = float(np.linalg.norm(vectors - vectors[0], axis=1).max())
    if farthest < SAME:
        raise CalibrationError(
            f"all {len(candidates)} frames of {source} are equal: they differ by {farthest:.2f} of "
            f"255 grey levels at most. {_WANTED}, of different scenes."
        )


def check_distance(found: Distance, source: str, spec: InputSpec) -> None:
    """CalibrationError where frames are further from the training data than any exposure brings."""
    if found.spread < _SPREAD and found.mean < _SHIFT:
        return
    raise CalibrationError(
        f"the frames of {source} are unlike what the net was trained on: in its first layers the "
        f"variance is {np.exp(found.variance):.2g} times that of the training (a factor of "
        f"{np.exp(_SPREAD):.0f} is allowed), the mean is off by {found.mean:.2f} standard "
        f"deviations ({_SHIFT:g} allowed). They are prepared as {spec.color} with mean "
        f"{_listed(spec.mean)} and std {_listed(spec.std)}: if the training did otherwise, correct "
        f"--color, --mean and --std or the checkpoint's card. Else {_WANTED[0].lower()}"
        f"{_WANTED[1:]}."
    )


def check_classes(seen: Collection[int], classes: Sequence[str]) -> None:
    """CalibrationError where a net of several classes gave all pixels of all frames the same."""
    if len(seen) == 1 and len(classes) > 1:
        raise CalibrationError(
            f"the net sees {classes[next(iter(seen))]!r} and nothing else in all calibration "
            f"frames; they say nothing of what {', '.join(map(repr, classes))} need. {_WANTED}, "
            "with all classes in them."
        )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
