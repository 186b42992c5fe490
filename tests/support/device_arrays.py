"""Arrays as kernels get them, in memory that shows where a kernel writes beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

GUARD = 64
Array = npt.NDArray[Any]


class Placed:
    """An array amid bytes of 255, which are NaN in logits and images; not aligned with `shift`."""

    def __init__(
        self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, shift: int = 0, fill: Any = None
    ) -> None:
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        self._all = np.full(GUARD * 3 + size, 255, np.uint8)
        start = -self._all.ctypes.data % GUARD + GUARD + shift * kind.itemsize
        self._inside = slice(start, start + size)
        self.array: Array = self._all[self._inside].view(kind).reshape(shape)
        if fill is not None:
            self.array[...] = fill

    @property
    def address(self) -> int:
        return int(self.array.ctypes.data)

    def written(self) -> Array:
        """The array, once the bytes around it have been found untouched."""
        around = np.delete(self._all, self._inside)
        assert (around == 255).all()
        return self.array


def place(values: npt.ArrayLike, dtype: npt.DTypeLike, *, shift: int = 0) -> Placed:
    return Placed(np.shape(values), dtype, shift=shift, fill=values)
