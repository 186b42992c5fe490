"""Films of what the server segments, written beside the stream."""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

from edgeunet.errors import (
    EdgeUNetError,
    MissingDependencyError,
    OutputBusyError,
    OutputError,
    OutputExistsError,
    UsageError,
)
from edgeunet.files import check_directory

from ..frames import Segmented
from ..pipeline.channel import Ended
from ..pipeline.stopping import Closing
from ..pipeline.turns import Turns
from ..sinks.overlay import Palette, colourise, overlay
from ..sinks.video import VideoWriter

Kind = Literal["overlay", "mask"]
KINDS: tuple[Kind, ...] = ("overlay", "mask")
RESERVE = 100_000_000
"""Bytes of the disk that stay free: the last file can be finished, and others can work."""
PART = 600.0
"""Seconds of a file. A new one follows, so that a kill or a power cut takes no more than that."""
# Frames that wait to be written. If the encoder is slower than the net, the oldest are dropped.
_WAITING = 8
# Frames per second of a source that does not say, for the header; each frame has its own time.
_RATE = Fraction(25)
# Seconds that the end of the server waits for files to be finished. A slow disk takes seconds.
_CLOSE_TIMEOUT = 15.0
# Bytes of a source's name in those of its files: file systems take 255 in all.
_LONGEST = 128
_log = logging.getLogger(__name__)


class Recording:
    """Writes the frames of one source into films, in a thread of its own.

    A file has its name once it is complete. After `PART` seconds, or if the size of the frames
    changes, the next one follows. If the disk is nearly full, the recording ends with a whole file.

    Args:
        folder: of the files, called SOURCE-KIND-DATE-TIME.mp4.
    """

    def __init__(
        self, folder: Path, source: str, kind: Kind, palette: Palette, rate: Fraction | None
    ) -> None:
        self.kind = kind
        self.error: str | None = None
        self._folder, self._palette, self._rate = folder, palette, rate or _RATE
        slug = re.sub(r"[^\w.-]+", "-", source).encode()[:_LONGEST].decode(errors="ignore")
        self.stem = f"{slug}-{kind}"
        self._frames: Turns[Segmented] = Turns(1, depth=_WAITING)
        self._video: VideoWriter | None = None
        self._shape: object = None
        self._begun = self._latest = 0.0  # of the file, by the clock of its frames
        self._before = 0.0  # seconds in earlier files
        self._written = 0
        self._files: list[str] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="edgeunet-record", daemon=True)
        self._thread.start()

    @property
    def active(self) -> bool:
        """Whether frames are written, or will be."""
        return not self._ended

    @property
    def working(self) -> bool:
        """Whether a file is still being finished."""
        return self._thread.is_alive()

    def offer(self, segmented: Segmented) -> None:
        """Take a frame, without waiting."""
        self._frames.put(0, segmented, drop_oldest=True)

    def stop(self) -> None:
        """Write what waits, and finish the file; safe in signal handlers."""
        self._ended = True
        self._frames.end(0)

    def join(self, timeout: float) -> None:
        """Wait for the end of the file."""
        self._thread.join(timeout)

    def report(self) -> dict[str, Any]:
        """JSON-ready. file: the newest that is complete. dropped: frames that were not written."""
        return {
            "active": self.active,
            "finishing": self._ended and self.working,
            "kind": self.kind,
            "seconds": round(self._before + self._latest - self._begun, 1),
            "frames": self._written,
            "dropped": self._frames.dropped[0],
            "files": len(self._files),
            "file": self._files[-1] if self._files else None,
            "error": self.error,
        }

    def _run(self) -> None:
        try:
            while True:
                self._write(self._frames.get())
        except Ended:
            pass
        except (EdgeUNetError, OSError) as error:
            self._fail(error)
        except Exception as error:
            _log.exception("a recording failed")
            self._fail(error)
        self.stop()
        try:
            self._finish()
        except (EdgeUNetError, OSError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            told = error.strerror if isinstance(error, OSError) else str(error)
            self.error = f"the recording ended: {told or type(error).__name__}"
            _log.warning("%s: %s", self.stem, self.error)

    def _write(self, segmented: Segmented) -> None:
        frame = segmented.frame
        check_space(self._folder)
        now = frame.time if frame.time is not None else frame.read_at or 0.0
        shape = (segmented.mask.shape, frame.pixel_aspect)
        if self._video is None or shape != self._shape or not 0 <= now - self._begun < PART:
            self._finish()
            self._video, self._shape = self._new_file(), shape
            self._before += self._latest - self._begun
            self._begun = self._latest = now
        picture = (
            colourise(segmented.mask, self._palette)
            if self.kind == "mask"
            else overlay(frame.picture, segmented.mask, self._palette)
        )
        self._video.write(picture, time=now - self._begun, pixel_aspect=frame.pixel_aspect)
        self._latest = now
        self._written += 1

    def _new_file(self) -> VideoWriter:
        """A file whose name no other has."""
        stem = f"{self.stem}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
        for number in count(1):
            name = f"{stem}.mp4" if number == 1 else f"{stem}-{number}.mp4"
            try:
                return VideoWriter(self._folder / name, rate=self._rate)
            except (OutputExistsError, OutputBusyError):  # two sources may share a stem
                continue
        raise AssertionError

    def _finish(self) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.close()
            self._files.append(video.path.name)


class Recordings(Closing):
    """The recordings of all sources, one of each at a time.

    Args:
        folder: where films go; it is made if it is missing.

    Raises:
        UsageError, OutputError: it cannot be written. MissingDependencyError: PyAV is missing.
    """

    def __init__(self, folder: Path, palette: Palette) -> None:
        try:
            import av  # noqa: F401  # asked for now, not at the first click
        except ImportError:
            raise MissingDependencyError("av", "video") from None
        check_directory(folder, force=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):  # permissions alone do not tell
                pass
        except OSError as error:
            raise OutputError(
                f"{folder} cannot be written: {error.strerror}. Choose another folder."
            ) from None
        self._folder, self._palette = folder, palette
        self._by_source: dict[str, Recording] = {}
        self._replaced: list[Recording] = []  # by the next of their source, before they had ended

    def is_active(self, source: str) -> bool:
        """Whether a source is being recorded."""
        recording = self._by_source.get(source)
        return recording is not None and recording.active

    def start(self, source: str, kind: Kind, *, rate: Fraction | None) -> None:
        """Record a source from its next frame on.

        Raises:
            UsageError: it is being recorded. OutputError: the disk is nearly full.
        """
        if self.is_active(source):
            raise UsageError(f"{source} is being recorded already. Stop that first.")
        check_space(self._folder)
        self._replaced = [each for each in self._all() if each.working]
        self._by_source[source] = Recording(self._folder, source, kind, self._palette, rate)

    def stop(self, source: str) -> Recording:
        """End a recording; its file is finished soon.

        Raises:
            UsageError: the source is not being recorded.
        """
        if not self.is_active(source):
            raise UsageError(f"{source} is not being recorded.")
        recording = self._by_source[source]
        recording.stop()
        return recording

    def offer(self, segmented: Segmented) -> None:
        """Record a frame if its source is being recorded; never waits."""
        recording = self._by_source.get(segmented.source)
        if recording is not None and recording.active:
            recording.offer(segmented)

    def report(self) -> Mapping[str, dict[str, Any]]:
        """The recording of each source, the last one if it has ended."""
        return {source: each.report() for source, each in list(self._by_source.items())}

    @property
    def ended(self) -> bool:
        """Whether all files are complete."""
        return not any(each.working for each in self._all())

    def close(self) -> None:
        """Finish all files; a warning tells of one that takes too long, and is lost."""
        recordings = self._all()
        for recording in recordings:
            recording.stop()
        until = time.monotonic() + _CLOSE_TIMEOUT
        for recording in recordings:
            recording.join(max(0.0, until - time.monotonic()))
            if recording.working:
                _log.warning("%s: the last file could not be finished in time.", recording.stem)

    def _all(self) -> list[Recording]:
        return list({*self._replaced, *self._by_source.values()})


def check_space(folder: Path) -> None:
    """Raise OutputError if the disk is nearly full, or the folder is gone."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(
            f"the folder {folder.absolute().name} of the films cannot be used: {error.strerror}. "
            "Make it again."
        ) from None
    if free < RESERVE:
        raise OutputError(
            f"the disk of {folder.absolute().name} has {free / 1e6:.0f} MB left; "
            f"{RESERVE / 1e6:.0f} MB stay free. Remove some files."
        )
