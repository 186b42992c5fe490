"""Videos that say how the camera was held, and when each frame was taken."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edgeunet.runtime.sources import Frames
from support.media import held, quarters, write_video

ONE = 1 << 16
# a, b, c, d of the display matrix, and what it does to a picture.
TURNS = {
    "as it is": ((1, 0, 0, 1), lambda image: image),
    "clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "upside down": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "counterclockwise": ((0, -1, 1, 0), np.rot90),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "mirrored upside down": ((1, 0, 0, -1), np.flipud),
    "transposed": ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    "transposed the other way": ((0, -1, -1, 0), lambda i: np.rot90(i, 2).swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", TURNS)
def test_frames_come_upright(tmp_path: Path, name: str) -> None:
    matrix, turned = TURNS[name]
    frames = list(Frames.open(held(tmp_path / "clip.mp4", matrix)).read())
    assert len(frames) == 2
    for frame in frames:
        assert frame.image.flags.c_contiguous
        assert frame.image.shape == turned(quarters()).shape
        assert np.abs(frame.image - turned(quarters()).astype(int)).mean() < 4


@pytest.mark.parametrize("name", TURNS)
def test_pixels_have_the_aspect_of_the_upright_picture(tmp_path: Path, name: str) -> None:
    path = held(tmp_path / "clip.mp4", TURNS[name][0], pixel_aspect=Fraction(16, 15))
    frame = next(Frames.open(path).read())
    lies = frame.image.shape[:2] != (64, 96)
    assert frame.pixel_aspect == (Fraction(15, 16) if lies else Fraction(16, 15))


def test_pixels_are_square_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    frame = next(Frames.open(write_video(tmp_path / "clip.mp4", 1)).read())
    assert frame.pixel_aspect == 1


@pytest.mark.parametrize("name", ["as it is", "clockwise", "upside down", "counterclockwise"])
def test_frames_stand_as_opencv_turns_them(tmp_path: Path, name: str) -> None:
    path = held(tmp_path / "clip.mp4", TURNS[name][0])
    other = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    read, image = other.read()
    other.release()
    assert read
    ours = next(Frames.open(path).read()).image
    assert ours.shape == image.shape
    assert np.abs(ours - image[..., ::-1].astype(int)).mean() < 4


@pytest.mark.parametrize("degrees", [10, 80, 100, 170, 190, 260, 280, 350])
def test_oblique_angles_go_to_the_nearest_right_one(tmp_path: Path, degrees: int) -> None:
    path = held(tmp_path / "clip.mp4", TURNS["as it is"][0])
    content = bytearray(path.read_bytes())
    angle = np.deg2rad(degrees)
    a, b = round(ONE * float(np.cos(angle))), round(ONE * float(np.sin(angle)))
    where = content.index(b"tkhd") + 44
    struct.pack_into(">9i", content, where, a, b, 0, -b, a, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    wanted = np.rot90(quarters(), -round(degrees / 90))
    ours = next(Frames.open(path).read()).image
    assert ours.shape == wanted.shape
    assert np.abs(ours - wanted.astype(int)).mean() < 4


# Time


def test_frames_at_a_constant_rate_are_timed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 5, rate=Fraction(30000, 1001))
    times = [frame.time for frame in Frames.open(path).read()]
    assert times == pytest.approx([number * 1001 / 30000 for number in range(5)], abs=1e-4)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_at_a_variable_rate_have_their_own_times(tmp_path: Path, suffix: str) -> None:
    taken = [3000, 3040, 3500, 3501, 9000]  # milliseconds; the first is not zero
    path = tmp_path / f"clip{suffix}"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for moment in taken:
            picture = av.VideoFrame.from_ndarray(quarters(), format="rgb24")
            picture.pts, picture.time_base = moment, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    times = [frame.time for frame in Frames.open(path).read()]
    assert times == pytest.approx([(moment - 3000) / 1000 for moment in taken], abs=1e-3)


def test_images_have_no_time(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), quarters())
    assert [frame.time for frame in Frames.open(tmp_path).read()] == [None]
