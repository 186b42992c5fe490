"""The nested U-Net: `conv0_0` ... `conv0_4`.

The forms of 4uiiurz1/pytorch-nested-unet, of bigmb/Unet-Segmentation-Pytorch-Nest-of-Unets, and of
tutorials, with `seg_outputs`.
"""

from __future__ import annotations

from collections.abc import Collection

from .layers import Format, Layer, Plan

_DEPTH = 4


def _plan(keys: Collection[str]) -> Plan:
    """Layers of all forms, which differ in their heads.

    `final` is one head at X^{0,4}. `final1..4` and `seg_outputs.0..3` are heads at X^{0,1..4}, and
    inference uses the last. Nodes concatenate their row first and the upsampled map from below
    last, as our net does. Upsampling is bilinear with aligned corners. The forms normalise images
    in different ways.
    """
    layers: list[Layer] = []
    for j in range(_DEPTH + 1):
        for i in range(_DEPTH + 1 - j):
            inputs = [_second(i, k) for k in range(j)]
            if j:
                inputs.append(_second(i + 1, j - 1))
            elif i:
                inputs.append(_second(i - 1, 0))
            ours, node = f"nodes.x{i}{j}", f"conv{i}_{j}"
            layers += [
                Layer(f"{ours}.0", f"{node}.conv1", f"{node}.bn1", tuple(inputs)),
                Layer(f"{ours}.1", f"{node}.conv2", f"{node}.bn2", (f"{node}.conv1",)),
            ]
    heads = _heads(keys)
    layers += [
        Layer(f"heads.{j}", name, inputs=(_second(0, j),), kind="head") for j, name in heads.items()
    ]
    return Plan({"align_corners": True, "deep_supervision": len(heads) > 1}, tuple(layers))


def _heads(keys: Collection[str]) -> dict[int, str]:
    """Names of the heads by their column j."""
    columns = range(1, _DEPTH + 1)
    if any(key.startswith("seg_outputs.") for key in keys):
        return {j: f"seg_outputs.{j - 1}" for j in columns}
    if any(key.startswith(f"final{j}.") for j in columns for key in keys):
        return {j: f"final{j}" for j in columns}
    return {_DEPTH: "final"}


def _second(i: int, j: int) -> str:
    """The last convolution of node X^{i,j}."""
    return f"conv{i}_{j}.conv2"


NESTED = Format("a nested U-Net (conv0_0 ... conv0_4)", "unetpp", _plan)
