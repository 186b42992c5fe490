"""The U-Net of tutorials: `enc1_1` ... `dec1_1`, as in hanyoseob/youtube-cnn-002-pytorch-unet."""

from __future__ import annotations

from collections.abc import Collection

from .layers import Format, Layer, Plan

_LEVELS = 5


def _plan(keys: Collection[str]) -> Plan:
    """Layers of either form: `enc5_2` and `score_fr`, or `dec5_1` and `fc` as in the original.

    Both concatenate the upsampled map before the skip, as our net does. The original halves the
    channels before upsampling. The other form halves them during upsampling, except at `dec2_1`.
    Weights do not show the padding of the convolutions; it is assumed to be 1.
    """
    deepest = "enc5_2" if any(key.startswith("enc5_2.") for key in keys) else "dec5_1"
    original = any(key.startswith("fc.") for key in keys)
    layers: list[Layer] = []
    skips: list[str] = []
    inputs: tuple[str, ...] = ()
    for level in range(_LEVELS):
        second = f"enc{level + 1}_2" if level < _LEVELS - 1 else deepest
        layers += _double(f"encoder.{level}", f"enc{level + 1}_1", second, inputs)
        inputs = (f"{second}.0",)
        skips.append(f"{second}.0")
    for index, level in enumerate(range(_LEVELS - 1, 0, -1)):
        up = f"unpool{level}"
        layers.append(Layer(f"decoder.{index}.up", up, inputs=inputs, kind="up"))
        layers += _double(
            f"decoder.{index}.fuse", f"dec{level}_2", f"dec{level}_1", (up, skips[level - 1])
        )
        inputs = (f"dec{level}_1.0",)
    layers.append(Layer("head", "fc" if original else "score_fr", inputs=inputs, kind="head"))
    return Plan({}, tuple(layers), scaling=(0.5, 0.5) if original else None)


def _double(ours: str, first: str, second: str, inputs: tuple[str, ...]) -> list[Layer]:
    return [
        Layer(f"{ours}.0", f"{first}.0", f"{first}.1", inputs),
        Layer(f"{ours}.1", f"{second}.0", f"{second}.1", (f"{first}.0",)),
    ]


TUTORIAL = Format("a U-Net of tutorials (enc1_1 ... dec1_1)", "unet", _plan)
