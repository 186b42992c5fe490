"""What an application holds: a bundle on a backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import Manifest, Precision
from edgeunet.errors import ParityError, UsageError

from .backends import Backend, Result, Timings, create_backend
from .backends.smoothing import Smoother
from .backends.steering import SteeredBackend
from .backends.tiling import TiledBackend, Tiling
from .frames import as_rgb, one_size
from .pipeline.stopping import Closing
from .sources import Frames, Source, SourceFrame
from .stream import Feed, Stream

Drop = Literal["oldest", "none"]
# Seconds that a live frame waits for its batch: about what an eye takes for no delay.
_LIVE_DELAY = 0.05
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
        self,
        source: str | Path | Iterable[SourceFrame | npt.NDArray[np.generic]],
        *,
        batch: int = 1,
        max_delay: float | None = None,
        drop: Drop | None = None,
        temporal: float | None = None,
    ) -> Stream:
        """Yield (frame, mask (H, W)) in order, decoding and inferring ahead of the consumer.

        Frames up to a fault are yielded before its error is raised.

        Args:
            source: what `Frames.open` takes, or frames of one's own: arrays, or `SourceFrame`s,
                which have a time and a name besides.
            batch: frames a call of the net; a batch ends early where the frames' size changes.
            max_delay: seconds that a frame waits for others to fill its batch. None: 0.05 for a
                live source, for ever elsewhere.
            drop: which frame gives way where the consumer is slower than the source. None:
                "oldest" for a live source, "none" elsewhere.
            temporal: share of the past in the logits of each frame, see `Smoother`; None: none.

        Raises:
            UsageError: what is no source, a batch that the bundle does not take, a delay that is
            none, frames of a file to be dropped, smoothing out of range or of tiles.
        """
        _check_batch(batch, self.manifest)
        if max_delay is not None and not max_delay >= 0:  # NaN too
            raise UsageError(f"max_delay is {max_delay}; seconds, 0 or more, were wanted.")
        if drop not in (None, *get_args(Drop)):
            raise UsageError(f"drop is {drop!r}; {' or '.join(get_args(Drop))} was wanted.")
        smoother = None if temporal is None else Smoother(self.manifest.input, temporal)
        if smoother is not None and not all(net.smooths for net in self.backend.nets):
            raise UsageError(
                "frames in tiles are not smoothed over time. Leave out one of the two."
            )
        frames = Frames.open(source).read() if isinstance(source, (str, Path)) else source
        live = isinstance(frames, Source) and frames.info.live
        if not isinstance(frames, Source):
            frames = _own(frames)
        elif not live and drop == "oldest":
            if frames is not source:
                frames.close()
            raise UsageError("no frame of a file is dropped; drop='oldest' is for live sources.")
        feed = Feed(
            frames,
            batch=batch,
            max_delay=_LIVE_DELAY if live and max_delay is None else max_delay,
            drop_oldest=(drop or ("oldest" if live else "none")) == "oldest",
        )
        return Stream(self.backend, frames, feed, smoother)

    def self_check(self) -> float:
        """Share of golden pixels that agree with the reference's masks, at the worst of its depths.

        Raises:
            ParityError: fewer agree than the precision promises.
        """
        return min(Segmenter(net.bundle, net)._check() for net in self.backend.nets)

    def _check(self) -> float:
        golden = self.bundle.golden()
        whole = Segmenter(self.bundle, self.backend.untiled)  # as the masks were made
        agreement = float(np.mean(whole(list(golden.frames)).masks == golden.masks))
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


def _own(frames: Iterable[SourceFrame | npt.NDArray[np.generic]]) -> Iterator[SourceFrame]:
    """Frames that are not from a source of ours, as it would give them."""
    if not isinstance(frames, Iterable) or (isinstance(frames, np.ndarray) and frames.ndim < 4):
        came = f"an array {frames.shape}" if isinstance(frames, np.ndarray) else repr(frames)
        raise UsageError(
            f"{came} is no source. Pass a path, an address such as v4l2:///dev/video0, or frames."
        )
    return (_as_source_frame(index, frame) for index, frame in enumerate(frames))


def _as_source_frame(index: int, frame: SourceFrame | npt.NDArray[np.generic]) -> SourceFrame:
    if isinstance(frame, SourceFrame):
        return replace(frame, image=as_rgb(frame.image))
    if isinstance(frame, np.ndarray):
        return SourceFrame(index, "", as_rgb(frame))
    raise UsageError(
        f"a {type(frame).__name__} came as a frame; an array (H, W, 3), RGB, or a SourceFrame was "
        "wanted."
    )


def load(
    bundle: str | Path,
    backend: str = "auto",
    *,
    precision: Precision | None = None,
    tiling: Tiling | None = None,
    target_fps: float | None = None,
    **arguments: Any,
) -> Segmenter:
    """Open a bundle and put it on a backend.

    Args:
        bundle: directory that `edgeunet export` wrote.
        backend: "auto", "onnxruntime", "pytorch", "rtx" or "tensorrt".
        precision: one that the bundle holds, None for the one that it was exported for.
        tiling: how frames are cut into tiles of the net's input size, at their own resolution,
            which suits images larger than that; None to resize each frame to it.
        target_fps: frames per second to hold by switching between the depths of a bundle that
            carries several, see `SteeredBackend`; None for its deepest.
        arguments: those of a backend that is named, such as `threads` of ONNX Runtime; "auto" hands
            `device` and `dla` to a GPU's.

    Raises:
        BundleError: not a whole bundle. UsageError: a precision that it does not hold,
        or the backend has not; an argument that the backend has not; more tiles a batch than the
        bundle takes; a target for one depth.
        MissingDependencyError: the backend's extra is missing.
    """
    opened = open_bundle(bundle)
    if precision is not None:
        opened = opened.at(precision)
    if backend == "pytorch" and precision not in (None, "fp32"):
        raise UsageError(f"pytorch computes in FP32; precision {precision} needs another backend.")
    if tiling is not None:
        _check_batch(tiling.batch, opened.manifest)

    def make(bundle: Bundle) -> Backend:
        created = create_backend(backend, bundle, **arguments)
        return created if tiling is None else TiledBackend(created, tiling)

    if target_fps is None:
        return Segmenter(opened, make(opened))
    return Segmenter(opened, SteeredBackend(opened, make, target_fps=target_fps))


def _check_batch(batch: int, manifest: Manifest) -> None:
    """UsageError for a batch that the graphs cannot take."""
    if not 1 <= batch <= manifest.max_batch:
        raise UsageError(
            f"batch is {batch}; the bundle takes 1 to {manifest.max_batch}. Export it with a "
            "larger --max-batch."
        )


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
