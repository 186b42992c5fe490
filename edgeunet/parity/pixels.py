"""Compares graphs from frames to masks with the runtime, which does the same around the net."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle.bundle import Bundle
from ..bundle.manifest import RGB, Flavour, InputSpec
from ..data.resize import resize_frame
from ..runtime.backends import Backend
from ..runtime.backends.ort import OrtNet, open_flavour
from ..runtime.frames import Batch, Frame

FLAVOURS: Mapping[str, Flavour] = MappingProxyType(
    {
        "fp32": "fp32",
        "fp16": "fp16",
        "trt int8": "int8",
        "trt int8.fp16": "int8.fp16",
        "openvino int8": "int8.openvino",
        "qnn int8": "int8.qnn",
        "int8": "int8.cpu",
    }
)
"""The graph that each stage runs on ONNX Runtime."""

_WANTED = 0.999
_WANTED_INT8 = 0.99
"""In a quantized graph, a difference in the last bit can move a value to the next level. Those for
TensorRT also round the image and the logits to FP16 in the runtime, as an engine does."""


@dataclass(frozen=True)
class PixelsParity:
    """One graph from frames to masks, compared with the runtime in the same flavour.

    agreement: share of equal pixels, 0..1. differing: number of the others. wanted: of agreement.
    """

    name: str
    agreement: float
    differing: int
    wanted: float

    @property
    def ok(self) -> bool:
        """Whether enough pixels are equal."""
        return self.agreement >= self.wanted

    @property
    def held(self) -> str:
        """The same in words, and what was promised if it is not kept."""
        return "ok" if self.ok else f"OUT OF TOLERANCE: {self.wanted:.2%} promised"


MasksOf = Callable[[npt.NDArray[Any]], npt.NDArray[np.uint8]]
"""Frames (N, H, W, C) -> masks (N, H, W)."""


@dataclass(frozen=True)
class Candidate:
    """Something from frames to masks that must agree with a backend.

    masks_of: frames (N, H, W, C) -> masks (N, H, W). any_size: whether frames may have any size.
    """

    masks_of: MasksOf
    backend: Backend
    any_size: bool = False

    @classmethod
    def of(cls, graph: OrtNet, backend: Backend) -> Candidate:
        """A graph on ONNX Runtime."""
        (shape,) = graph.input_shapes.values()
        return cls(lambda frames: graph.run(frames)[0], backend, not isinstance(shape[1], int))


class PixelsCollector:
    """Runs graphs on frame after frame, beside backends of their flavours.

    Graphs for frames of the net's size get frames that were resized to it, and so does the runtime.

    Args:
        candidates: what is compared, by name.
    """

    def __init__(self, spec: InputSpec, candidates: Mapping[str, Candidate]) -> None:
        self._spec = spec
        self._candidates = candidates
        self._differing: dict[str, int] = {}
        self._pixels: dict[str, int] = {}

    @classmethod
    def of_bundle(
        cls,
        bundle: Bundle,
        backends: Mapping[str, Backend],
        stack: ExitStack,
        *,
        deployed: Mapping[str, Candidate],
    ) -> PixelsCollector:
        """For the graphs that a bundle holds, and for what was deployed of it.

        Args:
            backends: by stage, see `FLAVOURS`; empty compares no graph.
            stack: closes the graphs. deployed: by name.
        """
        candidates = dict(deployed)
        for stage, backend in backends.items():
            flavour = FLAVOURS[stage]
            path = bundle.pixels_path(flavour)
            if path is not None:
                graph = stack.enter_context(OrtNet(bundle.file(path), flavour=flavour))
                candidates[f"pixels {flavour}"] = Candidate.of(graph, backend)
        return cls(bundle.manifest.input, candidates)

    def add(self, image: Frame) -> None:
        """Compare on one frame (H, W, C)."""
        for name, candidate in self._candidates.items():
            frame = frame_for(image, self._spec, any_size=candidate.any_size)
            expected = candidate.backend.segment(Batch.of([frame])).masks
            differing = int(np.count_nonzero(candidate.masks_of(frame[None]) != expected))
            self._differing[name] = self._differing.get(name, 0) + differing
            self._pixels[name] = self._pixels.get(name, 0) + expected.size

    def results(self) -> tuple[PixelsParity, ...]:
        """For all frames so far."""
        return tuple(
            PixelsParity(
                name=name,
                agreement=1 - differing / self._pixels[name],
                differing=differing,
                wanted=_WANTED_INT8 if "int8" in name else _WANTED,
            )
            for name, differing in self._differing.items()
        )


def compare_pixels(bundle: Bundle, graph: Path, flavour: Flavour) -> PixelsParity:
    """Compare a graph from frames to masks with the runtime, on a bundle's golden frames.

    Args:
        graph: made of the bundle's graph of that flavour, see `write_pixels`.

    Example:
        >>> from edgeunet.exporting import write_pixels
        >>> from edgeunet.parity.pixels import compare_pixels
        >>> from edgeunet.runtime import open_bundle
        >>> opened = open_bundle(bundle)
        >>> write_pixels(opened, "fp32", "cells.onnx")
        >>> compare_pixels(opened, Path("cells.onnx"), "fp32").ok
        True
    """
    with OrtNet(graph, flavour=flavour) as net, open_flavour(bundle, flavour) as backend:
        return compare_masks(bundle, Candidate.of(net, backend), flavour)


def compare_masks(bundle: Bundle, candidate: Candidate, flavour: Flavour) -> PixelsParity:
    """Compare something from frames to masks with its backend, on a bundle's golden frames.

    Args:
        flavour: that both compute; it decides how many pixels must agree.
    """
    collector = PixelsCollector(bundle.manifest.input, {f"pixels {flavour}": candidate})
    for frame in bundle.golden().frames:
        collector.add(frame)
    (found,) = collector.results()
    return found


def frame_for(image: Frame, spec: InputSpec, *, any_size: bool) -> Frame:
    """A frame as the graph takes it: of the net's size if it must be, and gray as RGB.

    Example:
        >>> from edgeunet.bundle.manifest import InputSpec
        >>> from edgeunet.parity.pixels import frame_for
        >>> frame_for(np.zeros((50, 70, 3), np.uint8), InputSpec(64, 96), any_size=False).shape
        (64, 96, 3)
    """
    if spec.frame_channels == RGB and image.shape[2] == 1:
        image = np.repeat(image, len(RGB), axis=2)
    if any_size:
        return np.ascontiguousarray(image)
    return resize_frame(image, (spec.height, spec.width), spec.filter)
