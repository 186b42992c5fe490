"""The nested U-Net: `conv0_0` ... `conv0_4`.

4uiiurz1/pytorch-nested-unet, bigmb/Unet-Segmentation-Pytorch-Nest-of-Unets, and the form of
tutorials with `seg_outputs`.
"""

from __future__ import annotations

from collections.abc import Collection

from .layers import Format, Layer, Plan

_DEPTH = 4


def _plan(keys: Collection[str]) -> Plan:
    """Layers of all forms; they differ in the heads.

    `final` is one head at X^{0,4}; `final1..4` and `seg_outputs.0..3` are those at X^{0,1..4}, of
    which the last is used for inference. Nodes concatenate their row and then what comes from
    below, as ours do; upsampling is bilinear with aligned corners. How images are normalised
    differs between the forms.
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
    """The convolution that node X^{i,j} ends with."""
    return f"conv{i}_{j}.conv2"


NESTED = Format("a nested U-Net (conv0_0 ... conv0_4)", "unetpp", _plan)
