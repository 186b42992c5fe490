"""FP32 and INT8 graphs of the package's weights at any size, without the proof of a bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeunet.data.cells import snapshots
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8.calibration.calibrate import make_table
from edgeunet.exporting.int8.calibration.observe import observe
from edgeunet.exporting.int8.quantize import quantize_for_cpu
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.models.depth import prune_depth
from edgeunet.models.summary import count
from edgeunet.runtime.backends.preprocess import Preprocessor

FRAMES = 8
"""Procedural frames that the ranges come from; the timed calls take turns on them."""


@dataclass(frozen=True)
class Graphs:
    """One net. images: (N, C, H, W). gmacs: multiply-adds of one image, in units of 10^9."""

    fp32: Path
    int8: Path
    images: npt.NDArray[np.float32]
    width: str
    gmacs: float


def make_graphs(
    model: str, folder: Path, *, size: tuple[int, int], depth: int | None = None
) -> Graphs:
    """Graphs of the weights `cells`; U-Net++ cut to `depth` where it is given."""
    opened = Checkpoint.open("cells", model)
    net, card = opened.net, opened.card
    if depth is not None:
        net, card = prune_depth(net, card, depth=depth, report=lambda step: None)
    height, width = size
    spec = replace(card.input, height=height, width=width)
    drawn = snapshots(FRAMES, height=height, width=width, seed=1)
    frames = [frame.image for frame in drawn]
    stem = f"{model}-{depth}"
    fp32, int8 = folder / f"{stem}.fp32.onnx", folder / f"{stem}.int8.cpu.onnx"
    trace(net, fp32, height=height, width=width, channels=len(spec.channels))
    observation = observe(fp32, frames, spec)
    table = make_table(fp32, observation, "percentile", model=model, source="procedural")
    quantize_for_cpu(fp32, int8, table)
    cost = count(net, height=height, width=width, channels=len(spec.channels))
    images = Preprocessor(spec)(frames)
    return Graphs(fp32, int8, images, str(card.arguments["width"]), cost.gflops / 2)
