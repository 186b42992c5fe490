"""Refuse calibration frames that cannot give a useful table, and say why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeunet.bundle.manifest import RGB, InputSpec, imagenet
from edgeunet.errors import CalibrationError
from edgeunet.runtime.frames import Frame

from .frames import FrameSet
from .selection import SAME, Descriptor

# Standard deviation, grey levels. Measured: frames of cells, streets, magnetic tiles and membranes
# have 3 or more; divided by 255 once too often, the same frames have at most 0.4.
_CONTRAST = 1.0
# Correlation of neighbouring pixels, median over the frames. Measured: 0.87 to 0.98 in those data
# sets, 0.38 in cells with strong sensor noise, 0.00 in uniform noise, with and without JPEG.
_SMOOTHNESS = 0.1
# Measured on all nets of the package, as they are and as if trained with each customary
# preparation. A wrong preparation fits at least 4.8 times worse than the right one. The right one
# fits at most 2.5 times worse than a wrong one, from a quarter to twice the exposure and from gamma
# 1/2 to 2.
_WORSE = 3.5
# Measured in the same way: at most 4.2 nats, at three times the exposure; 19 or more if values go
# to 255 instead of 1.
_FAR = 15.0
# Measured on CamVid: BGR fits 1.9 to 11 times worse than RGB, but 1.1 times in one part of it, and
# RGB with a warm tint of 15 % fits 2.7 times worse than BGR. So this is reported, not refused.
_SWAPPED = 2.0

# Mean and standard deviation of the customary ranges 0..1, -1..1 and 0..255.
_RANGES = ((0.0, 1.0), (0.5, 0.5), (0.0, 1 / 255))

_WANTED = "Pass --calib a few dozen frames as the application sees them"


Distance = Callable[[Iterable[Frame], InputSpec], float]
"""See `Origin.distance`."""


def examine(
    distance: Distance,
    candidates: Mapping[int, Descriptor],
    typical: FrameSet,
    spec: InputSpec,
) -> str:
    """Check frames before calibrating on them.

    Returns:
        The result of comparing them with the training data, or that this was impossible.

    Raises:
        CalibrationError: a single frame; frames that are constant, noise or all equal; or frames so
            unlike the training data that their preparation must be wrong.
    """
    check_pixels(candidates, typical.name)
    found = distance(typical.frames, spec)
    if np.isnan(found):
        return "not compared with the training data, of which only batch normalisation tells"
    rivals = [(distance(typical.frames, other), other) for other in customary(spec)]
    check_distance(found, spec, min(rivals, key=lambda pair: pair[0]), typical.name)
    said = f"distance from the training data: {found:.3f} nats"
    if set(spec.channels) != set(RGB):
        return said
    exchange = {"red": "blue", "blue": "red", "green": "green"}
    other = replace(spec, channels=tuple(exchange[name] for name in spec.channels))
    swapped = distance(typical.frames, other)
    if found < _SWAPPED * swapped:
        return said
    return (
        f"{said}, and {swapped:.3f} with red and blue exchanged: unless the light has a tint, the "
        f"frames or the net are not {', '.join(spec.channels)}"
    )


def customary(spec: InputSpec) -> list[InputSpec]:
    """Preparations commonly used in training: ImageNet's, and values in 0..1, -1..1 and 0..255.

    Leaves out those that differ from `spec` in contrast only, as -1..1 differs from ImageNet's:
    the scene may explain such a difference.
    """
    count = len(spec.channels)
    measured = spec.statistics is not None
    known = [imagenet(spec.channels)]
    known += [((mean,) * count, (std,) * count) for mean, std in _RANGES]
    centre, scale = np.mean(spec.mean), np.mean(spec.std)
    return [
        replace(spec, statistics=None, mean=mean, std=std)
        for mean, std in known
        if measured or abs(np.mean(mean) - centre) > 0.2 or not 1 / 3 < np.mean(std) / scale < 3
    ]


def check_pixels(candidates: Mapping[int, Descriptor], source: str) -> None:
    """Raise CalibrationError for a single frame, and for constant, noisy or equal frames."""
    if len(candidates) < 2:
        raise CalibrationError(
            f"{source} holds one frame; it says nothing about other scenes. {_WANTED}."
        )
    spread = max(descriptor.spread for descriptor in candidates.values())
    if spread < _CONTRAST:
        levels = [descriptor.level for descriptor in candidates.values()]
        raise CalibrationError(
            f"all {len(candidates)} frames of {source} are constant: their standard deviations are "
            f"at most {spread:.2f} of 255 grey levels, their means {min(levels):.0f} to "
            f"{max(levels):.0f}. {_WANTED}. If their values mean something else than the net's, "
            "pass --levels LO,HI; if they were scaled before saving, save them unscaled."
        )
    smoothness = float(np.median([d.smoothness for d in candidates.values()]))
    if smoothness < _SMOOTHNESS:
        raise CalibrationError(
            f"the frames of {source} are noise: the correlation of neighbouring pixels is "
            f"{smoothness:.2f}, in pictures it is 0.4 or more. {_WANTED}."
        )
    vectors = np.stack([descriptor.vector for descriptor in candidates.values()])
    farthest = float(np.linalg.norm(vectors - vectors[0], axis=1).max())
    if farthest < SAME:
        raise CalibrationError(
            f"all {len(candidates)} frames of {source} are equal: they differ by at most "
            f"{farthest:.2f} of 255 grey levels. {_WANTED}, of different scenes."
        )


def check_distance(
    found: float, spec: InputSpec, nearest: tuple[float, InputSpec], source: str
) -> None:
    """Raise CalibrationError for frames that fit another preparation, or none.

    Args:
        found: distance of the frames as `spec` prepares them, nats.
        nearest: the smallest distance with another preparation, and that preparation.
    """
    distance, other = nearest
    prepared = f"They are prepared as {_described(spec)}"
    if found > _WORSE * distance:
        raise CalibrationError(
            f"the frames of {source} are unlike what the net was trained on. {prepared}; as "
            f"{_described(other)} they fit {found / distance:.0f} times better (distance "
            f"{distance:.2g} instead of {found:.2g} nats). Correct --mean and --std or the "
            "checkpoint's card, and pass frames that are not normalised."
        )
    if found > _FAR:
        raise CalibrationError(
            f"the frames of {source} are unlike what the net was trained on: distance {found:.2g} "
            f"nats; exposure explains at most {_FAR:g}. {prepared}: if the training did otherwise, "
            "correct --channels, --levels, --mean and --std or the checkpoint's card. Otherwise, "
            f"{_WANTED[0].lower()}{_WANTED[1:]}."
        )


def check_classes(seen: Collection[int], classes: Sequence[str]) -> None:
    """Raise CalibrationError if a net with several classes saw only one in all frames."""
    if len(seen) == 1 and len(classes) > 1:
        raise CalibrationError(
            f"the net sees {classes[next(iter(seen))]!r} and nothing else in all calibration "
            f"frames, so they cannot calibrate {', '.join(map(repr, classes))}. {_WANTED}, with "
            "all classes in them."
        )


def _described(spec: InputSpec) -> str:
    mean, std = (", ".join(f"{value:g}" for value in part) for part in (spec.mean, spec.std))
    measured = "" if spec.statistics is None else f"{spec.statistics.describe()}, then "
    return f"{', '.join(spec.channels)} with {measured}mean {mean} and std {std}"
