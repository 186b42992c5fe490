"""Which net of segmentation_models_pytorch weights are of, as their keys and shapes tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from edgeunet.errors import CheckpointError, EdgeUNetError, printable
from edgeunet.models.foreign import likeness
from edgeunet.models.state_dict import mismatches, shapes_of, without_counters

from .arguments import Arguments
from .library import library, shaped

PARTS = ("encoder.", "decoder.", "segmentation_head.", "classification_head.")
"""Beginnings of all keys."""

_STATISTICS = ("running_mean", "running_var")  # averages of weights may lack them
_ALIKE = 0.5  # of the best family's likeness: the families that are looked into
_LEAST = 0.3  # likeness of keys below which an encoder is none of the known ones
_WIDTHS = {
    "DeepLabV3": "decoder_channels",
    "DeepLabV3Plus": "decoder_channels",
    "PAN": "decoder_channels",
    "PSPNet": "psp_out_channels",
    "Segformer": "decoder_segmentation_channels",
    "UPerNet": "decoder_channels",
}
"""The argument that is the number of channels in front of the head."""


def judge(tensors: Mapping[str, Tensor]) -> float:
    """Share of the keys that begin as those of a net of the library.

    Example:
        >>> import torch
        >>> from edgeunet.exporting.origins.smp_keys import judge
        >>> judge({"segmentation_head.0.weight": torch.zeros(3, 16, 3, 3), "epoch": torch.ones(1)})
        0.5
    """
    if not any(name.startswith(PARTS[2]) for name in tensors):
        return 0.0
    return sum(name.startswith(PARTS) for name in tensors) / len(tensors)


def complete(
    cls: Callable[..., nn.Module], given: Arguments, tensors: Mapping[str, Tensor], path: Path
) -> Arguments:
    """The arguments of a net, with those that the weights tell beside the given ones.

    Weights tell the encoder, the channels of the image, the number of classes and the widths of the
    decoder. They do not tell strides, dilations and filters, which have the library's defaults.

    Args:
        cls: class of the net. given: some of its arguments. path: of the weights, for errors.

    Raises:
        CheckpointError: an encoder that is not known, or several that fit; the error names them.
            UsageError: arguments that the library does not take.
    """
    known = {**_decoder(cls.__name__, tensors), **given}
    title = f"smp:{cls.__name__}"
    if "encoder_name" in given:
        return _fitted(cls, known, tensors, title).arguments
    found: list[_Candidate] = []
    for name in _encoders_like(tensors, known, path):
        try:
            found.append(_fitted(cls, {**known, "encoder_name": name}, tensors, title))
        except EdgeUNetError:  # such as an encoder that cannot be dilated
            continue
    fitting = _distinct([each for each in found if not each.complaints])
    if len(fitting) > 1:
        names = " or ".join(str(each.arguments["encoder_name"]) for each in fitting)
        raise CheckpointError(
            f"{path} fits several encoders of the library. Pass --arch encoder_name= with {names}."
        )
    if not (fitting or found):
        raise _unknown(path)
    return (fitting or sorted(found, key=lambda each: each.complaints))[0].arguments


@dataclass(frozen=True)
class _Candidate:
    """Arguments, and the number of complaints about the weights."""

    arguments: Arguments
    complaints: int


def _fitted(
    cls: Callable[..., nn.Module], known: Arguments, tensors: Mapping[str, Tensor], title: str
) -> _Candidate:
    """Arguments with the channels of the image and the number of classes that the weights have."""
    net = shaped(lambda: cls(**{**known, "encoder_weights": None}), title)
    layers = {name: shape for name, shape in shapes_of(net).items() if len(shape) == 4}
    first = next((name for name in layers if name.startswith(PARTS[0])), "")
    heads = [name for name in layers if name.startswith(PARTS[2])]
    told: Arguments = {}
    if first in tensors and tensors[first].ndim == 4:
        told["in_channels"] = tensors[first].shape[1]
    if heads and heads[-1] in tensors:
        told["classes"] = len(tensors[heads[-1]])
    arguments = {**told, **known}
    if any(arguments[name] != usual for name, usual in (("in_channels", 3), ("classes", 1))
           if name in arguments and name not in known):  # fmt: skip
        net = shaped(lambda: cls(**{**arguments, "encoder_weights": None}), title)
    given = {name: tensor for name, tensor in tensors.items() if not name.endswith(_STATISTICS)}
    wanted = {name: each for name, each in shapes_of(net).items() if not name.endswith(_STATISTICS)}
    return _Candidate(arguments, len(mismatches(wanted, given, shown=1000)))


def _decoder(name: str, tensors: Mapping[str, Tensor]) -> Arguments:
    """What keys and shapes tell of the decoder of a net of this class."""
    found: Arguments = {}
    head = tensors.get("segmentation_head.0.weight")
    if name in _WIDTHS and head is not None and head.ndim == 4:
        found[_WIDTHS[name]] = head.shape[1]
    if name in ("Unet", "MAnet"):
        blocks = [_width(tensors, index) for index in range(5)]
        widths = tuple(width for width in blocks if width)
        if widths:
            found |= {"decoder_channels": widths, "encoder_depth": len(widths)}
    if name in ("Unet", "UnetPlusPlus") and any(
        ".attention1.attention.cSE" in key for key in tensors
    ):
        found["decoder_attention_type"] = "scse"
    if name == "FPN":
        pyramid = tensors.get("decoder.p5.weight")
        if pyramid is not None and pyramid.ndim == 4:
            found["decoder_pyramid_channels"] = len(pyramid)
        if head is not None and head.ndim == 4:
            found["decoder_segmentation_channels"] = head.shape[1]
    auxiliary = [key for key in tensors if key.startswith(PARTS[3]) and key.endswith(".weight")]
    if auxiliary:
        found["aux_params"] = {"classes": len(tensors[auxiliary[-1]])}
    return found


def _width(tensors: Mapping[str, Tensor], index: int) -> int:
    """Channels of a decoder block of a U-Net; 0 if there is none."""
    layer = tensors.get(f"decoder.blocks.{index}.conv2.0.weight")
    return 0 if layer is None or not layer.ndim else len(layer)


# Encoders


def _encoders_like(tensors: Mapping[str, Tensor], known: Arguments, path: Path) -> Iterator[str]:
    """Names of encoders with the same keys and shapes, whatever the channels of the image."""
    given = {
        name.removeprefix(PARTS[0]): tensor
        for name, tensor in without_counters(tensors).items()
        if name.startswith(PARTS[0]) and not name.endswith(_STATISTICS)
    }
    if any(name.startswith("model.") for name in given):
        raise CheckpointError(
            f"{path} has an encoder of timm, of which there are too many to try. Pass --arch "
            "encoder_name=tu-NAME, as in training."
        )
    encoders = library("segmentation_models_pytorch.encoders").encoders
    families: dict[type, list[str]] = {}
    for name, entry in encoders.items():
        families.setdefault(entry["encoder"], []).append(name)
    depth = known.get("encoder_depth", 5)
    alike = {
        family: likeness(_shapes(names[0], depth), given) for family, names in families.items()
    }
    best = max(alike.values())
    if best < _LEAST:
        raise _unknown(path)
    for family, share in alike.items():
        if share < _ALIKE * best:
            continue
        for name in families[family]:
            wanted = _shapes(name, depth)
            if set(wanted) == set(given) and _differing(wanted, given) <= 1:  # the first layer
                yield name


@cache
def _shapes(name: str, depth: int) -> dict[str, tuple[int, ...]]:
    """Shapes by key of an encoder, without statistics of batch normalisation."""
    get_encoder = library("segmentation_models_pytorch.encoders").get_encoder
    net = shaped(lambda: get_encoder(name, weights=None, depth=depth), f"encoder {name}")
    return {
        key: tuple(shape)
        for key, shape in without_counters(shapes_of(net)).items()
        if not key.endswith(_STATISTICS)
    }


def _differing(wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, Tensor]) -> int:
    return sum(tuple(given[name].shape) != shape for name, shape in wanted.items())


def _distinct(found: Collection[_Candidate]) -> list[_Candidate]:
    """One of those whose encoders are the same under several names, the one without a prefix."""
    encoders = library("segmentation_models_pytorch.encoders").encoders
    kept: dict[str, _Candidate] = {}
    for each in sorted(found, key=lambda each: len(str(each.arguments["encoder_name"]))):
        entry: Any = encoders[each.arguments["encoder_name"]]
        same = json.dumps([entry["encoder"].__name__, entry["params"]], default=str, sort_keys=True)
        kept.setdefault(same, each)
    return list(kept.values())


def _unknown(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{printable(path)} has an encoder that is none of the library's usual ones. Pass --arch "
        "encoder_name=NAME, as in training."
    )
