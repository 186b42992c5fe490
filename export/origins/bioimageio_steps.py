"""Steps of processing in BioImage.IO's descriptions: read, computed, and said as an input.

Formulas: bioimageio.spec, model description 0.4 and 0.5, and bioimageio.core, proc_ops.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import BYTE_LEVELS, Levels
from edgeunet.bundle.steps import ImageStatistics
from edgeunet.data.preparation import Preparation
from edgeunet.errors import CheckpointError

from .bioimageio_package import quoted

Values = npt.NDArray[Any]
Numbers = tuple[float, ...]

_EPSILON = 1e-6
_FLOATS = ("float16", "float32", "float64")
_RANGES = {"uint8": BYTE_LEVELS, "uint16": (0.0, 65535.0), "int16": (-32768.0, 32767.0)}


@dataclass(frozen=True)
class Linear:
    """value * gain + offset, one number or one for each channel."""

    gain: Numbers
    offset: Numbers

    def apply(self, values: Values, axes: str) -> Values:
        """See `applied`."""
        gain, offset = (_along_channels(each, axes) for each in (self.gain, self.offset))
        return np.asarray(values * gain + offset)


@dataclass(frozen=True)
class Measured:
    """Normalised by what the image is itself."""

    statistics: ImageStatistics

    def apply(self, values: Values, axes: str) -> Values:
        """See `applied`."""
        of = self.statistics
        joint = tuple(
            place for place, each in enumerate(axes) if each in "yx" or not of.per_channel
        )
        values = values.astype(np.float64)
        if of.measure == "zscore":
            low, spread = values.mean(joint, keepdims=True), values.std(joint, keepdims=True)
        else:
            low, high = np.percentile(values, of.percentiles, joint, keepdims=True)
            spread = high - low
        return np.asarray((values - low) / (spread + of.epsilon))


@dataclass(frozen=True)
class Clip:
    """Values outside of low and high become these."""

    low: float
    high: float

    def apply(self, values: Values, axes: str) -> Values:
        """See `applied`."""
        return np.clip(values, self.low, self.high)


@dataclass(frozen=True)
class Head:
    """What stands behind a net's output and decides.

    channel: the only one of `channels` that is wanted, None for all. axis: of the channels.
    sigmoid: whether it becomes a probability. threshold: what is above it is foreground, None if
    nothing is told.
    """

    channel: int | None
    channels: int
    axis: int
    sigmoid: bool
    threshold: float | None


@dataclass(frozen=True)
class Above:
    """Whether values are above a threshold."""

    threshold: float

    def apply(self, values: Values, axes: str) -> Values:
        """See `applied`."""
        return values > self.threshold


@dataclass(frozen=True)
class Activation:
    """Probabilities of logits."""

    kind: Literal["sigmoid", "softmax"]

    def apply(self, values: Values, axes: str) -> Values:
        """See `applied`."""
        values = values.astype(np.float64)
        if self.kind == "sigmoid":
            return np.asarray(0.5 * (1 + np.tanh(values / 2)))
        powers = np.exp(values - values.max(axes.index("c"), keepdims=True))
        return np.asarray(powers / powers.sum(axes.index("c"), keepdims=True))


@dataclass(frozen=True)
class Cast:
    """Another type of number."""

    dtype: str

    def apply(self, values: Values, axes: str) -> Values:
        """See `applied`."""
        return values.astype(self.dtype)


Step = Linear | Measured | Clip | Above | Activation | Cast


def applied(steps: Iterable[Step], values: Values, axes: str) -> Values:
    """Values after all steps, by NumPy. axes: of the array, such as "bcyx".

    Example:
        >>> from edgeunet.exporting.origins.bioimageio_steps import Clip, Linear, applied
        >>> applied([Linear((2.0,), (1.0,)), Clip(0, 4)], np.array([[1, 2]]), "yx").tolist()
        [[3.0, 4.0]]
    """
    for step in steps:
        values = step.apply(values, axes)
    return values


def steps_of(entries: Any, axes: str, tensor: str) -> tuple[Step, ...]:
    """The steps that a description lists.

    Args:
        axes: of the tensor. tensor: its name.

    Raises:
        CheckpointError: a step that is not known, or cannot be done for each image by itself.
        KeyError, TypeError, ValueError: one that the format does not have so.
    """
    return tuple(_step(entry, axes, tensor) for entry in entries or ())


def _step(entry: Mapping[str, Any], axes: str, tensor: str) -> Step:
    name, given = str(entry.get("id") or entry["name"]), entry.get("kwargs") or {}
    if name == "scale_linear":
        return Linear(numbers(given.get("gain", 1)), numbers(given.get("offset", 0)))
    if name == "fixed_zero_mean_unit_variance" or (
        name == "zero_mean_unit_variance" and "id" not in entry and _mode(given, "fixed") == "fixed"
    ):
        mean, std = numbers(given["mean"]), numbers(given["std"])
        gain = tuple(1 / (each + float(given.get("eps", _EPSILON))) for each in std)
        count = max(len(mean), len(gain))
        mean, gain = (each * count if len(each) == 1 else each for each in (mean, gain))
        return Linear(gain, tuple(-m * g for m, g in zip(mean, gain, strict=True)))
    if name in ("zero_mean_unit_variance", "scale_range"):
        return Measured(_statistics(name, given, axes, tensor))
    if name == "clip" and not {"min_percentile", "max_percentile"} & set(_told(given)):
        low, high = (
            float("inf") * sign if given.get(key) is None else _number(given[key])
            for key, sign in (("min", -1), ("max", 1))
        )
        return Clip(low, high)
    if name == "binarize":
        return Above(*_same(numbers(given["threshold"]), f"{tensor}'s binarize"))
    if name == "sigmoid":
        return Activation("sigmoid")
    if name == "softmax" and str(given.get("axis", "channel")) in ("channel", "c"):
        return Activation("softmax")
    if name == "ensure_dtype":
        return Cast(np.dtype(str(given["dtype"])).name)
    raise unsaid(tensor, name + (" by percentiles" if name == "clip" else ""))


def _statistics(name: str, given: Mapping[str, Any], axes: str, tensor: str) -> ImageStatistics:
    """What `zero_mean_unit_variance` and `scale_range` measure on each image."""
    joint = given.get("axes")
    letters = {"batch": "b", "channel": "c", "index": "i", "time": "t"}
    measured = set(axes if joint is None else (letters.get(each, each) for each in joint))
    if _mode(given, "per_sample") == "per_dataset" or (joint is not None and "b" in measured):
        raise CheckpointError(
            f"{tensor} is normalised by {name} over a whole data set, which an image does not "
            "show. Write its values into the description (fixed_zero_mean_unit_variance or "
            "scale_linear), or leave out the batch axis to measure each image."
        )
    if not {"y", "x"} <= measured or given.get("reference_tensor") not in (None, tensor):
        raise unsaid(tensor, f"{name} of other axes or tensors than its own height and width")
    per_channel = "c" in axes and "c" not in measured
    epsilon = _number(given.get("eps", _EPSILON))
    if name == "zero_mean_unit_variance":
        return ImageStatistics(per_channel=per_channel, epsilon=epsilon, adds_epsilon=True)
    percentiles = (
        _number(given.get("min_percentile", 0)),
        _number(given.get("max_percentile", 100)),
    )
    return ImageStatistics(
        measure="range",
        per_channel=per_channel,
        percentiles=percentiles,
        epsilon=epsilon,
        adds_epsilon=True,
    )


def prepared(
    steps: Sequence[Step], channels: int, levels: Levels, depth: str, tensor: str
) -> tuple[Preparation, Clip | None]:
    """How frames become the net's input, and what clips it, if that changes anything.

    Args:
        channels: their number. levels, depth: of the frames. tensor: name of the input.

    Raises:
        CheckpointError: steps that an input cannot express, by name.
    """
    gain, offset = np.ones(channels), np.zeros(channels)
    statistics: ImageStatistics | None = None
    clip: Clip | None = None
    for step in steps:
        raw = statistics is None and clip is None and bool((gain == 1).all() and not offset.any())
        if isinstance(step, Cast) and (step.dtype in _FLOATS or (raw and step.dtype == depth)):
            continue
        if isinstance(step, Linear):
            scale, shift = (np.broadcast_to(each, channels) for each in (step.gain, step.offset))
            gain, offset = gain * scale, offset * scale + shift
            if clip is not None:
                (factor,), (term,) = _same(step.gain, tensor), _same(step.offset, tensor)
                clip = Clip(clip.low * factor + term, clip.high * factor + term)
        elif isinstance(step, Measured) and statistics is None and clip is None:
            statistics = _before(step.statistics, gain, offset, tensor)
            gain, offset = np.ones(channels), np.zeros(channels)
        elif isinstance(step, Clip) and step.low < step.high:
            low, high = (step.low, step.high) if clip is None else (clip.low, clip.high)
            clip = Clip(*np.clip([low, high], step.low, step.high).tolist())
        else:
            raise unsaid(tensor, _described(step))
    if not (np.isfinite(gain).all() and (gain > 0).all() and np.isfinite(offset).all()):
        raise unsaid(tensor, "a gain that is not positive")
    if statistics is not None:
        std, mean = 1 / gain, -offset / gain
        whole = statistics.measure == "range" and statistics.percentiles == (0, 100)
        values = (0.0, 1.0) if whole else None
    else:
        low, high = levels
        std = 1 / (gain * (high - low))
        mean = -(offset + gain * low) * std
        values = _RANGES.get(depth)
    if clip is not None and values is not None:
        ends = [gain * value + offset for value in values]
        if np.min(ends) >= clip.low and np.max(ends) <= clip.high:
            clip = None
    found = Preparation(
        levels=levels, mean=tuple(mean.tolist()), std=tuple(std.tolist()), statistics=statistics
    )
    return found, clip


def _before(
    statistics: ImageStatistics, gain: Values, offset: Values, tensor: str
) -> ImageStatistics:
    """The statistics of raw values, for those of values * gain + offset."""
    same = (gain == gain[0]).all() and (statistics.per_channel or (offset == offset[0]).all())
    epsilon = statistics.epsilon / gain[0] if gain[0] > 0 else 0.0
    if not same or not 0 < epsilon <= 1:
        raise unsaid(tensor, "a scaling of each channel, or by a large or negative factor, before "
                     "it is measured")  # fmt: skip
    return replace(statistics, epsilon=float(epsilon))


def unsaid(tensor: str, what: str) -> CheckpointError:
    """The error for a step that a bundle cannot do."""
    return CheckpointError(
        f"{quoted(tensor)} is processed by {quoted(what)}, which a bundle cannot do. Export "
        "the net together with that step to ONNX, and pass --onnx."
    )


def _described(step: Step) -> str:
    names = {Above: "binarize", Activation: "an activation", Measured: "two normalisations"}
    if isinstance(step, Cast):
        return f"ensure_dtype {step.dtype} behind other steps, which cuts off fractions"
    return names.get(type(step), type(step).__name__.lower())


def _mode(given: Mapping[str, Any], default: str) -> str:
    mode = str(given.get("mode", default))
    if mode not in ("fixed", "per_sample", "per_dataset"):
        raise ValueError(f"mode is {quoted(mode)}")
    return mode


def _told(given: Mapping[str, Any]) -> list[str]:
    return [key for key, value in given.items() if value is not None]


def numbers(given: Any) -> Numbers:
    """One number, or a list of them. YAML 1.1 reads 1e-3 as a text."""
    return tuple(map(_number, given)) if isinstance(given, list) else (_number(given),)


def _number(given: Any) -> float:
    value = float(given)
    if isinstance(given, bool) or not np.isfinite(value):
        raise ValueError(f"expected a number, got {quoted(given)}")
    return value


def _same(values: Numbers, what: str) -> Numbers:
    if len(set(values)) != 1:
        raise unsaid(what, "a clip or a threshold of each channel")
    return values[:1]


def _along_channels(values: Numbers, axes: str) -> Values:
    if len(values) == 1:
        return np.asarray(values[0])
    shape = [len(values) if each == "c" else 1 for each in axes]
    return np.reshape(values, shape)
