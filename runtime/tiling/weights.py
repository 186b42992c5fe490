"""How much each pixel of a tile counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .plan import Blend

# Of a tile's side, as in nnU-Net (Isensee et al., Nature Methods 18, 2021).
_SIGMA = 1 / 8


def tile_weights(size: tuple[int, int], blend: Blend) -> npt.NDArray[np.float32]:
    """Weights (height, width) of a tile, positive: "gaussian" 1 at the centre, "valid" all 1."""
    if blend == "valid":
        return np.ones(size, np.float32)
    rows, columns = map(_gaussian, size)
    return np.outer(rows, columns)


def _gaussian(side: int) -> npt.NDArray[np.float32]:
    """At the border it is exp(-8), whatever the side."""
    deviations = (np.arange(side) - (side - 1) / 2) / (_SIGMA * side)
    return np.exp(-(deviations**2) / 2).astype(np.float32)
