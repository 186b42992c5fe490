"""One dict from a variant's name to its class."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import UnknownNameError, UsageError
from .base import SegmentationNet

_MODELS: dict[str, type[SegmentationNet]] = {}

Net = TypeVar("Net", bound=type[SegmentationNet])


def register_model(name: str) -> Callable[[Net], Net]:
    """Class decorator that registers a net for `create_model` under `name`.

    Example:
        >>> from edgeunet.models import SegmentationNet, register_model
        >>> @register_model("my_net")  # doctest: +SKIP
        ... class MyNet(SegmentationNet): ...
    """

    def register(cls: Net) -> Net:
        if name in _MODELS:
            raise ValueError(f"model {name!r} is already registered as {_MODELS[name].__name__}")
        _MODELS[name] = cls
        return cls

    return register


def list_models() -> list[str]:
    """Names that `create_model` takes, sorted.

    Example:
        >>> from edgeunet import list_models
        >>> list_models()
        ['eff_unet', 'mobile_unet', 'resunet', 'unet', 'unet3p', 'unetpp']
    """
    return sorted(_MODELS)


def model_class(name: str) -> type[SegmentationNet]:
    """Class registered as `name`; UnknownNameError lists the known names.

    Example:
        >>> from edgeunet.models import model_class
        >>> model_class("mobile_unet").size_multiple
        32
    """
    try:
        return _MODELS[name]
    except KeyError:
        raise UnknownNameError("model", name, _MODELS) from None


def create_model(
    name: str, *, num_classes: int, in_channels: int = 3, cgm: bool = False, **arguments: Any
) -> SegmentationNet:
    """Build a net of the U-Net family with random weights.

    Args:
        name: one of `list_models()`.
        num_classes: channels of the logits, including the background.
        in_channels: channels of the image.
        cgm: add the classification-guided module, so that the net returns `presence` too.
        arguments: those of the variant, such as `width` (channels of its first stage).

    Raises:
        UnknownNameError: no such variant.
        UsageError: an argument that the variant does not have, or a value out of range.

    Example:
        >>> from edgeunet import create_model
        >>> create_model("mobile_unet", num_classes=3, width=8, cgm=True).num_classes
        3
    """
    cls = model_class(name)
    known = inspect.signature(cls).parameters
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise UsageError(
            f"{name} has no argument {', '.join(unknown)}. It takes: {', '.join(known)}."
        )
    counts = {"num_classes": num_classes, "in_channels": in_channels, **arguments}
    for label in {"num_classes", "in_channels", "width"} & set(counts):
        if (value := counts[label]) < 1:
            raise UsageError(f"{label} is {value}; it must be at least 1.")
    build: Callable[..., SegmentationNet] = cls
    return build(num_classes=num_classes, in_channels=in_channels, cgm=cgm, **arguments)
