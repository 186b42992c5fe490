"""Traced graphs compute what the net computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgeunet.errors import ShapeError
from edgeunet.exporting.graphs.trace import trace
from edgeunet.models import create_model, list_models
from support.graphs import ops, run


@pytest.mark.parametrize("cgm", [False, True])
@pytest.mark.parametrize("name", list_models())
def test_trace_computes_what_the_net_computes_for_any_batch(
    name: str, cgm: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = create_model(name, num_classes=4, width=8, cgm=cgm).eval()
    trace(net, tmp_path / "net.onnx", height=64, width=96, channels=3)
    model = onnx.load(tmp_path / "net.onnx")
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
    assert not ops(model) & {"ConvTranspose", "Identity", "Constant", "Shape", "Range"}
    assert [value.name for value in model.graph.output] == ["logits", "presence"][: 1 + cgm]
    image = torch.randn(3, 3, 64, 96)
    with torch.inference_mode():
        logits, presence = net.predict(image)
    found = run(model, image.numpy())
    np.testing.assert_allclose(found[0], logits.numpy(), atol=1e-4)
    if presence is not None:
        np.testing.assert_allclose(found[1], presence.numpy(), atol=1e-4)


@pytest.mark.parametrize("size", [(361, 480), (64, 65), (0, 32)])
def test_a_size_that_the_net_cannot_take_is_refused_with_one_that_it_can(
    size: tuple[int, int],
) -> None:
    net = create_model("mobile_unet", num_classes=2, width=8)
    with pytest.raises(ShapeError, match="multiples of 32") as error:
        net.check_size(*size)
    proposed = str(error.value).split("--size ")[1].rstrip(".")
    height, width = (int(side) for side in proposed.split("x"))
    net.check_size(height, width)


def test_unpadded_unet_traces_with_its_mirrored_borders(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = create_model("unet", num_classes=2, width=4, padding="valid").eval()
    trace(net, tmp_path / "net.onnx", height=112, width=128, channels=3)
    image = torch.randn(2, 3, 112, 128)
    (found,) = run(onnx.load(tmp_path / "net.onnx"), image.numpy())
    with torch.inference_mode():
        wanted = net.predict(image)[0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)
