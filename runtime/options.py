"""What a caller chooses when a bundle is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edgeunet.bundle.manifest import Precision
from edgeunet.fields import check, describe

if TYPE_CHECKING:
    from .backends.tiling import Tiling


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How to load a bundle; None leaves the choice to the bundle, the backend or the machine.

    Attributes:
        precision: one that the bundle holds; None for the one that it was exported for.
        tiling: how to cut frames into tiles of the net's input size, for frames larger than that;
            None resizes each frame to the input size.
        target_fps: frames per second to hold, by switching between the depths that the bundle
            carries; None runs the deepest.
        device: index of the GPU; None for the first.
        dla: core of the Deep Learning Accelerator, TensorRT only; None for the GPU.
        threads: CPU threads of ONNX Runtime; None for all cores.

    Raises:
        UsageError: a value that is out of range, or an unknown precision.

    Example:
        >>> from edgeunet.runtime.options import LoadOptions
        >>> LoadOptions(precision="fp32", threads=2).threads
        2
    """

    precision: Precision | None = field(
        default=None,
        metadata=describe(
            "Precision to run in; the bundle must hold it.", shown_default="the bundle's"
        ),
    )
    tiling: Tiling | None = None
    target_fps: float | None = field(
        default=None,
        metadata=describe(
            "Frame rate to hold, by switching between the depths that the bundle carries.",
            gt=0,
            lt=math.inf,
            metavar="FPS",
        ),
    )
    device: int | None = field(
        default=None, metadata=describe("GPU to run on.", ge=0, metavar="INDEX", shown_default="0")
    )
    dla: int | None = field(
        default=None,
        metadata=describe(
            "Core of the Deep Learning Accelerator to run on, TensorRT only. Layers that it "
            "cannot run use the GPU.",
            ge=0,
            metavar="CORE",
        ),
    )
    threads: int | None = field(default=None, metadata=describe(ge=1))

    def __post_init__(self) -> None:
        check(self)


DEFAULTS: Final = LoadOptions()
"""Everything left to the bundle, the backend and the machine."""
