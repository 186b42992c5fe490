"""Other people's nets as graphs, and ranges for them without frames of an application."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from torch import nn

from edgeunet.bundle.calibration_table import CalibrationTable
from edgeunet.bundle.manifest import InputSpec
from edgeunet.exporting.int8.calibration.calibrate import make_table
from edgeunet.exporting.int8.calibration.observe import observe
from edgeunet.runtime.backends.preprocess import Preprocessor

from .graphs import Array


def traced(net: nn.Module, height: int, width: int) -> onnx.ModelProto:
    """As PyTorch's exporter writes it, with an open batch."""
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (torch.zeros(1, 3, height, width),),
            file,
            opset_version=17,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    return onnx.load_from_string(file.getvalue())


def smooth_frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture of soft blobs, uint8 (H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def smooth_image(height: int, width: int, seed: int = 9) -> Array:
    """The same as input of a net, (1, 3, H, W)."""
    return Preprocessor(InputSpec(height, width))([smooth_frame(height, width, seed)])


def observed_table(graph: Path) -> CalibrationTable:
    """Ranges that a graph shows on three pictures."""
    sizes = onnx.load(graph).graph.input[0].type.tensor_type.shape.dim[2:]
    height, width = (size.dim_value for size in sizes)
    frames = [smooth_frame(height, width, seed) for seed in range(3)]
    observation = observe(graph, frames, InputSpec(height, width))
    return make_table(graph, observation, "minmax", model="other", source="blobs")
