"""Segmentation nets of torchvision: `torchvision:NET` with a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor, nn

from edgeunet.bundle.manifest import RGB, InputSpec, imagenet
from edgeunet.data.fit import Frame
from edgeunet.data.preparation import Preparation
from edgeunet.metrics import Mask

from ..options import ExportOptions
from .arguments import arguments_of, check_arguments
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

NETS = (
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet101",
    "deeplabv3_resnet50",
    "fcn_resnet101",
    "fcn_resnet50",
    "lraspp_mobilenet_v3_large",
)
"""Names that the library's `get_model` may build."""

_AUXILIARY = "aux_classifier."  # a head for training alone
_HEADS = ("classifier.4.weight", "classifier.low_classifier.weight")
_VOC = 21
_USUAL = Preparation(channels=RGB, mean=imagenet(RGB)[0], std=imagenet(RGB)[1], filter="pillow")
"""`SemanticSegmentation`, the library's own transforms, on a Pillow image."""


def open_torchvision(name: str, options: ExportOptions) -> ModuleOrigin:
    """A net of the library, with the transforms of its weights.

    The number of classes is that of the weights. The auxiliary head is left out.

    Args:
        name: one of `NETS`.

    Raises:
        MissingDependencyError: the library is not installed. UsageError, UnknownNameError: no such
            net, arguments, or options that are missing. CheckpointError: weights that do not fit.
    """
    title = f"torchvision:{name}"
    if name not in NETS:
        raise unknown_net("torchvision", name, NETS, folder=False)
    arguments = arguments_of(options.arch)
    check_arguments(title, arguments, ["num_classes"])
    path = weights_of(options, title)
    models = library("torchvision.models")
    if "num_classes" not in arguments:
        arguments["num_classes"] = _classes(peek(path, judge, raw=options.raw))
    classes = arguments["num_classes"]

    def make() -> nn.Module:
        net: nn.Module = models.get_model(
            name, weights=None, weights_backbone=None, aux_loss=False, num_classes=classes
        )
        return net

    net = loaded(make, title, path, raw=options.raw, unused=_AUXILIARY)
    spec = input_of(options, title, 3, usual=_USUAL)
    notes = [f"{title}, {classes} classes"]
    names: tuple[str, ...] = ()
    if classes == _VOC and not options.classes:
        names = tuple(models.get_model_weights(name).DEFAULT.meta["categories"])
        notes.append("21 classes are assumed to be Pascal VOC's; pass --classes if they are not")
    as_usual = replace(preparation_of(options), filter=None) == Preparation()
    own = as_usual and spec.filter in ("antialias", "pillow", "torchvision")
    return origin_of(
        net,
        options,
        spec,
        classes=classes,
        model=title,
        title="torchvision",
        packages=("torchvision",),
        names=names,
        weights=path.stem,
        segment=segment_by(net, spec) if own else None,
        notes=notes,
    )


def judge(tensors: Mapping[str, Tensor]) -> float:
    """Whether tensors are those of a segmentation net of the library, 0 or 1.

    Example:
        >>> import torch
        >>> from edgeunet.exporting.origins.torchvision import judge
        >>> judge({"classifier.4.weight": torch.zeros(2, 256, 1, 1)})
        0.0
    """
    body = any(name.startswith("backbone.") for name in tensors)
    return float(body and any(name in tensors for name in _HEADS))


def _classes(tensors: Mapping[str, Tensor]) -> int:
    """Classes of the head; those of the library's own weights if there is no head."""
    found = [len(tensors[name]) for name in _HEADS if name in tensors and tensors[name].ndim]
    return found[0] if found else _VOC


def segment_by(net: nn.Module, spec: InputSpec) -> Segment:
    """The library's own way from an RGB frame to a mask: its transforms, the net, its own logits.

    With the filter "pillow" the transforms take a Pillow image, else a tensor of bytes.
    """
    presets: Any = library("torchvision.transforms._presets")
    functional: Any = library("torchvision.transforms.functional")
    transform = presets.SemanticSegmentation(resize_size=None)
    size = [spec.height, spec.width]

    @torch.inference_mode()
    def segment(frame: Frame) -> Mask:
        picture: Any = Pillow.fromarray(frame)
        if spec.filter != "pillow":
            picture = functional.pil_to_tensor(picture)
        small = functional.resize(picture, size, antialias=True)
        return decided(net(transform(small)[None])["out"], frame)

    return segment
