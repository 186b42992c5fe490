"""Golden frames: whole ones are read, all others are refused within bounded time and memory."""

from __future__ import annotations

import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle import golden
from edgeunet.bundle.golden import Golden, check_golden, read_golden
from edgeunet.bundle.manifest import InputSpec, Manifest

MANIFEST = Manifest(
    reference="checkpoint",
    origin="PyTorch",
    model="unet",
    arguments={},
    weights="none",
    precision="fp32",
    classes=("a", "b"),
    palette=((0, 0, 0), (1, 1, 1)),
    input=InputSpec(8, 8),
    logits_size=(4, 4),
    max_batch=1,
    files={},
    versions={},
)
ARRAYS: dict[str, Any] = {
    "frames": np.arange(2 * 6 * 7 * 3, dtype=np.uint8).reshape(2, 6, 7, 3),
    "masks": np.ones((2, 6, 7), np.uint8),
    "logits": np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 2, 4, 4),
}


def saved(save: Callable[..., None] = np.savez_compressed, **changes: Any) -> bytes:
    """The archive with some arrays changed; None leaves one out."""
    arrays = {name: array for name, array in {**ARRAYS, **changes}.items() if array is not None}
    buffer = BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def zipped(**entries: bytes) -> bytes:
    """An archive with these bytes as arrays."""
    buffer = BytesIO(saved())
    with zipfile.ZipFile(buffer) as archive:
        whole = {name: archive.read(name) for name in archive.namelist()}
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**whole, **{f"{n}.npy": c for n, c in entries.items()}}.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


def refusal(content: bytes) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - what it says is up to the caller
        check_golden(content, MANIFEST)
    with pytest.raises(ValueError):  # noqa: PT011
        read_golden(content, MANIFEST)
    return str(error.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_whole_archive_is_read(save: Callable[..., None]) -> None:
    content = saved(save, masks=np.asfortranarray(ARRAYS["masks"]))
    check_golden(content, MANIFEST)
    read = read_golden(content, MANIFEST)
    for name, array in ARRAYS.items():
        found = getattr(read, name)
        assert np.array_equal(found, array) and found.dtype == array.dtype
        assert found.flags.writeable and found.flags.c_contiguous


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float32])
def test_frames_of_other_depths_are_read(kind: Any) -> None:
    frames = ARRAYS["frames"].astype(kind)
    assert read_golden(saved(frames=frames), MANIFEST).frames.dtype == kind


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": np.zeros((0, 6, 7, 3), np.uint8)}, r"frames are uint8 \(0, 6, 7, 3\); .*not e"),
        ({"frames": np.zeros((2, 6, 7), np.uint8)}, r"frames are uint8 \(2, 6, 7\)"),
        ({"frames": ARRAYS["frames"].astype(np.int64)}, "frames are int64"),
        ({"frames": ARRAYS["frames"][..., :1]}, "frames have 1 channels; the net takes red, gre"),
        ({"frames": ARRAYS["frames"].astype(">u2")}, "frames are >u2"),
        ({"masks": ARRAYS["masks"][:1]}, r"masks are uint8 \(1, 6, 7\); expected uint8 \(2, 6, 7"),
        ({"masks": ARRAYS["masks"].astype(np.int64)}, "masks are int64"),
        ({"masks": ARRAYS["masks"][0, 0, 0]}, r"masks are uint8 \(\)"),
        ({"logits": ARRAYS["logits"][:, :1]}, r"logits are float32 \(2, 1, 4, 4\); expected float"),
        ({"logits": ARRAYS["logits"].astype(np.float64)}, "logits are float64"),
        ({"logits": None}, "it has no logits"),
        ({"masks": np.array([print], object)}, "its masks are Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_golden(saved(**changes), MANIFEST)


def test_empty_set_is_refused() -> None:
    empty = {name: array[:0] for name, array in ARRAYS.items()}
    assert "not empty" in refusal(saved(**empty))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(value: float) -> None:
    logits = ARRAYS["logits"].copy()
    logits[1, 1, 3, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        read_golden(saved(logits=logits), MANIFEST)


def huge(shape: str, kind: str = "|u1") -> bytes:
    return npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\5\6",
        b"not read here",
        b"\0" * 1000,
        saved()[:-1],
        saved()[:100],
        saved() + b"\0",
        zipped(frames=b""),
        zipped(frames=b"\x93NUMPY"),
        zipped(frames=npy("(" * 9000)),
        zipped(frames=npy("(" * 500)),
        zipped(frames=npy("{'descr'")),
        zipped(frames=npy("__import__('os').system('true')")),
        zipped(frames=npy("{}", version=b"\x09\x09")),
        zipped(frames=huge("(10**9,)")),
        zipped(frames=huge("(1000000, 1000000, 1000000, 3)")),
        zipped(frames=huge("(-2, -3, 7, 3)")),
        zipped(frames=huge("(2, 6, 7, 3)", "|O")),
        zipped(frames=huge("(9999999999999999999999, 1, 1, 3)")),
    ],
)
def test_what_is_no_such_archive_is_refused(content: bytes) -> None:
    tracemalloc.start()
    refusal(content)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros take a thousandth of their space in the archive."""
    monkeypatch.setattr(golden, "MAX_BYTES", 10_000_000)
    content = zipped(frames=huge("(1, 2000, 4000, 3)") + bytes(24_000_000))
    assert len(content) < 100_000
    tracemalloc.start()
    assert "its arrays have more than 10000000 bytes" in refusal(content)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert "of another size" in refusal(zipped(frames=huge("(1, 9, 9, 3)") + bytes(24_000_000)))


def test_large_arrays_are_refused_by_their_headers() -> None:
    kinds = {"frames": "(2, 20000, 20000, 3)", "masks": "(2, 20000, 20000)"}
    arrays = {name: huge(shape) for name, shape in kinds.items()}
    assert "of another size" in refusal(zipped(**arrays))


def test_directory_of_many_entries_is_refused() -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(2000):
            archive.writestr(f"{index}.npy", b"")
    assert "far more than three arrays" in refusal(buffer.getvalue())


@given(data=st.data())
def test_any_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    content = bytearray(saved())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read = read_golden(bytes(content), MANIFEST)
        except ValueError:
            return
    assert isinstance(read, Golden)
    assert read.masks.shape == read.frames.shape[:3]
