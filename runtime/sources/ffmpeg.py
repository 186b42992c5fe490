"""Cameras and streams read by FFmpeg, through PyAV."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from edgeunet.errors import SourceError

from ..frames import Frame
from ..pipeline.stopping import StopFlag
from .containers import import_av
from .damage import Decoder
from .faults import device_fault, network_fault
from .live import Connection, Timeouts
from .video import Pixels, pixel_aspect

_POLL = 0.005  # seconds

_PATIENCE = 300
"""Frames after which a camera without key frames is taken to have refreshed the whole picture."""


@dataclass(frozen=True)
class Endpoint:
    """What FFmpeg opens: address, kind of source (for errors), format, and the format's options.

    name: the address without its password.
    """

    address: str = field(repr=False)  # it may hold a password
    kind: str
    format: str
    options: dict[str, str]
    name: str


class FFmpegConnection(Connection):
    """An RTSP or MJPEG stream, or a V4L2 device.

    Raises:
        SourceError: it does not answer, or the answer is not a stream of this kind.
    """

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self._name = f"{endpoint.name} ({endpoint.kind})"
        self._timeout = timeouts.read
        self._stopped = StopFlag()
        self._av = import_av()
        self._pixels = Pixels(self._av)
        started = time.monotonic()
        try:
            # Do not set fflags=nobuffer. It drops the packets read while probing, among them the
            # first key frame, so that nothing can be decoded before the next one.
            self._container = self._av.open(
                endpoint.address,
                format=endpoint.format,
                options=endpoint.options,
                metadata_errors="replace",
                timeout=(timeouts.connect, timeouts.read),
            )
        except self._av.error.FFmpegError as error:
            # After a timeout, FFmpeg may report another error.
            silent = time.monotonic() - started >= timeouts.connect
            cause = (
                network_fault(error, endpoint.address, timeouts.connect if silent else None)
                if "://" in endpoint.address
                else device_fault(error)
            )
            raise SourceError(f"{self._name}: {cause}") from None
        try:
            self._stream = self._video_stream()
        except SourceError:
            self._container.close()
            raise
        self._decoder = Decoder(
            self._av,
            self._stream,
            live=True,
            transport=endpoint.format == "hls",
            patience=_PATIENCE,
        )
        self.rate = _sane(self._stream.average_rate)
        self.pixel_aspect = pixel_aspect(self._stream)

    def _video_stream(self) -> Any:
        streams = self._container.streams.video
        if not streams:
            raise SourceError(f"{self._name} holds no video stream, only sound or data.")
        stream = streams[0]
        if not stream.codec_context.width:
            raise SourceError(f"{self._name} answers, but sends no picture.")
        stream.thread_type = "SLICE"  # frame threads delay one frame each
        return stream

    def frames(self) -> Iterator[Frame | None]:
        """See `Connection`."""
        try:
            for packet in self._packets():
                if packet.size:
                    yield from self._decoded(packet)
                elif packet.pts is not None:  # to the decoder, an empty packet means the end
                    yield None
            yield from self._decoded(None)  # frames that the decoder held back
        except (self._av.error.ExitError, TimeoutError):
            raise SourceError(f"{self._name}: silent for {self._timeout:g} s.") from None
        except self._av.error.FFmpegError as error:
            raise SourceError(f"{self._name}: the connection broke ({error.strerror}).") from None

    def _packets(self) -> Iterator[Any]:
        last = time.monotonic()
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    yield packet
                    last = time.monotonic()
                return
            except BlockingIOError:  # from devices, for which PyAV has no timeouts
                if time.monotonic() - last >= self._timeout:
                    raise TimeoutError from None
                if self._stopped.wait(_POLL):
                    return

    def _decoded(self, packet: Any | None) -> Iterator[Frame | None]:
        for decoded in self._decoder.decode(packet):
            if not decoded.early:  # this joined in the middle, which is no damage
                yield None if decoded.fault else self._pixels(decoded.frame)

    def stop(self) -> None:
        """End the wait for a device. A wait for a network ends only by its timeout."""
        self._stopped.set()

    def close(self) -> None:
        """Close the connection."""
        self._container.close()


def _sane(rate: Fraction | None) -> Fraction | None:
    """Frame rate, None if the camera gives its clock rate instead."""
    return rate if rate is not None and 0 < rate <= 1000 else None
