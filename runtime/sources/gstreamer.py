"""GStreamer: cameras read by a pipeline through OpenCV, and the formats that nets take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import SourceError, UsageError

from ..frames import Frame
from .live import Connection, Timeouts
from .redaction import redacted

_USUAL = {"red", "green", "blue", "gray"}


def has_gstreamer() -> bool:
    """Whether OpenCV can read pipelines: built with GStreamer, and 4.7 or newer."""
    version = [int(number) for number in re.findall(r"\d+", cv2.__version__)[:2]]
    return version >= [4, 7] and cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)


def formats_of(spec: InputSpec) -> tuple[str, ...]:
    """Formats of frames that a net takes, the best one first.

    Raises:
        UsageError: GStreamer has none.

    Example:
        >>> from edgeunet.bundle.manifest import InputSpec
        >>> from edgeunet.runtime.sources.gstreamer import formats_of
        >>> formats_of(InputSpec(64, 96))
        ('RGB', 'GRAY8')
    """
    gray = spec.channels == ("gray",)
    if spec.depth == "uint8" and set(spec.channels) <= _USUAL:
        return ("GRAY8", "RGB") if gray else ("RGB", "GRAY8")
    if spec.depth == "uint16" and gray:
        return ("GRAY16_LE",)
    raise UsageError(
        f"the net takes {', '.join(spec.channels)} of {spec.depth}; GStreamer carries RGB or "
        "gray of 8 bit, or gray of 16 bit. Use `edgeunet run` for this net."
    )


class Pipeline(Connection):
    """A pipeline that ends in an appsink with BGR pictures.

    Raises:
        SourceError: OpenCV has no GStreamer, or the pipeline does not start.
    """

    def __init__(self, name: str, pipeline: str, timeouts: Timeouts) -> None:
        if not has_gstreamer():
            raise SourceError(
                f"{name}: this OpenCV ({cv2.__version__}, {cv2.__file__}) has no GStreamer, or "
                "is older than 4.7. On a Jetson, use JetPack's: pip uninstall opencv-python "
                "opencv-python-headless, in an environment made with --system-site-packages. "
                "Elsewhere, build OpenCV with GStreamer."
            )
        self._name = name
        self._capture = cv2.VideoCapture(
            pipeline,
            cv2.CAP_GSTREAMER,
            [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                int(1000 * timeouts.connect),
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                int(1000 * timeouts.read),
            ],
        )
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(
                f"{name}: the pipeline does not start. Is the camera connected, and not used by "
                f"another program? `gst-launch-1.0 -v PIPELINE` says more: {redacted(pipeline)}"
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1001) if 0 < rate <= 1000 else None

    def frames(self) -> Iterator[Frame | None]:
        """See `Connection`."""
        while True:
            read, image = self._capture.read()
            if not read:
                return
            if image.ndim != 3 or image.shape[2] != 3:
                raise SourceError(
                    f"{self._name} gives arrays {image.shape}; expected pictures (H, W, 3). End "
                    "the pipeline in videoconvert ! video/x-raw,format=BGR ! appsink."
                )
            yield np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)

    def close(self) -> None:
        """Stop the pipeline."""
        self._capture.release()
