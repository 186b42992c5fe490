"""Arrays from what people have: paths, Pillow's images, PyTorch's tensors, arrays of any kind."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.errors import FrameError, UsageError, printable
from edgeunet.listing import IMAGE_SUFFIXES

from ..frames import SourceFrame
from .opening import Frames

Array = npt.NDArray[np.generic]

_CHANNELS = (1, 3, 4)
_GRAY_OR_RGB = {"L", "RGB", "RGBA", "I;16", "I", "F"}  # Pillow's modes that are values as they are
_EXPECTED = (
    "expected arrays (H, W, C), a batch (N, H, W, C), Pillow's images, PyTorch's uint8 tensors, or "
    "paths of image files"
)


def arrays_of(given: object) -> list[Array | SourceFrame]:
    """One array (H, W) or (H, W, C) for each frame in what a caller has.

    Frames that may name their channels come as `SourceFrame`s: those of files, and a caller's own.

    - An array (H, W) or (H, W, C) is one frame, (N, H, W, C) are several. Channels come last.
    - A tensor of PyTorch is (C, H, W) or (N, C, H, W), as PyTorch has it, or channels come last if
      only the last side can be channels. It holds uint8: a float tensor may be scaled to 0..1, or
      normalised for another net, which its values do not tell.
    - An image of Pillow is one frame, as its pixels are stored: EXIF does not turn it. Palettes
      and colour spaces other than RGB are converted.
    - A path is an image file; its pages are several frames.
    - A list, or anything else that can be iterated over, holds any of these.

    Raises:
        UsageError: what came is none of these. FrameError: an array or tensor that is no image.
            SourceError: a file that cannot be read.

    Example:
        >>> import numpy as np
        >>> from edgeunet.runtime.sources.arrays import arrays_of
        >>> [array.shape for array in arrays_of(np.zeros((2, 4, 6, 3), np.uint8))]
        [(4, 6, 3), (4, 6, 3)]
    """
    if (arrays := _arrays_of_one(given)) is not None:
        return list(arrays)
    # Bytes and texts inside a list would be iterated over too, down to numbers.
    if isinstance(given, (bytes, bytearray, memoryview, dict)) or not isinstance(given, Iterable):
        raise _not_frames(given)
    return [array for item in given for array in arrays_of_item(item)]


def arrays_of_item(item: object) -> Sequence[Array | SourceFrame]:
    """What one item of a collection holds, see `arrays_of`, with the same errors."""
    arrays = _arrays_of_one(item)
    if arrays is None:
        raise _not_frames(item)
    return arrays


def _arrays_of_one(given: Any) -> Sequence[Array | SourceFrame] | None:
    """Arrays of what is not a collection of frames; None for anything else."""
    if isinstance(given, (str, Path)):
        return _of_path(Path(given))
    if isinstance(given, SourceFrame):
        return [given]
    # What a caller has not imported, nobody can pass.
    torch, pillow = sys.modules.get("torch"), sys.modules.get("PIL.Image")
    if torch is not None and isinstance(given, torch.Tensor):
        return _split(_of_tensor(given, torch))
    if pillow is not None and isinstance(given, pillow.Image):
        return [_of_pillow(given)]
    if hasattr(given, "__array__"):  # NumPy's, JAX's, xarray's
        return _split(np.asarray(given))
    return None


def _split(array: Array) -> list[Array]:
    """The frames of an array with channels last."""
    if array.ndim == 4:
        return list(array)
    if array.ndim not in (2, 3):
        raise FrameError(f"got an array {array.shape}; {_EXPECTED}.")
    if array.ndim == 3 and array.shape[0] in _CHANNELS and array.shape[2] not in _CHANNELS:
        raise FrameError(
            f"got an array {array.shape}, whose channels seem to come first; expected (H, W, C). "
            "Pass array.transpose(1, 2, 0)."
        )
    return [array]


def _of_tensor(tensor: Any, torch: Any) -> Array:
    """A tensor with channels last, in the host's memory."""
    if tensor.is_floating_point() or tensor.is_complex():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise FrameError(
            f"got a tensor of {kind}, whose scale is unknown; expected uint8. If it is scaled to "
            "0..1, pass (tensor * 255).round().to(torch.uint8)."
        )
    if tensor.layout != torch.strided or tensor.is_meta:
        raise FrameError(f"got a tensor without dense values; {_EXPECTED}.")
    shape = tuple(tensor.shape)
    if len(shape) in (3, 4) and shape[-3] in _CHANNELS:
        tensor = tensor.movedim(-3, -1)
    elif len(shape) in (3, 4) and shape[-1] not in _CHANNELS:
        raise FrameError(f"got a tensor {shape}; expected (C, H, W) or (H, W, C), C 1, 3 or 4.")
    array: Array = tensor.detach().cpu().numpy()
    return array


def _of_pillow(image: Any) -> Array:
    """Pixels of an image of Pillow, gray or RGB."""
    try:
        if image.mode not in _GRAY_OR_RGB:
            image = image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")
        return np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:  # it decodes its file only when asked
        raise FrameError(f"got an image of Pillow that cannot be read: {error}.") from None


def _of_path(path: Path) -> list[SourceFrame]:
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.is_dir():
        raise UsageError(
            f"{printable(path)} is not an image file. Pass folders, videos and cameras to `stream`."
        )
    with Frames.open(path).read() as source:
        return list(source)


def _not_frames(given: object) -> UsageError:
    return UsageError(f"got a {type(given).__name__}; {_EXPECTED}.")
