"""Checkpoints: `NAME.safetensors` with the weights, and its card `NAME.json` beside it.

`Checkpoint.open` is the one way to open weights: ours with a card or without, those of known
foreign formats, and the tags that come with the package. Everything that takes weights uses it, so
that all take the same files and refuse the others with the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ..bundle.card import Card
from ..bundle.schema import SchemaError, decode, encode, load_json
from ..catalogue import find_weights, weights_file
from ..data.palettes import default_palette
from ..data.preparation import Preparation
from ..errors import (
    CheckpointError,
    EdgeUNetError,
    UsageError,
)
from ..files import check_file, write_bytes, write_json
from .base import SegmentationNet
from .cardless import identify, input_of, judge_for
from .foreign import likeness
from .registry import create_model, model_class
from .state_dict import check_fit, load_weights, read_tensors, without_counters
from .structure import resize

_SHOWN = 300  # characters of a card's arguments that an error quotes


@dataclass(frozen=True)
class Checkpoint:
    """A net with its weights, and what is known about it.

    path: file of the weights.
    net: in evaluation mode, with the weights as FP32.
    card: the one beside the file. For a file without a card it says what the weights and the caller
        tell; the names of the classes and the training data are then unknown.
    half: whether the file stores FP16 weights that can be stored as FP16 again without loss.

    Example:
        >>> from edgeunet.models import Checkpoint
        >>> Checkpoint.open("cells", "mobile_unet").card.classes
        ('background', 'cell', 'dividing')
    """

    path: Path
    net: SegmentationNet
    card: Card
    half: bool

    @classmethod
    def open(
        cls,
        weights: str | Path,
        model: str | None = None,
        *,
        num_classes: int | None = None,
        size: tuple[int, int] | None = None,
        preparation: Preparation | None = None,
        raw: bool = False,
    ) -> Checkpoint:
        """Open weights of any kind that is known; nothing in the file is ever executed.

        What training code put around the state dict comes off, and averaged weights are taken if
        there are any, see `unwrap`. A warning says so.

        Args:
            weights: a file, the directory of a training run, or, as a str, a tag of
                `list_weights(model)`, which wins over a file of that name. A file without a card
                is of a foreign format (`models.foreign`) or has the keys of our net.
            model: the variant that it must be. Tags need it, and so do files without a card that
                have the keys of our net.
            num_classes: the classes that it must have.
            size: (height, width) of the input instead of the card's. Files without a card need it.
            preparation: how frames are prepared, for files without a card; its filter for all.
            raw: take the weights that are not averaged, of a file with both.

        Raises:
            UnknownNameError: no such model, tag or file.
            UsageError: `size` is missing, a preparation that does not fit, or `raw` without
                averaged weights in the file.
            CheckpointError: a file that cannot be read as weights; weights of another model, number
                of classes or structure; or of no known format, with the closest one named.
        """
        if size is not None and min(size) < 1:
            raise UsageError(f"size is {size[0]}x{size[1]}; both sides must be at least 1.")
        path = _located(weights, model)
        wanted = _Wanted(model, num_classes, size, preparation or Preparation(), raw)
        known = _is_described(path)
        card, tensors = (_with_card if known else _without_card)(path, wanted)
        net = _build(card, tensors, path)
        half = all(t.dtype == torch.float16 for t in tensors.values() if t.is_floating_point())
        return cls(path, net, card, half)


def has_card(weights: str | Path, model: str | None = None) -> bool:
    """Whether weights, as `Checkpoint.open` takes them, have a card; errors as of that."""
    return _is_described(_located(weights, model))


def _located(weights: str | Path, model: str | None) -> Path:
    if model is not None:
        model_class(model)
        if isinstance(weights, str):
            return find_weights(model, weights)
    return weights_file(Path(weights))


def _is_described(path: Path) -> bool:
    return bool(path.name) and path.with_suffix(".json").is_file()


def read_card(path: Path) -> Card:
    """Card beside the checkpoint `path`; CheckpointError if there is none or it is damaged."""
    card_path = path.with_suffix(".json")
    try:
        return decode(Card, load_json(card_path))
    except (OSError, SchemaError) as error:
        raise CheckpointError(f"{card_path} is not a card: {error}") from None


def check_output(output: Path, *, force: bool) -> None:
    """Refuse a place for a checkpoint before any work is done.

    Raises:
        UsageError: not NAME.safetensors. OutputExistsError: the file or its card exists already
            and `force` is false. See `check_file` for the others.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"output is {output}; a checkpoint is written as NAME.safetensors.")
    for path in (output, output.with_suffix(".json")):
        check_file(path, force=force)


def save_checkpoint(
    path: str | Path, net: SegmentationNet, card: Card, *, half: bool = False
) -> None:
    """Write `path` (.safetensors) and its card; `half` stores floating weights as FP16.

    Raises:
        CheckpointError: a weight that is not finite, in FP16 if `half`; nothing is written.

    Example:
        >>> from edgeunet.models import Checkpoint, save_checkpoint
        >>> unet = Checkpoint.open("cells", "unet")
        >>> save_checkpoint("copy.safetensors", unet.net, unet.card, half=True)
    """
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in without_counters(net.state_dict()).items()
    }
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise CheckpointError(f"{broken[0]} is not finite{' in FP16' if half else ''}; not saved.")
    path = Path(path)
    write_bytes(path, save(tensors))
    write_json(path.with_suffix(".json"), encode(card))


@dataclass(frozen=True)
class _Wanted:
    """What the caller of `Checkpoint.open` asks for."""

    model: str | None
    num_classes: int | None
    size: tuple[int, int] | None
    preparation: Preparation
    raw: bool

    def check(self, path: Path, title: str, model: str, num_classes: int) -> None:
        """CheckpointError if the weights are of another model or number of classes."""
        if self.model not in (None, model):
            raise CheckpointError(f"{path} is {title}; {self.model} was asked for.")
        if self.num_classes not in (None, num_classes):
            raise CheckpointError(
                f"{path} has {num_classes} classes; --num-classes {self.num_classes} was asked for."
            )


def _with_card(path: Path, wanted: _Wanted) -> tuple[Card, dict[str, Tensor]]:
    """Card of weights that have one, and the weights."""
    card = read_card(path)
    chosen = wanted.preparation.filter
    if replace(wanted.preparation, filter=None) != Preparation():
        raise UsageError(
            f"{path} has a card, which says how frames are prepared. Leave out --channels, "
            "--levels, --mean, --std, --resize and --fill, or correct the card."
        )
    wanted.check(path, f"a checkpoint of {card.model}", card.model, len(card.classes))
    if wanted.size is not None:
        height, width = wanted.size
        card = replace(card, input=replace(card.input, height=height, width=width))
    if chosen is not None:
        try:
            card = replace(card, input=replace(card.input, filter=chosen))
        except ValueError as error:  # bytes only
            raise UsageError(f"{error}. Pass another --filter.") from None
    with torch.device("meta"):
        keys = without_counters(_shaped(card, path.with_suffix(".json")).state_dict())
    tensors = read_tensors(
        path, lambda found: likeness(keys, without_counters(found)), raw=wanted.raw
    )
    return card, tensors


def _without_card(path: Path, wanted: _Wanted) -> tuple[Card, dict[str, Tensor]]:
    """A card of what the weights and the caller tell, and the weights with our keys."""
    found = identify(
        path, read_tensors(path, judge_for(wanted.model), raw=wanted.raw), wanted.model
    )
    classes = found.arguments["num_classes"]
    wanted.check(path, f"{found.title}, i.e. {found.model}", found.model, classes)
    spec = input_of(path, found, wanted.size, wanted.preparation)
    card = Card(
        model=found.model,
        arguments=found.arguments,
        classes=tuple(f"class {index}" for index in range(classes)),
        palette=default_palette(classes),
        input=spec,
        data="unknown",
        structure=found.structure,
    )
    return card, found.tensors


def _build(card: Card, tensors: Mapping[str, Tensor], path: Path) -> SegmentationNet:
    """Net of a card in evaluation mode, with a state dict as FP32.

    Raises:
        CheckpointError: arguments that the variant does not take, or weights that do not fit.
    """
    source = path.with_suffix(".json")
    # A net without memory comes first: a card may ask for a thousand times what the weights hold.
    with torch.device("meta"):
        check_fit(_shaped(card, source), tensors, source=str(path))
    net = _shaped(card, source)
    load_weights(net, tensors, source=str(path))
    return net.eval()


def _shaped(card: Card, source: Path) -> SegmentationNet:
    """Net of a card with the channels that it names."""
    try:
        net = create_model(card.model, **card.arguments)
        if net.num_classes == len(card.classes) and card.structure is not None:
            resize(net, card.structure, source=str(source))
    except EdgeUNetError:
        raise
    except Exception as error:  # PyTorch has several for sizes that no layer can have
        raise CheckpointError(
            f"{source} has the arguments {str(card.arguments)[:_SHOWN]}, which {card.model} does "
            f"not take: {str(error)[:_SHOWN]}"
        ) from None
    if net.num_classes != len(card.classes):
        raise CheckpointError(
            f"{source} names {len(card.classes)} classes, but its net has {net.num_classes}."
        )
    return net
