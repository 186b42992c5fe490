"""Weights without a card: what their keys and shapes say about the net, and how frames are fed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bundle.manifest import BYTE_LEVELS, RGB, Filter, InputSpec, depth_of, imagenet
from ..data.fit import Reading
from ..errors import CheckpointError, UsageError
from ..fields import described
from .base import HEADS, SegmentationNet
from .foreign import FORMATS, Recognised, closest, likeness, recognise
from .registry import create_model, model_class
from .state_dict import check_fit, mismatches, shapes_of, without_counters
from .structure import structure_of
from .wrappers import Judge

# Arguments of variants that add or remove keys, the variant's default first.
_SHAPING: dict[str, tuple[Any, ...]] = {
    "cgm": (False, True),
    "deep_supervision": (True, False),
    "upsampling": ("transposed", "bilinear"),
    "depth": (4, 3, 2, 1),
}
_ROUNDING = 8  # `round_channels` maps widths that are less than this apart onto one stem
_WIDEST = 4096  # channels of a stem, above which a file is not taken at its word


@dataclass(frozen=True)
class Preparation:
    """How frames are prepared for weights without a card, if not in the assumed way.

    The assumed way is that of the format's original code if that is certain. Otherwise it is RGB
    with ImageNet's statistics, or other channels scaled to 0..1. Parity with PyTorch cannot detect
    a wrong preparation, because both sides see the same input.

    channels: of the net, in its order; see `channel_names`. levels: raw values that mean 0 and 1.
    mean, std: for values scaled to 0..1, either one for all channels or one for each.
    filter: see `edgeunet.data.resize`. Weights with a card may have another one than the card's.

    Example:
        >>> from edgeunet.models import Preparation
        >>> Preparation(channels=("bgr",), mean=(0.5,), std=(0.25,)).channels
        ('blue', 'green', 'red')
    """

    channels: tuple[str, ...] | None = described(
        None,
        "Channels of the net in its order, or rgb, bgr or gray.",
        metavar="NAME,…",
        shown_default="rgb, or gray",
    )
    levels: tuple[float, ...] | None = described(
        None, "Raw values that mean black and white.", metavar="LO,HI", shown_default="0,255"
    )
    mean: tuple[float, ...] | None = described(None, "Mean of pixel values scaled to 0..1.")
    std: tuple[float, ...] | None = described(
        None, "Standard deviation of pixel values scaled to 0..1."
    )
    filter: Filter | None = described(
        None,
        "How pixels are resized, also for weights with a card; README compares them.",
        shown_default="the card's, or bilinear",
    )

    def __post_init__(self) -> None:
        reading = Reading(self.levels, self.channels)  # refuses what cannot be
        object.__setattr__(self, "channels", reading.channels)

    def input(
        self, path: Path, size: tuple[int, int], channels: int, scaling: tuple[float, float] | None
    ) -> InputSpec:
        """The input of a net.

        Args:
            path: of its weights, for errors. size: height and width. channels: their number.
            scaling: mean and standard deviation of the original code, None if it is not known.

        Raises:
            UsageError: names or statistics that do not fit the net, or names that it needs.
        """
        names = self.channels or {1: ("gray",), 3: RGB}.get(channels)
        if names is None:
            raise UsageError(
                f"{path} takes {channels} channels. Name them in its order, such as --channels "
                "red,green,blue,nir."
            )
        if len(names) != channels:
            raise UsageError(
                f"{path} takes {channels} channels; --channels {','.join(names)} does not fit."
            )
        mean, std = (0.0,) * channels, (1.0,) * channels
        if scaling is not None:
            mean, std = (scaling[0],) * channels, (scaling[1],) * channels
        elif set(names) == set(RGB):
            mean, std = imagenet(names)
        low, high = self.levels or BYTE_LEVELS
        try:
            return InputSpec(
                *size,
                channels=names,
                levels=(low, high),
                depth=depth_of((low, high)),
                filter=self.filter or "bilinear",
                mean=_for_each(self.mean, channels) or mean,
                std=_for_each(self.std, channels) or std,
            )
        except ValueError as error:
            raise UsageError(f"{error}. Pass --mean, --std and --filter that fit.") from None


def judge_for(model: str | None) -> Judge:
    """How well tensors fit a foreign format, or our variant if one is named.

    Example:
        >>> import torch
        >>> from edgeunet.models.cardless import judge_for
        >>> judge_for(None)({"conv1.weight": torch.zeros(64, 3, 7, 7)})
        0.0
    """

    def judge(tensors: Mapping[str, Tensor]) -> float:
        given = without_counters(tensors)
        own = [] if model is None else [likeness(keys, given) for _, keys in _forms(model)]
        return max([closest(tensors)[1], *own])

    return judge


def identify(path: Path, tensors: Mapping[str, Tensor], model: str | None) -> Recognised:
    """The net that a state dict without a card belongs to.

    Args:
        path: its file, for the errors.
        model: the variant that it should be of. Foreign formats tell it, our own keys do not.

    Raises:
        CheckpointError: an unknown format; the error names the closest one and what does not fit.
    """
    found = recognise(tensors)
    if found is not None:
        return found
    if model is None:
        raise CheckpointError(
            f"{path} has no card {path.with_suffix('.json').name} beside it. `edgeunet train` "
            "writes one; it names the model, its arguments, the classes and the input. Or name "
            "the model; or export the weights, which writes a card to BUNDLE/checkpoint.json."
        )
    arguments = _arguments(model, tensors)
    with torch.device("meta"):
        net = create_model(model, **arguments)
    _check_known(path, tensors, model, net)
    check_fit(net, tensors, source=str(path))
    return Recognised(f"a {model} of edgeunet", model, arguments, None, dict(tensors), None)


def input_of(
    path: Path, found: Recognised, size: tuple[int, int] | None, preparation: Preparation
) -> InputSpec:
    """The input as the original code prepares it, or as `Preparation` assumes or says.

    Raises:
        UsageError: no size, which weights do not tell, or a preparation that does not fit.
    """
    if size is None:
        raise UsageError(
            f"{path} has no card {path.with_suffix('.json').name} beside it. It is {found.title}, "
            "whose weights do not tell the size of the input. Pass --size HxW."
        )
    return preparation.input(path, size, found.arguments["in_channels"], found.scaling)


def _for_each(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    """One value for all channels as one for each."""
    return values * channels if values is not None and len(values) == 1 else values


def _arguments(model: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments that give our net these keys and shapes; the closest guess if none do."""
    known = inspect.signature(model_class(model)).parameters
    with torch.device("meta"):
        default = create_model(model, num_classes=1)
        stem = tensors.get(f"{next(iter(structure_of(default)))}.weight")
        width, in_channels = known["width"].default, 3
        if stem is not None and stem.ndim == 4 and max(stem.shape[:2]) <= _WIDEST:
            width, in_channels = stem.shape[:2]
        heads = [len(t) for name, t in tensors.items() if name.startswith(HEADS) and t.ndim]
        guess = {
            "num_classes": max([1, *heads[:1]]),
            "in_channels": max(1, in_channels),
            **_shaping(model, tensors),
        }
        nearby = range(width - _ROUNDING, width + _ROUNDING + 1)
        for near in (width, *nearby):
            if near > 0 and not mismatches(
                shapes_of(create_model(model, width=near, **guess)), tensors
            ):
                return {**guess, "width": near}
    return {**guess, "width": max(1, width)}


def _shaping(model: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Those arguments of `_SHAPING` that give a variant the most similar keys."""
    given = without_counters(tensors)
    return max(_forms(model), key=lambda form: likeness(form[1], given))[0]


@cache
def _forms(model: str) -> list[tuple[dict[str, Any], frozenset[str]]]:
    """The arguments of `_SHAPING` that a variant takes, in all combinations, each with its keys."""
    known = inspect.signature(model_class(model)).parameters
    choices = {name: values for name, values in _SHAPING.items() if name in known}
    options = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
    with torch.device("meta"):
        nets = [create_model(model, num_classes=1, **option) for option in options]
    return [
        (option, frozenset(without_counters(net.state_dict())))
        for option, net in zip(options, nets, strict=True)
    ]


def _check_known(
    path: Path, tensors: Mapping[str, Tensor], model: str, net: SegmentationNet
) -> None:
    """CheckpointError unless a state dict is closer to our net than to any foreign format."""
    own = likeness(without_counters(net.state_dict()), without_counters(tensors))
    foreign, share, complaints = closest(tensors)
    if own and own >= share:
        return
    title = f"{foreign.title}, i.e. {foreign.model}"
    if not share:
        title, complaints = f"a {model} of edgeunet", mismatches(shapes_of(net), tensors)
    raise CheckpointError(
        f"{path} is of no known format: a {model} of edgeunet, "
        f"{', '.join(known.title for known in FORMATS)}. Closest is {title}, but it "
        f"{'; it '.join(complaints)}."
    )
