"""The classification-guided module (CGM), the gate of U-Net 3+."""

from __future__ import annotations

from torch import Tensor, nn


class ClassificationGuidedModule(nn.Module):
    """Tells from the deepest feature which classes the image holds.

    Huang et al., "UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation",
    ICASSP 2020 (arXiv 2004.08790), section 2.3: dropout, 1x1 convolution, adaptive max pooling,
    sigmoid. There the module answers for one organ; here for every class (N, C), so that the gate
    can close single classes.
    """

    def __init__(self, in_channels: int, num_classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Conv2d(in_channels, num_classes, kernel_size=1)
        self.pool = nn.AdaptiveMaxPool2d(1)

    def forward(self, deepest: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> probabilities (N, num_classes)."""
        scores = self.pool(self.classify(self.dropout(deepest)))
        presence: Tensor = scores.flatten(1).sigmoid()
        return presence
