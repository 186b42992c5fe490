"""Memory of the simulated device: blocks of host memory by address."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

FRESH, FREED = 0xCD, 0xDD


class Memory:
    """Blocks by address. Freed blocks are overwritten and kept, so that late use shows."""

    def __init__(self, capacity: int = 1 << 30) -> None:
        self.capacity = capacity
        self.blocks: dict[int, npt.NDArray[np.uint8]] = {}
        self._freed: list[npt.NDArray[np.uint8]] = []

    @property
    def used(self) -> int:
        return sum(block.nbytes for block in self.blocks.values())

    def allocate(self, nbytes: int) -> int:
        # 256 bytes of alignment, as the driver gives, and TensorRT demands.
        whole = np.full(nbytes + 256, FRESH, np.uint8)
        start = -whole.ctypes.data % 256
        block = whole[start : start + nbytes]
        self.blocks[block.ctypes.data] = block
        return int(block.ctypes.data)

    def free(self, address: int) -> None:
        block = self.blocks.pop(address)
        block[:] = FREED
        self._freed.append(block)

    def view(self, address: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """The bytes at an address. AssertionError if they are not all in one block."""
        for start, block in self.blocks.items():
            if start <= address and address + nbytes <= start + block.nbytes:
                return block[address - start : address - start + nbytes]
        raise AssertionError(f"{nbytes} bytes at {address:#x} are not in one allocation")

    def holds(self, array: npt.NDArray[np.uint8]) -> bool:
        """Whether an array lies in this memory."""
        try:
            self.view(array.ctypes.data, array.nbytes)
        except AssertionError:
            return False
        return True


def as_array(address: int, nbytes: int) -> npt.NDArray[np.uint8]:
    """Raw bytes as an array."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
