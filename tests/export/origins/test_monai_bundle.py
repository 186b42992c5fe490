"""Bundles of MONAI's model zoo are read; what would run code is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeunet.errors import CheckpointError, EdgeUNetError, UnknownNameError, UsageError
from edgeunet.exporting.origins.monai import NETS
from edgeunet.exporting.origins.monai_bundle import read_bundle
from support.library_nets import opened

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": "@channels",
    "out_channels": "$2",
    "channels": [4, "@net#width", 16],
    "strides": [2, 2],
}
RANGE = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 4095}


def bundle(folder: Path, *steps: dict[str, Any], **network: Any) -> Path:
    """A bundle of a small U-Net, with these transforms of values."""
    (folder / "configs").mkdir()
    (folder / "models").mkdir()
    config = {
        "channels": 1,
        "net": {"width": 8},
        "network_def": {**NETWORK, **network},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "LoadImaged", "keys": "image"}, *steps],
        },
    }
    outputs = {"pred": {"channel_def": {"1": "spleen", "0": "background"}}}
    metadata = {"network_data_format": {"inputs": {"image": {}}, "outputs": outputs}}
    (folder / "configs/inference.json").write_text(json.dumps(config))
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    return folder


def test_bundle_tells_all(tmp_path: Path) -> None:
    from monai.networks.nets import UNet

    net = UNet(2, 1, 2, (4, 8, 16), (2, 2))
    step = {"_target_": "ScaleIntensityRanged", "a_min": 0, "a_max": 255, "b_min": 0, "b_max": 1}
    folder = bundle(tmp_path, step)
    torch.save({"model": net.state_dict()}, folder / "models/model.pt")
    origin = opened(f"monai:{folder}", None)
    assert origin.card.classes == ("background", "spleen")
    assert origin.card.input.channels == ("gray",)
    assert (origin.card.input.mean, origin.card.input.std) == ((0.0,), (1.0,))


@pytest.mark.parametrize(
    ("steps", "levels", "mean", "std"),
    [
        ((), None, 0.0, 1 / 255),
        (({**RANGE, "b_min": 0, "b_max": 1},), (0.0, 4095.0), 0.0, 1.0),
        (({**RANGE, "b_min": -1, "b_max": 1},), (0.0, 4095.0), 0.5, 0.5),
        (
            ({"_target_": "NormalizeIntensityd", "subtrahend": 51.0, "divisor": 25.5},),
            None, 0.2, 0.1,
        ),
        (
            (
                {**RANGE, "b_min": 0, "b_max": 1},
                {"_target_": "NormalizeIntensityd", "subtrahend": 0.5, "divisor": 0.25},
            ),
            (0.0, 4095.0), 0.5, 0.25,
        ),
    ],
)  # fmt: skip
def test_fixed_scalings_become_levels_mean_and_std(
    steps: tuple[dict[str, Any], ...],
    levels: tuple[float, float] | None,
    mean: float,
    std: float,
    tmp_path: Path,
) -> None:
    found = read_bundle(bundle(tmp_path, *steps), NETS).preparation
    assert found is not None
    assert found.levels == levels
    assert found.mean == pytest.approx((mean,))
    assert found.std == pytest.approx((std,))


@pytest.mark.parametrize(
    ("steps", "network", "error", "message"),
    [
        ((), {"_target_": "os.system"}, UnknownNameError, "'os.system'"),
        ((), {"_target_": "monai.networks.nets.VISTA3D"}, UnknownNameError, "VISTA3D"),
        ((), {"act": "$import os"}, CheckpointError, "needs the code .import os to be run"),
        ((), {"act": "@nothing::there"}, CheckpointError, "refers to @nothing::there"),
        ((), {"act": "@network_def#act"}, CheckpointError, "lead to each other"),
        (({"_target_": "ScaleIntensityd"},), {}, UsageError, "prepares images by ScaleIntensityd"),
        (({"_target_": "NormalizeIntensityd"},), {}, UsageError, "by NormalizeIntensityd"),
        (({**RANGE, "b_min": 1, "b_max": 1},), {}, UsageError, "by ScaleIntensityRanged"),
    ],
)
def test_hostile_bundles_are_refused(
    steps: tuple[dict[str, Any], ...],
    network: dict[str, Any],
    error: type[EdgeUNetError],
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        read_bundle(bundle(tmp_path, *steps, **network), NETS)


def test_torchscript_is_refused(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    torch.jit.script(torch.nn.Conv2d(1, 2, 1)).save(folder / "models/model.pt")
    with pytest.raises(CheckpointError, match="is TorchScript: it holds code"):
        opened(f"monai:{folder}", None)


def test_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"metadata.json cannot be read"):
        opened(f"monai:{tmp_path}", None)
