"""Frames in the memory of a GPU, and the memory that they take turns in."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.errors import BackendError

from ..pipeline.stopping import Closing
from .cuda import CudaDevice, DeviceMemory, Staging


class DeviceFrame:
    """A frame (H, W, 3) of 8-bit RGB on a GPU, without gaps.

    It has the shape and type of an array, and `numpy.asarray` downloads it. Other libraries take it
    as it is, by `__cuda_array_interface__`. Nobody may write to it. Its memory is used for another
    frame once nothing refers to it.

    address: on the device. device: index of the GPU.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, pool: FramePool, address: int, shape: tuple[int, int, int]) -> None:
        self._pool = pool
        self.address = address
        self.shape = shape

    @property
    def device(self) -> int:
        """Index of the GPU."""
        return self._pool.index

    @property
    def size(self) -> int:
        """Number of values."""
        height, width, channels = self.shape
        return height * width * channels

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return self.size

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """A copy on the host; numpy calls this."""
        if copy is False:
            raise ValueError("a frame on a GPU is copied to become an array")
        array = self._pool.download(self)
        return array if dtype is None else array.astype(dtype, copy=False)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Numba's protocol, version 3. The frame is complete, so there is no stream to wait for."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, True),
            "version": 3,
        }


class FramePool(Closing):
    """Memory on a GPU for frames of one size, as many as are in use at a time.

    Frames may outlive `close`: the device is closed with the last of them.

    index: of the GPU.

    Raises:
        BackendError: see `CudaDevice`; also if the GPU's memory is full.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.device = CudaDevice(index)
        # Reentrant, since the garbage collector may give memory back anywhere.
        self._changing = threading.RLock()
        self._free: list[DeviceMemory] = []
        self._in_use = 0
        self._closed = False
        self._downloading = threading.Lock()
        self._staging: Staging | None = None

    def frame(self, height: int, width: int) -> DeviceFrame:
        """A frame, uninitialised. All must have as many pixels as the first."""
        shape = (height, width, 3)
        with self._changing:
            self._in_use += 1
            memory = self._free.pop() if self._free else None
        if memory is None:
            try:
                with self.device.preparing:
                    memory = self.device.allocate(height * width * 3)
            except BaseException:
                self._give_back(None)
                raise
        frame = DeviceFrame(self, memory.address, shape)
        weakref.finalize(frame, self._give_back, memory)
        return frame

    def download(self, frame: DeviceFrame) -> npt.NDArray[np.uint8]:
        """A frame as an array (H, W, 3)."""
        device, nbytes = self.device, frame.nbytes
        with self._downloading:
            if self._staging is None:
                with device.preparing:
                    self._staging = device.stage(nbytes)
                self._stream = device.stream()
            staging = self._staging
            device.copy(staging.address, frame.address, nbytes, self._stream)
            staging.download(nbytes, self._stream)
            self._stream.synchronize()
            array: npt.NDArray[np.uint8] = staging.host[:nbytes].reshape(frame.shape).copy()
            return array

    def close(self) -> None:
        """Free what no frame holds, and the rest with the last frame."""
        with self._changing:
            self._closed = True
        self._close_unused()

    def _give_back(self, memory: DeviceMemory | None) -> None:
        """A frame is gone. memory: what it had, None if there was none for it."""
        with self._changing:
            self._in_use -= 1
            if memory is not None:
                self._free.append(memory)
        self._close_unused()

    def _close_unused(self) -> None:
        with self._changing:
            if not self._closed or self._in_use:
                return
        # Without the lock: whoever prepares an engine may wait for it to give a frame back.
        with self.device.preparing, suppress(BackendError):  # a lost GPU has nothing left to free
            self.device.close()
