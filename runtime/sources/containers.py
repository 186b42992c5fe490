"""Video files and addresses, opened by FFmpeg within limits: what it may read, and how."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgeunet.errors import MissingDependencyError, SourceError, printable

from .faults import network_fault
from .live import Timeouts
from .redaction import redacted

# Suffix of files -> the format in FFmpeg. Formats that name other files, such as concat, are left
# out: a film from elsewhere could show any file of this machine. MP4 can too; FFmpeg follows its
# references only if asked.
_FORMATS = {
    ".3g2": "mov",
    ".3gp": "mov",
    ".asf": "asf",
    ".avi": "avi",
    ".flv": "flv",
    ".m2ts": "mpegts",
    ".m2v": "mpegvideo",
    ".m4v": "mov",
    ".mjpeg": "mjpeg",
    ".mjpg": "mjpeg",
    ".mkv": "matroska",
    ".mov": "mov",
    ".mp4": "mov",
    ".mpeg": "mpeg",
    ".mpg": "mpeg",
    ".mts": "mpegts",
    ".mxf": "mxf",
    ".ogg": "ogg",
    ".ogv": "ogg",
    ".ts": "mpegts",
    ".vob": "mpeg",
    ".webm": "matroska",
    ".wmv": "asf",
    ".y4m": "yuv4mpegpipe",
    ".264": "h264",
    ".265": "hevc",
    ".h264": "h264",
    ".h265": "hevc",
    ".hevc": "hevc",
}
VIDEO_SUFFIXES = frozenset(_FORMATS)
"""Suffixes, in lower case, of files that are read as videos. The content may be of any of them."""

_HTTP = "http,https,httpproxy,tcp,tls"
_SEGMENTS = "aac,mp3,webvtt"  # beside video, in HLS
PROTOCOLS = {
    "file": "file",
    "http": _HTTP,
    "https": _HTTP,
    "hls": f"{_HTTP},crypto,data",
    "rtsp": "rtp,tcp",
    "rtsps": "rtp,tcp,tls",
}
"""What FFmpeg may use to read a source of this kind."""


FILM_TIMEOUTS = Timeouts(read=30.0)
"""A piece of an HLS stream takes several seconds."""


@dataclass(frozen=True)
class Film:
    """A video with an end: a file, or an address.

    where: path, or address that FFmpeg opens. name: for printing, without a password.
    """

    where: str = field(repr=False)
    name: str
    kind: str = "file"

    @classmethod
    def of(cls, source: str | Path) -> Film:
        """A path, `http(s)://HOST/film.mp4`, or the playlist of an HLS stream, `….m3u8`."""
        text = str(source)
        if not is_film(text):
            return cls(text, printable(text))
        scheme, rest = text.split(":", 1)  # FFmpeg requires the scheme in lower case
        kind = "hls" if _suffix(text) == ".m3u8" else scheme.lower()
        return cls(f"{scheme.lower()}:{rest}", printable(redacted(text)), kind)

    @property
    def is_file(self) -> bool:
        """Whether it is a file on this machine."""
        return self.kind == "file"

    def open(self, **options: str) -> Any:
        """Open it in PyAV, with these options of FFmpeg.

        Raises:
            SourceError: missing, no video, or of a format that is not read.
        """
        av = import_av()
        # `file:`, or FFmpeg takes a name with a colon for an address.
        address = f"file:{self.where}" if self.is_file else self.where
        limits = {
            "protocol_whitelist": PROTOCOLS[self.kind],
            "format_whitelist": film_formats(self.kind),
        }
        try:
            container = av.open(
                address,
                container_options={**limits, **options},
                metadata_errors="replace",
                timeout=None if self.is_file else (FILM_TIMEOUTS.connect, FILM_TIMEOUTS.read),
            )
        except av.error.FFmpegError as error:
            raise SourceError(f"{self.name} {self._fault(av, error)}") from None
        if not container.streams.video:
            container.close()
            raise SourceError(f"{self.name} holds no video stream.")
        if container.streams.video[0].codec_context is None:
            container.close()
            raise SourceError(f"{self.name} holds video that this FFmpeg cannot decode.")
        return container

    def _fault(self, av: Any, error: Any) -> str:
        if isinstance(error, av.error.ArgumentError):  # not on the list
            return (
                "is of a format that is not read, such as a list of other files. Convert it to one "
                f"of {', '.join(sorted(VIDEO_SUFFIXES))}."
            )
        if self.is_file:
            return f"cannot be read as a video: {error.strerror}."
        timed_out = isinstance(error, (TimeoutError, av.error.ExitError))
        silence = FILM_TIMEOUTS.connect if timed_out else None
        return f"cannot be read as a video: {network_fault(error, self.where, silence)}"


def film_formats(kind: str) -> str:
    """FFmpeg's whitelist of formats for a kind of film."""
    return ",".join({*_FORMATS.values(), *(("hls", _SEGMENTS) if kind == "hls" else ())})


def is_film(address: str) -> bool:
    """Whether an address is `http(s)://` and its path ends as a video or an HLS playlist does.

    Example:
        >>> from edgeunet.runtime.sources.containers import is_film
        >>> is_film("https://host/film.mp4?part=2"), is_film("http://camera/video")
        (True, False)
    """
    scheme = address.partition("://")[0].lower()
    return scheme in ("http", "https") and _suffix(address) in {*VIDEO_SUFFIXES, ".m3u8"}


def _suffix(address: str) -> str:
    try:
        return Path(urlsplit(address).path).suffix.lower()
    except ValueError:  # no address
        return ""


def import_av() -> Any:
    """Import PyAV, which only videos and cameras need."""
    try:
        return importlib.import_module("av")
    except ImportError:
        raise MissingDependencyError("av", "video") from None
