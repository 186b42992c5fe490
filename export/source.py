"""Tag or file of weights -> net and card: our checkpoints, those of others, plain state dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeunet.bundle.manifest import Color, InputSpec
from edgeunet.data.datasets import default_palette
from edgeunet.errors import CheckpointError, UsageError
from edgeunet.fields import describe
from edgeunet.models import SegmentationNet, create_model, model_class
from edgeunet.models.checkpoints import (
    Card,
    build,
    find_weights,
    mismatches,
    read_card,
    read_tensors,
    without_counters,
)
from edgeunet.models.foreign import FORMATS, Foreign, closest, likeness, recognise


@dataclass(frozen=True)
class Preparation:
    """How weights without a card want their frames, where they are not prepared as assumed.

    Assumed is what the format's original code does where that is certain, else RGB with ImageNet's
    statistics, and 0..1 in gray. Parity with PyTorch cannot tell: both sides see the same input.

    color: order of the channels. mean, std: for values scaled to 0..1, one for all channels or one
    each.
    """

    color: Color | None = field(default=None, metadata=describe("Order of the channels."))
    mean: tuple[float, ...] | None = field(
        default=None, metadata=describe("Mean of pixel values scaled to 0..1.")
    )
    std: tuple[float, ...] | None = field(
        default=None, metadata=describe("Standard deviation of pixel values scaled to 0..1.")
    )

    def apply(self, spec: InputSpec, *, source: Path) -> InputSpec:
        """The input with what was given; UsageError where that does not go together."""
        color, channels = self.color or spec.color, spec.channels
        if (color == "gray") != (spec.color == "gray"):
            raise UsageError(f"{source} takes {channels} channels; --color {color} does not fit.")
        # Statistics follow the order of the channels.
        order = slice(None, None, 1 if color == spec.color else -1)
        try:
            return replace(
                spec,
                color=color,
                mean=_each(self.mean, channels) or spec.mean[order],
                std=_each(self.std, channels) or spec.std[order],
            )
        except ValueError as error:
            raise UsageError(f"{error}. Pass --mean and --std that fit.") from None


AS_ASSUMED = Preparation()
"""Nothing was given."""


def load_source(
    model: str,
    weights: str,
    *,
    num_classes: int | None,
    size: tuple[int, int] | None,
    preparation: Preparation = AS_ASSUMED,
) -> tuple[Path, SegmentationNet, Card]:
    """File, net and card of weights: a tag, a checkpoint with its card, or a state dict without.

    A state dict without a card is of a foreign format (`models.foreign`), which tells all but the
    size, or has the keys of our net at its default width.

    Args:
        num_classes: for a state dict of ours without a card; elsewhere it must agree.
        size: (height, width) of the input, for weights without a card.
        preparation: of their frames.

    Raises:
        UnknownNameError: no such model or weights.
        UsageError: `num_classes` or `size` is needed, or a preparation that does not fit.
        CheckpointError: weights of another model or another number of classes, or of no known
            format; names the closest one and what does not fit.
    """
    model_class(model)
    path = find_weights(model, weights)
    if path.with_suffix(".json").is_file():
        card = read_card(path)
        if preparation != AS_ASSUMED:
            raise UsageError(
                f"{path} has a card, which says how frames are prepared. Leave out --color, --mean "
                "and --std, or correct the card."
            )
        _check_model(path, f"a checkpoint of {card.model}", card.model, model)
        _check_classes(path, len(card.classes), num_classes)
        return path, build(card, path), card
    tensors = read_tensors(path)
    foreign = recognise(tensors)
    if foreign is None:
        card = _plain_card(path, tensors, model, num_classes, size)
    else:
        card = _foreign_card(path, foreign, model, num_classes, size)
        tensors = foreign.tensors
    card = replace(card, input=preparation.apply(card.input, source=path))
    return path, build(card, path, tensors=tensors), card


def _each(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    """One value for all channels, or one for each."""
    return values * channels if values is not None and len(values) == 1 else values


def _foreign_card(
    path: Path,
    foreign: Foreign,
    model: str,
    num_classes: int | None,
    size: tuple[int, int] | None,
) -> Card:
    """Card of a foreign checkpoint, which does not tell the size of its input."""
    _check_model(path, f"{foreign.title}, i.e. {foreign.model}", foreign.model, model)
    classes = foreign.arguments["num_classes"]
    _check_classes(path, classes, num_classes)
    if size is None:
        raise UsageError(
            f"{path} is {foreign.title}, whose weights do not tell the size of the input. Pass "
            "--size HxW."
        )
    return _card(model, foreign.arguments, _input(path, foreign, size), foreign.structure)


def _input(path: Path, foreign: Foreign, size: tuple[int, int]) -> InputSpec:
    """Input as the original code prepares it; where its forms differ, ours, or 0..1 in gray."""
    height, width = size
    channels = foreign.arguments["in_channels"]
    if channels not in (1, 3):
        raise CheckpointError(f"{path} takes {channels} channels; frames have 3, or 1 in gray.")
    if foreign.scaling is None and channels == 3:
        return InputSpec(height, width)
    mean, std = foreign.scaling or (0.0, 1.0)
    return InputSpec(
        height,
        width,
        color="rgb" if channels == 3 else "gray",
        mean=(mean,) * channels,
        std=(std,) * channels,
    )


def _plain_card(
    path: Path,
    tensors: Mapping[str, Tensor],
    model: str,
    num_classes: int | None,
    size: tuple[int, int] | None,
) -> Card:
    """Card of a state dict of ours: what cannot be known must be said, the rest is the default."""
    with torch.device("meta"):
        net = create_model(model, num_classes=1 if num_classes is None else num_classes)
    _check_known(path, tensors, model, {n: t.shape for n, t in net.state_dict().items()})
    if num_classes is None or size is None:
        raise UsageError(
            f"{path} has no card {path.with_suffix('.json').name} beside it. Pass --num-classes "
            "and --size, or a checkpoint that `edgeunet train` wrote."
        )
    return _card(model, {"num_classes": num_classes}, InputSpec(*size))


def _check_known(
    path: Path, tensors: Mapping[str, Tensor], model: str, ours: Mapping[str, Sequence[int]]
) -> None:
    """CheckpointError unless a state dict is nearer to our net than to any foreign format."""
    own = likeness(without_counters(ours), without_counters(tensors))
    foreign, share, complaints = closest(tensors)
    if own and own >= share:
        return
    title = f"{foreign.title}, i.e. {foreign.model}"
    if not share:
        title, complaints = f"a {model} of edgeunet", mismatches(ours, tensors)
    raise CheckpointError(
        f"{path} is of no known format: a {model} of edgeunet, "
        f"{', '.join(known.title for known in FORMATS)}. Closest is {title}, but it "
        f"{'; it '.join(complaints)}."
    )


def _card(
    model: str,
    arguments: dict[str, Any],
    spec: InputSpec,
    structure: dict[str, tuple[int, int]] | None = None,
) -> Card:
    """Card of weights that came without: names, colours and data are not known."""
    classes = arguments["num_classes"]
    return Card(
        model=model,
        arguments=arguments,
        classes=tuple(f"class {index}" for index in range(classes)),
        palette=default_palette(classes),
        input=spec,
        data="unknown",
        structure=structure,
    )


def _check_model(path: Path, title: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise CheckpointError(f"{path} is {title}; {wanted} was asked for.")


def _check_classes(path: Path, found: int, wanted: int | None) -> None:
    if wanted not in (None, found):
        raise CheckpointError(f"{path} has {found} classes; --num-classes {wanted} was asked for.")
