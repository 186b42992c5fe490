"""What a segmenter takes as frames, and what it refuses with the words for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgeunet.errors import EdgeUNetError, FrameError, SourceError, UsageError
from edgeunet.runtime.frames import SourceFrame
from edgeunet.runtime.sources.arrays import arrays_of
from support.media import Frame, write_png

H, W = 12, 20


@pytest.fixture(scope="module")
def rgb() -> Frame:
    return np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


def palette(pixels: Frame) -> Image.Image:
    return Image.fromarray(pixels).quantize(16)


def one(given: object) -> np.ndarray[Any, Any]:
    (found,) = arrays_of(given)
    return found.image if isinstance(found, SourceFrame) else found


def chw(pixels: Frame) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def test_arrays_are_taken_alone_in_lists_and_in_batches(rgb: Frame) -> None:
    for given in (rgb, [rgb], (rgb,), rgb[None], iter([rgb]), [rgb[None]]):
        assert np.array_equal(one(given), rgb)
    assert one(rgb[..., 0]).shape == (H, W)
    assert one(rgb[..., :1]).shape == (H, W, 1)
    assert len(arrays_of(np.stack([rgb] * 3))) == 3
    assert arrays_of([]) == arrays_of(np.zeros((0, H, W, 3), np.uint8)) == []


def test_tensors_have_channels_first_or_last(rgb: Frame) -> None:
    last = torch.from_numpy(rgb)
    for given in (last, chw(rgb), chw(rgb)[None], last[None], [chw(rgb)], chw(rgb).contiguous()):
        assert np.array_equal(one(given), rgb)
    # Both could be channels: PyTorch's order.
    narrow = torch.zeros(3, H, 4, dtype=torch.uint8)
    assert one(narrow).shape == (H, 4, 3)
    gray = torch.zeros(H, W, dtype=torch.uint8)
    assert one(gray).shape == (H, W)
    assert one(gray[None]).shape == (H, W, 1)


def test_images_of_pillow_are_taken_in_every_mode(rgb: Frame) -> None:
    image = Image.fromarray(rgb)
    assert np.array_equal(one(image), rgb)
    assert np.array_equal(one(image.convert("L")), np.asarray(image.convert("L")))
    assert np.array_equal(one(image.convert("RGBA"))[..., :3], rgb)
    small = palette(rgb)
    assert np.array_equal(one(small), np.asarray(small.convert("RGB")))
    for mode in ("1", "LA", "CMYK", "YCbCr", "HSV"):
        assert one(image.convert(mode)).shape[:2] == (H, W)
        assert one(image.convert(mode)).dtype == np.uint8
    sixteen = np.arange(H * W, dtype=np.uint16).reshape(H, W)
    assert np.array_equal(one(Image.fromarray(sixteen)), sixteen)


def test_images_of_pillow_that_are_damaged_are_refused(rgb: Frame, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", rgb)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    with (
        Image.open(tmp_path / "a.png") as image,
        pytest.raises(FrameError, match="got an image of Pillow that cannot be read"),
    ):
        arrays_of(image)


def test_paths_are_image_files(rgb: Frame, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", rgb)
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), [tmp_path / "a.png"]):
        assert np.array_equal(one(given), rgb)
    assert np.array_equal(one([SourceFrame(0, "a", rgb)]), rgb)
    assert len(arrays_of([rgb, tmp_path / "a.png", chw(rgb), Image.fromarray(rgb)])) == 4
    with pytest.raises(SourceError, match=r"b\.png"):
        arrays_of(tmp_path / "b.png")
    for name in (tmp_path, tmp_path / "film.mp4", "rtsp://camera/1"):
        with pytest.raises(UsageError, match=r"is not an image file\. Pass .* to `stream`"):
            arrays_of(name)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (None, UsageError, "got a NoneType; expected arrays (H, W, C)"),
        (3, UsageError, "got a int; expected"),
        (b"\x89PNG", UsageError, "got a bytes; expected"),
        ({"image": 1}, UsageError, "got a dict; expected"),
        ([None], UsageError, "got a NoneType; expected"),
        ([[1, 2]], UsageError, "got a list; expected"),
        (np.zeros(3), FrameError, "got an array (3,); expected"),
        (np.zeros((1, 1, 2, 2, 3)), FrameError, "got an array (1, 1, 2, 2, 3); expected"),
        (np.zeros((3, H, W), np.uint8), FrameError, "Pass array.transpose(1, 2, 0)"),
        (torch.rand(3, H, W), FrameError, "got a tensor of float32, whose scale is unknown"),
        (torch.zeros(3, H, W, dtype=torch.bfloat16), FrameError, "got a tensor of bfloat16"),
        (torch.zeros(H, W, 5, dtype=torch.uint8), FrameError, "got a tensor (12, 20, 5); expected"),
        (torch.zeros(3, H, W, dtype=torch.uint8, device="meta"), FrameError, "without dense"),
        (torch.zeros(2, dtype=torch.uint8), FrameError, "got an array (2,); expected"),
    ],
)
def test_what_is_no_frame_is_told(given: object, kind: type[EdgeUNetError], words: str) -> None:
    with pytest.raises(kind) as error:
        arrays_of(given)
    assert words in str(error.value)


def test_neither_pytorch_nor_pillow_is_imported_for_arrays() -> None:
    code = """
import sys
import numpy as np
from edgeunet.runtime.sources.arrays import arrays_of
for name in [name for name in sys.modules if name.split(".")[0] == "PIL"]:
    del sys.modules[name]
arrays_of([np.zeros((2, 2, 3), np.uint8)])
assert not {"torch", "PIL", "PIL.Image"} & set(sys.modules), sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
