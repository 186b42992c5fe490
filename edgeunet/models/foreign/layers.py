"""How a foreign state dict maps onto one of our nets, layer by layer.

A format lists its convolutions in the order of the forward pass, with their keys and the layers
that they read. This list determines the shapes that a state dict of the format must have at any
width, and how it is translated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
_KERNELS = {"conv": 3, "up": 2, "head": 1}


@dataclass(frozen=True)
class Layer:
    """A convolution, and its names in our net and in a foreign state dict.

    ours: name of our `ConvNormAct`, or of the convolution itself if it has no norm.
    conv: foreign name of the convolution. norm: foreign name of the batch normalisation after it.
    inputs: `conv` of the layers that it reads, in the order of the foreign concatenation; empty if
        it reads the image.
    kind: "conv" is 3x3 with norm; "up" is 2x2 transposed and "head" 1x1, both with bias, no norm.
    reverse: our net concatenates the inputs in the opposite order.
    """

    ours: str
    conv: str
    norm: str = ""
    inputs: tuple[str, ...] = ()
    kind: Literal["conv", "up", "head"] = "conv"
    reverse: bool = False


@dataclass(frozen=True)
class Plan:
    """A net as described by its keys.

    arguments: those of `create_model` that do not follow from shapes.
    scaling: mean and standard deviation with which the original code normalises images, for values
        in 0..1, the same for all channels; None if the forms of the format differ in it.
    """

    arguments: dict[str, Any]
    layers: tuple[Layer, ...]
    scaling: tuple[float, float] | None = None


@dataclass(frozen=True)
class Format:
    """How another project stores a net.

    title: completes "FILE is ...". model: our variant. plan: finds the closest `Plan` for a
    collection of keys, even an incomplete one.
    """

    title: str
    model: str
    plan: Callable[[Collection[str]], Plan]


def shapes(layers: Sequence[Layer], tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by key of a state dict with these layers, without counters.

    Each layer's output channels are taken from the state dict; its input channels follow from the
    layers that it reads. If any convolution before a norm has a bias, all must have one.
    """
    outputs = {layer.conv: _out_channels(layer, tensors) for layer in layers}
    classes = outputs[layers[-1].conv]  # of all heads, which come last
    biased = any(f"{layer.conv}.bias" in tensors for layer in layers if layer.norm)
    found: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        after = classes if layer.kind == "head" else outputs[layer.conv]
        before = sum(outputs[name] for name in layer.inputs) or _image_channels(layer, tensors)
        channels = (before, after) if layer.kind == "up" else (after, before)
        found[f"{layer.conv}.weight"] = (*channels, _KERNELS[layer.kind], _KERNELS[layer.kind])
        if biased or not layer.norm:
            found[f"{layer.conv}.bias"] = (after,)
        if layer.norm:
            found |= {f"{layer.norm}.{part}": (after,) for part in _NORM_PARTS}
    return found


def translate(layers: Sequence[Layer], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a state dict, which must have the `shapes` of its layers, to ours in FP32.

    A bias b before a batch normalisation is folded into its mean m: norm(x + b) with mean m equals
    norm(x) with mean m - b. A head with one logit z, made for a sigmoid, becomes two, [0, z]: then
    argmax gives foreground exactly if sigmoid(z) > 0.5.
    """
    ours: dict[str, Tensor] = {}
    for layer in layers:
        weight = tensors[f"{layer.conv}.weight"].float()
        bias = tensors.get(f"{layer.conv}.bias")
        if layer.reverse:
            sizes = [_out_channels(_named(layers, name), tensors) for name in layer.inputs]
            weight = torch.cat(torch.split(weight, sizes, dim=1)[::-1], dim=1)
        if layer.norm:
            ours[f"{layer.ours}.0.weight"] = weight
            norm = {part: tensors[f"{layer.norm}.{part}"].float() for part in _NORM_PARTS}
            if bias is not None:
                norm["running_mean"] = norm["running_mean"] - bias.float()
            ours |= {f"{layer.ours}.1.{part}": tensor for part, tensor in norm.items()}
            continue
        assert bias is not None  # `shapes` requires it
        bias = bias.float()
        if layer.kind == "head" and len(weight) == 1:
            weight, bias = (torch.cat([torch.zeros_like(x), x]) for x in (weight, bias))
        ours |= {f"{layer.ours}.weight": weight, f"{layer.ours}.bias": bias}
    return ours


def structure(
    layers: Sequence[Layer], translated: Mapping[str, Tensor]
) -> dict[str, tuple[int, int]]:
    """Channels (in, out) of our layers, in the form of `models.structure`."""
    found: dict[str, tuple[int, int]] = {}
    for layer in layers:
        name = f"{layer.ours}.0" if layer.norm else layer.ours
        one, two = translated[f"{name}.weight"].shape[:2]
        found[name] = (one, two) if layer.kind == "up" else (two, one)
        if layer.norm:
            found[f"{layer.ours}.1"] = (one, one)
    return found


def _named(layers: Sequence[Layer], conv: str) -> Layer:
    return next(layer for layer in layers if layer.conv == conv)


def _out_channels(layer: Layer, tensors: Mapping[str, Tensor]) -> int:
    """Output channels from the layer's vectors, else from its weight; 0 if it has neither."""
    for key in (f"{layer.norm}.weight", f"{layer.norm}.running_mean", f"{layer.conv}.bias"):
        if key in tensors and tensors[key].ndim == 1:
            return len(tensors[key])
    weight = tensors.get(f"{layer.conv}.weight")
    return 0 if weight is None or weight.ndim != 4 else weight.shape[layer.kind == "up"]


def _image_channels(layer: Layer, tensors: Mapping[str, Tensor]) -> int:
    """Input channels of a layer that reads the image; 3 if its weight is missing."""
    weight = tensors.get(f"{layer.conv}.weight")
    return 3 if weight is None or weight.ndim != 4 else weight.shape[1]
