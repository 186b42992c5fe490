"""Equalised graphs compute the same, and keep in INT8 what unequal channels lose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import snapshots
from edgeunet.exporting.graphs.passes.graph import constant, load
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8.emitters import COMPARED
from edgeunet.exporting.int8.equalise import HEADROOM, equalise
from edgeunet.exporting.int8.judge import Judge
from edgeunet.models import create_model
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.frames import Frame
from edgeunet.runtime.sources.labelled import LabelledFrame
from support.exports import table_of

SPEC = InputSpec(32, 32)


def drawn(count: int, spec: InputSpec = SPEC) -> list[Frame]:
    frames = snapshots(count, height=spec.height, width=spec.width, seed=4)
    return [frame.image for frame in frames]


def traced(net: nn.Module, path: Path, spec: InputSpec = SPEC) -> Path:
    trace(net.eval(), path, height=spec.height, width=spec.width, channels=3)
    return path


def logits(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(["logits"], {"image": images})[0]
    return found


def assert_equal(path: Path, other: Path, frames: list[Frame], spec: InputSpec = SPEC) -> None:
    images = Preprocessor(spec)(frames)
    wanted, found = logits(path, images), logits(other, images)
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("variant", ["mobile_unet", "unet", "eff_unet", "resunet"])
def test_function_stays(variant: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = create_model(variant, num_classes=3, in_channels=3, width=8)
    source, frames = traced(net, tmp_path / "net.onnx"), drawn(2)
    assert equalise(source, tmp_path / "new.onnx", frames, SPEC)
    assert_equal(source, tmp_path / "new.onnx", frames)


class Drawn(nn.Module):
    """Layers in a row, some with a sum or a Concat around them, between two convolutions."""

    def __init__(self, kinds: list[str], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.kinds = kinds
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        made = {
            "conv": lambda: nn.Conv2d(8, 8, 3, padding=1),
            "depthwise": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
            "grouped": lambda: nn.Conv2d(8, 8, 1, groups=2),
            "transposed": lambda: nn.ConvTranspose2d(8, 8, 3, padding=1),
            "grouped transposed": lambda: nn.ConvTranspose2d(8, 8, 1, groups=4),
            "relu": nn.ReLU,
            "relu6": nn.ReLU6,
            "leaky": nn.LeakyReLU,
            "swish": nn.Hardswish,
            "silu": nn.SiLU,
            "pool": lambda: nn.MaxPool2d(3, 1, 1),
            "sum": lambda: nn.Conv2d(8, 8, 1),
            "concat": lambda: nn.Conv2d(16, 8, 1),
            "gate": lambda: nn.Conv2d(8, 8, 1),
        }
        self.layers = nn.ModuleList(made[kind]() for kind in kinds)
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    layer.weight *= torch.exp2(8 * torch.rand(len(layer.weight), 1, 1, 1) - 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        first = x
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            if kind == "sum":
                x = first + layer(x)
            elif kind == "concat":
                x = layer(torch.cat([x, first], 1))
            elif kind == "gate":
                x = x * torch.sigmoid(layer(x.mean([2, 3], keepdim=True)))
            else:
                x = layer(x)
        return self.head(x)


KINDS = (
    *("conv", "depthwise", "grouped", "transposed", "grouped transposed", "relu", "relu6"),
    *("leaky", "swish", "silu", "pool", "sum", "concat", "gate"),
)


@settings(max_examples=15)
@given(st.lists(st.sampled_from(KINDS), min_size=2, max_size=8), st.integers(0, 9))
def test_function_of_any_chain_stays(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("chain")
    source, frames = traced(Drawn(kinds, seed), folder / "net.onnx"), drawn(2)
    if equalise(source, folder / "new.onnx", frames, SPEC):
        assert_equal(source, folder / "new.onnx", frames)


def test_unequal_channels_keep_their_pixels(hard: Path, tmp_path: Path) -> None:
    """Calibration alone loses a tenth of the pixels in each graph, and nearly none afterwards."""
    opened = Checkpoint.open(hard)
    spec = opened.card.input
    source, frames = traced(opened.net, tmp_path / "net.onnx", spec), drawn(8, spec)
    assert equalise(source, tmp_path / "new.onnx", frames, spec)
    samples = [LabelledFrame(str(n), frame, None) for n, frame in enumerate(frames)]
    judge = Judge(source, samples, spec, gate=None)
    for emitter in COMPARED:
        lost = []
        for graph in (source, tmp_path / "new.onnx"):
            emitter.quantize(graph, tmp_path / "int8.onnx", table_of(graph, frames, spec))
            lost.append(judge.loss(tmp_path / "int8.onnx", emitter.flavour).differ)
        assert lost[0] > 5 > 1 > lost[1], (emitter.flavour, lost)


def test_a_clip_cuts_no_channel_that_it_did_not_cut(tmp_path: Path) -> None:
    """One that reaches its end stays; a small one grows, with room for brighter frames."""
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU6(), nn.Conv2d(2, 2, 1))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].weight[:, 0, 0, 0] = torch.tensor([100.0, 0.1])
        net[2].weight[:, :, 0, 0] = torch.tensor([0.1, 1.0])  # the large channel counts for less
    source, frames = traced(net, tmp_path / "net.onnx"), drawn(2)
    assert equalise(source, tmp_path / "new.onnx", frames, SPEC)
    before, after = (
        next(constant(node.inputs[1]) for node in load(path).graph if node.op_type == "Conv")
        for path in (source, tmp_path / "new.onnx")
    )
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(after[0], before[0])
    assert after[1, 0, 0, 0] > 5 * before[1, 0, 0, 0]
    bright = [
        np.minimum(frame * np.float32(HEADROOM * 0.9), 255).astype("uint8") for frame in frames
    ]
    assert_equal(source, tmp_path / "new.onnx", bright)


def test_nothing_is_written_if_no_factor_passes(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU(), nn.Conv2d(4, 2, 1))
    source = traced(net, tmp_path / "net.onnx")
    assert not equalise(source, tmp_path / "new.onnx", drawn(1), SPEC)
    assert not (tmp_path / "new.onnx").exists()
