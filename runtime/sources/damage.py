"""Decodes a video stream, and finds the frames that are damaged although FFmpeg returns them.

FFmpeg hides damage: it fills what is missing with what it has, and later frames build on that. It
marks packets with a gap in them and frames that it patched, and fails on others. Here, all frames
between such a mark and the next key frame are damaged too, and packets with holes are found
(`holes`). Single wrong bits cannot be found: most codecs have no checksum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .holes import hole_finder

_SILENT = ("ffv1",)
"""Codecs that neither mark damage nor fail on it, unless asked."""

_MOST_BETWEEN = 16
"""Most B frames between two others, in H.264 and HEVC."""

_BUILDS_ON = "it builds on a damaged frame"

_REMEMBERED = 256
"""Packets whose place in the stream is remembered: more than any decoder holds back."""


@dataclass(frozen=True)
class Decoded:
    """A frame in the order of the film. frame: None if there is none. fault: "" if it is whole.

    early: it is damaged because the stream begins in the middle, before its first key frame.
    """

    frame: Any | None
    fault: str = ""
    early: bool = False


class Decoder:
    """Decodes the packets of one stream, in the order of the stream.

    A transport stream may be joined from several: its counters jump, but nothing is missing.

    Args:
        av: PyAV. stream: the video stream, not decoded yet.
        live: give each frame at once. Otherwise B frames are held until the next other frame is
            decoded, because they build on it.
        transport: packets come from an MPEG transport stream. There, FFmpeg marks the packet before
            the one with the gap: it takes a frame for complete when the next one begins.
        patience: frames after which damage counts as healed without a key frame, None: never.
            Streams that refresh a part of each frame have no key frames.
    """

    def __init__(
        self,
        av: Any,
        stream: Any,
        *,
        live: bool = False,
        transport: bool = False,
        patience: int | None = None,
    ) -> None:
        self._av = av
        self._stream = stream
        self._live = live
        self._transport = transport
        self._patience = patience
        codec = stream.codec_context
        self._intra = codec.codec.intra_only
        # Without it, these return half a picture, with the rest gray or of the frame before. Others
        # mark such frames, and would fail on frames with only a flaw in their metadata.
        fails = self._intra or codec.name in _SILENT
        codec.options = {"err_detect": "explode"} if fails else {"flags": "+output_corrupt"}
        self._has_hole = hole_finder(codec)
        self._sent = self._given = 0
        self._places: dict[int, int] = {}  # time of a packet without a frame yet -> its number
        self._gaps: set[int] = set()  # numbers of damaged packets, since the last key frame
        self._gap_ahead = False  # in the next packet
        self._lost = False  # damaged since the last key frame, at an unknown place
        self._errors = 0  # packets that failed, and whose place is not known yet
        self._reason = ""
        self._since = 0  # damaged frames in a row
        self._begins_whole = False  # the first packet is a key frame
        self._came = False  # a whole frame
        self._held: list[tuple[int, Decoded]] = []  # with the numbers of their packets

    def decode(self, packet: Any | None, following: Any | None = None) -> Iterator[Decoded]:
        """Frames that this packet completes; for None, those that the decoder still has.

        Args:
            following: the packet after this one, if it is known.
        """
        if packet is not None:
            self._note(packet, following)
        fails_at_end = False
        try:
            frames = self._stream.decode(packet)
        except self._av.error.FFmpegError as error:
            # It may be about an earlier packet, as the decoder works on several at once.
            self._errors += 1
            self._reason = f"it cannot be decoded ({error.strerror})"
            frames = []
            fails_at_end = packet is None
            if not self._places:
                yield from self._missing(-1)
        for frame in frames:
            yield from self._judge(frame)
        if packet is None:
            yield from self._missing_before(None)
            while self._errors:
                yield from self._missing(-1)
            yield from self._release()
            # An error at the end takes along the frames that the decoder had.
            for _ in range(self._sent - self._given if self._intra and fails_at_end else 0):
                yield Decoded(None, self._reason)

    def _note(self, packet: Any, following: Any | None) -> None:
        if not self._sent:
            self._begins_whole = packet.is_keyframe
        if packet.pts is not None:
            self._places[packet.pts] = self._sent
            if len(self._places) > _REMEMBERED:
                del self._places[next(iter(self._places))]
        has_gap = self._gap_ahead and not _is_joined(packet, following)
        self._gap_ahead = packet.is_corrupt and self._transport
        has_gap = has_gap or (packet.is_corrupt and not self._transport)
        if has_gap or (self._has_hole is not None and self._has_hole(bytes(packet))):
            self._gaps.add(self._sent)
            self._lost = self._lost or packet.pts is None
        self._sent += 1

    def _judge(self, frame: Any) -> Iterator[Decoded]:
        place = -1 if frame.pts is None else self._places.pop(frame.pts, -1)
        if frame.pts is not None:
            yield from self._missing_before(frame.pts)
        fault = ""
        if frame.is_corrupt or place in self._gaps:
            fault = "data is missing" if place in self._gaps else "parts of it are patched"
            self._damage(place)
        elif frame.key_frame or self._intra:
            self._lost = False
            self._gaps = {gap for gap in self._gaps if gap > place}
        elif self._lost or any(gap < place or place < 0 for gap in self._gaps):
            fault = _BUILDS_ON
        self._since = self._since + 1 if fault else 0
        if self._patience is not None and self._since > self._patience:
            fault, self._lost, self._since = "", False, 0
            self._gaps.clear()
        self._came = self._came or not fault
        is_between = frame.pict_type == self._av.video.frame.PictureType.B
        yield from self._give(place, frame, fault, held=is_between and not self._live)

    def _missing_before(self, time: int | None) -> Iterator[Decoded]:
        """Find the packets that failed: their frames should have come before this time."""
        passed = sorted(when for when in self._places if time is None or when < time)
        for when in passed:
            place = self._places.pop(when)
            if self._errors:
                yield from self._missing(place)

    def _missing(self, place: int) -> Iterator[Decoded]:
        self._errors -= 1
        self._damage(place)
        yield from self._give(place, None, self._reason, held=False)

    def _damage(self, place: int) -> None:
        """Take what was decoded after a packet for damaged, up to the next key frame."""
        if self._intra:
            return
        if place < 0:
            self._lost = True
        else:
            self._gaps.add(place)
        self._held = [
            (other, replace(held, fault=held.fault or _BUILDS_ON) if other > place else held)
            for other, held in self._held
        ]

    def _give(self, place: int, frame: Any | None, fault: str, *, held: bool) -> Iterator[Decoded]:
        self._given += 1
        early = bool(fault) and not self._came and not self._begins_whole
        self._held.append((place, Decoded(frame, fault, early)))
        if not held or len(self._held) > _MOST_BETWEEN:
            yield from self._release()

    def _release(self) -> Iterator[Decoded]:
        held, self._held = self._held, []
        yield from (decoded for _, decoded in held)


def _is_joined(packet: Any, following: Any | None) -> bool:
    """Whether another recording begins after a packet: with a key frame, and another time."""
    if following is None or not following.is_keyframe or None in (packet.dts, following.dts):
        return False
    return not 0 < (following.dts - packet.dts) * packet.time_base < 1
