"""Options of the commands that load a bundle: backend, device, tiles, smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from ..fields import described
from ..runtime.backends.tiling import Blend, Tiling
from ..runtime.backends.tiling.plan import MAX_OVERLAP
from .common import option

backend_option = option(
    "--backend",
    section="Net",
    metavar="NAME",
    default="auto",
    help="auto, onnxruntime, pytorch, rtx or tensorrt.",
)
batch_option = option(
    "--batch",
    section="Net",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    help="Frames, or tiles, per call of the net.",
)
temporal_option = option(
    "--temporal",
    metavar="SHARE",
    type=click.FloatRange(0, 1, max_open=True),
    show_default="no smoothing",
    help="Share of earlier frames in each frame's logits, such as 0.3; reduces flicker.",
)


@dataclass(frozen=True, kw_only=True)
class TileOptions:
    """Whether frames are cut into tiles, and how; None stands for the default of `Tiling`."""

    tile: bool = described(
        False, "Cut frames into tiles of the net's input size instead of resizing them."
    )
    overlap: float | None = described(
        None,
        "Overlap of neighbouring tiles, as a share of their side.",
        ge=0,
        le=MAX_OVERLAP,
        metavar="SHARE",
        shown_default=str(Tiling.overlap),
    )
    blend: Blend | None = described(
        None,
        "gaussian averages overlapping tiles; valid takes each pixel from one tile.",
        shown_default=Tiling.blend,
    )

    def __post_init__(self) -> None:
        for name in ("overlap", "blend"):
            if getattr(self, name) is not None and not self.tile:
                raise click.UsageError(f"--{name} needs --tile.")

    def tiling(self, batch: int) -> Tiling | None:
        """How to cut frames, with `batch` tiles a call; None without --tile."""
        given: dict[str, Any] = {"overlap": self.overlap, "blend": self.blend}
        chosen = {name: value for name, value in given.items() if value is not None}
        return Tiling(batch=batch, **chosen) if self.tile else None
