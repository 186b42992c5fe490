"""The kernels that come compiled: that they are of today's sources, and which GPU gets which."""

from __future__ import annotations

import json
import lzma
import re
import shutil
import struct
from pathlib import Path

import pytest

from edgeunet.errors import BackendError
from edgeunet.runtime.gpu.kernels import shipped
from edgeunet.runtime.gpu.kernels.shipped import (
    CUBINS,
    INDEX,
    OPTIONS,
    SOURCES,
    UnfitError,
    find_shipped,
    list_shipped,
    sources_digest,
)

LISTED = ["sm75", "sm80", "sm86", "sm87", "sm89", "sm90", "sm100", "sm110", "sm120", "sm121"]


def test_cubins_are_of_the_present_sources() -> None:
    compiled = json.loads((CUBINS / INDEX).read_text())["sources"]
    assert compiled == sources_digest(), "the kernels or their options changed: run `make cubins`"


def test_every_file_is_listed() -> None:
    assert list(list_shipped()) == LISTED
    names = [INDEX, *(f"{capability}.cubin.xz" for capability in LISTED)]
    assert sorted(path.name for path in CUBINS.iterdir()) == sorted(names)


@pytest.mark.parametrize("capability", LISTED)
def test_cubin_is_for_its_architecture_and_for_old_drivers(capability: str) -> None:
    image = list_shipped()[capability].image()
    assert image.startswith(b"\x7fELF\x02\x01\x01")
    (flags,) = struct.unpack_from("<I", image, 48)
    number = int(capability.removeprefix("sm"))
    # ABI 7 is of CUDA 11 and 12, ABI 8 of CUDA 13, and of any toolkit for sm100 and newer.
    assert image[8] == (7 if number < 100 else 8)
    assert flags >> (0 if number < 100 else 8) & 0xFF == number


def test_cubins_hold_the_same_kernels() -> None:
    text = SOURCES[0].read_text()
    names = {
        capability: set(re.findall(rb"\.text\.(\w+)", kernels.image()))
        for capability, kernels in list_shipped().items()
    }
    assert b"preprocess_float16" in names["sm87"]
    assert {name for name in names["sm87"] if name.decode() not in text} == set()
    assert all(each == names["sm87"] for each in names.values())


@pytest.mark.parametrize("capability", LISTED)
@pytest.mark.parametrize("integrated", [False, True])
def test_gpu_of_the_list_gets_its_own(capability: str, integrated: bool) -> None:
    assert find_shipped(capability, integrated=integrated).capability == capability


@pytest.mark.parametrize(
    ("capability", "lower"),
    [("sm88", "sm86"), ("sm103", "sm100"), ("sm122", "sm121"), ("sm129", "sm121")],
)
def test_card_that_is_not_listed_gets_the_next_lower_of_its_generation(
    capability: str, lower: str
) -> None:
    assert find_shipped(capability, integrated=False).capability == lower
    with pytest.raises(UnfitError, match=r"are for sm75, sm80, .*, sm121$"):
        find_shipped(capability, integrated=True)  # of a Jetson, which NVIDIA promises nothing


@pytest.mark.parametrize("capability", ["sm12", "sm52", "sm72", "sm112", "sm130"])
def test_card_of_another_generation_gets_none(capability: str) -> None:
    with pytest.raises(UnfitError, match="are for sm75"):
        find_shipped(capability, integrated=False)


@pytest.fixture
def cubins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to damage."""
    shutil.copytree(CUBINS, tmp_path / "cubins")
    monkeypatch.setattr(shipped, "CUBINS", tmp_path / "cubins")
    return tmp_path / "cubins"


def other_cubin(whole: bytes) -> bytes:
    image = bytearray(lzma.decompress(whole))
    image[len(image) // 2] ^= 1
    return lzma.compress(image)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:],
        lambda whole: whole + b"\1",
        other_cubin,
        lambda whole: (CUBINS / "sm86.cubin.xz").read_bytes(),
    ],
)
def test_damaged_cubin_is_told(cubins: Path, damage: object) -> None:
    assert callable(damage)
    path = cubins / "sm87.cubin.xz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BackendError, match=rf"{path}, a part of edgeunet, is damaged.*reinstall"):
        find_shipped("sm87", integrated=True).image()
    assert find_shipped("sm86", integrated=False).image()


def test_missing_cubin_is_told(cubins: Path) -> None:
    (cubins / "sm87.cubin.xz").unlink()
    with pytest.raises(BackendError, match=r"cannot be read \(No such file.*reinstall"):
        find_shipped("sm87", integrated=True).image()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '"text"',
        "{}",
        '{"sources": "", "cubins": []}',
        '{"sources": "", "cubins": 1}',
    ],
)
def test_damaged_index_is_told(cubins: Path, text: str) -> None:
    (cubins / INDEX).write_text(text)
    with pytest.raises(BackendError, match=rf"{INDEX}, a part of edgeunet, is damaged"):
        list_shipped()


def test_entries_of_the_index_are_checked(cubins: Path) -> None:
    index = json.loads((cubins / INDEX).read_text())
    del index["cubins"]["sm90"]["cuda"]
    (cubins / INDEX).write_text(json.dumps(index))
    with pytest.raises(BackendError, match="is damaged"):
        list_shipped()


def test_missing_index_is_told(cubins: Path) -> None:
    (cubins / INDEX).unlink()
    with pytest.raises(BackendError, match="cannot be read"):
        find_shipped("sm87", integrated=True)


def test_cubins_of_other_sources_fit_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shipped, "OPTIONS", OPTIONS[:1])
        with pytest.raises(UnfitError, match="differs from what") as told:
            find_shipped("sm87", integrated=True)
    assert "make cubins" in told.value.remedy
    for number, source in enumerate(SOURCES):
        edited = tmp_path / source.name
        edited.write_text(source.read_text() + "//")
        with monkeypatch.context() as patch:
            sources = (*SOURCES[:number], edited, *SOURCES[number + 1 :])
            patch.setattr(shipped, "SOURCES", sources)
            with pytest.raises(UnfitError, match="differs from what"):
                find_shipped("sm87", integrated=True)
