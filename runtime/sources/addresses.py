"""Addresses of cameras and streams, and how to connect to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from fractions import Fraction
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl

from edgeunet.errors import UsageError

from .containers import FILM_TIMEOUTS, PROTOCOLS, film_formats
from .ffmpeg import Endpoint, FFmpegConnection
from .gstreamer import Pipeline
from .live import Connection, Timeouts
from .redaction import redacted

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?=/)|(bag|gst):")  # C:/ is a drive

FORMS = (
    "rtsp://HOST/…, http://HOST/… (MJPEG), v4l2:///dev/video0, csi://0 or gst:PIPELINE (GStreamer)"
)

ON_WORKERS = (
    "`edgeunet run --workers N` reads Parquet tables, lists, and files at addresses such as s3://."
)


def scheme_of(source: str | Path) -> str | None:
    """Scheme of an address in lower case, None for a path or a glob."""
    found = _SCHEME.match(str(source))
    return (found[1] or found[2]).lower() if found else None


def connector(address: str | Path, *, timeouts: Timeouts) -> Callable[[], Connection]:
    """A function that connects to a camera or stream each time it is called.

    Raises:
        UsageError: an unknown scheme, or an address that its scheme does not allow.
    """
    scheme, text = scheme_of(address) or "", str(address)
    if scheme not in _CONNECTORS:
        raise UsageError(
            f"{redacted(text)}: {scheme}:// is not supported. Pass a file, or {FORMS}. {ON_WORKERS}"
        )
    if scheme != "gst" and not text.startswith("://", len(scheme)):
        raise UsageError(
            f"{redacted(text)} lacks a slash after {scheme}:/. Pass addresses as str: a Path drops "
            "one of the two."
        )
    return _CONNECTORS[scheme](text, timeouts)


def hls_connector(address: str) -> Callable[[], Connection]:
    """A function that connects to an HLS stream without an end."""
    options = {"format_whitelist": film_formats("hls")}
    return _network("HLS", "hls", options, address, FILM_TIMEOUTS, protocols="hls")


def _network(
    kind: str,
    format_name: str,
    options: dict[str, str],
    address: str,
    timeouts: Timeouts,
    *,
    protocols: str | None = None,
) -> Callable[[], Connection]:
    scheme, rest = address.split(":", 1)  # FFmpeg requires the scheme in lower case
    options = {**options, "protocol_whitelist": PROTOCOLS[protocols or scheme.lower()]}
    endpoint = Endpoint(f"{scheme.lower()}:{rest}", kind, format_name, options, redacted(address))
    return partial(FFmpegConnection, endpoint, timeouts)


# Over UDP, the network may drop packets, which damages pictures.
_rtsp = partial(_network, "RTSP over TCP", "rtsp", {"rtsp_transport": "tcp"})
# Name the format, because FFmpeg's guess accepts a finite file too.
_http = partial(_network, "MJPEG over HTTP", "mpjpeg", {})


def _v4l2(address: str, timeouts: Timeouts) -> Callable[[], Connection]:
    device, query = _parts(
        address, r"/.+", example="v4l2:///dev/video0", options={"size", "rate", "format"}
    )
    # AVFMT_FLAG_NONBLOCK, which has no name: without it, a read from a hung device never ends.
    options = {"fflags": "+0x4"}
    if "size" in query:
        options["video_size"] = "{}x{}".format(*_size(address, query["size"]))
    if "rate" in query:
        options["framerate"] = str(_rate(address, query["rate"]))
    if "format" in query:
        options["input_format"] = query["format"]
    endpoint = Endpoint(device, "V4L2", "v4l2", options, redacted(address))
    return partial(FFmpegConnection, endpoint, timeouts)


def _csi(address: str, timeouts: Timeouts) -> Callable[[], Connection]:
    sensor, query = _parts(address, r"\d+", example="csi://0", options={"size", "rate"})
    width, height = _size(address, query.get("size", "1280x720"))
    rate = _rate(address, query.get("rate", "30"))
    pipeline = (
        f"nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width={width},"
        f"height={height},framerate={rate.numerator}/{rate.denominator} ! nvvidconv ! "
        "video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
        "appsink drop=true max-buffers=1"
    )
    return partial(Pipeline, redacted(address), pipeline, timeouts)


def _gst(address: str, timeouts: Timeouts) -> Callable[[], Connection]:
    return partial(Pipeline, redacted(address), address.split(":", 1)[1], timeouts)


_CONNECTORS: dict[str, Callable[[str, Timeouts], Callable[[], Connection]]] = {
    "rtsp": _rtsp,
    "rtsps": _rtsp,
    "http": _http,
    "https": _http,
    "v4l2": _v4l2,
    "csi": _csi,
    "gst": _gst,
}


def _parts(
    address: str, form: str, *, example: str, options: Collection[str]
) -> tuple[str, dict[str, str]]:
    """The part before the query, which must match `form`, and the options in the query."""
    camera, _, query = address.split("://", 1)[1].partition("?")
    if re.fullmatch(form, camera) is None:
        raise UsageError(f"{redacted(address)} names no camera; expected something like {example}.")
    given = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(given) - set(options))
    if unknown:
        raise UsageError(
            f"{redacted(address)}: unknown option {unknown[0]!r}. Known: "
            f"{', '.join(sorted(options))}."
        )
    return camera, given


def _size(address: str, text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise UsageError(
            f"{redacted(address)}: size is {text!r}; expected WIDTHxHEIGHT, such as 1280x720."
        )
    return int(found[1]), int(found[2])


def _rate(address: str, text: str) -> Fraction:
    if re.fullmatch(r"[1-9]\d{0,5}(/[1-9]\d{0,5})?", text) is None:
        raise UsageError(
            f"{redacted(address)}: rate is {text!r}; expected a rate such as 30 or 30000/1001."
        )
    return Fraction(text)
