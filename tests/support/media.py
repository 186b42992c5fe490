"""Images and videos that tests write, and helpers that read them back."""

from __future__ import annotations

import struct
import warnings
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.fit import Fit

Frame = npt.NDArray[np.uint8]

VIDEO_SIZE = (64, 96)
VIDEO_RATE = Fraction(25)
EXACT = 0x42002
"""FFmpeg's accurate rounding and full chroma, by which all processors give the same colours."""


def numbered_frame(index: int, size: tuple[int, int] = VIDEO_SIZE) -> Frame:
    """Noise whose brightness says its index, 0 to 11; see `number_of`."""
    noise = np.random.default_rng(index).integers(-15, 16, (*size, 3))
    return (20 + 18 * index + noise).clip(0, 255).astype(np.uint8)


def number_of(frame: Frame) -> int:
    """Index that `numbered_frame` was given."""
    return round((float(frame.mean()) - 20) / 18)


def write_video(
    path: Path,
    count: int = 12,
    *,
    size: tuple[int, int] = VIDEO_SIZE,
    rate: Fraction = VIDEO_RATE,
    index_first: bool = False,
    intra: bool = False,
    first: int = 0,
) -> Path:
    """H.264 video of numbered frames, from the number `first` on.

    index_first: the `moov` box before the pictures, not after them. intra: no frame needs another.
    """
    with av.open(path, "w", options={"movflags": "faststart"} if index_first else {}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "10", **({"g": "1"} if intra else {})}
        for index in range(first, first + count):
            picture = av.VideoFrame.from_ndarray(numbered_frame(index, size), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def cut_to(path: Path, share: float) -> Path:
    """Cut a file to the share of its bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def read_rgb(path: Path) -> Frame:
    """An image file as a net of RGB gets it, 8 bit, in its own size."""
    return Fit(InputSpec(32, 32)).read(path)


def write_png(path: Path, pixels: npt.NDArray[np.generic]) -> Path:
    """PNG of gray (H, W), RGB (H, W, 3) or RGBA (H, W, 4) pixels, 8 or 16 bit."""
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]  # OpenCV writes BGR
    encoded = cv2.imencode(".png", np.ascontiguousarray(pixels))[1]
    path.write_bytes(encoded.tobytes())
    return path


def read_mask_png(path: Path) -> Frame:
    """Class ids of a mask file, as they were stored: the indices of a PNG with a palette."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", Image.DecompressionBombWarning
        )  # it is ours, and may be large
        picture = Image.open(path)
    with picture:
        assert (picture.format, picture.mode) == ("PNG", "P")
        return np.asarray(picture)


def decode(path: Path) -> tuple[list[Frame], Fraction]:
    """All frames of a video and its rate, decoded without edgeunet."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate
        assert rate is not None
        pictures = [
            frame.reformat(format="rgb24", interpolation=EXACT)
            for frame in container.decode(stream)
        ]
    return [picture.to_ndarray() for picture in pictures], rate


def moving_frame(index: int, size: tuple[int, int] = VIDEO_SIZE) -> Frame:
    """A view that moves over a large picture: each frame of it needs all of its bits."""
    picture = np.random.default_rng(0).integers(0, 256, (60, 120, 3), np.uint8)
    top, left = 3 * index, 5 * index
    large = np.kron(picture, np.ones((4, 4, 1), np.uint8))
    noise = np.random.default_rng(index).integers(-6, 7, (*size, 3))
    view = large[top : top + size[0], left : left + size[1]]
    return (view + noise).clip(0, 255).astype(np.uint8)


def write_film(
    path: Path,
    codec: str,
    *,
    count: int = 24,
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """A video of `moving_frame`s by any encoder of FFmpeg."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=VIDEO_RATE)
        stream.height, stream.width = VIDEO_SIZE
        stream.pix_fmt = pixels
        stream.options = options or {}
        for index in range(count):
            picture = av.VideoFrame.from_ndarray(moving_frame(index), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def lose_packets(path: Path, at: float, packets: int = 2) -> Path:
    """Take packets of 188 bytes out of a transport stream, as a bad link does."""
    content = bytearray(path.read_bytes())
    start = int(len(content) * at) // 188 * 188
    del content[start : start + 188 * packets]
    path.write_bytes(content)
    return path


def overwrite(path: Path, at: int, content: bytes) -> Path:
    """Put other bytes at a place in a file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
    return path


def trimmed(path: Path, *, begin: float, seconds: float) -> Path:
    """Let the file's edit list hide what lies before and after; no frame is taken out."""
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    _, start = struct.unpack_from(">Ii", content, at)
    struct.pack_into(">Ii", content, at, round(seconds * 1000), start + round(begin * 12800))
    path.write_bytes(content)
    return path


def quarters(size: tuple[int, int] = (64, 96)) -> Frame:
    """Picture whose quarters have brightnesses of their own."""
    image = np.full((*size, 3), 40, np.uint8)
    image[: size[0] // 2, : size[1] // 2] = 220
    image[: size[0] // 2, size[1] // 2 :] = 160
    image[size[0] // 2 :, : size[1] // 2] = 100
    return image


def held(
    path: Path, matrix: tuple[int, int, int, int], *, pixel_aspect: Fraction | None = None
) -> Path:
    """MP4 of `quarters` whose track header has this display matrix, as phones write it."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(quarters(), format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    a, b, c, d = ((1 << 16) * value for value in matrix)
    # Type, version and flags, five numbers, two of nothing, layer to volume; then the matrix.
    where = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    assert struct.unpack_from(">5i", content, where) == (1 << 16, 0, 0, 0, 1 << 16)
    struct.pack_into(">9i", content, where, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path
