"""Packages whose weights are a state dict of a library's net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from edgeunet.errors import CheckpointError, EdgeUNetError
from edgeunet.exporting.options import ExportOptions
from edgeunet.exporting.origins import open_origin
from support.bioimageio import image, package, sigmoid

ARGUMENTS = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [4, 8],
    "strides": [2],
}


def state_dict(folder: Path, version: str, **changes: Any) -> Path:
    """A package of MONAI's U-Net, whose answer is cut at 0.6 of a sigmoid."""
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    net = UNet(**ARGUMENTS).eval()
    key = "name" if version == "0.4" else "id"
    with torch.no_grad():
        scaled = np.clip(image() / 255.0, 0.2, 0.6).astype(np.float32)
        last = next(each for each in net.modules() if isinstance(each, torch.nn.ConvTranspose2d))
        last.bias -= net(torch.from_numpy(scaled)).mean()
        answer = sigmoid(net(torch.from_numpy(scaled)).numpy())
    package(
        folder,
        version,
        pre=[
            {key: "scale_linear", "kwargs": {"gain": 1 / 255}},
            {key: "clip", "kwargs": {"min": 0.2, "max": 0.6}},
        ],
        post=[{key: "sigmoid"}, {key: "binarize", "kwargs": {"threshold": 0.52}}],
    )
    torch.save(net.state_dict(), folder / "weights.pt")
    np.save(folder / "output.npy", (answer > 0.52).astype(np.float32))
    content = yaml.safe_load((folder / "rdf.yaml").read_text())
    entry: dict[str, Any] = {"source": "weights.pt", "pytorch_version": "2.0"}
    if version == "0.4":
        entry |= {"architecture": "monai.networks.nets.UNet", "kwargs": ARGUMENTS}
    else:
        content["outputs"][0]["test_tensor"].pop("sha256")
        architecture = {"import_from": "monai.networks.nets.unet", "callable": "UNet"}
        entry["architecture"] = {**architecture, "kwargs": ARGUMENTS}
    content["weights"] = {"pytorch_state_dict": {**entry, **changes}}
    (folder / "rdf.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_state_dict_of_a_known_class_segments_as_it_says(version: str, tmp_path: Path) -> None:
    folder = state_dict(tmp_path / "net", version)
    origin = open_origin(ExportOptions(f"bioimageio:{folder}"))
    _, mask = origin.segment(origin.frames[0])
    wanted = np.load(folder / "output.npy")[0, 0]
    assert (mask == wanted).mean() >= 0.999
    assert 0.02 < wanted.mean() < 0.98
    origin.write_graph(tmp_path / "graph.onnx")  # the clip is inside
    assert origin.weights == "net/pytorch_state_dict"


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("monai.networks.nets.VISTA3D", "which cannot be built"),
        ("monai.utils.run_cmd", "run_cmd of monai.utils; expected one of monai.networks.nets"),
        ("net.py:Net", "its net is Net of net.py; expected one of monai"),
        ("os.system", "its net is system of os"),
        (
            {"import_from": "monai.networks.nets", "callable": "UNet",
             "kwargs": {**ARGUMENTS, "act": "os"}},
            "cannot be built",
        ),
        (
            {"import_from": "monai.networks.nets", "callable": "UNet",
             "kwargs": {**ARGUMENTS, "channels": [4, 16]}},
            "does not fit",
        ),
    ],
)  # fmt: skip
def test_other_nets_are_refused(architecture: Any, message: str, tmp_path: Path) -> None:
    folder = state_dict(tmp_path / "net", "0.5", architecture=architecture)
    with pytest.raises(EdgeUNetError, match=message):
        open_origin(ExportOptions(f"bioimageio:{folder}"))


def test_code_in_weights_is_never_run(tmp_path: Path) -> None:
    folder = state_dict(tmp_path / "net", "0.4")
    torch.save({"a": CheckpointError}, folder / "weights.pt")
    with pytest.raises(CheckpointError, match="holds code"):
        open_origin(ExportOptions(f"bioimageio:{folder}"))
