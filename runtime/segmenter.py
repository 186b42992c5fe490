"""What an application uses: a bundle on a backend."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import Levels, Manifest, Precision
from edgeunet.bundle.statistics import FirstFrames
from edgeunet.data.fit import Fit, Reading
from edgeunet.errors import BackendError, ParityError, UsageError
from edgeunet.shapes.regions import Legend

from .backends import Backend
from .backends.base import CLOSED
from .backends.candidates import Candidate
from .backends.choice import Choice, choose
from .backends.golden import batches_of, golden_agreement
from .backends.opening import open_backend
from .backends.smoothing import Smoother
from .frames import Batch, SourceFrame, Timings
from .gpu.frames import DeviceFrame
from .options import DEFAULTS, LoadOptions, Processor, Provider, Tiling
from .pipeline.stopping import Closing
from .results import FrameResult, Result
from .sources.arrays import arrays_of
from .sources.feed import Drop, Feed
from .sources.named import Given, inputs_of
from .stream import Stream

T = TypeVar("T", bound=np.generic)
_log = logging.getLogger(__name__)


class Segmenter(Closing):
    """Segments frames with a bundle; a context manager that frees the backend.

    Once closed, it raises UsageError when it is used, and so do its streams that had not ended.

    Frames are (H, W, C) of the channels and depth that the manifest's input names, such as RGB of
    8 bit. `Fit` says what else is taken.

    One that `edgeunet.load` made can be pickled: each process that unpickles it opens the bundle
    anew, by the same path and options. So joblib, Dask, Spark and `multiprocessing` can hand it on.

    Args:
        backend: the backend that segments. plain: the backends inside it that run one net the
            bundle's own way, which `self_check` checks; None if that is `backend` itself.
        reading: what frames hold that do not say it themselves.
        choice: why this backend, in this precision; None if it was named, or is the GPU's.

    Example:
        >>> with edgeunet.load(bundle) as segmenter:
        ...     segmenter([frame]).masks.shape == (1, *frame.shape[:2])
        True
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        plain: Sequence[Backend] | None = None,
        reading: Reading | None = None,
        choice: Choice | None = None,
    ) -> None:
        self.bundle = bundle
        self.backend = backend
        self.choice = choice
        self.reading = reading or Reading()
        self._plain = plain or [backend]
        self._opening: tuple[Path, str, LoadOptions] | None = None
        self._closed = False
        self._streams: WeakSet[Stream] = WeakSet()
        self._first = FirstFrames(bundle.manifest.frames, levels=bundle.manifest.input.levels)
        self._fit = Fit(bundle.manifest.input, reading, resized=not backend.tiles)

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        backend: str = "auto",
        options: LoadOptions = DEFAULTS,
        prefer: Candidate | None = None,
    ) -> Segmenter:
        """See `load`.

        Args:
            prefer: what `auto` uses without measuring, if it can be opened.
        """
        whole = open_bundle(bundle)
        if options.tiling is not None:
            check_batch(options.tiling.batch, whole.manifest)
        opened = open_backend(whole, backend, options, prefer=prefer)
        segmenter = cls(
            opened.bundle,
            opened.backend,
            plain=opened.plain,
            reading=options.reading,
            choice=opened.choice,
        )
        segmenter._opening = Path(bundle).resolve(), backend, options
        return segmenter

    @classmethod
    def open_checked(
        cls, bundle: str | Path, backend: str = "auto", options: LoadOptions = DEFAULTS
    ) -> Segmenter:
        """`open` and `self_check`. A kept choice that fails it is measured again.

        What was measured just now is not checked twice.

        Raises:
            ParityError: what is left gives wrong masks too.
        """
        again = False
        while True:
            segmenter = cls.open(bundle, backend, options)
            try:
                if not segmenter._was_checked:
                    segmenter.self_check()
                return segmenter
            except BaseException as error:
                segmenter.close()
                kept = segmenter.choice is not None and segmenter.choice.is_kept
                if again or not kept or not isinstance(error, (ParityError, BackendError)):
                    raise
                _log.warning("what was kept as the fastest cannot be used: %s", error)
            choose(open_bundle(bundle), options, again=True)
            again = True

    def __reduce__(self) -> tuple[Callable[..., Segmenter], tuple[Any, ...]]:
        """Pickled as the call that opens it; what `auto` chose is used there without measuring."""
        self._check_open()
        if self._opening is None:
            raise UsageError(
                "a segmenter on a backend of your own cannot be pickled; expected one that "
                "`edgeunet.load` made. Open it in each process."
            )
        use = None if self.choice is None else self.choice.use
        return Segmenter.open, (*self._opening, use)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest: classes, palette, input, precision."""
        return self.bundle.manifest

    def __call__(self, frames: Any, *, confidence: bool = False) -> Result:
        """Segment frames of one size, at most `manifest.max_batch` at a time inside.

        Args:
            frames: one frame or several: arrays (H, W, C) or a batch (N, H, W, C), Pillow's
                images, PyTorch's uint8 tensors, paths of images; `arrays_of` says which are taken.
                The result has one mask for each, also if there is one frame only.
            confidence: also compute the confidence of each pixel.

        Raises:
            UsageError: no frame, or something else. FrameError: a frame cannot be converted, or
            sizes differ. SourceError: a file that cannot be read.
        """
        self._check_open()
        fitted = [
            self.fitted(each if isinstance(each, SourceFrame) else SourceFrame(index, "", each))
            for index, each in enumerate(arrays_of(frames))
        ]
        if not fitted:
            raise UsageError("expected frames (H, W, C), got none.")
        batches = batches_of(self.backend, fitted, confidence=confidence)
        return _joined(self.manifest, [self.backend.segment(batch) for batch in batches])

    def segment(self, frame: SourceFrame) -> FrameResult:
        """Segment one frame of a source; errors as of a call."""
        self._check_open()
        batch = self.backend.segment(Batch([self.fitted(frame)]))
        return _joined(self.manifest, [batch])[0]

    def fitted(self, frame: SourceFrame) -> SourceFrame:
        """A frame of a source as the net takes it; FrameError if it does not fit."""
        name, image = frame.name or f"frame {frame.index}", frame.image
        if isinstance(image, DeviceFrame):
            stays = self._fit.keeps_rgb and image.device == self.backend.gpu
            image = image if stays else np.asarray(image)
        image = self._fit(image, frame.channels, name=name)
        levels = self.manifest.input.levels
        return replace(frame, image=image, channels=self._fit.channels, levels=levels)

    def stream(
        self,
        source: Given | Mapping[str, Given],
        *,
        batch: int | None = None,
        max_delay: float | None = None,
        drop: Drop | None = None,
        temporal: float | None = None,
        confidence: bool = False,
        skip_damaged: bool = False,
    ) -> Stream:
        """Yield (frame, mask (H, W)) in order, computed ahead of the consumer.

        If the source raises, earlier frames are delivered first, then the error. If the first
        frames are unlike those that the bundle was made with, a warning says so.

        Several sources by name share the net: each is read in a thread of its own, and those that
        have a frame take turns in every batch, whatever their frames' sizes. Results come in the
        order of their source, which `frame.source` and `result.source` name, as soon as they are
        there, so that a slow or lost source holds up no other. A source that fails ends alone, and
        one error behind all results names it; `Stream.report` has the counts and latency of each.

        Args:
            source: what `Frames.open` takes, or your own frames: anything that yields what a call
                takes, see `arrays_of`, or `SourceFrame`s, which also have a time and a name. Or
                several of these by name.
            batch: frames per call of the net. None: one, or one of each of several sources, as far
                as the bundle takes them.
            max_delay: longest time in seconds to wait for a batch to fill. None: 0.05 for a live
                source and for several, otherwise no limit.
            drop: which frames to drop if the consumer cannot keep up with a source. None: "oldest"
                for a live source, "none" otherwise.
            temporal: share of the past in the logits of each frame, see `Smoother`; None: none.
            confidence: `Stream.results` also has the confidence of each pixel.
            skip_damaged: see `Frames.read`.

        Raises:
            UsageError: not a source, one source under two names, a batch that the bundle does not
            take, a negative delay, dropping frames of a file, smoothing of tiles or out of range.
            While the stream is read, as of a call.

        Example:
            >>> with edgeunet.load(bundle) as segmenter, segmenter.stream([frame]) as stream:
            ...     [(frame.index, mask.shape == frame.image.shape[:2]) for frame, mask in stream]
            [(0, True)]
            >>> cameras = {"door": [frame, frame], "yard": [frame[:40]]}
            >>> with edgeunet.load(bundle) as segmenter, segmenter.stream(cameras) as stream:
            ...     sorted((each.source, each.mask.shape[0]) for each in stream.results())
            [('door', 64), ('door', 64), ('yard', 40)]
        """
        self._check_open()
        if batch is not None:
            check_batch(batch, self.manifest)
        if max_delay is not None and not max_delay >= 0:  # NaN too
            raise UsageError(f"max_delay is {max_delay}; expected 0 seconds or more.")
        if drop not in (None, *get_args(Drop)):
            raise UsageError(f"drop is {drop!r}; expected {' or '.join(get_args(Drop))}.")
        smoother = None if temporal is None else Smoother(self.manifest.input, temporal)
        if smoother is not None and self.backend.tiles:
            raise UsageError(
                "frames in tiles or windows are not smoothed over time. Leave out the smoothing."
            )
        inputs = inputs_of(source, skip_damaged=skip_damaged)
        files = [name for name, each in inputs.items() if each.files]
        if drop == "oldest" and files:
            for each in inputs.values():
                if each.source is not None and each.source is not source:
                    each.source.close()
            whose = f" ({', '.join(files)})" if len(inputs) > 1 else ""
            raise UsageError(f"files are read in full{whose}; drop='oldest' is for live sources.")
        feed = Feed(
            inputs,
            fit=self.fitted,
            batch=min(len(inputs), self.manifest.max_batch) if batch is None else batch,
            max_delay=max_delay,
            drop=drop,
            confidence=confidence,
        )
        stream = Stream(self.backend, feed, smoother, self._first_frames(inputs))
        self._streams.add(stream)
        return stream

    def _first_frames(self, names: Iterable[str]) -> Mapping[str, FirstFrames]:
        """What compares the first frames of each source: one for all streams of a single one."""
        several = list(names)
        if len(several) == 1:
            return {several[0]: self._first}
        expected, levels = self.manifest.frames, self.manifest.input.levels
        return {name: FirstFrames(expected, levels=levels, name=name) for name in several}

    def self_check(self) -> float:
        """Share of golden pixels that agree with the reference's masks, at the worst depth.

        Raises:
            ParityError: fewer agree than the precision promises, or the net gives no numbers.
        """
        self._check_open()
        return min(golden_agreement(backend) for backend in self._plain)

    @property
    def _was_checked(self) -> bool:
        """Whether `choose` has just checked all that it consists of: several depths are more."""
        return self.choice is not None and self.choice.is_new and len(self._plain) == 1

    def close(self) -> None:
        """End the streams and free the backend, at once; more calls do nothing."""
        self._closed = True
        for stream in list(self._streams):
            stream.abort(self._closed_error())
        self.backend.close()

    def _closed_error(self) -> UsageError:
        return UsageError(f"The segmenter of {self.bundle.root}: {CLOSED}")

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()


def load(
    bundle: str | Path,
    backend: str = "auto",
    *,
    precision: Precision | None = None,
    tiling: Tiling | None = None,
    target_fps: float | None = None,
    provider: Provider | None = None,
    processor: Processor | None = None,
    device: int | None = None,
    dla: int | None = None,
    threads: int | None = None,
    trust_engines: bool = False,
    levels: Levels | None = None,
    channels: Sequence[str] | None = None,
    checked: bool = False,
) -> Segmenter:
    """Open a bundle and put it on a backend.

    Args:
        bundle: directory that `edgeunet export` wrote.
        backend: "auto", "onnxruntime", "openvino", "pytorch", "rknn", "rtx" or "tensorrt".
        precision, tiling, target_fps, provider, processor, device, dla, threads, trust_engines: see
            `LoadOptions`.
        levels, channels: of frames that do not say it themselves, see `Reading`.
        checked: compare the masks of the golden frames too, as `edgeunet run` does at its start. If
            what `auto` chose earlier gives wrong ones, or fails, it is measured again.

    Raises:
        BundleError: not a complete bundle. UsageError: the bundle or the backend lacks the
        precision, the backend lacks an option, the bundle takes fewer tiles a batch, or has one
        depth and cannot hold a frame rate. MissingDependencyError: an extra is missing.
        BackendError: a backend or provider cannot be started. ParityError: the provider's masks
        are not the golden ones, or with `checked` the backend's.

    Example:
        >>> with edgeunet.load(bundle, "onnxruntime", threads=1) as segmenter:
        ...     segmenter.backend.name
        'onnxruntime'
    """
    options = LoadOptions(
        precision=precision,
        tiling=tiling,
        target_fps=target_fps,
        provider=provider,
        processor=processor,
        device=device,
        dla=dla,
        threads=threads,
        trust_engines=trust_engines,
        reading=Reading(levels, None if channels is None else tuple(channels)),
    )
    opened = Segmenter.open_checked if checked else Segmenter.open
    return opened(bundle, backend, options)


def check_batch(batch: int, manifest: Manifest) -> None:
    """Raise UsageError if the graphs cannot take this batch size."""
    if not 1 <= batch <= manifest.max_batch:
        raise UsageError(
            f"batch is {batch}; the bundle takes 1 to {manifest.max_batch}. Export it with a "
            "larger --max-batch."
        )


def _joined(manifest: Manifest, batches: Sequence[Batch]) -> Result:
    frames = [frame for batch in batches for frame in batch.frames]
    legend = Legend(manifest.classes, manifest.palette)
    if len(batches) == 1:  # no copy
        (only,) = batches
        return Result(
            only.masks, only.presence, only.timings, only.confidence, frames=frames, legend=legend
        )
    timings = [(b.timings.preprocess, b.timings.infer, b.timings.postprocess) for b in batches]
    return Result(
        np.concatenate([batch.masks for batch in batches]),
        _concatenated([batch.presence for batch in batches]),
        Timings(*map(sum, zip(*timings, strict=True))),
        _concatenated([batch.confidence for batch in batches]),
        frames=frames,
        legend=legend,
    )


def _concatenated(parts: Sequence[npt.NDArray[T] | None]) -> npt.NDArray[T] | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None
