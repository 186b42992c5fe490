"""Bundles of MONAI's model zoo are read; what would run code is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from edgeunet.errors import CheckpointError, EdgeUNetError, UnknownNameError, UsageError
from edgeunet.exporting.origins.monai import NETS
from edgeunet.exporting.origins.monai_bundle import read_bundle
from edgeunet.parity import plain
from support.library_nets import opened

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": "@channels",
    "out_channels": "$2",
    "channels": [4, "@net#width", 16],
    "strides": [2, 2],
}
MEASURED = {"_target_": "NormalizeIntensityd", "keys": "image"}
PERCENTILES = {"_target_": "ScaleIntensityRangePercentilesd", "lower": 1, "upper": 99.5}
PERCENTILES |= {"keys": "image", "b_min": -1, "b_max": 1}
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
    "steps",
    [
        [MEASURED],
        [{**MEASURED, "channel_wise": True}],
        [{**MEASURED, "nonzero": True, "channel_wise": True}],
        [{**MEASURED, "nonzero": True}],
        [PERCENTILES],
        [{**PERCENTILES, "channel_wise": True, "b_min": None, "b_max": None}],
        [{**PERCENTILES, "lower": 0, "upper": 100, "clip": True}],
        [
            {"_target_": "ScaleIntensityd", "keys": "image", "minv": -0.5},
            {**MEASURED, "subtrahend": [0.1, 0.2, 0.3], "divisor": [0.5] * 3, "channel_wise": True},
        ],
    ],
    ids=lambda steps: "-".join(str(value) for step in steps for value in step.values()),
)
def test_images_are_measured_as_in_monai(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    from monai import transforms

    prepared = read_bundle(bundle(tmp_path, *steps), NETS).preparation
    assert prepared is not None
    frame = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    frame[3:9] = 0
    frame[..., 2] //= 3
    theirs = {"image": np.moveaxis(frame, 2, 0).astype(np.float32)}
    for step in steps:
        arguments = {key: value for key, value in step.items() if key != "_target_"}
        theirs = getattr(transforms, step["_target_"])(**arguments)(theirs)
    found = plain.to_input(frame, prepared.input(tmp_path, (24, 32), 3, None))
    np.testing.assert_allclose(found[0], theirs["image"], atol=1e-5)


def test_configuration_in_yaml_is_read(tmp_path: Path) -> None:
    folder = bundle(tmp_path, MEASURED)
    wanted = read_bundle(folder, NETS)
    content = json.loads((folder / "configs/inference.json").read_text())
    (folder / "configs/inference.json").unlink()
    (folder / "configs/inference.yaml").write_text(yaml.safe_dump(content))
    assert read_bundle(folder, NETS) == wanted
    (folder / "configs/inference.yaml").write_text("a: &a [1]\nb: *a")
    with pytest.raises(CheckpointError, match=r"inference.yaml cannot be read: has an alias"):
        read_bundle(folder, NETS)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"_target_": "Activationsd", "sigmoid": True}, "each of its 2 classes by itself"),
        ({"_target_": "AsDiscreted", "threshold": 0.5}, "each of its 2 classes by itself"),
        ({"_target_": "AsDiscreted", "threshold": 0.3}, "with threshold 0.3; expected 0.5"),
    ],
)
def test_classes_that_overlap_are_refused(
    step: dict[str, Any], message: str, tmp_path: Path
) -> None:
    from monai.networks.nets import UNet

    folder = bundle(tmp_path)
    torch.save(UNet(2, 1, 2, (4, 8, 16), (2, 2)).state_dict(), folder / "models/model.pt")
    path = folder / "configs/inference.json"
    content = json.loads(path.read_text())
    others = [{"_target_": "Invertd", "transform": "$@preprocessing"}]
    content["postprocessing"] = {"_target_": "Compose", "transforms": [*others, step]}
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=message):
        opened(f"monai:{folder}", None)


@pytest.mark.parametrize(
    ("steps", "network", "error", "message"),
    [
        ((), {"_target_": "os.system"}, UnknownNameError, "'os.system'"),
        ((), {"_target_": "monai.networks.nets.VISTA3D"}, UnknownNameError, "VISTA3D"),
        ((), {"act": "$import os"}, CheckpointError, "needs the code .import os to be run"),
        ((), {"act": "@nothing::there"}, CheckpointError, "refers to @nothing::there"),
        ((), {"act": "@network_def#act"}, CheckpointError, "lead to each other"),
        (({"_target_": "RandGaussianNoised"},), {}, UsageError, "images by RandGaussianNoised"),
        (({**PERCENTILES, "clip": True},), {}, UsageError, "Possible are .* without clip"),
        (({"_target_": "NormalizeIntensityd", "divisor": 2},), {}, UsageError, "by NormalizeInt"),
        (({**RANGE, "b_min": 0, "b_max": 1}, MEASURED), {}, UsageError, "by NormalizeIntensityd"),
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
