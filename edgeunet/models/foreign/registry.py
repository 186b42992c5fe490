"""The known formats, and which of them a state dict is of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..registry import create_model
from ..state_dict import mismatches, without_counters
from ..structure import structure_of
from .layers import Format, Plan, shapes, structure, translate
from .milesial import MILESIAL
from .nested import NESTED
from .tutorial import TUTORIAL

FORMATS = (TUTORIAL, NESTED, MILESIAL)


@dataclass(frozen=True)
class Recognised:
    """A net that was recognised by its state dict alone.

    title: of its format; completes "FILE is ...".
    model, arguments: for `create_model`, with num_classes, in_channels and width among them.
    structure: channels if they are not those of the variant, see `models.structure`.
    tensors: state dict with our keys.
    scaling: mean and standard deviation of `layers.Plan`.
    """

    title: str
    model: str
    arguments: dict[str, Any]
    structure: dict[str, tuple[int, int]] | None
    tensors: dict[str, Tensor]
    scaling: tuple[float, float] | None


def recognise(tensors: Mapping[str, Tensor]) -> Recognised | None:
    """Recognise a state dict of a foreign format by its keys and shapes, at any width; else None.

    A head with one logit becomes two classes, see `layers.translate`.

    Example:
        >>> import torch
        >>> from edgeunet.models.foreign import recognise
        >>> recognise({"conv1.weight": torch.zeros(64, 3, 7, 7)}) is None
        True
    """
    given = _of_layers(tensors)
    for known in FORMATS:
        plan = known.plan(given)
        if not mismatches(shapes(plan.layers, given), given):
            return _foreign(known, plan, given)
    return None


def closest(tensors: Mapping[str, Tensor]) -> tuple[Format, float, list[str]]:
    """The format with the most similar keys, their `likeness`, and what does not fit.

    Example:
        >>> import torch
        >>> from edgeunet.models.foreign import closest
        >>> closest({"inc.double_conv.0.weight": torch.zeros(64, 3, 3, 3)})[0].model
        'unet'
    """
    given = _of_layers(tensors)
    wanted = {known: shapes(known.plan(given).layers, given) for known in FORMATS}
    best = max(FORMATS, key=lambda known: likeness(wanted[known], given))
    return best, likeness(wanted[best], given), mismatches(wanted[best], given)


def likeness(wanted: Collection[str], given: Collection[str]) -> float:
    """Keys that both have as a share of all keys, 0..1.

    Example:
        >>> from edgeunet.models.foreign import likeness
        >>> likeness(["a", "b"], ["b"])
        0.5
    """
    one, two = set(wanted), set(given)
    return len(one & two) / max(1, len(one | two))


def _foreign(known: Format, plan: Plan, given: Mapping[str, Tensor]) -> Recognised:
    translated = translate(plan.layers, given)
    channels = structure(plan.layers, translated)
    in_channels, width = channels[f"{plan.layers[0].ours}.0"]
    arguments = {
        "num_classes": channels[plan.layers[-1].ours][1],
        "in_channels": in_channels,
        "width": width,
        **plan.arguments,
    }
    with torch.device("meta"):
        regular = structure_of(create_model(known.model, **arguments))
    return Recognised(
        title=known.title,
        model=known.model,
        arguments=arguments,
        structure=None if channels == regular else channels,
        tensors=translated,
        scaling=plan.scaling,
    )


def _of_layers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The layers' tensors; a key without a dot, such as milesial's `mask_values`, has no layer."""
    return without_counters({name: tensor for name, tensor in tensors.items() if "." in name})
