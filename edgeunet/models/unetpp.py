"""U-Net++: nested dense skips, deep supervision, and depth that can be pruned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .base import SegmentationNet
from .blocks import DoubleConv, bilinear, descend
from .registry import register_model

MAX_DEPTH = 4


@register_model("unetpp")
class UNetPP(SegmentationNet):
    """U-Net++, 9.2 M parameters at width 32.

    Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", DLMIA 2018
    (arXiv 1807.10165), and "UNet++: Redesigning Skip Connections to Exploit Multiscale Features in
    Image Segmentation", IEEE TMI 39 (2020) (arXiv 1912.05074), section 3. Node X^{i,j} is row i
    (stride 2^i), column j; it sees all X^{i,0..j-1} and the upsampled X^{i+1,j-1}.

    What differs: batch normalisation after every 3x3 convolution. The ensemble averages logits, not
    probabilities as in the paper, so that the graph still outputs logits.

    A net of smaller depth is a deeper one without the nodes with i + j > depth. Its weights have
    the same names, except for a gate, whose input is the deepest feature.

    Args:
        width: channels of row 0; each of the rows below has twice as many.
        depth: L of the paper, 1..4: the net has the nodes with i + j <= depth.
        deep_supervision: a head at every X^{0,j}, j = 1..depth; otherwise only at X^{0,depth}.
        head: j of the X^{0,j} whose head inference uses; the deepest by default.
        ensemble: inference uses the mean of all heads (the paper's accurate mode) instead.
        align_corners: bilinear upsampling keeps the centres of the corner pixels in place instead
            of the borders, as many nets trained elsewhere do.

    Raises:
        UsageError: a depth out of range, or a head or ensemble of heads that the net lacks.

    Example:
        >>> import torch
        >>> net = edgeunet.create_model("unetpp", num_classes=2, width=4, depth=3)
        >>> len(net.run(torch.zeros(1, 3, 16, 16)).heads)
        3
    """

    size_multiple = 1 << MAX_DEPTH

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 32,
        cgm: bool = False,
        depth: int = MAX_DEPTH,
        deep_supervision: bool = True,
        head: int | None = None,
        ensemble: bool = False,
        align_corners: bool = False,
    ) -> None:
        if not 1 <= depth <= MAX_DEPTH:
            raise UsageError(f"depth is {depth}; unetpp has depths 1 to {MAX_DEPTH}.")
        columns = list(range(depth, 0, -1)) if deep_supervision else [depth]
        _check_inference(columns, head=head, ensemble=ensemble)
        channels = [width << row for row in range(depth + 1)]
        super().__init__(deepest_channels=channels[-1], num_classes=num_classes, cgm=cgm)
        self.size_multiple = 1 << depth
        self.depth = depth
        self.ensemble = ensemble
        # The column that inference uses comes first, then the deepest.
        self.columns = columns if head is None else sorted(columns, key=lambda j: (j != head, -j))
        self.pool = nn.MaxPool2d(2)
        self.up = bilinear(align_corners=align_corners)
        self.nodes = nn.ModuleDict()
        for i, out in enumerate(channels):
            self.nodes[_name(i, 0)] = DoubleConv(channels[i - 1] if i else in_channels, out)
            for j in range(1, depth - i + 1):
                self.nodes[_name(i, j)] = DoubleConv(j * out + channels[i + 1], out)
        # Keyed by column, so that a pruned net finds its heads under the same names.
        self.heads = nn.ModuleDict(
            {str(j): nn.Conv2d(width, num_classes, kernel_size=1) for j in columns}
        )

    def encode(self, image: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> the backbone X^{i,0} at strides 1, 2, ..., 2^depth."""
        backbone = [self.nodes[_name(i, 0)] for i in range(self.depth + 1)]
        return descend(backbone, image, pool=self.pool)

    def decode(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Features -> heads (N, C, H, W): first the one for inference, then from the deepest on."""
        rows = [[feature] for feature in features]  # rows[i][j] is X^{i,j}
        for j in range(1, self.depth + 1):
            for i in range(self.depth - j + 1):
                below = self.up(rows[i + 1][j - 1])  # (N, 2C, h, w) -> (N, 2C, 2h, 2w)
                rows[i].append(self.nodes[_name(i, j)](torch.cat([*rows[i], below], dim=1)))
        return tuple(self.heads[str(j)](rows[0][j]) for j in self.columns)

    def select(self, heads: Sequence[Tensor]) -> Tensor:
        """Logits for inference: the mean of all heads with `ensemble`, otherwise the first head."""
        # Additions instead of a stack and a mean keep the graph 4-D.
        return sum(heads[1:], heads[0]) / len(heads) if self.ensemble else heads[0]


def _name(i: int, j: int) -> str:
    """Key of node X^{i,j}."""
    return f"x{i}{j}"


def _check_inference(columns: Sequence[int], *, head: int | None, ensemble: bool) -> None:
    """UsageError if the net lacks the heads that inference should use."""
    if head is not None and ensemble:
        raise UsageError(f"head is {head} and ensemble is set; inference uses one or the other.")
    if head is not None and head not in columns:
        listed = ", ".join(str(j) for j in sorted(columns))
        raise UsageError(f"head is {head}; this unetpp has heads at: {listed}.")
    if ensemble and len(columns) < 2:
        raise UsageError(
            "ensemble needs two heads or more: a depth of at least 2 and deep_supervision."
        )
