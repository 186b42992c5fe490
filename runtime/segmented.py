"""What comes out of a stream, and goes into a sink."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeunet.metrics import Mask

from .sources import SourceFrame


@dataclass(frozen=True)
class Segmented:
    """A frame, its class ids (H, W), and the gate's presence (C,), None without a gate."""

    frame: SourceFrame
    mask: Mask
    presence: npt.NDArray[np.float32] | None = None
