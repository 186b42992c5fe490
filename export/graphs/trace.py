"""PyTorch net -> the reference graph model.fp32.onnx."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeunet.errors import ExportError, first_line
from edgeunet.models import SegmentationNet

from .passes import Prepare
from .passes.graph import OPSET, load, save

Size = int | None | tuple[int | None, int | None]


@contextmanager
def exact_pooling() -> Iterator[None]:
    """Lets nets be traced that pool to sizes which do not divide those of their features.

    `torch.onnx.export` refuses such a pooling, as PSPNet's and UperNet's have it. The mean over
    each window is a product with two constant matrices: windows go from floor(i * side / size) to
    ceil((i + 1) * side / size), as those of `torch.nn.AdaptiveAvgPool2d`. If the sizes divide, the
    windows are equal; the exporter must be told how large they are, as it loses sight of sides
    behind computed paddings.
    """
    pool = functional.adaptive_avg_pool2d

    def pooled(input: Tensor, output_size: Size) -> Tensor:  # noqa: A002
        sides = (int(input.shape[-2]), int(input.shape[-1]))
        sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
        wanted = [side if size is None else size for side, size in zip(sides, sizes, strict=True)]
        if wanted == [1, 1]:
            return pool(input, output_size)
        if not any(side % size for side, size in zip(sides, wanted, strict=True)):
            windows = [side // size for side, size in zip(sides, wanted, strict=True)]
            return functional.avg_pool2d(input, windows)
        rows, columns = (_windows(*pair).to(input) for pair in zip(sides, wanted, strict=True))
        return rows @ input @ columns.T

    functional.adaptive_avg_pool2d = pooled
    try:
        yield
    finally:
        functional.adaptive_avg_pool2d = pool


def _windows(side: int, size: int) -> Tensor:
    """Weights (size, side) of the mean over each window."""
    weights = torch.zeros(size, side)
    for index in range(size):
        first, end = index * side // size, -(-(index + 1) * side // size)
        weights[index, first:end] = 1 / (end - first)
    return weights


def trace(net: nn.Module, path: Path, *, height: int, width: int, channels: int) -> None:
    """Write the net as ONNX opset 17: `image` -> `logits` and, with a gate of ours, `presence`.

    The batch is dynamic, height and width are fixed. Batch normalisation is folded. A 2x2
    transposed convolution becomes a 1x1 convolution and a DepthToSpace, which quantize everywhere.

    Raises:
        ExportError: what the exporter cannot trace, or it wrote another opset.
    """
    gated = isinstance(net, SegmentationNet) and net.cgm is not None
    outputs = ["logits", "presence"] if gated else ["logits"]
    with warnings.catch_warnings(), torch.inference_mode():
        # The dynamo exporter always writes opset 18 (torch 2.13), which 8.x parsers misread. The
        # TorchScript exporter is deprecated, but keeps to the opset; this is checked below.
        warnings.simplefilter("ignore")
        try:
            with exact_pooling():
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
        except Exception as error:  # it has dozens, some with the whole graph in them
            raise ExportError(
                f"torch.onnx.export cannot trace the net: {first_line(error)}"
            ) from None
    model = load(path)
    found = model.opset_imports[""]
    if found != OPSET:
        raise ExportError(
            f"torch {torch.__version__} wrote opset {found}, expected {OPSET}. "
            "Install a version of torch whose exporter keeps to the opset."
        )
    if not model.graph.inputs or not model.graph.inputs[0].uses():
        raise ExportError(
            "torch.onnx.export cannot trace the net: its answer in the graph does not depend "
            "on the image. Keep NumPy, .item() and .tolist() out of forward."
        )
    Prepare()(model)
    save(model, path)
