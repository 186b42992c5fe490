"""A PyNvVideoCodec without a GPU, after 2.2.4: FFmpeg decodes, surfaces lie on the fake GPU.

    with gpu_machine() as machine, fake_nvdec(machine.driver) as nvdec:
        nvdec.pitch = 512        # as another card may have it
        ...                      # `import PyNvVideoCodec` finds it

A surface is filled by work in the decoder's stream, as late as it may be, and overwritten in the
next call, so that code that reads it too early or too late gets wrong pixels every time.
"""

from __future__ import annotations

import ctypes
import enum
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from types import ModuleType
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.runtime.gpu import driver
from support.fake_cuda import FakeCuda

_GARBAGE = 0xAB
_DECODERS = {"H264": "h264", "HEVC": "hevc", "VP9": "vp9", "AV1": "libdav1d"}


class cudaVideoCodec(enum.IntEnum):
    H264, HEVC, VP9, AV1 = 4, 8, 10, 11


cudaVideoChromaFormat = enum.IntEnum("cudaVideoChromaFormat", {"420": 1})


class Pixel_Format(enum.IntEnum):
    NV12, P016 = 3, 5


class PyNvVCException(Exception):
    pass


class PyNvVCExceptionUnsupported(Exception):
    pass


class PacketData:
    """`bsl` bytes at the address `bsl_data`."""

    def __init__(self) -> None:
        self.bsl = self.bsl_data = self.pts = 0


class CAIMemoryView:
    def __init__(self, shape: tuple[int, int, int], pitch: int, address: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": list(shape),
            "strides": [pitch, shape[2], 1],
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }


class DecodedFrame:
    def __init__(self, pts: int, form: Pixel_Format, planes: list[CAIMemoryView]) -> None:
        self._pts, self.format, self._planes = pts, form, planes

    def getPTS(self) -> int:
        return self._pts

    def cuda(self) -> list[CAIMemoryView]:
        return self._planes


class FakeNvdec(ModuleType):
    """The module, and what is unusual about its card.

    caps: what it says of each codec. pitch: bytes of a row, None for as few as there are. lost:
    numbers of packets whose frames do not come. fails_at: number of the packet that ends it.
    change: what it does to each surface's luma. form: format of surfaces.
    decoders: how many are open. sent: number of packets.
    """

    cudaVideoCodec = cudaVideoCodec
    cudaVideoChromaFormat = cudaVideoChromaFormat
    Pixel_Format = Pixel_Format
    PacketData = PacketData
    PyNvVCException = PyNvVCException
    PyNvVCExceptionUnsupported = PyNvVCExceptionUnsupported

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__("PyNvVideoCodec")
        self.cuda = cuda
        self.caps = {
            "num_decoder_engines": 1,
            "width_max": 4096,
            "height_max": 4096,
            "mb_num_max": 65536,
            "width_min": 48,
            "height_min": 16,
        }
        self.pitch: int | None = None
        self.lost: set[int] = set()
        self.fails_at: int | None = None
        self.change = lambda luma: luma
        self.form = Pixel_Format.NV12
        self.decoders = self.sent = 0

    def GetDecoderCaps(
        self, gpuid: int, codec: cudaVideoCodec, chromaformat: Any, bitdepth: int
    ) -> dict[str, int]:
        _need_context()
        assert (chromaformat, bitdepth) == (1, 8)
        return self.caps

    def CreateDecoder(
        self,
        gpuid: int,
        codec: cudaVideoCodec,
        cudacontext: int,
        cudastream: int,
        usedevicememory: bool,
    ) -> PyNvDecoder:
        _need_context()
        assert cudacontext == driver._current.stack[-1].handle
        assert usedevicememory
        return PyNvDecoder(self, _DECODERS[codec.name], cudastream)


class PyNvDecoder:
    """Holds its surfaces until it is gone."""

    def __init__(self, module: FakeNvdec, codec: str, stream: int) -> None:
        self._module, self._stream = module, stream
        self._codec = av.CodecContext.create(codec, "r")
        self._surfaces: list[Any] = []
        self._ended = False
        module.decoders += 1

    def __del__(self) -> None:
        self._module.decoders -= 1

    def Decode(self, packet: PacketData) -> list[DecodedFrame]:
        _need_context()
        module = self._module
        self._take_back()
        if packet.bsl == 0:
            if self._ended:
                return []
            self._ended = True
            decoded = self._codec.decode(None)
        else:
            module.sent += 1
            if module.sent == module.fails_at:
                del self  # the real one is C++, of which no traceback holds anything
                raise PyNvVCException("HandlePictureDecode failed\nat NvDecoder.cpp")
            data = av.Packet(ctypes.string_at(packet.bsl_data, packet.bsl))
            data.pts, data.time_base = packet.pts, Fraction(1)
            decoded = self._codec.decode(data)
        frames = [frame for frame in decoded if frame.pts not in module.lost]
        return [self._surface(place, frame) for place, frame in enumerate(frames)]

    def _take_back(self) -> None:
        for memory in self._surfaces:
            self._module.cuda.at(int(memory), memory.nbytes)[:] = _GARBAGE

    def _surface(self, place: int, frame: Any) -> DecodedFrame:
        module = self._module
        luma, *chroma = (_pixels(plane) for plane in frame.planes)
        luma = module.change(luma)
        rows = np.concatenate([luma, np.stack(chroma, axis=-1).reshape(-1, luma.shape[1])])
        height, width = luma.shape
        pitch = module.pitch or width
        if place == len(self._surfaces):
            self._surfaces.append(driver.mem_alloc(len(rows) * pitch))
            self._surfaces[-1].nbytes = len(rows) * pitch
        address = int(self._surfaces[place])
        target = module.cuda.at(address, len(rows) * pitch).reshape(len(rows), pitch)

        def fill() -> None:
            target[:, :width] = rows

        module.cuda.enqueue(self._stream, fill)
        planes = [
            CAIMemoryView((height, width, 1), pitch, address),
            CAIMemoryView((height // 2, width // 2, 2), pitch, address + height * pitch),
        ]
        return DecodedFrame(frame.pts, module.form, planes)


def _pixels(plane: Any) -> npt.NDArray[np.uint8]:
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height]
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width]


def _need_context() -> None:
    """A library that is called without one makes its own, in which no address of ours is valid."""
    assert driver._current.stack, "no context is current"


@contextmanager
def fake_nvdec(cuda: FakeCuda) -> Iterator[FakeNvdec]:
    """Install it while the block runs.

    Raises:
        AssertionError: at the block's end, if a decoder is still open.
    """
    module = FakeNvdec(cuda)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "PyNvVideoCodec", module)
        yield module
    assert module.decoders == 0
