"""What a caller chooses when a bundle is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from edgeunet.bundle.manifest import Precision
from edgeunet.data.fit import Reading
from edgeunet.errors import UsageError
from edgeunet.fields import check, describe

Blend = Literal["gaussian", "valid"]
Processor = Literal["cpu", "gpu", "npu"]
"""Kinds of devices that OpenVINO computes on."""
Provider = Literal[
    "coreml", "cpu", "cuda", "dml", "nvtensorrtrtx", "openvino", "qnn", "tensorrt", "xnnpack"
]
"""ONNX Runtime's execution providers, see `backends/providers.py`."""

VideoDecoder = Literal["ffmpeg", "nvdec"]
"""What decodes video files: FFmpeg on the CPU, or the decoder of an NVIDIA GPU."""

MOST_THREADS = 1024
"""Engines start each thread at once; more than a machine has cores only slow a net down."""
MAX_OVERLAP = 0.75
"""Above this, each pixel goes through the net more than 16 times."""


@dataclass(frozen=True)
class Tiling:
    """How images are cut into tiles of the net's input size and put together again.

    overlap: share of a tile's side that its neighbour covers too, 0..0.75, rounded up so that tiles
        begin at multiples of 32 pixels. Nets subsample by up to 32; tiles that begin elsewhere
        would disagree on their common pixels by more than a tile's border causes.
    blend: "gaussian" adds up the softmax of overlapping tiles, weighted by a Gaussian around each
        tile's centre with a sigma of an eighth of its sides, as nnU-Net does (Isensee et al.,
        Nature Methods 18, 2021). A class that a tile's gate closes has probability 0 there.
        "valid" takes each pixel from the tile in which it is farthest from the border, without
        blending, and mirrors the image at its edges to give them context: the overlap-tile strategy
        of U-Net (Ronneberger et al., MICCAI 2015, figure 2).
    batch: tiles per call of the net. Memory grows with it, and hardly with the image.

    Raises:
        UsageError: a value is out of range.

    Example:
        >>> with edgeunet.load(bundle, tiling=edgeunet.Tiling(overlap=0.5)) as segmenter:
        ...     segmenter([np.tile(frame, (2, 2, 1))]).masks.shape
        (1, 128, 192)
    """

    overlap: float = 0.25
    blend: Blend = "gaussian"
    batch: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= MAX_OVERLAP:  # NaN too
            raise UsageError(f"overlap is {self.overlap}; expected 0 to {MAX_OVERLAP}.")
        if self.blend not in get_args(Blend):
            raise UsageError(f"blend is {self.blend!r}; expected gaussian or valid.")
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}; expected 1 tile or more.")


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How to load a bundle; None leaves the choice to the bundle, the backend or the machine.

    Attributes:
        precision: one that the bundle holds, or bf16, in which a machine may compute the graph of
            FP32; None for the one that the bundle was exported for.
        tiling: how to cut frames into tiles of the net's input size, for frames larger than that;
            None resizes each frame to the input size.
        target_fps: frames per second to hold, by switching between the depths that the bundle
            carries; of each of several sources. None runs the deepest.
        provider: where ONNX Runtime computes, checked against the golden frames before it is used;
            None for the CPU.
        processor: where OpenVINO computes; None for the CPU.
        device: index of the GPU, of the processor that OpenVINO computes on, or of the core of
            Rockchip's NPU; None for the first, and for all cores.
        dla: core of the Deep Learning Accelerator, TensorRT only; None for the GPU.
        threads: CPU threads of ONNX Runtime or OpenVINO; None for all cores.
        trust_engines: run engines, kernels and caches in the bundle that another machine built.
            They are code; without this they are built again.
        reading: what frames hold that do not say it themselves.

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
            "Precision to run in. The bundle must hold it; bf16 takes its FP32 graph.",
            shown_default="the bundle's",
        ),
    )
    tiling: Tiling | None = None
    target_fps: float | None = field(
        default=None,
        metadata=describe(
            "Frame rate to hold, by switching between the depths that the bundle carries; of each "
            "source.",
            gt=0,
            lt=math.inf,
            metavar="FPS",
        ),
    )
    provider: Provider | None = field(
        default=None,
        metadata=describe(
            "Execution provider of ONNX Runtime to compute with; needs --backend onnxruntime.",
            metavar="NAME",
            shown_default="cpu",
        ),
    )
    processor: Processor | None = field(
        default=None,
        metadata=describe("Where to compute, OpenVINO only.", shown_default="cpu"),
    )
    device: int | None = field(
        default=None,
        metadata=describe(
            "GPU to run on; of Rockchip's NPU the core, by default all.",
            ge=0,
            metavar="INDEX",
            shown_default="0",
        ),
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
    threads: int | None = field(default=None, metadata=describe(ge=1, le=MOST_THREADS))
    trust_engines: bool = field(
        default=False,
        metadata=describe(
            "Use engines and kernels in the bundle that another machine built, instead of building "
            "them again. They are code: trust whoever built them."
        ),
    )
    reading: Reading = Reading()  # noqa: RUF009  # frozen

    def __post_init__(self) -> None:
        check(self)


DEFAULTS: Final = LoadOptions()
"""Everything left to the bundle, the backend and the machine."""
