"""Golden frames of a bundle: golden.npz, read within the bounds that the manifest sets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, cast
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt

from .manifest import DEPTHS, Manifest, Precision

GOLDEN_NAME = "golden.npz"
MAX_BYTES = 1 << 30
"""Most bytes of all arrays together, unpacked: four frames of 4K with all that belongs to them."""
# The record that ends an archive, and the longest directory that it may announce. Python's reader
# makes an object of each entry, so a long directory would fill the memory.
_END, _END_64, _END_BYTES, _END_64_BYTES = b"PK\5\6", b"PK\6\7", 22, 20
_MAX_DIRECTORY_BYTES = 1 << 16
_MAX_HEADER = 512  # characters, which NumPy parses as Python


# Shares of the golden pixels that must agree with PyTorch's masks, by precision.
PROMISED: Mapping[Precision, float] = MappingProxyType(
    {"fp32": 0.999, "fp16": 0.999, "bf16": 0.995, "int8": 0.99}
)
"""What `edgeunet parity` promises (of FP32 even more). `build` tells of an engine below it."""
REQUIRED: Mapping[Precision, float] = MappingProxyType(
    {"fp32": 0.999, "fp16": 0.995, "bf16": 0.99, "int8": 0.98}
)
"""Below it a net is refused. It is lower than the promise, because golden frames are few."""


@dataclass(frozen=True)
class Golden:
    """Frames with the reference's answers.

    frames: (N, H, W, C), RGB uint8 unless the net takes others. masks: (N, H, W) uint8. logits:
    (N, classes, h, w) float32, finite. N is at least 1.
    """

    frames: npt.NDArray[Any]
    masks: npt.NDArray[np.uint8]
    logits: npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Header:
    """Shape and type of an array, and whether its first axis varies fastest."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def check_golden(content: bytes, manifest: Manifest) -> None:
    """Check the headers of the arrays in an archive. Nothing else is unpacked.

    Raises:
        ValueError: not such an archive, or arrays that do not fit each other and the manifest.
    """
    with _opened(content) as archive:
        _checked(archive, manifest)


def read_golden(content: bytes, manifest: Manifest) -> Golden:
    """Unpack an archive that `check_golden` accepts. Raises as that does, also for NaN logits."""
    with _opened(content) as archive:
        headers = _checked(archive, manifest)
        golden = Golden(**{name: _array(archive, name, headers[name]) for name in headers})
    if not np.isfinite(golden.logits).all():
        raise ValueError("its logits are not finite")
    return golden


@contextmanager
def _opened(content: bytes) -> Iterator[ZipFile]:
    """The archive; whatever is wrong with it becomes a ValueError."""
    end = content[-_END_BYTES:]
    before = content[-_END_BYTES - _END_64_BYTES : -_END_BYTES]
    if not end.startswith(_END) or before.startswith(_END_64):
        raise ValueError("it is no archive that NumPy's savez wrote, or was cut off")
    if int.from_bytes(end[12:16], "little") > _MAX_DIRECTORY_BYTES:
        raise ValueError("it has far more than three arrays")
    try:
        with ZipFile(BytesIO(content)) as archive:
            yield archive
    except ValueError:
        raise
    except Exception as error:  # damaged archives and headers raise almost anything
        raise ValueError(str(error) or type(error).__name__) from None


def _checked(archive: ZipFile, manifest: Manifest) -> dict[str, _Header]:
    """The headers of the three arrays."""
    headers = {name: _header(archive, name) for name in ("frames", "masks", "logits")}
    frames = headers["frames"]
    if sum(header.nbytes for header in headers.values()) > MAX_BYTES:
        raise ValueError(f"its arrays have more than {MAX_BYTES} bytes")
    types = [np.dtype(name) for name in DEPTHS]
    if len(frames.shape) != 4 or min(frames.shape) < 1 or frames.dtype not in types:
        raise ValueError(
            f"its frames are {frames.dtype} {frames.shape}; expected (N, H, W, C), not empty, of "
            f"{', '.join(DEPTHS)}"
        )
    spec = manifest.input
    channels = {len(spec.frame_channels), *((1,) if spec.channels == ("gray",) else ())}
    if frames.shape[3] not in channels:
        raise ValueError(
            f"its frames have {frames.shape[3]} channels; the net takes "
            f"{', '.join(spec.frame_channels)}"
        )
    count = frames.shape[0]
    expected = {
        "masks": _Header(frames.shape[:3], np.dtype(np.uint8), False),
        "logits": _Header(
            (count, len(manifest.classes), *manifest.logits_size), np.dtype(np.float32), False
        ),
    }
    for name, wanted in expected.items():
        found = headers[name]
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"its {name} are {found.dtype} {found.shape}; expected {wanted.dtype} "
                f"{wanted.shape}"
            )
    return headers


def _header(archive: ZipFile, name: str) -> _Header:
    """The header of an array, whose size must be that of its entry in the archive."""
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"it has no {name}") from None
    with archive.open(entry) as file:
        header = _read_header(cast(BinaryIO, file))
        if header.dtype.hasobject:
            raise ValueError(f"its {name} are Python objects, which could run code")
        if entry.file_size - file.tell() != header.nbytes:
            raise ValueError(f"its {name} are {header.dtype} {header.shape}, but of another size")
    return header


def _read_header(file: BinaryIO) -> _Header:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file, _MAX_HEADER)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file, _MAX_HEADER)
    else:
        raise ValueError(f"it has version {version} of NumPy's format; expected 1.0 or 2.0")
    return _Header(shape, dtype, fortran)


def _array(archive: ZipFile, name: str, header: _Header) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        _read_header(cast(BinaryIO, file))
        # The archive checks the sum when the last byte has been read.
        data = file.read()
    order: Literal["F", "C"] = "F" if header.fortran else "C"
    # A copy, because arrays of bytes cannot be written to, which PyTorch warns of.
    array: npt.NDArray[Any] = np.array(
        np.frombuffer(data, header.dtype).reshape(header.shape, order=order), order="C"
    )
    return array
