"""Which sink an output names, and whether it may be written."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal

from edgeunet.errors import OutputError, UsageError
from edgeunet.files import check_directory, check_file
from edgeunet.shapes.regions import Legend

from ..frames import Segmented
from ..sources.redaction import redacted
from .base import CallbackSink, NullSink, Sink
from .jsonlines import JsonLines, PolygonLines
from .overlay import Palette
from .pictures import (
    PICTURE_SUFFIXES,
    MaskDirectory,
    OverlayDirectory,
    OverlayPicture,
    picture_names,
    several_frames,
)
from .pipe import RawPipe, mask_pixels, overlay_pixels
from .ros import BAG_SUFFIX, MaskBag
from .shapes import CocoFile, RegionTable
from .video import CONTAINERS, OverlayVideo

Output = str | Callable[[Segmented], object]
Format = Literal["coco", "csv", "polygons"]
"""Forms that regions are written in: COCO's JSON, a table, or lines of JSON."""
Kind = (
    Format
    | Literal["function", "none", "masks pipe", "overlay pipe", "video", "picture", "lines", "bag"]
)

OUTPUTS = (
    "NAME.mp4, .mov, .mkv, .webm or .gif (overlay), NAME.png or .jpg (overlay of one image), "
    "NAME.jsonl (run lengths; polygons with --format), NAME.json (COCO), NAME.csv (boxes and "
    "areas), NAME.mcap (masks for ROS 2), a directory (masks as PNG, of GeoTIFFs as GeoTIFF; "
    "overlays with --overlay; one file with --format), pipe:masks or pipe:overlay (raw bytes on "
    "stdout), or - (none)"
)
"""The outputs there are, for help and errors."""

# As in the addresses of sources; C:/ is a drive, and 10:30.mp4 a time.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
IMAGES = "images"
_EXACT: dict[str, Kind] = {"-": "none", "pipe:masks": "masks pipe", "pipe:overlay": "overlay pipe"}
SUFFIXES: dict[Format, str] = {"coco": ".json", "csv": ".csv", "polygons": ".jsonl"}
_KINDS: dict[str, Kind] = {".json": "coco", ".csv": "csv", ".jsonl": "lines", BAG_SUFFIX: "bag"}


def open_sink(
    output: Output,
    *,
    rate: Fraction | None,
    classes: Sequence[str],
    palette: Palette,
    sources: Iterable[Path] = (),
    overlay: bool = False,
    format: Format | None = None,  # noqa: A002 - as the option is called
    force: bool = False,
) -> Sink:
    """Open the sink that an output names.

    Args:
        output: `NAME.mp4`, `.mov`, `.mkv`, `.webm` or `.gif` (overlay), `NAME.png` or `.jpg`
            (overlay of one image), `NAME.jsonl` (run lengths), `NAME.json` (COCO), `NAME.csv`
            (regions), `NAME.mcap` (masks for ROS 2), `pipe:masks` or `pipe:overlay` (raw bytes on
            stdout), `-` (none), another name (a directory of masks: PNG, or GeoTIFF of a GeoTIFF),
            or a function.
        rate: frames per second of a video or bag whose frames have no time; None: 10.
        sources: files that are read; the output must not be one of them or their directory.
        overlay: a directory gets overlays instead of masks.
        format: `NAME.jsonl` gets "polygons", and a directory one file of that format instead of
            masks, with the name of the only source or `images`.

    Raises:
        UsageError: an unknown kind of output, one that could replace a source, or pictures of two
            sources that would have one name.
        OutputExistsError: the output exists and `force` is false.
        OutputError: stdout is closed, or another run writes the output.

    Example:
        >>> from edgeunet.runtime.sinks import open_sink
        >>> sink = open_sink("-", rate=None, classes=["cell"], palette=[(0, 0, 0)])
        >>> type(sink).__name__
        'NullSink'
    """
    files = tuple(sources)
    check_output(output, sources=files, overlay=overlay, format=format, force=force)
    if not isinstance(output, str):
        return CallbackSink(output)
    kind, path = kind_of(output), Path(output)
    legend = Legend(tuple(classes), tuple(palette))
    if kind == "none":
        return NullSink()
    if kind == "masks pipe":
        return RawPipe(_stdout(), mask_pixels)
    if kind == "overlay pipe":
        return RawPipe(_stdout(), overlay_pixels(palette))
    if kind == "video":
        return OverlayVideo(path, rate=rate or Fraction(10), palette=palette, force=force)
    if kind == "bag":
        return MaskBag(path, rate=rate or Fraction(10), classes=classes, force=force)
    if kind == "picture":
        return OverlayPicture(path, palette=palette, force=force)
    if kind == "lines" and format is None:
        return JsonLines(path, classes=classes, force=force)
    if kind is None and format is not None:
        path /= f"{files[0].stem if len(files) == 1 else IMAGES}{SUFFIXES[format]}"
    if kind is not None or format is not None:
        video = files[0].name if len(files) == 1 else "frame"
        return _regions(format or kind, path, legend, video, force=force)
    directory = OverlayDirectory if overlay else MaskDirectory
    return directory(path, palette=palette, sources=files, force=force)


def _regions(kind: Kind | None, path: Path, legend: Legend, video: str, *, force: bool) -> Sink:
    """A file of regions."""
    if kind == "coco":
        return CocoFile(path, legend=legend, video=video, force=force)
    if kind == "csv":
        return RegionTable(path, legend=legend, force=force)
    return PolygonLines(path, legend=legend, force=force)


def check_output(
    output: Output,
    *,
    sources: Iterable[Path] = (),
    several: bool = False,
    overlay: bool = False,
    format: Format | None = None,  # noqa: A002 - as the option is called
    force: bool = False,
) -> None:
    """Refuse an output that cannot be written, without touching anything.

    Args:
        several: the source is known to have more than one frame.

    Raises:
        See `open_sink`; and UsageError for several frames into one picture.
    """
    kind = kind_of(output)
    if overlay and kind is not None:
        raise UsageError(
            f"--overlay is for a directory of pictures, and the output is {_shown(output)}. Leave "
            "it out, or pass -o DIR/."
        )
    if format is not None:
        _check_format(format, kind, output, overlay=overlay)
    if not isinstance(output, str) or kind in ("none", "masks pipe", "overlay pipe"):
        return
    path, files = Path(output), tuple(sources)
    check_not_source(path, files)
    if kind is None:
        check_directory(path, force=force)
        if format is None:
            picture_names(files)
        return
    check_file(path, force=force)
    if kind == "picture" and (several or len(files) > 1):
        raise several_frames(path)


def check_not_source(path: Path, files: Iterable[Path]) -> None:
    """Refuse an output that is one of the files that are read, or a folder of them."""
    if any(path.resolve() in (file.resolve(), file.parent.resolve()) for file in files):
        raise UsageError(
            f"{path} is the source or its directory; writing there could replace the source. "
            "Choose another output."
        )


def _check_format(format_: Format, kind: Kind | None, output: Output, *, overlay: bool) -> None:
    if format_ not in SUFFIXES:
        raise UsageError(f"format is {format_!r}; expected one of {', '.join(SUFFIXES)}.")
    if overlay:
        raise UsageError(f"--overlay writes pictures, and --format {format_} none. Leave one out.")
    suffix = SUFFIXES[format_]
    if kind is not None and _KINDS.get(suffix) != kind:
        raise UsageError(
            f"{format_} is written to NAME{suffix} or a directory, and the output is "
            f"{_shown(output)}. Pass -o NAME{suffix}."
        )


def kind_of(output: Output) -> Kind | None:
    """What an output is; None: a directory. UsageError if it is nothing that can be written."""
    if not isinstance(output, str):
        return "function"
    if output in _EXACT:
        return _EXACT[output]
    suffix = "" if output.endswith("/") else Path(output).suffix.lower()
    known: Kind | None = None
    if suffix in CONTAINERS:
        known = "video"
    elif suffix in PICTURE_SUFFIXES:
        known = "picture"
    elif suffix in _KINDS:
        known = _KINDS[suffix]
    elif output == "" or (suffix and not Path(output).is_dir()):
        raise UsageError(f"{output or 'an empty name'} is no output; expected {OUTPUTS}.")
    # rtsp://camera and pipe:video would otherwise become directories.
    scheme = _SCHEME.match(output)
    if scheme and (known is None or output.startswith("/", scheme.end())):
        raise UsageError(
            f"{redacted(output)} looks like an address, and {scheme[0]!r} is no output; expected "
            f"{OUTPUTS}. A file of that name is ./{redacted(output)}."
        )
    return known


def _shown(output: Output) -> str:
    return redacted(output) if isinstance(output, str) else "a function"


def _stdout() -> BinaryIO:
    if sys.stdout is None:  # closed by `>&-` or a service manager
        raise OutputError("stdout is closed, but pipe: writes to it. Connect it, or pass a file.")
    return sys.stdout.buffer
