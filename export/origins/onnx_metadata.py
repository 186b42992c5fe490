"""What the metadata of an ONNX file tell of its classes and its input."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgeunet.bundle.manifest import MAX_CLASSES

LONGEST = 1 << 16
"""Longest text that is read: names of 256 classes need far less."""

_BLACK_WHITE = 255.0  # OpenVINO's statistics are for bytes


@dataclass(frozen=True)
class Metadata:
    """What an ONNX file tells beside its graph; None and () for what it does not tell.

    classes: names by class id. size: height and width. bgr: whether the net takes blue first.
    mean, std: of each channel, for values scaled to 0..1.
    """

    classes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    bgr: bool | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def read_metadata(found: Mapping[str, str]) -> Metadata:
    """Read the keys of Ultralytics (names, imgsz) and OpenVINO's Model API (model_info …).

    Values that are not what their key promises are left out: metadata are a convenience, and
    options replace them. Nothing is executed.

    OpenVINO's `reverse_input_channels` turns the BGR frames of OpenCV into the RGB of the net; so
    a net without it takes BGR.

    Example:
        >>> from edgeunet.exporting.origins.onnx_metadata import read_metadata
        >>> read_metadata({"names": "{0: 'sky', 1: 'road'}"}).classes
        ('sky', 'road')
    """
    short = {name: text for name, text in found.items() if len(text) <= LONGEST}
    model_info = {
        name.removeprefix("model_info").strip(" /."): text
        for name, text in short.items()
        if name.startswith("model_info")
    }
    reverse = model_info.get("reverse_input_channels", "").strip().lower()
    return Metadata(
        classes=_names(short.get("names", "")) or tuple(model_info.get("labels", "").split()),
        size=_size(short.get("imgsz", "")),
        bgr={"true": False, "yes": False, "false": True, "no": True}.get(reverse),
        mean=_scaled(model_info.get("mean_values", "")),
        std=_scaled(model_info.get("scale_values", "")),
    )


def _literal(text: str) -> object:
    """A Python literal, None if the text is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _names(text: str) -> tuple[str, ...]:
    found = _literal(text)
    if isinstance(found, dict):
        known = set(found) == set(range(len(found)))
        found = [found[index] for index in range(len(found))] if known else None
    if not isinstance(found, list | tuple) or not 0 < len(found) <= MAX_CLASSES:
        return ()
    return tuple(found) if all(isinstance(name, str) and name for name in found) else ()


def _size(text: str) -> tuple[int, int] | None:
    found = _literal(text)
    if isinstance(found, int) and not isinstance(found, bool):
        found = [found, found]
    if not isinstance(found, list | tuple) or len(found) != 2:
        return None
    height, width = found
    plain = all(type(side) is int and side > 0 for side in found)
    return (height, width) if plain else None


def _scaled(text: str) -> tuple[float, ...]:
    """Numbers between spaces or commas, for bytes -> for values in 0..1."""
    try:
        values = [float(word) for word in text.replace(",", " ").strip("[] ").split()]
    except ValueError:
        return ()
    if not all(math.isfinite(value) for value in values):
        return ()
    return tuple(value / _BLACK_WHITE for value in values)
