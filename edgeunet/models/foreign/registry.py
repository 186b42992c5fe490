"""The formats that are known, and which of them a state dict has."""

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
    """A state dict without a card, in our terms.

    title: of its format, as in "FILE is ...".
    model, arguments: for `create_model`, num_classes, in_channels and width among them.
    structure: channels where they are not those of the variant, see `models.structure`.
    tensors: our state dict, FP32.
    scaling: mean and standard deviation of `layers.Plan`.
    """

    title: str
    model: str
    arguments: dict[str, Any]
    structure: dict[str, tuple[int, int]] | None
    tensors: dict[str, Tensor]
    scaling: tuple[float, float] | None


def recognise(tensors: Mapping[str, Tensor]) -> Recognised | None:
    """The net in a state dict of a known format, by its keys and shapes at any width; else None.

    A head of one logit becomes two classes, see `layers.translate`.
    """
    given = _of_layers(tensors)
    for known in FORMATS:
        plan = known.plan(given)
        if not mismatches(shapes(plan.layers, given), given):
            return _foreign(known, plan, given)
    return None


def closest(tensors: Mapping[str, Tensor]) -> tuple[Format, float, list[str]]:
    """The format whose keys a state dict shares most, how much, and what does not fit.

    The share is that of `likeness`.
    """
    given = _of_layers(tensors)
    wanted = {known: shapes(known.plan(given).layers, given) for known in FORMATS}
    best = max(FORMATS, key=lambda known: likeness(wanted[known], given))
    return best, likeness(wanted[best], given), mismatches(wanted[best], given)


def likeness(wanted: Collection[str], given: Collection[str]) -> float:
    """Share of the keys of either that both have, 0..1."""
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
    """State of layers; a key without a dot, such as milesial's `mask_values`, belongs to none."""
    return without_counters({name: tensor for name, tensor in tensors.items() if "." in name})
