"""The U-Net of milesial/Pytorch-UNet: `inc`, `down1..4`, `up1..4`, `outc`."""

from __future__ import annotations

from collections.abc import Collection

from .layers import Format, Layer, Plan

_STEPS = 4


def _plan(keys: Collection[str]) -> Plan:
    """Layers of both forms: learned upsampling, or bilinear with aligned corners and no weights.

    The skip is concatenated before the upsampled map; our net does the opposite. Images are divided
    by 255 and not normalised further.
    """
    learned = any(key.startswith(f"up{step}.up.") for key in keys for step in range(1, _STEPS + 1))
    layers: list[Layer] = []
    skips: list[str] = []
    inputs: tuple[str, ...] = ()
    for level in range(_STEPS + 1):
        block = f"down{level}.maxpool_conv.1.double_conv" if level else "inc.double_conv"
        layers += _double(f"encoder.{level}", block, inputs)
        inputs = (f"{block}.3",)
        skips.append(f"{block}.3")
    for index in range(_STEPS):
        up, block = f"up{index + 1}.up", f"up{index + 1}.conv.double_conv"
        if learned:
            layers.append(Layer(f"decoder.{index}.up", up, inputs=inputs, kind="up"))
            inputs = (up,)
        inputs = (skips[_STEPS - 1 - index], *inputs)
        layers += _double(f"decoder.{index}.fuse", block, inputs, reverse=True)
        inputs = (f"{block}.3",)
    layers.append(Layer("head", "outc.conv", inputs=inputs, kind="head"))
    arguments = {} if learned else {"upsampling": "bilinear", "align_corners": True}
    return Plan(arguments, tuple(layers), scaling=(0.0, 1.0))


def _double(
    ours: str, block: str, inputs: tuple[str, ...], *, reverse: bool = False
) -> list[Layer]:
    return [
        Layer(f"{ours}.0", f"{block}.0", f"{block}.1", inputs, reverse=reverse),
        Layer(f"{ours}.1", f"{block}.3", f"{block}.4", (f"{block}.0",)),
    ]


MILESIAL = Format("a U-Net of milesial's", "unet", _plan)
