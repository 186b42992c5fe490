"""Videos that the GPU decodes, into frames that stay in its memory."""

from __future__ import annotations

import importlib
import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from edgeunet.errors import BackendError, MissingDependencyError, SourceError, first_line

from ..frames import Frame, SourceFrame
from ..gpu.frames import DeviceFrame, FramePool
from ..gpu.kernels import load_kernels
from ..gpu.kernels.surfaces import SPACES, RgbKernel, Surface
from ..gpu.libcuda import DRIVER_ADVICE
from .holes import hole_finder
from .video import Pixels, Turn, VideoFile, pixel_aspect, turn_of, upright

_CODECS = {"h264": "H264", "hevc": "HEVC", "vp9": "VP9", "av1": "AV1"}
"""FFmpeg's name of a codec -> PyNvVideoCodec's. All decoders of these give the same pixels."""

_FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
"""FFmpeg's filters that put start codes between the units of a packet, which NVDEC asks for."""

# What says size and colours of the frames behind it: a unit between start codes, without the zeros
# at its end. Source: ITU-T H.264, table 7-1; H.265, table 7-1.
_SEQUENCES = {
    "h264": re.compile(rb"\x00\x00\x01([\x07\x27\x47\x67].*?)\x00*(?=\x00\x00\x01|\Z)", re.DOTALL),
    "hevc": re.compile(rb"\x00\x00\x01(\x42\x01.*?)\x00*(?=\x00\x00\x01|\Z)", re.DOTALL),
}

_FORMATS = ("yuv420p", "yuvj420p")
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_LEAST = 16  # pixels of a side
_SAME = 2
"""Levels by which a pixel may differ from FFmpeg's. The kernel's rounding makes up one."""

_OTHERS = 1e-3
"""Share of pixels that may differ more: FFmpeg's conversion overflows at the brightest colours."""

_INSTEAD = "Leave out --decoder nvdec."


class NvdecFile(VideoFile):
    """All frames of a video, as of `VideoFile`, decoded by NVDEC. Images are `DeviceFrame`s.

    FFmpeg reads the file, within the limits of `Film`, and NVDEC decodes its packets. The first
    frame is decoded by FFmpeg too: it says how all pictures are turned and what their colours mean,
    and NVDEC's must be the same. A video whose format changes is refused where it does.

    NVDEC does not say which frames are damaged. What a packet shows is found, such as a gap, and
    so is a frame that is missing, but not one that the decoder patched.

    Args:
        source: a path, or an address of a film. device: index of the GPU.

    Raises:
        MissingDependencyError: PyNvVideoCodec or PyAV is missing. BackendError: no usable GPU, or
            its driver lacks the decoder. SourceError: as of `VideoFile`; also a video that this GPU
            does not decode, that is interlaced, begins in the middle, or is not 8 bit in 4:2:0.
    """

    def __init__(self, source: str | Path, *, device: int = 0) -> None:
        self._nvc = import_nvdec()
        super().__init__(source)
        self._given = 0  # frames
        self._waiting: dict[int, _Packet] = {}  # by number: those without a frame yet
        with ExitStack() as stack:
            stack.callback(self._container.close)
            codec = self._stream.codec_context.codec.canonical_name
            if codec not in _CODECS:
                raise self._unfit(f"holds {codec}; NVDEC decodes {', '.join(_CODECS)} here")
            self._codec = getattr(self._nvc.cudaVideoCodec, _CODECS[codec])
            self._filter = None
            if codec in _FILTERS:
                self._filter = self._av.bitstream.BitStreamFilterContext(
                    _FILTERS[codec], self._stream
                )
            self._sequences = _SEQUENCES.get(codec)
            self._sequence = set[bytes]()  # of the first frame
            self._has_hole = hole_finder(self._stream.codec_context)
            self._first: _First | None = self._look()
            self._aspect, self._turn = self._first.aspect, self._first.turn
            self._size = self._first.size
            self._pool = stack.enter_context(FramePool(device))
            with self._pool.device.preparing:
                self._check_card(device)
                self._to_rgb = RgbKernel(
                    load_kernels(self._pool.device, None),
                    space=self._first.space,
                    full_range=self._first.full_range,
                    centred=self._first.centred,
                )
                self._cuda_stream = self._pool.device.stream()
                self._decoder: Any = self._opened(device)
            stack.pop_all()

    def _unfit(self, why: str) -> SourceError:
        return SourceError(f"{self.name} {why}. {_INSTEAD}")

    # Opening

    def _look(self) -> _First:
        """What FFmpeg says of the first frame."""
        frame = None
        try:
            with self._film.open() as container:
                frame = next(container.decode(container.streams[self._stream.index]), None)
        except self._av.error.FFmpegError as error:
            raise SourceError(f"{self.name} cannot be decoded: {error.strerror}.") from error
        if frame is None:
            raise SourceError(f"{self.name} holds no frame that can be decoded.")
        height, width = frame.height, frame.width
        odd = height % 2 or width % 2
        if frame.format.name not in _FORMATS or odd or min(height, width) < _LEAST:
            raise self._unfit(
                f"has {width}x{height} pixels in {frame.format.name}; NVDEC is used for even sides "
                f"from {_LEAST} on, and 8 bit in 4:2:0"
            )
        if frame.interlaced_frame:
            raise self._unfit("is interlaced; NVDEC would mix its fields otherwise than FFmpeg")
        if int(frame.colorspace) not in SPACES:
            raise self._unfit(f"has colours of the kind {int(frame.colorspace)} of ITU-T H.273")
        pixels = Pixels(self._av)
        picture = upright(pixels(frame), frame)
        centred = _centred(frame, pixels)
        if centred is None:
            raise self._unfit("has samples of chroma at a place that is not known here")
        return _First(
            picture,
            (height, width),
            turn_of(frame),
            pixel_aspect(self._stream, frame),
            int(frame.colorspace),
            int(frame.color_range) == _FULL_RANGE or frame.format.name == "yuvj420p",
            centred,
        )

    def _check_card(self, device: int) -> None:
        """Raise SourceError if the GPU does not decode such a video."""
        nvc, gpu = self._nvc, self._pool.device
        height, width = self._size
        chroma = nvc.cudaVideoChromaFormat.__members__["420"]
        with gpu.current("asking what NVDEC decodes"), self._translated():
            caps = nvc.GetDecoderCaps(
                gpuid=device, codec=self._codec, chromaformat=chroma, bitdepth=8
            )
        if not caps.get("num_decoder_engines") or not caps.get("width_max"):
            raise self._unfit(f"holds {self._codec.name}, which {gpu.name} does not decode")
        most = caps["width_max"], caps["height_max"]
        least = caps["width_min"], caps["height_min"]
        too_many = width * height > 256 * caps["mb_num_max"]
        if too_many or any(
            not low <= side <= high
            for low, side, high in zip(least, (width, height), most, strict=True)
        ):
            raise self._unfit(
                f"has {width}x{height} pixels; {gpu.name} decodes {self._codec.name} of "
                f"{least[0]}x{least[1]} to {most[0]}x{most[1]}, at most {caps['mb_num_max']} "
                "blocks of 16x16"
            )

    def _opened(self, device: int) -> Any:
        """The decoder. It works in the context and the stream of the frames."""
        gpu = self._pool.device
        with gpu.current("opening NVDEC"), self._translated():
            return self._nvc.CreateDecoder(
                gpuid=device,
                codec=self._codec,
                cudacontext=gpu.context,
                cudastream=self._cuda_stream.handle,
                usedevicememory=True,
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (
            self._nvc.PyNvVCException,
            self._nvc.PyNvVCExceptionUnsupported,
            RuntimeError,
        ) as error:
            raise self._unfit(
                f"cannot be decoded by NVDEC {self._place}: {first_line(error)}"
            ) from error

    # Reading

    def _read(self) -> Generator[SourceFrame, None, None]:
        for packet, frame in self._device_frames():
            index, self._given = self._given, self._given + 1
            image = cast(Frame, frame)  # as an array, but for its pixels
            yield SourceFrame(index, "", image, self._time(packet.pts), self._aspect)
        if not self._given:
            raise SourceError(f"{self.name} holds no frame that can be decoded.")
        self._check_end(self._given)

    def _device_frames(self) -> Iterator[tuple[_Packet, DeviceFrame]]:
        number = 0
        try:
            for packet in self._container.demux():
                if not self._packets.add(packet, self._stream):
                    continue
                if not number and not packet.is_keyframe:
                    raise self._unfit("begins in the middle, without a key frame")
                self._check_packet(packet)
                # Before the filter empties the packet.
                facts = _Packet(packet.pts if self._timed else None, packet.is_discard)
                begins = packet.is_keyframe
                for part in [packet] if self._filter is None else self._filter.filter(packet):
                    number += 1  # NVDEC hands it on as the time of the frame
                    self._waiting[number] = facts
                    if begins and self._sequences is not None:
                        self._check_sequence(set(self._sequences.findall(bytes(part))))
                    yield from self._decode(part.buffer_ptr, part.buffer_size, number)
        except self._av.error.FFmpegError as error:
            raise SourceError(f"{self.name} cannot be read further: {error.strerror}.") from error
        while frames := list(self._decode(0, 0, 0)):
            yield from frames
        if self._waiting:
            raise self._damaged(f"{len(self._waiting)} of its packets gave no frame")

    @property
    def _place(self) -> str:
        """How far it was read, for errors."""
        return f"behind frame {self._given - 1}" if self._given else "at its beginning"

    def _check_packet(self, packet: Any) -> None:
        if packet.is_corrupt or (self._has_hole is not None and self._has_hole(bytes(packet))):
            raise self._damaged("data is missing")

    def _check_sequence(self, sequence: set[bytes]) -> None:
        """Raise SourceError if frames of another format begin: what the first says is for all."""
        self._sequence = self._sequence or sequence
        if sequence - self._sequence:
            raise self._unfit(f"changes its format {self._place}")

    def _damaged(self, fault: str) -> SourceError:
        return SourceError(
            f"{self.name} is damaged {self._place}: {fault}. NVDEC does not say which frames build "
            "on that. Without --decoder nvdec they are named, and --skip-damaged leaves them out."
        )

    def _decode(
        self, address: int, nbytes: int, number: int
    ) -> Iterator[tuple[_Packet, DeviceFrame]]:
        """The frames that a packet completes. Without bytes: those that the decoder still has."""
        data = self._nvc.PacketData()
        data.bsl_data, data.bsl, data.pts = address, nbytes, number
        gpu = self._pool.device
        # Until the first frame has come, it allocates.
        quiet = gpu.preparing if self._first is not None else nullcontext()
        with quiet, gpu.current("decoding by NVDEC"), self._translated():
            surfaces = self._decoder.Decode(data)
        # The decoder overwrites these in its next call, so they are copied before that.
        for surface in surfaces:
            packet = self._waiting.pop(surface.getPTS(), None)
            if packet is None:
                raise self._damaged("NVDEC gave a frame that no packet holds")
            self._check_order(packet)
            if not packet.hidden:
                yield packet, self._frame_of(surface)

    def _check_order(self, packet: _Packet) -> None:
        """Raise SourceError if a packet that should have come before this one gave no frame."""
        if packet.pts is not None and any(
            each.pts is not None and each.pts < packet.pts for each in self._waiting.values()
        ):
            raise self._damaged("a packet gave no frame")

    def _frame_of(self, native: Any) -> DeviceFrame:
        """What a surface shows, upright. The surface is free again when this returns."""
        surface = self._surface_of(native)
        height, width = reversed(self._size) if self._turn.swapped else self._size
        frame = self._pool.frame(height, width)
        self._to_rgb(surface, self._turn, out=frame.address, stream=self._cuda_stream)
        self._cuda_stream.synchronize()
        if self._first is not None:
            expected, self._first = self._first.picture, None
            self._compare(np.asarray(frame), expected)
        return frame

    def _surface_of(self, native: Any) -> Surface:
        if native.format != self._nvc.Pixel_Format.NV12:
            raise self._unfit(f"becomes {native.format.name} by NVDEC; expected NV12")
        luma, chroma = (plane.__cuda_array_interface__ for plane in native.cuda())
        if tuple(luma["shape"][:2]) != self._size:
            sizes = ["{1}x{0}".format(*size) for size in (luma["shape"], self._size)]
            raise self._unfit(
                f"has {sizes[0]} pixels at frame {self._given}; the first had {sizes[1]}"
            )
        return Surface(
            luma["data"][0], chroma["data"][0], luma["strides"][0], chroma["strides"][0],
            *self._size,
        )  # fmt: skip

    def _compare(self, picture: Frame, expected: Frame) -> None:
        """Raise SourceError if the first frame is not FFmpeg's."""
        differences = np.abs(picture.astype(np.int16) - expected).max(axis=-1)
        share = float(np.mean(differences > _SAME))
        if share > _OTHERS:
            raise self._unfit(
                f"looks otherwise by NVDEC than by FFmpeg: {share:.1%} of the first frame's pixels "
                f"differ, by up to {differences.max()} levels"
            )

    def _free(self) -> None:
        super()._free()
        if self._decoder is None:
            return
        with suppress(BackendError):  # a lost GPU
            self._cuda_stream.synchronize()  # queued work uses the decoder's surfaces
        with suppress(BackendError), self._pool.device.current("closing NVDEC"):
            self._decoder = None
        self._pool.close()


def import_nvdec() -> Any:
    """Import PyNvVideoCodec, which loads the driver's video libraries.

    Raises:
        MissingDependencyError: it is not installed. BackendError: it does not start.
    """
    try:
        return importlib.import_module("PyNvVideoCodec")
    except ModuleNotFoundError:
        raise MissingDependencyError("PyNvVideoCodec") from None
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            f"PyNvVideoCodec does not start: {first_line(error)}. {DRIVER_ADVICE} A container also "
            "needs NVIDIA_DRIVER_CAPABILITIES=compute,utility,video."
        ) from error


class _Packet(NamedTuple):
    """pts: None if it has no time. hidden: an edit list hides its frame."""

    pts: int | None
    hidden: bool


class _First(NamedTuple):
    """The first frame by FFmpeg.

    picture: upright. size: height and width before it was turned. space, full_range, centred: see
    `RgbKernel`.
    """

    picture: Frame
    size: tuple[int, int]
    turn: Turn
    aspect: Fraction
    space: int
    full_range: bool
    centred: tuple[bool, bool]


def _centred(frame: Any, pixels: Pixels) -> tuple[bool, bool] | None:
    """Where FFmpeg takes the samples of chroma in a frame to lie, see `RgbKernel`.

    PyAV does not say it, so it is seen from a picture, which is drawn into the frame: V changes
    between two rows, and with it red; U between two columns, and with it blue. The pixel behind the
    change has the new colour if samples lie beside the first pixel of two, and three quarters of it
    if they lie in the middle. None: something else.
    """
    luma, u, v = frame.planes
    luma.update(bytes([128]) * luma.buffer_size)
    rows, columns = v.height // 2, u.width // 2
    for plane, inside in ((u, np.s_[:, columns:]), (v, np.s_[rows:, :])):
        values = np.full((plane.buffer_size // plane.line_size, plane.line_size), 96, np.uint8)
        values[inside] = 160
        plane.update(values.tobytes().ljust(plane.buffer_size, b"\0"))
    picture = pixels(frame).astype(float)
    shares = [
        (line[2 * at] - line[0]) / (line[-1] - line[0])
        for line, at in ((picture[:, 0, 0], rows), (picture[0, :, 2], columns))
    ]
    if any(min(abs(share - 1), abs(share - 0.75)) > 0.1 for share in shares):
        return None
    return bool(shares[0] < 0.875), bool(shares[1] < 0.875)
