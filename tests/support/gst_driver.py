"""Runs pipelines of GStreamer, for Debian's Python: `gst_driver.py < CASES > RESULTS`, both JSON.

A case is {"launch": PIPELINE, "frames": [...]}; the frames go into an appsrc `in`, each as {"caps",
"data" in hexadecimal, "pts", "stride" if its rows lie apart}. What comes out of an appsink `out` is
listed as {"caps", "data", "stride", "pts", "duration"}, beside "errors", "warnings" and "messages".
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo  # noqa: E402

WAIT = 30 * Gst.SECOND
END = Gst.MessageType.EOS | Gst.MessageType.ERROR


def run(case):
    pipeline = Gst.parse_launch(case["launch"])
    done = {"frames": [], "errors": [], "warnings": [], "messages": []}
    source, sink = pipeline.get_by_name("in"), pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    for frame in case.get("frames", ()):
        source.emit("push-sample", sample_of(frame))
    if source is not None:
        source.emit("end-of-stream")
    while sink is not None:
        sample = sink.emit("try-pull-sample", WAIT)
        if sample is None:
            break
        done["frames"].append(frame_of(sample))
    bus, ended = pipeline.get_bus(), False
    while not ended:
        message = bus.timed_pop(WAIT)
        assert message is not None, f"{case['launch']} hangs"
        ended = message.type & END
        if message.type == Gst.MessageType.ERROR:
            done["errors"].append(message.parse_error()[0].message)
        elif message.type == Gst.MessageType.WARNING:
            done["warnings"].append(message.parse_warning()[0].message)
        elif message.type == Gst.MessageType.ELEMENT:
            done["messages"].append(message.get_structure().to_string())
    pipeline.set_state(Gst.State.NULL)
    return done


def sample_of(frame):
    data, caps = bytes.fromhex(frame["data"]), Gst.Caps.from_string(frame["caps"])
    buffer = Gst.Buffer.new_wrapped(data)
    buffer.pts, buffer.duration = frame["pts"], 7
    if "stride" in frame:
        info = GstVideo.VideoInfo.new_from_caps(caps)
        size = info.finfo.format, info.width, info.height
        strides = [frame["stride"], 0, 0, 0]
        GstVideo.buffer_add_video_meta_full(buffer, 0, *size, 1, [0, 0, 0, 0], strides)
    return Gst.Sample.new(buffer, caps, None, None)


def frame_of(sample):
    buffer, caps = sample.get_buffer(), sample.get_caps()
    return {
        "caps": caps.to_string(),
        "stride": GstVideo.VideoInfo.new_from_caps(caps).stride[0],
        "data": buffer.extract_dup(0, buffer.get_size()).hex(),
        "pts": buffer.pts,
        "duration": buffer.duration,
    }


Gst.init(None)
json.dump([run(case) for case in json.load(sys.stdin)], sys.stdout)
