"""GStreamer element `edgeunetseg`: runs the bundle beside this folder by edgeunet's own runtime.

GStreamer's Python loader reads this file to learn what the element is, so edgeunet is imported only
when a pipeline starts. What fails is posted as an error of the element.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, GObject, Gst, GstBase, GstVideo  # noqa: E402

Gst.init(None)

_HERE = Path(__file__).resolve().parent.parent
_CHANNELS = {"RGB": 3, "GRAY8": 1, "GRAY16_LE": 1}
_OUTPUTS = {"mask": "GRAY8", "overlay": "RGB"}
_SETTINGS = ("bundle", "backend", "precision", "threads", "device", "output")
_WRITABLE = GObject.ParamFlags.READWRITE
_MAX_INT = 2**31 - 1
_PROPERTIES: dict[str, tuple[Any, ...]] = {
    "bundle": (str, "Bundle", "Directory of the bundle", str(_HERE / "bundle"), _WRITABLE),
    "backend": (str, "Backend", "As of edgeunet.load", "auto", _WRITABLE),
    "precision": (
        str,
        "Precision",
        "fp32, fp16, bf16 or int8; empty: the deployed one, or that of another bundle",
        "",
        _WRITABLE,
    ),
    "threads": (int, "Threads", "Of the CPU; 0: all", 0, _MAX_INT, 0, _WRITABLE),
    "device": (int, "Device", "Index of the GPU; -1: the first", -1, _MAX_INT, -1, _WRITABLE),
    "output": (str, "Output", "mask or overlay", "mask", _WRITABLE),
    "opacity": (float, "Opacity", "Of the colours in overlays", 0.0, 1.0, 0.5, _WRITABLE),
    "post-messages": (
        bool,
        "Post messages",
        "Post an element message with the classes of each frame",
        True,
        _WRITABLE,
    ),
}


def _template(name: str, direction: Gst.PadDirection, formats: list[str]) -> Gst.PadTemplate:
    caps = Gst.Caps.from_string(f"video/x-raw, format={{ {', '.join(formats)} }}")
    return Gst.PadTemplate.new(name, direction, Gst.PadPresence.ALWAYS, caps)


class Segmenter(GstBase.BaseTransform):  # type: ignore[misc]
    """Takes frames, gives masks or overlays of the same size and time."""

    __gtype_name__ = "EdgeUNetSeg"  # pipelines name elements after it
    __gstmetadata__ = (
        "edgeunet segmenter",
        "Filter/Effect/Video",
        "Gives each frame's class ids as GRAY8, or the frame under the colours of its classes",
        "edgeunet",
    )
    __gsttemplates__ = (
        _template("sink", Gst.PadDirection.SINK, list(_CHANNELS)),
        _template("src", Gst.PadDirection.SRC, list(_OUTPUTS.values())),
    )
    __gproperties__ = _PROPERTIES

    def __init__(self) -> None:
        super().__init__()
        self.set_qos_enabled(True)
        self._values = {name: spec[-2] for name, spec in _PROPERTIES.items()}
        self._segmenter: Any = None
        self._index = 0

    # Properties

    def do_get_property(self, spec: GObject.ParamSpec) -> Any:
        """Answer with the value of a property."""
        return self._values[spec.name]

    def do_set_property(self, spec: GObject.ParamSpec, value: Any) -> None:
        """Keep the value of a property, unless the element runs and cannot follow."""
        if self._segmenter is not None and spec.name in _SETTINGS:
            text = f"{spec.name} was set while the element runs, and is ignored. Stop it first."
            self._post(Gst.Message.new_warning, text)
            return
        self._values[spec.name] = value

    # Start and stop

    def do_start(self) -> bool:
        """Open the bundle and check its masks of the golden frames on this machine."""
        return bool(self._guarded(self._open))

    def do_stop(self) -> bool:
        """Free the net."""
        if self._segmenter is not None:
            self._segmenter.close()
            self._segmenter = None
        return True

    def _open(self) -> bool:
        values = self._values
        if values["output"] not in _OUTPUTS:
            return self._fail(f"output is {values['output']!r}; expected mask or overlay.")
        if values["output"] == "mask" and values["opacity"] != 0.5:
            return self._fail("opacity is for output=overlay; masks have none. Leave it out.")
        try:
            import edgeunet
            from edgeunet.runtime.frames import SourceFrame
            from edgeunet.runtime.sources.gstreamer import formats_of
        except ImportError as error:
            return self._fail(
                f"edgeunet cannot be imported: {error}. GStreamer runs Python "
                f"{sys.version.split()[0]} of {sys.prefix}; install edgeunet in it, or name the "
                f"site-packages of one of the same version in PYTHONPATH; see {_HERE}/README.md."
            )
        segmenter = edgeunet.load(
            values["bundle"],
            values["backend"],
            precision=values["precision"] or self._deployed_precision(),
            threads=values["threads"] or None,
            device=None if values["device"] < 0 else values["device"],
            checked=True,
        )
        try:
            self._formats = formats_of(segmenter.manifest.input)
        except BaseException:
            segmenter.close()
            raise
        self._segmenter, self._frame, self._index = segmenter, SourceFrame, 0
        return True

    def _deployed_precision(self) -> Any:
        """The precision that the bundle beside this file was deployed for; None for others."""
        if Path(self._values["bundle"]).resolve() != _HERE / "bundle":
            return None
        record = json.loads((_HERE / "deployment.json").read_text(encoding="utf-8"))
        return record["flavours"][0].partition(".")[0]

    # Caps

    def do_transform_caps(
        self, direction: Gst.PadDirection, caps: Gst.Caps, wanted: Gst.Caps | None
    ) -> Gst.Caps:
        """Caps of the other pad: all but the format stays."""
        formats = self._formats if self._segmenter is not None else list(_CHANNELS)
        if direction == Gst.PadDirection.SINK:
            formats = [_OUTPUTS.get(self._values["output"], "GRAY8")]
        other = Gst.Caps.new_empty()
        for index in range(caps.get_size()):
            structure = caps.get_structure(index).copy()
            structure.set_value("format", Gst.ValueList(formats))
            # They belong to a format.
            structure.remove_field("colorimetry")
            structure.remove_field("chroma-site")
            other.append_structure(structure)
        if wanted is not None:
            other = wanted.intersect_full(other, Gst.CapsIntersectMode.FIRST)
        return other

    def do_get_unit_size(self, caps: Gst.Caps) -> tuple[bool, int]:
        """Bytes of a frame."""
        return True, GstVideo.VideoInfo.new_from_caps(caps).size

    def do_transform_size(
        self, direction: Gst.PadDirection, caps: Gst.Caps, size: int, other: Gst.Caps
    ) -> tuple[bool, int]:
        """Bytes of the other pad's frame. Those of this pad may have bytes behind their pixels."""
        return True, GstVideo.VideoInfo.new_from_caps(other).size

    def do_set_caps(self, given: Gst.Caps, made: Gst.Caps) -> bool:
        """Take frames of this form from here on."""
        self._given = GstVideo.VideoInfo.new_from_caps(given)
        self._made = GstVideo.VideoInfo.new_from_caps(made)
        return True

    # Frames

    def do_transform(self, given: Gst.Buffer, made: Gst.Buffer) -> Gst.FlowReturn:
        """Segment a frame. GStreamer gives `made` the time and the flags of `given`."""
        done = self._guarded(lambda: self._segment(given, made))
        return Gst.FlowReturn.OK if done else Gst.FlowReturn.ERROR

    def _segment(self, given: Gst.Buffer, made: Gst.Buffer) -> bool:
        with given.map(Gst.MapFlags.READ) as mapped:
            image = _pixels(given, mapped.data, self._given)
            if image is None:
                return self._fail(
                    f"frame {self._index} has {len(mapped.data)} bytes; expected at least "
                    f"{self._given.size} for {self._given.finfo.name} of {self._given.width}x"
                    f"{self._given.height}."
                )
            # A copy: the memory belongs to another element once this call is over.
            frame = self._frame(self._index, "", image.copy())
            del image
        result = self._segmenter.segment(frame)
        if self._values["output"] == "mask":
            picture = result.mask[..., None]
        else:
            picture = result.overlay(opacity=self._values["opacity"])
        with made.map(Gst.MapFlags.WRITE) as mapped:
            target = _pixels(made, mapped.data, self._made)
            assert target is not None
            target[:] = picture
            del target
        if self._values["post-messages"]:
            self.post_message(Gst.Message.new_element(self, self._description(given, result)))
        self._index += 1
        return True

    def _description(self, given: Gst.Buffer, result: Any) -> Gst.Structure:
        """What the message about a frame says."""
        import numpy as np

        classes = self._segmenter.manifest.classes
        pixels = np.bincount(result.mask.ravel(), minlength=len(classes))[: len(classes)]
        said = Gst.Structure.new_empty("edgeunetseg")
        times = {
            "timestamp": given.pts,
            "stream-time": self.segment.to_stream_time(Gst.Format.TIME, given.pts),
            "running-time": self.segment.to_running_time(Gst.Format.TIME, given.pts),
            "duration": given.duration,
        }
        for name, value in times.items():
            said.set_value(name, GObject.Value(GObject.TYPE_UINT64, value))
        said.set_value("classes", Gst.ValueArray(list(classes)))
        said.set_value("pixels", Gst.ValueArray([int(count) for count in pixels]))
        if result.presence is not None:
            said.set_value("presence", Gst.ValueArray([float(each) for each in result.presence]))
        return said

    # Errors

    def _guarded(self, step: Callable[[], bool]) -> bool:
        """Run a step; what it raises becomes an error of the element."""
        try:
            return step()
        except Exception as error:
            known = getattr(sys.modules.get("edgeunet"), "EdgeUNetError", ())
            text = " ".join(str(error).split()) or type(error).__name__
            debug = "" if isinstance(error, known) else traceback.format_exc()
            self._post(Gst.Message.new_error, text, debug)
            return False

    def _fail(self, text: str) -> bool:
        self._post(Gst.Message.new_error, text)
        return False

    def _post(self, make: Callable[..., Gst.Message], text: str, debug: str = "") -> None:
        error = GLib.Error.new_literal(Gst.LibraryError.quark(), text, Gst.LibraryError.FAILED)
        self.post_message(make(self, error, debug))


def _pixels(buffer: Gst.Buffer, data: memoryview, info: GstVideo.VideoInfo) -> Any:
    """The pixels (H, W, C) of a buffer, without what fills its rows up; None if it is too short.

    Buffers of cameras and decoders say themselves where their rows lie.
    """
    import numpy as np

    meta = GstVideo.buffer_get_video_meta(buffer)
    stride, offset = (info.stride[0], info.offset[0]) if meta is None else (
        meta.stride[0], meta.offset[0]
    )  # fmt: skip
    kind = np.dtype("<u2" if info.finfo.name == "GRAY16_LE" else "u1")
    channels = _CHANNELS[info.finfo.name]
    row = info.width * channels * kind.itemsize
    if stride < row or offset + stride * (info.height - 1) + row > len(data):
        return None
    strides = (stride, channels * kind.itemsize, kind.itemsize)
    return np.ndarray((info.height, info.width, channels), kind, data, offset, strides)


GObject.type_register(Segmenter)
__gstelementfactory__ = ("edgeunetseg", Gst.Rank.NONE, Segmenter)
