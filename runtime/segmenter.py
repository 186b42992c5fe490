"""What an application holds: a bundle on a backend."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.errors import ParityError, UsageError
from edgeunet.manifest import Manifest, Precision

from .backends import Backend, Result, Timings, create_backend
from .backends.steered import SteeredBackend
from .bundle import Bundle, open_bundle
from .closing import Closing
from .pipeline import prefetch
from .postprocess import one_size
from .preprocess import Frame, as_rgb
from .sources import SourceFrame, open_source

# Golden frames are checked against another implementation of the same net: of the pixels this
# share must agree, by precision. The promises of `edgeunet parity`, less a point for few frames.
_GOLDEN_AGREEMENT = {"fp32": 0.999, "fp16": 0.995, "int8": 0.98}


class Segmenter(Closing):
    """Segments frames with a bundle; a context manager that frees the backend.

    Frames are RGB (H, W, 3) uint8; grayscale, RGBA and 16 bit are converted (see `as_rgb`).
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend = backend

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest: classes, palette, input, precision."""
        return self.bundle.manifest

    def __call__(
        self, frames: Sequence[npt.NDArray[np.generic]], *, confidence: bool = False
    ) -> Result:
        """Segment frames of one size, at most `manifest.max_batch` at a time inside.

        Args:
            confidence: also tell how sure each pixel is.

        Raises:
            UsageError: no frame. FrameError: a frame that cannot be converted, or sizes differ.
        """
        if isinstance(frames, np.ndarray) and frames.ndim < 4:
            # Iterating over it would take its rows for frames.
            raise UsageError(f"an array {frames.shape} came; pass a list, such as [frame].")
        if len(frames) == 0:
            raise UsageError("no frames came; pass a sequence of (H, W, 3) arrays.")
        images = [as_rgb(frame) for frame in frames]
        one_size(images)
        limit = self.manifest.max_batch
        parts = [
            self.backend.segment(images[start : start + limit], confidence=confidence)
            for start in range(0, len(images), limit)
        ]
        return parts[0] if len(parts) == 1 else _joined(parts)

    def stream(
        self, source: str | Path | Iterator[SourceFrame], *, batch: int = 1
    ) -> Generator[tuple[SourceFrame, npt.NDArray[np.uint8]], None, None]:
        """Yield (frame, mask (H, W)) in order, decoding and inferring ahead of the consumer.

        Frames up to a fault are yielded before its error is raised.

        Args:
            source: what `open_source` takes, or frames of one's own.
            batch: frames a call of the net; a batch ends early where the frames' size changes.
        """
        if not 1 <= batch <= self.manifest.max_batch:
            raise UsageError(
                f"batch is {batch}; the bundle takes 1 to {self.manifest.max_batch}. Export it "
                "with a larger --max-batch."
            )
        frames = open_source(source) if isinstance(source, (str, Path)) else source
        return self._stream(frames, batch)

    def _stream(
        self, frames: Iterator[SourceFrame], batch: int
    ) -> Generator[tuple[SourceFrame, npt.NDArray[np.uint8]], None, None]:
        waiting: deque[list[SourceFrame]] = deque()  # batches on their way through the backend

        def images(groups: Iterator[list[SourceFrame]]) -> Iterator[list[Frame]]:
            for group in groups:
                waiting.append(group)
                yield [frame.image for frame in group]

        with (
            closing(prefetch(batches(frames, batch), depth=2)) as decoded,
            closing(self.backend.stream(images(decoded))) as results,
        ):
            for result in results:
                yield from zip(waiting.popleft(), result.masks, strict=True)

    def self_check(self) -> float:
        """Share of golden pixels that agree with the reference's masks, at the worst of its depths.

        Raises:
            ParityError: fewer agree than the precision promises.
        """
        return min(Segmenter(net.bundle, net)._check() for net in self.backend.nets)

    def _check(self) -> float:
        golden = self.bundle.golden()
        agreement = float(np.mean(self(list(golden.frames)).masks == golden.masks))
        wanted = _GOLDEN_AGREEMENT[self.manifest.precision]
        if agreement < wanted:
            raise ParityError(
                f"{self.bundle.root} on {self.backend.name}: {agreement:.2%} of the golden pixels "
                f"agree with PyTorch, {wanted:.1%} were promised. `edgeunet parity` says where."
            )
        return agreement

    def close(self) -> None:
        """Free the backend."""
        self.backend.close()


def load(
    bundle: str | Path,
    backend: str = "auto",
    *,
    precision: Precision | None = None,
    target_fps: float | None = None,
    **arguments: Any,
) -> Segmenter:
    """Open a bundle and put it on a backend.

    Args:
        bundle: directory that `edgeunet export` wrote.
        backend: "auto", "onnxruntime", "pytorch" or "tensorrt".
        precision: one that the bundle holds, None for the one that it was exported for.
        target_fps: frames per second to hold by switching between the depths of a bundle that
            carries several, see `SteeredBackend`; None for its deepest.
        arguments: those of a backend that is named, such as `threads` of ONNX Runtime.

    Raises:
        BundleError: not a whole bundle. UsageError: a precision that it does not hold,
        or the backend has not, or a target for a bundle of one depth.
        MissingDependencyError: the backend's extra is missing.
    """
    opened = open_bundle(bundle)
    if precision is not None:
        opened = opened.at(precision)
    if backend == "pytorch" and precision not in (None, "fp32"):
        raise UsageError(f"pytorch computes in FP32; precision {precision} needs another backend.")

    def make(bundle: Bundle) -> Backend:
        return create_backend(backend, bundle, **arguments)

    if target_fps is None:
        return Segmenter(opened, make(opened))
    return Segmenter(opened, SteeredBackend(opened, make, target_fps=target_fps))


def batches(frames: Iterator[SourceFrame], size: int) -> Iterator[list[SourceFrame]]:
    """Group frames in order, up to `size` of equal shape; a fault follows the frames before it."""
    group: list[SourceFrame] = []
    try:
        for frame in frames:
            if group and (len(group) == size or frame.image.shape != group[0].image.shape):
                yield group
                group = []
            group.append(frame)
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def _joined(parts: Sequence[Result]) -> Result:
    presences = [part.presence for part in parts if part.presence is not None]
    confidences = [part.confidence for part in parts if part.confidence is not None]
    return Result(
        np.concatenate([part.masks for part in parts]),
        np.concatenate(presences) if presences else None,
        Timings(
            sum(part.timings.preprocess for part in parts),
            sum(part.timings.infer for part in parts),
            sum(part.timings.postprocess for part in parts),
        ),
        np.concatenate(confidences) if confidences else None,
    )
