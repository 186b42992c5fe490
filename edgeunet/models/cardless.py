"""Weights without a card: what their keys and shapes say about the net, and how frames are fed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bundle.manifest import InputSpec
from ..data.preparation import Preparation
from ..errors import CheckpointError, UsageError
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
