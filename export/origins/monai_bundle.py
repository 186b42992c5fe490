"""Bundles of MONAI's model zoo: configuration and weights are read, nothing in them is run."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeunet.bundle.manifest import BYTE_LEVELS
from edgeunet.bundle.schema import SchemaError, load_json, load_yaml
from edgeunet.bundle.steps import ImageStatistics
from edgeunet.data.preparation import Preparation
from edgeunet.errors import CheckpointError, UnknownNameError, UsageError, did_you_mean, printable

from .arguments import Arguments

_METADATA = "configs/metadata.json"
_INFERENCE = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
_WEIGHTS = "models/model.pt"
_MODULES = re.compile(r"monai\.networks\.nets(\.\w+)?\.(\w+)")
_CONSTANT = re.compile(r"\$\s*(-?\d+(\.\d+)?|True|False|None)\s*")
_REFERENCE = re.compile(r"@([\w:#]+)")
_DEEPEST = 32  # references to references

# Transforms that change no value: they read, move axes, or prepare tensors.
_NEUTRAL = (
    "AddChannel",
    "AsChannelFirst",
    "CastToType",
    "EnsureChannelFirst",
    "EnsureType",
    "LoadImage",
    "Resize",
    "ToTensor",
)


@dataclass(frozen=True)
class Bundle:
    """What a bundle says: its net and arguments, weights, classes, and how frames are prepared.

    preparation: None if it does not say it. overlapping: what lets its classes overlap if there
    are several, empty if nothing does. notes: what a user should know.
    """

    net: str = ""
    arguments: Arguments = field(default_factory=dict)
    weights: Path = Path()
    classes: tuple[str, ...] = ()
    preparation: Preparation | None = None
    overlapping: str = ""
    notes: tuple[str, ...] = ()


def read_bundle(folder: Path, nets: Collection[str]) -> Bundle:
    """Read `configs/metadata.json` and `configs/inference.json` or `.yaml`.

    The weights are `models/model.pt`.

    Args:
        nets: names of those that may be built.

    Raises:
        CheckpointError: a file that is missing or damaged, or a configuration that needs code.
        UnknownNameError: a net that is not among `nets`. UsageError: a preparation that cannot be
            expressed.
    """
    path = next((folder / each for each in _INFERENCE if (folder / each).is_file()), None)
    path = path or folder / _INFERENCE[0]
    metadata, config = _read(folder / _METADATA), _read(path)
    if "network_def" not in config:
        raise CheckpointError(f"{path} has no network_def; expected a bundle with one net.")
    network = _resolved(config["network_def"], config, path)
    if not isinstance(network, dict):
        raise CheckpointError(f"{path}: network_def is no dict with a _target_.")
    target = str(network.pop("_target_", ""))
    found = _MODULES.fullmatch(target)
    name = found[2] if found else target
    if name not in nets:
        raise UnknownNameError(f"net in {path}", printable(target), nets)
    network = {key: value for key, value in network.items() if not key.startswith("_")}
    formats = metadata.get("network_data_format", {})
    preparation, notes = _preparation(config, path)
    return Bundle(
        name,
        network,
        folder / _WEIGHTS,
        _classes(formats),
        preparation,
        _overlapping(config, path),
        notes,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = load_json(path) if path.suffix == ".json" else load_yaml(path)
    except (OSError, SchemaError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{path} cannot be read: {reason}. Pass a bundle of MONAI's model zoo with "
            f"{_METADATA} and {_INFERENCE[0]} or .yaml, or monai:NET with --weights."
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no object.")
    return content


def _resolved(value: Any, config: Mapping[str, Any], path: Path, depth: int = 0) -> Any:
    """A value with its references replaced.

    Raises:
        CheckpointError: an expression, which would be run, or a reference that leads nowhere.
    """
    if depth > _DEEPEST:
        raise CheckpointError(f"{path} has references that lead to each other.")
    if isinstance(value, dict):
        return {key: _resolved(each, config, path, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_resolved(each, config, path, depth + 1) for each in value]
    if not isinstance(value, str):
        return value
    if (constant := _CONSTANT.fullmatch(value)) is not None:
        text = constant[1]
        words = {"True": True, "False": False, "None": None}
        return words[text] if text in words else float(text) if "." in text else int(text)
    if value.startswith("$"):
        raise CheckpointError(
            f"{path} needs the code {printable(value[:80])} to be run, which is never done. Write "
            "the value in its place, or pass monai:NET with --arch and --weights."
        )
    reference = _REFERENCE.fullmatch(value)
    if reference is None:
        return value
    place: Any = config
    for part in re.split("::|#", reference[1]):
        try:
            place = place[int(part)] if isinstance(place, list) else place[part]
        except (KeyError, IndexError, TypeError, ValueError):
            raise CheckpointError(f"{path} refers to {value}, which is not there.") from None
    return _resolved(place, config, path, depth + 1)


def _first(entries: Any) -> dict[str, Any]:
    """The first of the inputs or outputs that the metadata describe."""
    if isinstance(entries, dict) and entries:
        entry = next(iter(entries.values()))
        if isinstance(entry, dict):
            return entry
    return {}


def _classes(formats: Any) -> tuple[str, ...]:
    """Names by channel of the output."""
    names = _first(formats.get("outputs") if isinstance(formats, dict) else None).get("channel_def")
    if not isinstance(names, dict) or set(names) != {str(index) for index in range(len(names))}:
        return ()
    return tuple(str(names[str(index)]) for index in range(len(names)))


# Pre-processing


def _preparation(
    config: Mapping[str, Any], path: Path
) -> tuple[Preparation | None, tuple[str, ...]]:
    """How frames are prepared, as the list of transforms says.

    Raises:
        UsageError: a transform of values that is not a fixed scaling.
    """
    entry = config.get("preprocessing")
    if not isinstance(entry, dict):
        return None, ()
    found = raw = Preparation(mean=(0.0,), std=(1 / 255,))
    notes: list[str] = []
    resized = False
    steps = _resolved(entry.get("transforms", []), config, path)
    for step in steps if isinstance(steps, list) else []:
        given = step if isinstance(step, dict) else {"_target_": step}
        name = str(given.get("_target_", ""))
        kind = name.rpartition(".")[2].removesuffix("d")
        if kind in _NEUTRAL:
            if kind == "Resize":
                notes.append("its Resize is replaced by --size and --filter")
                resized = True
            continue
        scaled = None
        if kind == "ScaleIntensityRange" and found == raw:
            scaled = _ranged(given)
            if given.get("clip") and scaled is not None and scaled.levels is not None:
                notes.append(
                    "values outside of {:g} to {:g} are not clipped".format(*scaled.levels)
                )
        elif kind == "NormalizeIntensity" and given.get("subtrahend") is not None:
            scaled = _normalised(given, found)
        elif kind in _MEASURING and found == raw:
            scaled = _MEASURING[kind](given)
            if scaled is not None and resized:
                notes.append("images are measured before they are resized, not after it")
        if scaled is None:
            raise _unsaid(path, name)
        found = scaled
    return found, tuple(notes)


def _ranged(given: Mapping[str, Any]) -> Preparation | None:
    """ScaleIntensityRange: (value - a_min) / (a_max - a_min) * (b_max - b_min) + b_min."""
    values = [given.get(name) for name in ("a_min", "a_max", "b_min", "b_max")]
    if not all(isinstance(value, (int, float)) for value in values):
        return None
    low, high, first, last = (float(value) for value in values if value is not None)
    if not (low < high and first < last):
        return None
    levels = None if (low, high) == BYTE_LEVELS else (low, high)
    width = last - first
    return Preparation(levels=levels, mean=(-first / width,), std=(1 / width,))


def _normalised(given: Mapping[str, Any], before: Preparation) -> Preparation | None:
    """NormalizeIntensity with fixed numbers: (value - subtrahend) / divisor."""
    mean, std = _values(given.get("subtrahend")), _values(given.get("divisor", 1.0))
    if mean is None or std is None or given.get("nonzero"):
        return None
    every = [mean, std, before.mean or (0.0,), before.std or (1.0,)]  # of raw bytes 1 / 255
    count = max(map(len, every))
    if any(len(values) not in (1, count) for values in every):
        return None
    mean, std, middle, scale = (values * count if len(values) == 1 else values for values in every)
    return replace(
        before,
        mean=tuple(m + value * s for m, value, s in zip(middle, mean, scale, strict=True)),
        std=tuple(value * s for value, s in zip(std, scale, strict=True)),
    )


# Scalings by what each image is itself. The divisor of a constant image is 1 in MONAI and small
# here, which both give 0.


def _deviations(given: Mapping[str, Any]) -> Preparation | None:
    """NormalizeIntensity without numbers."""
    if given.get("divisor") is not None:
        return None
    return Preparation(
        statistics=ImageStatistics(
            pixels="nonzero" if given.get("nonzero") else "all",
            per_channel=bool(given.get("channel_wise")),
        )
    )


def _percentiles(given: Mapping[str, Any]) -> Preparation | None:
    """ScaleIntensityRangePercentiles: two percentiles become b_min and b_max."""
    low, high = given.get("lower"), given.get("upper")
    if not (isinstance(low, (int, float)) and isinstance(high, (int, float))):
        return None
    whole = (low, high) == (0, 100)  # nothing is outside
    if not 0 <= low < high <= 100 or given.get("relative") or (given.get("clip") and not whole):
        return None
    return _from_to(given, given.get("b_min"), given.get("b_max"), (float(low), float(high)))


def _extremes(given: Mapping[str, Any]) -> Preparation | None:
    """ScaleIntensity: the smallest and the largest value become minv and maxv."""
    if given.get("factor") is not None:
        return None
    return _from_to(given, given.get("minv", 0.0), given.get("maxv", 1.0), (0.0, 100.0))


def _from_to(
    given: Mapping[str, Any], first: Any, last: Any, percentiles: tuple[float, float]
) -> Preparation | None:
    """Two percentiles become `first` and `last`; None for 0 and 1."""
    if first is None and last is None:
        first, last = 0, 1
    if not (isinstance(first, (int, float)) and isinstance(last, (int, float)) and first < last):
        return None
    return Preparation(
        mean=(-first / (last - first),),
        std=(1 / (last - first),),
        statistics=ImageStatistics(
            measure="range",
            per_channel=bool(given.get("channel_wise")),
            percentiles=percentiles,
        ),
    )


_MEASURING = {
    "NormalizeIntensity": _deviations,
    "ScaleIntensity": _extremes,
    "ScaleIntensityRangePercentiles": _percentiles,
}


def _values(given: Any) -> tuple[float, ...] | None:
    """One number, or one for each channel."""
    values = given if isinstance(given, list) else [given]
    numbers = all(isinstance(value, (int, float)) for value in values)
    return tuple(map(float, values)) if values and numbers else None


def _unsaid(path: Path, name: str) -> UsageError:
    known = ("NormalizeIntensityd", "ScaleIntensityd", "ScaleIntensityRanged")
    return UsageError(
        f"{path} prepares images by {printable(name)}, which cannot be done as it stands there."
        f"{did_you_mean(name, known)} Possible are ScaleIntensityRanged with b_min and b_max, or "
        "one of NormalizeIntensityd, ScaleIntensityd and ScaleIntensityRangePercentilesd without "
        "clip. Or pass monai:NET with --arch, --weights, --mean and --std."
    )


# Post-processing


def _overlapping(config: Mapping[str, Any], path: Path) -> str:
    """What decides on each class by itself; empty if nothing does.

    Raises:
        UsageError: a threshold of probabilities that is not 0.5.
    """
    entry = config.get("postprocessing")
    steps = entry.get("transforms") if isinstance(entry, dict) else None
    found = ""
    for step in steps if isinstance(steps, list) else []:  # others may be code, and are not read
        given = step if isinstance(step, dict) else {}
        name = str(given.get("_target_", ""))
        kind = name.rpartition(".")[2].removesuffix("d")
        if kind == "Activations" and given.get("sigmoid") is True:
            found = f"{name} with sigmoid"
        threshold = given.get("threshold") if kind == "AsDiscrete" else None
        if isinstance(threshold, (int, float)) and threshold != 0.5:
            raise UsageError(
                f"{path} decides by {printable(name)} with threshold {threshold:g}; expected 0.5. "
                "Add the difference of the logits to the bias of the last layer."
            )
        if threshold is not None:
            found = found or f"{name} with threshold"
    return found
