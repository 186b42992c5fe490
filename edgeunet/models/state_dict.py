"""State dicts: read without running code, compared with a net, and copied into it.

This is the only module that opens files of weights. Nothing is unpickled except through
`torch.load(weights_only=True)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError
from .base import SegmentationNet

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PARALLEL = "module."

Value = TypeVar("Value")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """State dict of a `.safetensors` file, or of a PyTorch file that contains no code.

    Wrappers are removed, see `unwrap`. Values that are not tensors are left out.

    Raises:
        CheckpointError: the file is missing, damaged, contains code, or holds no state dict.
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
            f"{path} cannot be read as weights: {reason}. Expected .safetensors, or a PyTorch "
            "state dict without any code in it."
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a state dict.")
    return unwrap(content)


def unwrap(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The state dict inside what training code saves around it.

    Training loops save `{"net": ..., "optim": ..., "epoch": ...}` and the like. `DataParallel` and
    `DistributedDataParallel` put `module.` in front of every key.
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


def without_counters(state: Mapping[str, Value]) -> dict[str, Value]:
    """A state dict without the counters of batch normalisation, which only training needs."""
    return {name: v for name, v in state.items() if not name.endswith("num_batches_tracked")}


def shapes_of(net: SegmentationNet) -> dict[str, Sequence[int]]:
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


def check_fit(net: SegmentationNet, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Compare a state dict with a net, which may live on the device "meta".

    Raises:
        CheckpointError: names the keys that are missing or unknown, and the shapes that differ.
    """
    if complaints := mismatches(shapes_of(net), tensors):
        raise CheckpointError(
            f"{source} does not fit {type(net).__name__} with {net.num_classes} classes: it "
            f"{'; it '.join(complaints)}."
        )


def load_weights(net: SegmentationNet, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy a state dict into a net as FP32; `check_fit` says what is refused."""
    check_fit(net, tensors, source=source)
    net.load_state_dict(
        {name: tensor.float() for name, tensor in without_counters(tensors).items()}, strict=False
    )


def _listed(verb: str, names: list[str], *, shown: int) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return [f"{verb} {', '.join(names[:shown])}{more}"]
