"""Nets of MONAI: `monai:NET` with a file of weights, or `monai:BUNDLE`, of its model zoo."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from edgeunet.data.preparation import Preparation
from edgeunet.errors import EdgeUNetError, UsageError, printable
from edgeunet.models.state_dict import shapes_of, without_counters

from ..options import ExportOptions
from .arguments import Arguments, arguments_of, check_arguments, is_plain
from .library import (
    input_of,
    library,
    loaded,
    origin_of,
    peek,
    preparation_of,
    shaped,
    unknown_net,
    weights_of,
)
from .module import ModuleOrigin
from .monai_bundle import Bundle, read_bundle

NETS = (
    "AHNet",
    "AttentionUnet",
    "BasicUNet",
    "BasicUNetPlusPlus",
    "DynUNet",
    "FlexibleUNet",
    "HighResNet",
    "MedNeXt",
    "SegResNet",
    "SegResNetDS",
    "SegResNetDS2",
    "SwinUNETR",
    "UNETR",
    "UNet",
    "VNet",
)
"""Classes of `monai.networks.nets` that may be built."""

_NETWORKS = "monai.networks.nets"
_OFF = ("pretrained", "progress", "use_checkpoint")
"""Arguments that are off, whatever is given: the first two would download."""
_SIZED = "img_size"
_TRIED = 4  # numbers of channels
_UNTOLD = Preparation(mean=(0.0,), std=(1.0,))


def open_monai(name: str, options: ExportOptions) -> ModuleOrigin:
    """A net of the library in two dimensions.

    The channels of the image and the number of classes are those of the weights, if they are not
    given and the weights tell them.

    Args:
        name: one of `NETS`, for `options.weights`; or a folder that is a bundle of the library.

    Raises:
        MissingDependencyError: the library is not installed. UsageError, UnknownNameError: no such
            net, arguments, or options that are missing. CheckpointError: a bundle that is damaged
            or would run code, or weights that do not fit.
    """
    bundle = Bundle()
    if name in NETS:
        path = weights_of(options, f"monai:{name}")
    elif Path(name).is_dir():
        if options.weights is not None:
            raise UsageError(f"got weights for {name}, which holds its own. Leave out --weights.")
        bundle = read_bundle(Path(name), NETS)
        path, name = bundle.weights, bundle.net
    else:
        raise unknown_net("monai", name, NETS, folder=True)
    title = f"monai:{name}"
    given = {**bundle.arguments, **arguments_of(options.arch)}
    net, channels, classes = build_monai(name, given, path, options)
    if bundle.overlapping and classes > 1:
        raise UsageError(
            f"{options.model} decides on each of its {classes} classes by itself "
            f"({printable(bundle.overlapping)}), so that they may overlap; bundles have one class "
            "for each pixel. Train with a softmax, or pass monai:NET with --weights for the class "
            "of the largest logit."
        )
    spec = input_of(options, title, channels, usual=bundle.preparation or _UNTOLD)
    notes = [f"{title}, {channels} channels, {classes} classes", *bundle.notes]
    own = preparation_of(options)
    if bundle.preparation is None and own.mean is None and own.std is None:
        notes.append("frames are scaled to 0..1; pass --mean and --std if training did otherwise")
    return origin_of(
        net,
        options,
        spec,
        classes=classes,
        model=title,
        title="MONAI",
        packages=("monai",),
        names=bundle.classes if len(bundle.classes) == classes else (),
        weights=path.stem if not bundle.net else path.parents[1].resolve().name,
        notes=notes,
    )


def build_monai(
    name: str, given: Arguments, path: Path, options: ExportOptions
) -> tuple[nn.Module, int, int]:
    """One of `NETS` with the weights of a file, its number of channels, and that of its classes.

    Raises:
        As `open_monai`.
    """
    title = f"monai:{name}"
    cls = getattr(library(_NETWORKS), name)
    arguments = _arguments(cls, given, options, title)
    arguments = _completed(cls, arguments, peek(path, lambda tensors: 0.0), title)
    net = loaded(lambda: cls(**arguments), title, path, raw=options.raw)
    values = _defaults(cls, arguments)
    return net, values["in_channels"], values["out_channels"]


def _arguments(cls: Any, given: Arguments, options: ExportOptions, title: str) -> Arguments:
    """The arguments in two dimensions, with nothing that downloads.

    Raises:
        UnknownNameError: an argument that the net does not have. UsageError: three dimensions, or a
            value that is not plain.
    """
    known = inspect.signature(cls.__init__).parameters
    names = [name for name in known if name not in ("self", *_OFF)]
    given = {key: value for key, value in given.items() if key not in _OFF}
    check_arguments(title, given, names)
    for name, value in given.items():
        if not is_plain(value):
            raise UsageError(f"{title} has an argument {name} that is no plain value.")
    if "spatial_dims" in known and given.setdefault("spatial_dims", 2) != 2:
        raise UsageError(
            f"{title} has spatial_dims {printable(given['spatial_dims'])}; expected 2. Nets of "
            "volumes are not taken."
        )
    if _SIZED in known and options.size is not None:
        given.setdefault(_SIZED, tuple(options.size))
    return {**given, **{name: False for name in _OFF if name in known}}


def _completed(cls: Any, given: Arguments, tensors: Mapping[str, Tensor], title: str) -> Arguments:
    """Arguments with the channels that the weights tell, if they fit then."""
    wanted = [name for name in ("in_channels", "out_channels") if name not in given]
    if not wanted:
        return given
    layers = [tensor.shape[1] for tensor in tensors.values() if tensor.ndim == 4]
    biases = [len(tensor) for name, tensor in tensors.items() if name.endswith(".bias")]
    for first in list(dict.fromkeys(layers))[:_TRIED]:
        for last in list(dict.fromkeys([*biases[-1:], *sorted(biases)]))[:_TRIED]:
            told = {"in_channels": first, "out_channels": last}
            found = {**given, **{name: told[name] for name in wanted}}
            if _fits(cls, found, tensors, title):
                return found
    missing = [name for name in wanted if _required(cls, name)]
    if missing:
        raise UsageError(
            f"{title} needs {' and '.join(missing)}, which the weights do not tell. Pass --arch "
            f"{','.join(f'{name}=N' for name in missing)}, with its other arguments as in training."
        )
    return given


def _fits(cls: Any, arguments: Arguments, tensors: Mapping[str, Tensor], title: str) -> bool:
    """Whether tensors hold all weights of a net, under any prefix."""
    try:
        net: nn.Module = shaped(lambda: cls(**arguments), title)
    except EdgeUNetError:
        return False
    shapes = without_counters(shapes_of(net))
    sample = next(iter(shapes))
    prefixes = [name.removesuffix(sample) for name in tensors if name.endswith(sample)]
    return any(
        all(
            f"{prefix}{name}" in tensors and tensors[f"{prefix}{name}"].shape == shape
            for name, shape in shapes.items()
        )
        for prefix in prefixes
    )


def _required(cls: Any, name: str) -> bool:
    parameter = inspect.signature(cls.__init__).parameters[name]
    return parameter.default is inspect.Parameter.empty


def _defaults(cls: Any, arguments: Arguments) -> Arguments:
    """The arguments, with the class's defaults for the others."""
    bound = inspect.signature(cls).bind(**arguments)
    bound.apply_defaults()
    return dict(bound.arguments)
