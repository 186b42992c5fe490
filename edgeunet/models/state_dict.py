"""State dicts: read from files, compared with a net, and copied into it."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from ..errors import CheckpointError, printable
from .base import SegmentationNet
from .weight_files import check_tensors, check_types, read_weight_file
from .wrappers import Judge, unwrap

Value = TypeVar("Value")
_log = logging.getLogger(__name__)


def read_tensors(
    path: Path,
    judge: Judge,
    *,
    raw: bool = False,
    tell: bool = True,
    integers: Container[str] = (),
) -> dict[str, Tensor]:
    """The state dict of a file that fits best, see `unwrap`; a warning tells what was chosen.

    Args:
        judge: says how well tensors fit.
        raw: take the weights that are not averaged.
        tell: warn; not if the file is read once more.
        integers: keys that may hold integers, such as tables of indices.

    Raises:
        CheckpointError: see `read_weight_file`, `unwrap`, `check_tensors` and `check_types`.
        UsageError: `raw` without averaged weights in the file.
    """
    found = unwrap(read_weight_file(path), judge, source=str(path), raw=raw)
    check_tensors(path, found.tensors)
    if found.fits:
        floats = {name: each for name, each in found.tensors.items() if name not in integers}
        check_types(path, floats)
    for notice in found.notices if tell else ():
        _log.warning("%s: %s", path, notice)
    return found.tensors


def without_counters(state: Mapping[str, Value]) -> dict[str, Value]:
    """A state dict without the counters of batch normalisation, which only training needs."""
    return {name: v for name, v in state.items() if not name.endswith("num_batches_tracked")}


def shapes_of(net: nn.Module) -> dict[str, Sequence[int]]:
    """Shapes by key of a net's state dict."""
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


def mismatches(
    expected: Mapping[str, Sequence[int]], tensors: Mapping[str, Tensor], *, shown: int = 4
) -> list[str]:
    """How a state dict differs from the expected shapes; empty if it fits.

    Args:
        expected: shapes by key. Counters of batch normalisation are ignored on both sides.
        shown: how many keys are named of those missing, unknown, and of another shape.
    """
    expected, given = without_counters(expected), without_counters(tensors)
    differing = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in given and tuple(given[name].shape) != tuple(shape)
    ]
    return [
        *_listed("lacks", sorted(set(expected) - set(given)), shown=shown),
        *_listed("has unknown", sorted(set(given) - set(expected)), shown=shown),
        *_listed("differs in", differing, shown=shown),
    ]


def check_fit(
    net: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    title: str | None = None,
    remedy: str = "",
) -> None:
    """Compare a state dict with a net, which may live on the device "meta".

    Args:
        title: what the error calls the net; None for its class. remedy: ends the error.

    Raises:
        CheckpointError: names the keys that are missing or unknown, and the shapes that differ.
    """
    if complaints := mismatches(shapes_of(net), tensors):
        name = title or type(net).__name__
        if isinstance(net, SegmentationNet):
            name += f" with {net.num_classes} classes"
        message = f"{source} does not fit {name}: it {'; it '.join(complaints)}. {remedy}"
        raise CheckpointError(message.rstrip())


def load_weights(net: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy a state dict into a net as FP32.

    Raises:
        CheckpointError: see `check_fit`; or a weight that is not finite.
    """
    check_fit(net, tensors, source=source)
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{source} holds values in {name} that are not finite.")
    net.load_state_dict(
        {name: tensor.float() for name, tensor in without_counters(tensors).items()}, strict=False
    )


def _listed(verb: str, names: list[str], *, shown: int) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return [f"{verb} {', '.join(printable(name[:200]) for name in names[:shown])}{more}"]
