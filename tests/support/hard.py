"""Nets and tables that lose much in INT8."""

from __future__ import annotations

from dataclasses import replace

import torch

from edgeunet.bundle.calibration_table import CalibrationTable
from edgeunet.models import SegmentationNet
from edgeunet.models.blocks import DoubleConv

TENSOR = "/x01/x01.0/x01.0.2/Relu_output_0"
"""What one convolution of the decoder of the `shallow` net reads."""


def widened(table: CalibrationTable) -> CalibrationTable:
    """A table of that net with a range so wide that its values share a few levels."""
    assert table.ranges[TENSOR][1] < 16
    return replace(table, ranges={**table.ranges, TENSOR: (0.0, 160.0)})


def rescale(net: SegmentationNet, *, spread: float) -> None:
    """Scale the channels between two convolutions by 2^-spread to 2^spread, and undo it behind.

    In floating point the net stays what it is, because a Relu lets factors through. In INT8 one
    range has to hold all channels of a map, and the small ones have few levels left.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for block in net.modules():
            if isinstance(block, DoubleConv):
                first, second = block
                norm, conv = first[1], second[0]
                drawn = torch.rand(norm.num_features, generator=generator)
                factors = torch.exp2(spread * (2 * drawn - 1))
                norm.weight *= factors
                norm.bias *= factors
                conv.weight /= factors[:, None, None]
