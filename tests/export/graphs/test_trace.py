"""Traced graphs compute what the net computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeunet.errors import ExportError, ShapeError
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


class Pooling(nn.Module):
    """Pools to any size, as the pyramids of PSPNet and UperNet do."""

    def __init__(self, size: int | tuple[int | None, int]) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(size)

    def forward(self, image: Tensor) -> Tensor:
        return functional.interpolate(self.pool(image), size=image.shape[-2:], mode="nearest")


@pytest.mark.parametrize("size", [1, 2, 3, 6, (None, 5), (7, 9)])
def test_pooling_to_any_size_is_exact(size: Any, tmp_path: Path) -> None:
    net, image = Pooling(size).eval(), torch.randn(2, 3, 32, 48)
    trace(net, tmp_path / "net.onnx", height=32, width=48, channels=3)
    (found,) = run(onnx.load(tmp_path / "net.onnx"), image.numpy())
    np.testing.assert_allclose(found, net(image).numpy(), rtol=0, atol=1e-6)
    assert functional.adaptive_avg_pool2d.__module__ == "torch.nn.functional"


class Padded(Pooling):
    """Pools what the exporter does not know the sides of, as Swin's windows."""

    def forward(self, image: Tensor) -> Tensor:
        rows = 8 - image.shape[2] % 8
        return super().forward(functional.pad(image, (0, 0, 0, rows)))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pooling_behind_computed_paddings_is_exact(size: int, tmp_path: Path) -> None:
    net, image = Padded(size).eval(), torch.randn(2, 3, 16, 24)
    trace(net, tmp_path / "net.onnx", height=16, width=24, channels=3)
    (found,) = run(onnx.load(tmp_path / "net.onnx"), image.numpy())
    np.testing.assert_allclose(found, net(image).numpy(), rtol=0, atol=1e-6)


def test_what_cannot_be_traced_is_said_in_a_line(tmp_path: Path) -> None:
    class Fourier(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.fft.fft2(image).real

    with pytest.raises(ExportError, match=r"torch\.onnx\.export cannot trace the net: ") as error:
        trace(Fourier(), tmp_path / "net.onnx", height=8, width=8, channels=1)
    assert "\n" not in str(error.value)
