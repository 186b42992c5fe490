"""Prints which classes come into view and leave it: `python3 watch.py PIPELINE`.

PIPELINE gives frames, such as "v4l2src" or "filesrc location=film.mp4 ! decodebin". It needs the
system's Python with GStreamer, and GST_PLUGIN_PATH set to what `edgeunet deploy --to gstreamer`
wrote. If the net is slower than the camera, the queue drops frames.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst

ENOUGH = 0.01  # share of the pixels


def main(source: str) -> None:
    """Print until the source ends."""
    Gst.init(None)
    live = source.startswith(("v4l2src", "nvarguscamerasrc", "libcamerasrc", "rtspsrc"))
    queue = "queue leaky=downstream max-size-buffers=1 ! " if live else ""
    segment = f"videoconvert ! {queue}edgeunetseg ! fakesink sync={str(live).lower()}"
    pipeline = Gst.parse_launch(f"{source} ! {segment}")
    pipeline.set_state(Gst.State.PLAYING)
    seen: set[str] = set()
    while True:
        message = pipeline.get_bus().timed_pop(Gst.CLOCK_TIME_NONE)
        if message.type == Gst.MessageType.EOS:
            break
        if message.type == Gst.MessageType.ERROR:
            sys.exit(message.parse_error()[0].message)
        said = message.get_structure()
        if said is None or said.get_name() != "edgeunetseg":
            continue
        pixels = list(said["pixels"])
        shown = {name for name, count in zip(said["classes"], pixels, strict=True)
                 if count > ENOUGH * sum(pixels)}  # fmt: skip
        for sign, names in (("+", shown - seen), ("-", seen - shown)):
            for name in sorted(names):
                print(f"{said['timestamp'] / Gst.SECOND:8.2f} s  {sign} {name}", flush=True)
        seen = shown
    pipeline.set_state(Gst.State.NULL)


main(sys.argv[1])
