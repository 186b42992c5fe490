"""Nets that libraries build: their weights, how frames reach them, and names of their classes."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.fit import Frame
from edgeunet.data.preparation import Preparation
from edgeunet.errors import (
    EdgeUNetError,
    MissingDependencyError,
    UsageError,
    did_you_mean,
    first_line,
)
from edgeunet.extras import find_package
from edgeunet.metrics import Mask
from edgeunet.models.foreign import likeness
from edgeunet.models.state_dict import check_fit, load_weights, read_tensors, without_counters
from edgeunet.models.wrappers import Judge

from ..options import ExportOptions, class_names
from .base import card_of, named_classes
from .module import ModuleOrigin, Segment

Make = Callable[[], nn.Module]


def library(module: str) -> Any:
    """Import a library of nets, without its warnings.

    Raises:
        MissingDependencyError: it is not installed, or one that it needs.

    Example:
        >>> from edgeunet.exporting.origins.library import library
        >>> library("torch.nn").__name__
        'torch.nn'
    """
    try:
        with quiet():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        name = missing if find_package(missing) else module.partition(".")[0]
        raise MissingDependencyError(name) from None
    except Exception as error:  # a library that does not fit the installed PyTorch
        raise UsageError(f"{module} cannot be imported: {first_line(error)}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings, which are the affair of a library's own users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# Weights


class _WithoutMemory(TorchFunctionMode):
    """Makes the tensors of layers on the device "meta".

    Not all tensors, as `torch.device("meta")` does: some nets compute with small ones while they
    are built. Values that these tensors would get are not computed, which takes most of the time.
    """

    _FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn})
    _FILLING = frozenset(
        {
            "add_",
            "clamp_",
            "div_",
            "erfinv_",
            "fill_",
            "mul_",
            "normal_",
            "sub_",
            "uniform_",
            "zero_",
        }
    )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = dict(kwargs or {})
        tensor = args[0] if args else given.get("tensor")
        fills = getattr(func, "__name__", "") in self._FILLING
        if fills and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor
        if func in self._FACTORIES and given.get("device") is None:
            given["device"] = "meta"
        return func(*args, **given)


def shaped(make: Make, title: str) -> nn.Module:
    """The net that `make` builds, with shapes but without memory for its weights."""
    with _WithoutMemory():
        return built(make, title)


def built(make: Make, title: str) -> nn.Module:
    """The net that `make` builds.

    Raises:
        UsageError: arguments that the library does not take.
    """
    try:
        with quiet():
            return make()
    except EdgeUNetError:
        raise
    except Exception as error:  # whatever the library raises
        raise UsageError(
            f"{title} cannot be built: {type(error).__name__}: {first_line(error)}. Pass other "
            "arguments by --arch KEY=VALUE,…."
        ) from None


def loaded(
    make: Make,
    title: str,
    path: Path,
    *,
    raw: bool = False,
    unused: str | None = None,
    remedy: str = "Pass the net's own arguments by --arch KEY=VALUE,….",
) -> nn.Module:
    """The net that `make` builds, in evaluation mode, with the weights of a file.

    What training code put around the state dict comes off, see `unwrap`. Shapes are compared before
    memory is spent.

    Args:
        unused: prefix of keys that the net has no use for.
        remedy: ends the error for weights that do not fit.

    Raises:
        CheckpointError: see `read_tensors` and `check_fit`. UsageError: see `built`.
    """
    empty = shaped(make, title)
    keys = without_counters(empty.state_dict())

    def used(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: tensor
            for name, tensor in without_counters(tensors).items()
            if unused is None or not name.startswith(unused)
        }

    integers = {name for name, tensor in keys.items() if not tensor.is_floating_point()}

    def judge(found: Mapping[str, Tensor]) -> float:
        return likeness(keys, used(found))

    tensors = used(read_tensors(path, judge, raw=raw, integers=integers))
    check_fit(empty, tensors, source=str(path), title=title, remedy=remedy)
    net = built(make, title)
    load_weights(net, tensors, source=str(path))
    return net.eval()


def peek(path: Path, judge: Judge, *, raw: bool = False) -> dict[str, Tensor]:
    """The state dict of a file that fits best, to see what net it is of; see `read_tensors`."""
    return without_counters(read_tensors(path, judge, raw=raw, tell=False))


def weights_of(options: ExportOptions, title: str) -> Path:
    """The file of weights.

    Raises:
        UsageError: none was given.
    """
    if options.weights is None:
        raise UsageError(
            f"got no weights for {title}; a net without them segments nothing, and none are "
            "downloaded. Pass --weights FILE."
        )
    return Path(options.weights)


# From frames to a net


def input_of(
    options: ExportOptions,
    title: str,
    channels: int,
    *,
    usual: Preparation | None = None,
    scaling: tuple[float, float] | None = None,
) -> InputSpec:
    """The input of a net.

    Args:
        channels: their number. usual: how the library prepares frames, as far as it tells.
        scaling: mean and standard deviation for all channels; None for ImageNet's of RGB.

    Raises:
        UsageError: no size, or a preparation that does not fit.
    """
    if options.size is None:
        raise UsageError(f"{title} takes any size. Pass --size HxW: that of its training images.")
    given = preparation_of(options)
    usual = usual or Preparation()
    names = given.channels or usual.channels
    mean: tuple[float, ...] | None = usual.mean
    std: tuple[float, ...] | None = usual.std
    if mean and std and names and usual.channels and names != usual.channels:
        # The library's numbers belong to colours, whatever their order.
        fit = set(names) == set(usual.channels)
        order = [usual.channels.index(name) for name in names] if fit else []
        mean = tuple(mean[place] for place in order)
        std = tuple(std[place] for place in order)
    merged = replace(
        given,
        channels=names,
        levels=given.levels or usual.levels,
        mean=given.mean or mean or None,
        std=given.std or std or None,
        filter=given.filter or usual.filter,
        statistics=given.statistics or (None if given.mean or given.std else usual.statistics),
    )
    return merged.input(Path(title), options.size, channels, scaling)


def preparation_of(options: ExportOptions) -> Preparation:
    """What the caller says about frames, for a net that does not tell it."""
    return options.preparation or Preparation()


def origin_of(
    net: nn.Module,
    options: ExportOptions,
    spec: InputSpec,
    *,
    classes: int,
    model: str,
    title: str,
    packages: Sequence[str] = (),
    names: Sequence[str] = (),
    weights: str = "memory",
    segment: Segment | None = None,
    notes: Sequence[str] = (),
) -> ModuleOrigin:
    """The origin of a net with the names of its classes.

    Args:
        classes: channels of its logits. model: its name. title: of its library.
        packages: of the library. names: of the classes, unless the options name them.
        weights: how the manifest names them.
        segment, notes: see `ModuleOrigin` and `Origin`.

    Raises:
        UsageError: names that do not fit, or see `ModuleOrigin`.
    """
    if classes == 1:
        names = ()
    chosen = named_classes(classes, class_names(options.classes) or names, model)
    origin = ModuleOrigin(
        net,
        card_of(model, chosen, spec),
        output=options.head,
        segment=segment,
        weights=weights,
        title=title,
    )
    origin.packages = ("torch", *packages)
    origin.notes += notes
    return origin


def decided(logits: Tensor, frame: Frame) -> Mask:
    """Logits (1, classes, h, w) of a net -> class ids at the frame's size (H, W).

    One channel is that of the foreground.
    """
    size = frame.shape[:2]
    large = nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)[0]
    ids = large[0] > 0 if len(large) == 1 else large.argmax(0)
    mask: Mask = ids.numpy().astype(np.uint8)
    return mask


def unknown_net(prefix: str, name: str, known: Collection[str], *, folder: bool) -> UsageError:
    """The error for a net that is not among those that a library may build."""
    place = " nor a folder" if folder else ""
    return UsageError(
        f"{prefix}:{name} is none of the nets that can be built{place}."
        f"{did_you_mean(name, known)} Known: {', '.join(sorted(known))}."
    )
