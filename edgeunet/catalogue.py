"""The variants and the weights that come with the package, told without PyTorch and without nets.

What a variant costs stands in `VARIANTS`; what is known of weights, in their cards.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil, prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .bundle.card import Card
from .bundle.schema import decode
from .errors import UnknownNameError, UsageError

WEIGHTS_DIR = Path(__file__).resolve().parent / "weights"

RUN_WEIGHTS = "best.safetensors"
"""The file of a training run that holds its net."""

_BUFFERS = ("running_mean", "running_var")
"""Names of tensors in a file that are no parameters, but what batch normalisation has seen."""


@dataclass(frozen=True)
class VariantCost:
    """What a variant with 2 classes at its default width costs, for any size.

    Sides of an input are multiples of `step`. All maps of a net are fractions of its input, so a
    convolution's FLOPs grow with the input's area exactly: the FLOPs of one image are `per_square`
    for each square of step x step pixels, and `fixed` for what sees one vector an image. A
    multiply-add counts as two FLOPs.
    """

    step: int
    parameters: int
    per_square: int
    fixed: int = 0

    def flops(self, height: int, width: int) -> int:
        """FLOPs of one image of a size, rounded up to what the net can take.

        Example:
            >>> from edgeunet.catalogue import VARIANTS
            >>> VARIANTS["mobile_unet"].flops(256, 320)
            1974169600
        """
        squares = ceil(height / self.step) * ceil(width / self.step)
        return self.per_square * squares + self.fixed


VARIANTS = MappingProxyType(
    {
        "eff_unet": VariantCost(32, 5_986_846, 64_100_800, 1_254_400),
        "mobile_unet": VariantCost(32, 2_376_826, 24_677_120),
        "resunet": VariantCost(8, 8_216_834, 88_342_528),
        "unet": VariantCost(16, 31_037_698, 376_340_480),
        "unet3p": VariantCost(16, 27_003_850, 1_546_638_336),
        "unetpp": VariantCost(16, 9_159_912, 269_533_184),
    }
)
"""By name, sorted. A test compares each with the net itself."""


@dataclass(frozen=True)
class WeightsSummary:
    """Weights that come with the package.

    input: HxW. miou: on the validation data, percent; None if the net was trained on them too.
    """

    tag: str
    parameters: int
    input: str
    classes: int
    gated: bool
    miou: float | None


@dataclass(frozen=True)
class Summary:
    """One variant; its cost is that of `VariantCost`."""

    name: str
    parameters: int
    gflops: float
    weights: tuple[WeightsSummary, ...]


def summarise(height: int, width: int) -> list[Summary]:
    """All variants. GFLOPs are for one image of the size, rounded up to what each net can take.

    Raises:
        UsageError: a side below 1.

    Example:
        >>> from edgeunet.catalogue import summarise
        >>> [(row.name, row.gflops) for row in summarise(352, 480)][:2]
        [('eff_unet', 10.58), ('mobile_unet', 4.07)]
    """
    if min(height, width) < 1:
        raise UsageError(f"size is {height}x{width}; both sides must be at least 1.")
    return [
        Summary(
            name,
            cost.parameters,
            round(cost.flops(height, width) / 1e9, 2),
            tuple(_weights(name, tag) for tag in list_weights(name)),
        )
        for name, cost in VARIANTS.items()
    ]


def list_weights(model: str) -> list[str]:
    """Tags of the pretrained weights that come with the package for a variant, sorted.

    Example:
        >>> from edgeunet.models import list_weights
        >>> list_weights("unet")
        ['cells']
    """
    return sorted(path.stem.split(".", 1)[1] for path in WEIGHTS_DIR.glob(f"{model}.*.safetensors"))


def packaged_name(text: str) -> tuple[str, str] | None:
    """(variant, tag) of `MODEL:TAG`; None if the text is something else, such as a path.

    Raises:
        UnknownNameError: a variant, but no weights of it; lists the tags. Or nearly a variant.
        UsageError: a variant without a tag.

    Example:
        >>> from edgeunet.catalogue import packaged_name
        >>> packaged_name("mobile_unet:camvid"), packaged_name("bundles/mine")
        (('mobile_unet', 'camvid'), None)
    """
    model, colon, tag = text.partition(":")
    if Path(text).exists():
        return None
    if model not in VARIANTS:
        if colon and get_close_matches(model, VARIANTS, 1):
            raise UnknownNameError("variant", model, VARIANTS)
        return None
    if not colon:
        names = ", ".join(f"{model}:{each}" for each in list_weights(model))
        raise UsageError(f"{model} is a variant; expected a bundle, or weights of it: {names}.")
    if tag not in (known := list_weights(model)):
        raise UnknownNameError(f"weights of {model}", tag, known)
    return model, tag


def find_weights(model: str, weights: str) -> Path:
    """Path of a checkpoint given as a tag of `list_weights`, as `MODEL:TAG`, or as a path.

    A path may be that of a training run, see `weights_file`.

    Raises:
        UnknownNameError: neither a tag nor an existing path; lists the tags.
    """
    tagged = WEIGHTS_DIR / f"{model}.{weights.removeprefix(f'{model}:')}.safetensors"
    if tagged.is_file():
        return tagged
    if Path(weights).exists():
        return weights_file(Path(weights))
    raise UnknownNameError(f"weights of {model}", weights, list_weights(model))


def weights_file(path: Path) -> Path:
    """The file that a path of weights means: a training run's directory stands for its net.

    Example:
        >>> from edgeunet.catalogue import weights_file; from pathlib import Path
        >>> Path("run").mkdir(); _ = Path("run/best.safetensors").write_bytes(b"")
        >>> weights_file(Path("run")).name, weights_file(Path("net.pth")).name
        ('best.safetensors', 'net.pth')
    """
    inside = path / RUN_WEIGHTS
    return inside if inside.is_file() else path


def run_of(path: Path) -> str:
    """Name of the training run that a file of weights is the net of; empty if it is of none.

    Example:
        >>> from edgeunet.catalogue import run_of; from pathlib import Path
        >>> run_of(Path("runs/mine/best.safetensors")), run_of(Path("net.pth"))
        ('mine', '')
    """
    return path.absolute().parent.name if path.name == RUN_WEIGHTS else ""


def _weights(model: str, tag: str) -> WeightsSummary:
    path = WEIGHTS_DIR / f"{model}.{tag}.safetensors"
    card = decode(Card, json.loads(path.with_name(f"{model}.{tag}.json").read_text("utf-8")))
    return WeightsSummary(
        tag=tag,
        parameters=_parameters(path),
        input=f"{card.input.height}x{card.input.width}",
        classes=len(card.classes),
        gated=card.gate is not None,
        miou=card.metrics.get("miou"),
    )


def _parameters(path: Path) -> int:
    """Number of parameters in a file of the package, by its header.

    The safetensors format: a length (8 bytes, little endian) and JSON with the shape of each
    tensor, https://huggingface.co/docs/safetensors. Its library is not there on every device.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    return sum(
        prod(tensor["shape"])
        for name, tensor in header.items()
        if name != "__metadata__" and not name.endswith(_BUFFERS)
    )
