"""Checkpoints: `NAME.safetensors` with the weights, `NAME.json` with the card beside it.

Nothing is unpickled but through `torch.load(weights_only=True)`, for foreign state dicts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ..bundle.manifest import InputSpec, check_classes
from ..bundle.schema import SchemaError, decode, encode
from ..errors import CheckpointError, OutputExistsError, UnknownNameError, UsageError
from ..files import write_bytes, write_json
from .base import SegmentationNet
from .registry import create_model
from .structure import resize

CARD_VERSION = 1
WEIGHTS_DIR = Path(__file__).resolve().parents[1] / "weights"

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PARALLEL = "module."

Value = TypeVar("Value")


@dataclass(frozen=True)
class Card:
    """What a checkpoint is: enough to rebuild the net and to run it rightly.

    arguments: those of `create_model`, num_classes, in_channels and cgm among them.
    palette: RGB by class id. data: name of the training data. metrics: on the validation data,
    such as `miou` in percent. training: how it was made, `seed`, `epochs`, `minutes` among it.
    structure: channels of the layers where they are not those of the variant, see `structure`.
    gate: thresholds of the presence by class id, where a gate was calibrated.
    """

    model: str
    arguments: dict[str, Any]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    input: InputSpec
    data: str
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    structure: dict[str, tuple[int, int]] | None = None
    gate: tuple[float, ...] | None = None
    card_version: int = CARD_VERSION

    def __post_init__(self) -> None:
        if self.card_version != CARD_VERSION:
            raise ValueError(f"card_version is {self.card_version}; {CARD_VERSION} is known")
        check_classes(self.classes, self.palette, self.gate)


def list_weights(model: str) -> list[str]:
    """Tags of the pretrained weights that come with the package for a variant, sorted."""
    return sorted(path.stem.split(".", 1)[1] for path in WEIGHTS_DIR.glob(f"{model}.*.safetensors"))


def find_weights(model: str, weights: str) -> Path:
    """Path of a checkpoint given as a tag of `list_weights` or as a file.

    Raises:
        UnknownNameError: neither a tag nor an existing file; lists the tags.
    """
    tagged = WEIGHTS_DIR / f"{model}.{weights}.safetensors"
    if tagged.is_file():
        return tagged
    if Path(weights).is_file():
        return Path(weights)
    raise UnknownNameError(f"weights of {model}", weights, list_weights(model))


def check_output(output: Path, *, force: bool) -> None:
    """Refuse a place for a checkpoint before any work is done.

    Raises:
        UsageError: not NAME.safetensors. OutputExistsError: it or its card stands there already
            and `force` is false.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"output is {output}; a checkpoint is written as NAME.safetensors.")
    for path in (output, output.with_suffix(".json")):
        if path.exists() and not force:
            raise OutputExistsError(path)


def save_checkpoint(path: Path, net: SegmentationNet, card: Card, *, half: bool = False) -> None:
    """Write `path` (.safetensors) and its card; `half` stores floating weights as FP16."""
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in without_counters(net.state_dict()).items()
    }
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise CheckpointError(f"{broken[0]} is not finite{' in FP16' if half else ''}; not saved.")
    write_bytes(path, save(tensors))
    write_json(path.with_suffix(".json"), encode(card))


def read_card(path: Path) -> Card:
    """Card beside the checkpoint `path`."""
    card_path = path.with_suffix(".json")
    try:
        return decode(Card, json.loads(card_path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} has no card {card_path.name} beside it. `edgeunet train` writes one; it names "
            "the model, its arguments, the classes and the input. A known format from elsewhere "
            "gets one by `edgeunet export`: take BUNDLE/checkpoint.safetensors."
        ) from None
    except (OSError, SchemaError, ValueError) as error:
        raise CheckpointError(f"{card_path} is not a card: {error}") from None


def load_checkpoint(path: Path) -> tuple[SegmentationNet, Card]:
    """Net in evaluation mode with FP32 weights, and its card."""
    card = read_card(path)
    return build(card, path), card


def build(
    card: Card, path: Path, *, tensors: Mapping[str, Tensor] | None = None
) -> SegmentationNet:
    """Net of a card in evaluation mode, with the weights in `path` as FP32.

    Args:
        tensors: the net's state dict where it was made from `path` already; None reads it.

    Raises:
        CheckpointError: arguments that the variant does not take, or weights that do not fit.
    """
    source = path.with_suffix(".json")
    try:
        net = create_model(card.model, **card.arguments)
    except TypeError as error:
        raise CheckpointError(
            f"{source} has the arguments {card.arguments}, which {card.model} does not take: "
            f"{error}"
        ) from None
    if net.num_classes != len(card.classes):
        raise CheckpointError(
            f"{source} names {len(card.classes)} classes, but its net has {net.num_classes}."
        )
    if card.structure is not None:
        resize(net, card.structure, source=str(source))
    weights = read_tensors(path) if tensors is None else tensors
    load_weights(net, weights, source=str(path))
    return net.eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """State dict of a `.safetensors` file, or of a PyTorch file that holds no code.

    What wraps it is taken off, see `unwrap`, and what is no tensor is left out.
    """
    try:
        if path.suffix == ".safetensors":
            return unwrap(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist.") from None
    except Exception as error:  # a damaged pickle raises almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as weights: {reason}. Wanted: .safetensors, or a PyTorch "
            "state dict without any code in it."
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; a state dict was wanted.")
    return unwrap(content)


def unwrap(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """State dict inside what training code saved beside it: optimizer, epoch, `module.` of keys.

    Training loops save `{"net": ..., "optim": ...}` and the like, `DataParallel` and
    `DistributedDataParallel` put `module.` before every key.
    """
    for name in _WRAPPERS:
        inner = content.get(name)
        if isinstance(inner, Mapping) and any(isinstance(v, Tensor) for v in inner.values()):
            content = inner
            break
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if all(name.startswith(_PARALLEL) for name in tensors):
        return {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
    return tensors


def mismatches(
    wanted: Mapping[str, Sequence[int]], tensors: Mapping[str, Tensor], *, shown: int = 4
) -> list[str]:
    """What a state dict lacks, has besides, and has in another shape; empty where it fits.

    Args:
        wanted: shapes by key. The counters of batch normalisation count in neither.
        shown: keys named of each kind.
    """
    wanted, given = without_counters(wanted), without_counters(tensors)
    differing = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(shape)}"
        for name, shape in wanted.items()
        if name in given and tuple(given[name].shape) != tuple(shape)
    ]
    return [
        *_listed("lacks", sorted(set(wanted) - set(given)), shown=shown),
        *_listed("has unknown", sorted(set(given) - set(wanted)), shown=shown),
        *_listed("differs in", differing, shown=shown),
    ]


def without_counters(state: Mapping[str, Value]) -> dict[str, Value]:
    """A state dict without the counters of batch normalisation, which only training needs."""
    return {name: v for name, v in state.items() if not name.endswith("num_batches_tracked")}


def stored_as_half(path: Path) -> bool:
    """Whether a checkpoint keeps FP16 weights, which can be stored so again without loss."""
    return any(tensor.dtype == torch.float16 for tensor in read_tensors(path).values())


def load_weights(net: SegmentationNet, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy `tensors` into the net as FP32.

    Raises:
        CheckpointError: names the keys that are missing or unknown, and the shapes that differ.
    """
    complaints = mismatches({n: t.shape for n, t in net.state_dict().items()}, tensors)
    if complaints:
        raise CheckpointError(
            f"{source} does not fit {type(net).__name__} with {net.num_classes} classes: it "
            f"{'; it '.join(complaints)}."
        )
    net.load_state_dict(
        {name: tensor.float() for name, tensor in without_counters(tensors).items()}, strict=False
    )


def _listed(verb: str, names: list[str], *, shown: int) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return [f"{verb} {', '.join(names[:shown])}{more}"]
