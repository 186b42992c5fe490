"""Nets of segmentation_models_pytorch: `smp:NET` with a file of weights, or `smp:FOLDER`."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeunet.bundle.manifest import RGB, InputSpec
from edgeunet.bundle.schema import SchemaError, load_json
from edgeunet.data.fit import Frame
from edgeunet.data.preparation import Preparation
from edgeunet.errors import (
    CheckpointError,
    UnknownNameError,
    UsageError,
    did_you_mean,
    printable,
)
from edgeunet.metrics import Mask
from edgeunet.parity import plain

from ..options import ExportOptions
from .arguments import Arguments, arguments_of, check_arguments, is_plain
from .library import (
    decided,
    input_of,
    library,
    loaded,
    origin_of,
    peek,
    preparation_of,
    unknown_net,
    weights_of,
)
from .module import ModuleOrigin, Segment
from .outputs import chosen_output
from .smp_keys import complete, judge

NETS = (
    "DPT",
    "DeepLabV3",
    "DeepLabV3Plus",
    "FPN",
    "Linknet",
    "MAnet",
    "PAN",
    "PSPNet",
    "Segformer",
    "UPerNet",
    "Unet",
    "UnetPlusPlus",
)
"""Classes of the library that may be built."""

_LIBRARY = "segmentation_models_pytorch"
_TITLE = "segmentation_models_pytorch"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
# What the largest logit wins before and after. `clamp` makes equal what was not.
_CUT = ("argmax", "argmax2d", "identity", "logsoftmax", "sigmoid", "softmax", "softmax2d", "tanh")

# Statistics of the encoders' own training data, as the library had them before it downloaded them.
# All others have ImageNet's.
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_DPN = ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_BY_ENCODER = {
    "dpn": _DPN,
    "inception": _HALF,
    "xception": _HALF,
    "timm-tf_efficientnet_lite": _HALF,
}


def open_smp(name: str, options: ExportOptions) -> ModuleOrigin:
    """A net of the library, with the pre-processing of its encoder.

    Args:
        name: one of `NETS`, for `options.weights`; or a folder that `save_pretrained` wrote.

    Raises:
        MissingDependencyError: the library is not installed. UsageError, UnknownNameError: no such
            net, arguments, or options that are missing. CheckpointError: weights that do not fit.
    """
    given = arguments_of(options.arch)
    raw, folder = options.raw, Path(name)
    if name in NETS:
        path = weights_of(options, f"smp:{name}")
    elif folder.is_dir():
        if options.weights is not None:
            raise UsageError(f"got weights for {folder}, which holds its own. Leave out --weights.")
        path = folder / _WEIGHTS
        name, config = _read_config(folder / _CONFIG)
        given = {**config, **given}
    else:
        raise unknown_net("smp", name, NETS, folder=True)
    pretrained, activation = given.get("encoder_weights"), given.get("activation")
    net, arguments = build_smp(name, given, path, raw=raw)
    title = _described(name, arguments)
    channels, classes = arguments.get("in_channels", 3), arguments.get("classes", 1)
    usual = preprocessing(arguments["encoder_name"], pretrained) if channels == 3 else None
    spec = input_of(options, title, channels, usual=usual, scaling=None if usual else (0.0, 1.0))
    as_usual = replace(preparation_of(options), filter=None) == Preparation()
    notes = [f"{title}, {channels} channels, {classes} classes"]
    if usual is None:
        notes.append("frames are scaled to 0..1; pass --mean and --std if training did otherwise")
    elif as_usual:
        notes.append(f"mean and std are those of the library for {arguments['encoder_name']}")
    if activation not in (None, "identity"):
        notes.append(f"its {activation} is cut off, as the largest logit decides")
        if activation == "sigmoid" and classes > 1:
            notes.append("classes of a sigmoid may overlap; the mask takes the largest")
    return origin_of(
        net,
        options,
        spec,
        classes=classes,
        model=f"smp:{name}",
        title=_TITLE,
        packages=("segmentation-models-pytorch",),
        weights=path.stem if path.parent != folder else folder.resolve().name,
        segment=segment_by(net, spec, usual) if usual and as_usual else None,
        notes=notes,
    )


def build_smp(
    name: str, given: Arguments, path: Path, *, raw: bool = False
) -> tuple[nn.Module, Arguments]:
    """One of `NETS` with the weights of a file, without its activation, and all its arguments.

    Raises:
        As `open_smp`.
    """
    cls = getattr(library(_LIBRARY), name)
    _check(cls, given)
    own = {key: each for key, each in given.items() if key not in ("encoder_weights", "activation")}
    arguments = complete(cls, own, peek(path, judge, raw=raw), path)
    title = _described(name, arguments)
    net = loaded(lambda: cls(**{**arguments, "encoder_weights": None}), title, path, raw=raw)
    return net, arguments


def preprocessing(encoder: str, pretrained: object = None) -> Preparation:
    """How the library prepares RGB images for an encoder; nothing is downloaded.

    Args:
        pretrained: name of the weights that training started from, such as "advprop".

    Raises:
        UsageError: an encoder of timm whose statistics are not known.

    Example:
        >>> from edgeunet.exporting.origins.smp import preprocessing
        >>> preprocessing("xception").mean
        (0.5, 0.5, 0.5)
    """
    mean, std = _IMAGENET
    if encoder.startswith("tu-"):
        settings = library("timm").models.get_pretrained_cfg(encoder.removeprefix("tu-"))
        if settings is not None:
            mean, std = tuple(settings.mean), tuple(settings.std)
    elif pretrained == "advprop":
        mean, std = _HALF
    else:
        found = [values for start, values in _BY_ENCODER.items() if encoder.startswith(start)]
        mean, std = found[0] if found else _IMAGENET
    return Preparation(channels=RGB, mean=mean, std=std)


def segment_by(net: nn.Module, spec: InputSpec, usual: Preparation) -> Segment:
    """The library's own way from an RGB frame to a mask: its `preprocess_input`, then the net.

    It resizes nothing itself; frames are resized as the spec says.
    """
    prepare = library(f"{_LIBRARY}.encoders").preprocess_input
    raw = replace(spec, channels=RGB, mean=(0.0,) * 3, std=(1.0,) * 3)

    @torch.inference_mode()
    def segment(frame: Frame) -> Mask:
        pixels = np.moveaxis(plain.to_input(frame, raw)[0], 0, -1).astype(np.float64) * 255
        image = prepare(pixels, mean=usual.mean, std=usual.std, input_range=[0, 1])
        tensor = torch.from_numpy(np.moveaxis(image, -1, 0)[None].astype(np.float32))
        return decided(chosen_output(net(tensor), None), frame)

    return segment


def _read_config(path: Path) -> tuple[str, Arguments]:
    """Class and arguments in what `save_pretrained` wrote.

    Raises:
        CheckpointError: it is missing or damaged. UnknownNameError: a class that is not one of
            `NETS`.
    """
    try:
        content = load_json(path)
    except (OSError, SchemaError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{path} cannot be read: {reason}. Pass a folder that save_pretrained wrote."
        ) from None
    name = content.get("_model_class") if isinstance(content, dict) else None
    if name is None:
        raise CheckpointError(
            f"{path} names no _model_class. Pass a folder that save_pretrained of the library "
            "wrote, or smp:NET with --weights."
        )
    if name not in NETS:
        raise UnknownNameError(f"class in {path}", printable(name), NETS)
    arguments = {key: each for key, each in content.items() if not key.startswith("_")}
    return str(name), arguments


def _check(cls: Any, given: Arguments) -> None:
    """Refuse arguments that a class does not name, or whose values could do more than build it."""
    title = f"smp:{cls.__name__}"
    known = [
        name
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    check_arguments(title, given, known)
    for name, value in given.items():
        if not is_plain(value):
            raise UsageError(f"{title} has an argument {name} that is no plain value.")
    activation = given.get("activation")
    if activation not in (None, *_CUT):
        raise UsageError(
            f"{title} ends with the activation {printable(activation)}, which cannot be cut off. "
            f"Possible are {', '.join(_CUT)}."
        )
    if (encoder := given.get("encoder_name")) is not None:
        _check_encoder(str(encoder))


def _check_encoder(name: str) -> None:
    """Refuse encoders that the library does not know. timm would download some, or read files."""
    known = library(f"{_LIBRARY}.encoders").encoders
    if name.startswith("tu-"):
        timm = library("timm")
        plain_name = name.removeprefix("tu-")
        if timm.is_model(plain_name.partition(".")[0]) and not set(plain_name) & set(":/\\"):
            return
        close = did_you_mean(name, [f"tu-{each}" for each in timm.list_models()])
        raise UsageError(f"unknown encoder {name!r}.{close} timm.list_models() lists them.")
    # Encoders that the library renames to timm's before it looks them up.
    renamed = ("timm-regnet", "timm-res2", "timm-resnest", "timm-mobilenetv3", "timm-gernet")
    if name not in known and not (name.startswith(renamed) and not set(name) & set(":/\\")):
        raise UnknownNameError("encoder", name, known)


def _described(name: str, arguments: Arguments) -> str:
    return f"smp:{name} with {arguments.get('encoder_name', 'its default encoder')}"
