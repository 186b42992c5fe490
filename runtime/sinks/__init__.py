"""Outputs for masks: PNG files, an overlay video, JSON Lines, a raw pipe, a function, or none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from edgeunet.errors import OutputError, UsageError

from ..frames import Segmented
from .base import CallbackSink, MaskDirectory, NullSink, Sink
from .jsonlines import JsonLines
from .overlay import Palette, colourise, overlay
from .pipe import RawPipe, mask_pixels, overlay_pixels
from .video import OverlayVideo, VideoWriter

__all__ = [
    "CallbackSink",
    "JsonLines",
    "MaskDirectory",
    "NullSink",
    "OverlayVideo",
    "Palette",
    "RawPipe",
    "Sink",
    "VideoWriter",
    "colourise",
    "open_sink",
    "overlay",
]


def open_sink(
    output: str | Callable[[Segmented], object],
    *,
    rate: Fraction | None,
    classes: Sequence[str],
    palette: Palette,
    sources: Iterable[Path] = (),
    force: bool = False,
) -> Sink:
    """Open the sink that an output names.

    Args:
        output: `NAME.mp4` (overlay), `NAME.jsonl` (run lengths), `pipe:masks` or `pipe:overlay`
            (raw bytes on stdout), `-` (none), another name (a directory of PNG masks), or a
            function.
        rate: frames per second of a video whose frames have no time; None: 10.
        sources: files that are read; the output must not be one of them or their directory.

    Raises:
        UsageError: an unknown kind of output, or one that could replace a source.
        OutputExistsError: the output exists and `force` is false.
        OutputError: stdout is closed.

    Example:
        >>> from edgeunet.runtime.sinks import open_sink
        >>> sink = open_sink("-", rate=None, classes=["cell"], palette=[(0, 0, 0)])
        >>> type(sink).__name__
        'NullSink'
    """
    if not isinstance(output, str):
        return CallbackSink(output)
    if output == "-":
        return NullSink()
    if output == "pipe:masks":
        return RawPipe(_stdout(), mask_pixels)
    if output == "pipe:overlay":
        return RawPipe(_stdout(), overlay_pixels(palette))
    path = Path(output)
    if any(path.resolve() in (file.resolve(), file.parent.resolve()) for file in sources):
        raise UsageError(
            f"{output} is the source or its directory; writing there could replace the source. "
            "Choose another output."
        )
    suffix = path.suffix.lower()
    if suffix == ".mp4":
        return OverlayVideo(path, rate=rate or Fraction(10), palette=palette, force=force)
    if suffix == ".jsonl":
        return JsonLines(path, classes=classes, force=force)
    if suffix or output.startswith("pipe:"):
        raise UsageError(
            f"{output}: an output is NAME.mp4 (overlay), NAME.jsonl (run lengths), a directory "
            "(masks), pipe:masks, pipe:overlay, or - (none)."
        )
    return MaskDirectory(path, force=force)


def _stdout() -> BinaryIO:
    if sys.stdout is None:  # closed by `>&-` or a service manager
        raise OutputError("stdout is closed, but pipe: writes to it. Connect it, or pass a file.")
    return sys.stdout.buffer
