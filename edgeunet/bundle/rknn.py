"""A compiled net for Rockchip's NPU inside a bundle: model.rknn, and rknn.json about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import BundleError, UsageError
from .bundle import Bundle
from .manifest import InputSpec
from .schema import SchemaError, read

RKNN_NAME, RKNN_CARD_NAME = "model.rknn", "rknn.json"
RKNN_VERSION = 1

SOCS = MappingProxyType({"rk3562": 1, "rk3566": 1, "rk3568": 1, "rk3576": 2, "rk3588": 3})
"""SoCs that Rockchip's runtime for Python supports, with the number of cores of their NPU."""

Computed = Literal["fp16", "int8"]
"""What a compiled net was made in. Layers of an INT8 net that stayed in float compute in FP16."""


@dataclass(frozen=True)
class RknnCard:
    """Contents of rknn.json.

    soc: one of `SOCS`. toolkit: version of rknn-toolkit2 that compiled.
    outputs: their names, in order.
    layers: number of layers by type and processor, such as {"INT8 on NPU": 76}; of the compiler.
    on_cpu: layers that the NPU does not compute, without what converts inputs and outputs.
    cycles: of the NPU for one frame, as the compiler estimates them.
    """

    soc: str
    precision: Computed
    toolkit: str
    outputs: tuple[str, ...]
    layers: dict[str, int]
    on_cpu: tuple[str, ...]
    cycles: int
    schema_version: int = RKNN_VERSION

    def __post_init__(self) -> None:
        if self.soc not in SOCS:
            raise ValueError(f"soc is {self.soc!r}; expected one of {', '.join(SOCS)}")
        if self.outputs not in (("logits",), ("logits", "presence")):
            raise ValueError(f"outputs are {', '.join(self.outputs)}; expected logits, presence")

    @property
    def cores(self) -> int:
        """Cores of the NPU."""
        return SOCS[self.soc]


def mean_and_std(spec: InputSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each channel, for raw values: image = (value - mean) / std.

    Example:
        >>> from edgeunet.bundle.manifest import InputSpec
        >>> from edgeunet.bundle.rknn import mean_and_std
        >>> mean_and_std(InputSpec(8, 8, channels=("gray",), mean=(0.5,), std=(0.25,)))
        ((127.5,), (63.75,))
    """
    low, high = spec.levels
    mean = tuple(low + each * (high - low) for each in spec.mean)
    return mean, tuple(each * (high - low) for each in spec.std)


def to_bytes(images: npt.NDArray[np.float32], spec: InputSpec) -> npt.NDArray[np.uint8]:
    """The net's input (N, C, H, W) as the bytes (N, H, W, C) that it was made of.

    Frames that were resized lie between two bytes, and are rounded.
    """
    mean, std = (np.array(each, np.float32) for each in mean_and_std(spec))
    values = images.transpose(0, 2, 3, 1) * std + mean
    return np.ascontiguousarray(np.rint(values).clip(0, 255).astype(np.uint8))


def in_order(outputs: Sequence[npt.NDArray[Any]], card: RknnCard) -> list[npt.NDArray[np.float32]]:
    """The outputs of a compiled net in FP32; BundleError if it gives another number of them."""
    if len(outputs) != len(card.outputs):
        raise BundleError(
            f"{RKNN_NAME} gives {len(outputs)} outputs; expected {' and '.join(card.outputs)}. "
            "Deploy the bundle again."
        )
    return [np.asarray(each, np.float32) for each in outputs]


def read_rknn(bundle: Bundle) -> tuple[RknnCard, bytes]:
    """The card and the compiled net of a bundle, whose hashes its manifest lists.

    Raises:
        UsageError: the bundle holds none, or one of another precision. BundleError: a file that is
            damaged or was changed.
    """
    held = bundle.manifest.files
    if RKNN_NAME not in held or RKNN_CARD_NAME not in held:
        raise UsageError(
            f"{bundle.root} holds no {RKNN_NAME}. Compile one: `edgeunet deploy {bundle.root} --to "
            "rockchip --target rk3588 -o DIR`, and pass DIR/bundle."
        )
    path = bundle.root / RKNN_CARD_NAME
    bundle.file(path).read()  # compares it with its hash
    try:
        card = read(RknnCard, path, version=RKNN_VERSION)
    except SchemaError as error:
        raise BundleError(f"{path} {error}. Deploy the bundle again.") from None
    if card.precision != bundle.manifest.precision:
        raise UsageError(
            f"{bundle.root / RKNN_NAME} computes in {card.precision.upper()}, and "
            f"{bundle.manifest.precision.upper()} is wanted. Deploy it again with --flavour "
            f"{bundle.manifest.precision}."
        )
    return card, bundle.file(bundle.root / RKNN_NAME).read()
