"""PyTorch net -> the reference graph model.fp32.onnx."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch

from edgeunet.errors import ExportError
from edgeunet.models import SegmentationNet

from .passes.clean import clean
from .passes.upsampling import deconv_to_depth_to_space

OPSET = 17
"""Newest opset that TensorRT 8.x reads rightly."""


def trace(net: SegmentationNet, path: Path, *, height: int, width: int, channels: int) -> None:
    """Write the net as ONNX opset 17: `image` -> `logits` and, with a gate, `presence`.

    The batch is dynamic, height and width are fixed. Batch normalisation is folded; 2x2 transposed
    convolutions become a 1x1 convolution and a DepthToSpace, which quantize everywhere.

    Raises:
        ExportError: the exporter wrote another opset.
    """
    outputs = ["logits"] if net.cgm is None else ["logits", "presence"]
    with warnings.catch_warnings(), torch.inference_mode():
        # The exporter with dynamo writes opset 18 whatever is asked for (torch 2.13), and 8.x
        # parsers misread that; the TorchScript one is deprecated, but exact. `_opset` checks.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (torch.zeros(1, channels, height, width),),
            str(path),
            opset_version=OPSET,
            dynamo=False,
            input_names=["image"],
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in ["image", *outputs]},
        )
    model = onnx.load(path)
    found = _opset(model)
    if found != OPSET:
        raise ExportError(f"torch {torch.__version__} wrote opset {found}; {OPSET} was asked for.")
    model = clean(deconv_to_depth_to_space(model))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _opset(model: onnx.ModelProto) -> int:
    return next(
        int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")
    )
