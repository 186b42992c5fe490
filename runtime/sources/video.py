"""Videos with an end: files, and films over HTTP."""

from __future__ import annotations

import logging
import struct
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeunet.errors import SourceError

from ..frames import Frame, SourceFrame, SourceInfo
from .base import Source
from .containers import Film, import_av
from .damage import Decoder

_log = logging.getLogger(__name__)

_MAY_LACK = {"matroska,webm": 0.1, "flv": 0.6, "asf": 1.0}
"""Seconds by which a video may be shorter than its header says, in the formats that say it.

For others, FFmpeg takes the duration from the last packet, or the header has the number of frames.
Servers round that of FLV.
"""

_TRANSPORT_PACKETS = (188, 192, 204)
"""Bytes of a packet of a transport stream, of a Blu-ray, and with error correction."""


class VideoFile(Source):
    """All frames of a video, turned upright as the file says.

    A frame's index is its number in the video, also behind frames that were left out. A video that
    begins in the middle, as a recording of a broadcast may, begins with its first key frame; a
    warning says how much comes before.

    Args:
        source: a path, or an address as of `Film.of`.
        skip_damaged: leave damaged frames out, and those that build on them. False: end with an
            error at the first one.

    Raises:
        SourceError: missing or not a video; while reading, damaged or truncated (with the frame).
    """

    def __init__(
        self,
        source: str | Path,
        *,
        skip_damaged: bool = False,
    ) -> None:
        super().__init__()
        self._film = Film.of(source)
        self.name = self._film.name
        self.files = (Path(source),) if self._film.is_file else ()
        self._skip_damaged = skip_damaged
        self._av = import_av()
        self._container = self._film.open()
        self._stream = self._container.streams.best("video")  # a cover is a video stream too
        rate = self._stream.average_rate or Fraction(25)
        self.info = SourceInfo(self._stream.frames, rate)
        self._packets = _Packets()
        # AVI holds no times, and FFmpeg's are out of order if frames depend on later ones.
        self._timed = self._container.format.name != "avi"
        self._begins: float | None = None

    @property
    def ends(self) -> bool:
        """Whether it has an end: an HLS stream may be live."""
        return self._film.kind != "hls" or self._container.duration is not None

    def _read(self) -> Generator[SourceFrame, None, None]:
        self._stream.thread_type = "AUTO"
        pixels, index, early = Pixels(self._av), 0, 0
        for decoded in self._decoded():
            index += 1
            if decoded.early:
                early += 1
                continue
            if decoded.fault:
                self._refuse(index - 1, decoded.fault)
                continue
            frame = decoded.frame
            yield SourceFrame(
                index - 1,
                "",
                upright(pixels(frame), frame),
                self._time(frame.pts),  # not `frame.time`, which the last frames lack
                pixel_aspect(self._stream, frame),
            )
        if early:
            _log.warning(
                "%s begins in the middle: %d frames before its first key frame cannot be decoded.",
                self.name,
                early,
            )
        if index == early + self.skipped:
            raise SourceError(f"{self.name} holds no frame that can be decoded.")
        self._check_end(index)

    def _decoded(self) -> Iterator[Any]:
        is_transport = self._container.format.name in ("mpegts", "hls")
        decoder = Decoder(self._av, self._stream, transport=is_transport)
        last = None
        try:
            for packet in self._container.demux():
                if self._packets.add(packet, self._stream):
                    if last is not None:
                        yield from decoder.decode(last, packet)
                    last = packet
            if last is not None:
                yield from decoder.decode(last)
            yield from decoder.decode(None)
        except self._av.error.FFmpegError as error:
            reason = error.strerror
            raise SourceError(f"{self.name} cannot be read further: {reason}.") from error

    def _time(self, pts: int | None) -> float | None:
        """Seconds since the first frame that has a time; None if the file holds none."""
        if not self._timed or pts is None:
            return None
        time = float(pts * self._stream.time_base)
        self._begins = time if self._begins is None else self._begins
        return time - self._begins

    def _refuse(self, index: int, fault: str) -> None:
        told = f"{self.name} is damaged at frame {index}: {fault}."
        if not self._skip_damaged:
            raise SourceError(
                f"{told} --skip-damaged goes on behind it, without the frames that build on it."
            )
        self._leave_out(told)

    def _check_end(self, index: int) -> None:
        """Raise SourceError if frames or seconds are missing at the end.

        A truncated file decodes without an error; only its header reveals it.
        """
        says = self._stream.frames
        if index < says and (index < self._packets.count or self._whole_packets() < says):
            raise SourceError(
                f"{self.name} is truncated: it ends after frame {index - 1}; its header says "
                f"{says} frames. The frames before that are done."
            )
        if self._container.format.name == "mpegts" and all(
            self._container.size % size for size in _TRANSPORT_PACKETS
        ):
            raise SourceError(
                f"{self.name} is truncated: it ends within a packet, after frame {index - 1}. That "
                "frame may be damaged; those before it are done."
            )
        duration = self._container.duration
        may_lack = _MAY_LACK.get(self._container.format.name)
        if duration is None or may_lack is None or self._packets.end is None:
            return
        seconds = duration / self._av.time_base
        frame = float(1 / (self.info.rate or 25))  # the last one may not say how long it is
        if self._packets.end < seconds - may_lack - frame:
            raise SourceError(
                f"{self.name} is truncated: its header says {seconds:.1f} s, and "
                f"{self._packets.end:.1f} s came, {index} frames. These are done."
            )

    def _whole_packets(self) -> int:
        """Number of frames in the file, including those that its edit list hides."""
        if self._container.format.name == "avi":  # it numbers frames, also empty ones
            return round((self._packets.end or 0) * (self._stream.average_rate or 0))
        if not self._film.is_file:
            return self._packets.count
        with self._film.open(ignore_editlist="1") as container:
            packets = container.demux(container.streams.video[0])
            return sum(packet.size > 0 and not packet.is_corrupt for packet in packets)

    def _free(self) -> None:
        self._container.close()


class _Packets:
    """What came of a file. count: frames of video that are not hidden. end: seconds, or None."""

    def __init__(self) -> None:
        self.count = 0
        self.end: float | None = None

    def add(self, packet: Any, stream: Any) -> bool:
        """Count a packet; whether it is for the decoder."""
        times = [time for time in (packet.pts, packet.dts) if time is not None]
        if times and packet.time_base is not None:
            end = float((max(times) + (packet.duration or 0)) * packet.time_base)
            self.end = end if self.end is None else max(self.end, end)
        if packet.stream_index != stream.index or not packet.size:  # empty: the decoder would end
            return False
        self.count += not packet.is_discard
        return True


# Flags of libswscale/swscale.h, of which PyAV 17 names the first only: SWS_BILINEAR,
# SWS_FULL_CHR_H_INT and SWS_ACCURATE_RND. Without them colours are one level too dark on x86-64 and
# others on ARM, and those of a pair of pixels the same.
_EXACT = 0x2 | 0x2000 | 0x40000


class Pixels:
    """Converts frames to 8-bit RGB (H, W, 3), the same on every processor.

    It keeps its converter. `VideoFrame.to_ndarray` would make one for each frame, which takes a
    third of the time needed to decode a small frame.
    """

    def __init__(self, av: Any) -> None:
        self._converter = av.video.reformatter.VideoReformatter()

    def __call__(self, frame: Any) -> Frame:
        """Pixels of a frame in any format."""
        converted = self._converter.reformat(frame, format="rgb24", interpolation=_EXACT)
        picture: Frame = converted.to_ndarray()
        return picture


def upright(image: Frame, frame: Any) -> Frame:
    """Turn and mirror the picture (H, W, 3) of a PyAV frame as its display matrix says.

    Phones write such a matrix instead of turning the pixels. The matrix (a, b, u; c, d, v; x, y, w)
    maps a pixel (p, q) to (a p + c q + x, b p + d q + y); angles are rounded to right angles.
    Source: libavutil/display.h.
    """
    turn = turn_of(frame)
    image = image.swapaxes(0, 1) if turn.swapped else image
    turned = image[:: -1 if turn.down else 1, :: -1 if turn.across else 1]
    return np.ascontiguousarray(turned)


class Turn(NamedTuple):
    """How a picture becomes upright.

    swapped: rows and columns are swapped, before all else. down, across: the order of rows, and of
    columns, is turned round.
    """

    swapped: bool = False
    down: bool = False
    across: bool = False


def turn_of(frame: Any) -> Turn:
    """What `upright` does to a PyAV frame."""
    matrix = _display_matrix(frame)
    if matrix is None:
        return Turn()
    a, b, _, c, d = matrix
    swapped = abs(b) > abs(a)
    across, down = (c, b) if swapped else (a, d)
    return Turn(swapped, down < 0, across < 0)


def pixel_aspect(stream: Any, frame: Any = None) -> Fraction:
    """Width of a pixel divided by its height, in a PyAV stream or in a frame of it turned upright.

    1 if the file does not say.
    """
    aspect = stream.sample_aspect_ratio
    if aspect is None or aspect <= 0:
        return Fraction(1)
    turned = frame is not None and turn_of(frame).swapped
    return Fraction(1, aspect) if turned else Fraction(aspect)


def _display_matrix(frame: Any) -> tuple[int, ...] | None:
    """The first five numbers of a frame's display matrix, None if it has none."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else struct.unpack_from("=5i", bytes(matrix))
