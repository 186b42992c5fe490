"""How a foreign state dict maps onto one of our nets, layer by layer.

A format lists its convolutions in the order of the forward pass, with the keys it keeps them under
and the layers that they read. From that follow the shapes a state dict of the format must have,
whatever its width, and its translation.
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
    """A convolution and where a foreign state dict keeps it.

    ours: name of our `ConvNormAct`, or of the convolution itself where there is no norm.
    conv: foreign name of the convolution. norm: that of the batch normalisation behind it.
    inputs: `conv` of the layers that it reads, in the order of the foreign concatenation; the
        image where empty.
    kind: "conv" 3x3 with norm, "up" 2x2 transposed and "head" 1x1, both with bias and no norm.
    reverse: ours concatenates the inputs in the opposite order.
    """

    ours: str
    conv: str
    norm: str = ""
    inputs: tuple[str, ...] = ()
    kind: Literal["conv", "up", "head"] = "conv"
    reverse: bool = False


@dataclass(frozen=True)
class Plan:
    """A net as its keys tell it: arguments of `create_model` that no shape gives, and layers.

    scaling: mean and standard deviation, for values scaled to 0..1 and alike for all channels,
        that the original code normalises images with; None where its forms differ in it.
    """

    arguments: dict[str, Any]
    layers: tuple[Layer, ...]
    scaling: tuple[float, float] | None = None


@dataclass(frozen=True)
class Format:
    """A way of others to keep a net.

    title: as in "FILE is ...". model: our variant. plan: what a collection of keys, be it
    incomplete, comes nearest to.
    """

    title: str
    model: str
    plan: Callable[[Collection[str]], Plan]


def shapes(layers: Sequence[Layer], tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by key that a state dict with these layers has, counters left out.

    Every layer's output channels are taken from the state dict itself, its input channels follow.
    Convolutions before a norm have a bias all or none, as the state dict has any.
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
    """Our state dict, FP32, of a state dict that has the `shapes` of its layers.

    A bias before a batch normalisation moves its mean: norm(x + b) with mean m is norm(x) with
    m - b. A head of one logit z, made for a sigmoid, becomes two, [0, z]: then argmax tells
    foreground exactly where sigmoid(z) > 0.5.
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
        assert bias is not None  # `shapes` wants it
        bias = bias.float()
        if layer.kind == "head" and len(weight) == 1:
            weight, bias = (torch.cat([torch.zeros_like(x), x]) for x in (weight, bias))
        ours |= {f"{layer.ours}.weight": weight, f"{layer.ours}.bias": bias}
    return ours


def structure(
    layers: Sequence[Layer], translated: Mapping[str, Tensor]
) -> dict[str, tuple[int, int]]:
    """Channels (in, out) of our layers, as `models.structure` has them."""
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
    """Output channels by the layer's vectors, else by its weight; 0 where it has neither."""
    for key in (f"{layer.norm}.weight", f"{layer.norm}.running_mean", f"{layer.conv}.bias"):
        if key in tensors and tensors[key].ndim == 1:
            return len(tensors[key])
    weight = tensors.get(f"{layer.conv}.weight")
    return 0 if weight is None or weight.ndim != 4 else weight.shape[layer.kind == "up"]


def _image_channels(layer: Layer, tensors: Mapping[str, Tensor]) -> int:
    """Input channels of a layer that reads the image."""
    weight = tensors.get(f"{layer.conv}.weight")
    return 3 if weight is None or weight.ndim != 4 else weight.shape[1]
