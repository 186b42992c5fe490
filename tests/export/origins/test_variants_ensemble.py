"""Export of a U-Net++ that outputs the mean of its heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from edgeunet.errors import UsageError
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.exporting.origins.variants import ensemble_of
from edgeunet.models.checkpoints import Checkpoint, save_checkpoint
from edgeunet.models.depth import prune_depth
from support.nested_nets import IMAGE, whole


def test_exported_graph_returns_the_mean_of_all_heads(tmp_path: Path) -> None:
    net, card = whole()
    save_checkpoint(tmp_path / "net.safetensors", net, card)
    options = ExportOptions("unetpp", str(tmp_path / "net.safetensors"), ensemble=True)
    export_bundle(tmp_path / "bundle", options)
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / "model.fp32.onnx")
    (found,) = session.run(None, {"image": IMAGE.numpy()})
    with torch.inference_mode():
        wanted = torch.stack(net.run(IMAGE).heads).mean(0).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    opened = Checkpoint.open(tmp_path / "bundle" / "checkpoint.safetensors")
    bundled, new = opened.net, opened.card
    assert new.arguments["ensemble"] is True
    assert torch.allclose(bundled(IMAGE), torch.from_numpy(wanted), atol=1e-5)


@pytest.mark.parametrize("model", ["unet", "unetpp"])
def test_refuses_an_ensemble_of_one_head(model: str) -> None:
    net, card = whole(model)
    if model == "unetpp":
        net, card = prune_depth(net, card, depth=3)
    with pytest.raises(UsageError, match="has no ensemble"):
        ensemble_of(net, card)
