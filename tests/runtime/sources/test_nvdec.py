"""Videos that a GPU decodes, on the fake one: frames are FFmpeg's, and the rest is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from edgeunet.errors import (
    BackendError,
    EdgeUNetError,
    MissingDependencyError,
    SourceError,
    UsageError,
)
from edgeunet.runtime.frames import SourceFrame
from edgeunet.runtime.gpu.frames import DeviceFrame
from edgeunet.runtime.sources import Frames
from edgeunet.runtime.sources.nvdec import NvdecFile, import_nvdec
from support.fake_nvdec import FakeNvdec, Pixel_Format, fake_nvdec
from support.gpu_machine import gpu_machine
from support.media import (
    cut_to,
    held,
    lose_packets,
    moving_frame,
    overwrite,
    trimmed,
    write_film,
    write_video,
)

COUNT = 24
X264 = {"x264-params": "bframes=3:keyint=12:scenecut=0"}
X265 = {"x265-params": "keyint=12:log-level=none"}
WHOLE = [
    ("a.mp4", "libx264", X264),
    ("a.mkv", "libx264", {"x264-params": "bframes=3:keyint=12:open-gop=1:scenecut=0"}),
    ("a.ts", "libx264", X264),
    ("a.avi", "libx264", {"x264-params": "bframes=0:keyint=12"}),
    ("b.avi", "libx264", X264),
    ("a.flv", "libx264", X264),
    ("a.h264", "libx264", X264),
    ("b.mp4", "libx265", X265),
    ("b.ts", "libx265", X265),
    ("a.webm", "libvpx-vp9", {"b": "1M", "lag-in-frames": "16", "g": "12"}),
    ("c.mkv", "libsvtav1", {"preset": "12"}),
]


@pytest.fixture
def nvdec() -> Iterator[FakeNvdec]:
    with gpu_machine() as machine, fake_nvdec(machine.driver) as made:
        made.pitch = 128
        yield made


def film(path: Path, codec: str = "libx264", options: dict[str, str] = X264) -> Path:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    return write_film(path, codec, count=COUNT, options=options)


def read(path: Path) -> tuple[list[SourceFrame], EdgeUNetError | None]:
    """The frames that a video gives, downloaded, and the error that it ends with."""
    found = []
    try:
        with Frames.open(path).decoded_on(0).read() as source:
            for frame in source:
                assert isinstance(frame.image, DeviceFrame)
                found.append(SourceFrame(**{**vars(frame), "image": np.asarray(frame.image)}))
                del frame
    except EdgeUNetError as error:
        if error.__cause__ is not None:
            error.__cause__.with_traceback(None)
        return found, error.with_traceback(None)  # which would hold a frame
    return found, None


def refused(path: Path) -> str:
    """Why a video is refused, before its first frame."""
    frames, error = read(path)
    assert not frames
    assert isinstance(error, SourceError)
    assert str(error).startswith(str(path))
    assert "\n" not in str(error)
    return str(error)


def assert_same(found: list[SourceFrame], wanted: list[SourceFrame]) -> None:
    """Same but for roundings of colours."""
    assert len(found) == len(wanted)
    for here, there in zip(found, wanted, strict=True):
        assert here.image.shape == there.image.shape
        assert np.abs(here.image.astype(int) - there.image).max() <= 1
        for name in ("index", "name", "time", "pixel_aspect", "channels", "levels"):
            assert getattr(here, name) == getattr(there, name), name


# Whole videos


@pytest.mark.parametrize(("name", "codec", "options"), WHOLE, ids=lambda value: str(value)[:9])
def test_frames_are_those_of_ffmpeg(
    nvdec: FakeNvdec, tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = film(tmp_path / name, codec, options)
    found, error = read(path)
    assert error is None
    assert_same(found, list(Frames.open(path).read()))
    assert len(found) == COUNT


def test_what_is_known_before_is_that_of_the_file(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    with Frames.open(path).decoded_on(0).read() as source, Frames.open(path).read() as other:
        assert source.info == other.info
        assert source.files == (path,)


@pytest.mark.parametrize(
    "matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)]
)
def test_frames_come_upright(
    nvdec: FakeNvdec, tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    path = held(tmp_path / "a.mp4", matrix, pixel_aspect=Fraction(16, 15))
    found, error = read(path)
    assert error is None
    assert_same(found, list(Frames.open(path).read()))


def test_frames_that_the_edit_list_hides_stay_hidden(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = trimmed(film(tmp_path / "a.mp4"), begin=0.2, seconds=0.4)
    found, error = read(path)
    wanted = list(Frames.open(path).read())
    assert error is None
    assert 0 < len(wanted) < COUNT
    assert_same(found, wanted)


@pytest.mark.parametrize("space", [1, 9])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p"])
def test_colours_mean_what_the_video_says(
    nvdec: FakeNvdec, tmp_path: Path, space: int, pixels: str
) -> None:
    path = film(tmp_path / "a.mp4", options={"x264-params": f"colormatrix={_MATRICES[space]}"})
    if pixels == "yuvj420p":
        path = write_film(path, "libx264", count=COUNT, pixels=pixels)
    found, error = read(path)
    assert error is None
    assert_same(found, list(Frames.open(path).read()))


_MATRICES = {1: "bt709", 9: "bt2020nc"}


@pytest.mark.parametrize("pitch", [None, 96, 97, 512])
def test_rows_of_surfaces_may_have_gaps(
    nvdec: FakeNvdec, tmp_path: Path, pitch: int | None
) -> None:
    nvdec.pitch = pitch
    path = film(tmp_path / "a.mp4")
    found, error = read(path)
    assert error is None
    assert_same(found, list(Frames.open(path).read()))


def test_several_videos_follow_each_other(nvdec: FakeNvdec, tmp_path: Path) -> None:
    paths = [film(tmp_path / "a.mp4"), film(tmp_path / "b.mkv")]
    with Frames.open(paths).decoded_on(0).read() as source:
        found = [(frame.name, isinstance(frame.image, DeviceFrame)) for frame in source]
    assert len(found) == 2 * COUNT
    assert found[0] == ("a.mp4#1", True)
    assert found[-1] == (f"b.mkv#{COUNT}", True)


def test_frames_keep_their_pixels_while_others_are_decoded(
    nvdec: FakeNvdec, tmp_path: Path
) -> None:
    path = film(tmp_path / "a.mp4")
    with Frames.open(path).decoded_on(0).read() as source:
        frames = list(source)
    assert nvdec.decoders == 0
    for frame, wanted in zip(frames, Frames.open(path).read(), strict=True):
        assert np.abs(np.asarray(frame.image).astype(int) - wanted.image).max() <= 1
    assert nvdec.cuda.left
    del frames, frame
    assert not nvdec.cuda.left


def test_reading_can_end_early(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    with Frames.open(path).decoded_on(0).read() as source:
        first = next(source)
        source.stop()
        assert list(source) == []
    assert np.asarray(first.image).shape == (64, 96, 3)


# Damage


def test_truncated_video_ends_with_an_error(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 12, index_first=True, intra=True)
    found, error = read(cut_to(path, 0.6))
    assert 0 < len(found) < 12
    assert isinstance(error, SourceError)


def test_end_that_comes_before_that_of_the_header_is_told(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv")
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\x1fC\xb6u")])  # up to the last cluster
    found, error = read(path)
    assert 0 < len(found) < COUNT
    assert "is truncated: its header says" in str(error)


def test_hole_in_a_packet_ends_the_video(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    overwrite(path, path.stat().st_size // 2, bytes(60))
    found, error = read(path)
    assert isinstance(error, SourceError)
    assert "is damaged behind frame" in str(error)
    assert "--skip-damaged" in str(error)
    assert_same(found, list(Frames.open(path).read(skip_damaged=True))[: len(found)])


def test_gap_in_a_transport_stream_ends_the_video(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = lose_packets(film(tmp_path / "a.ts"), 0.5)
    _, error = read(path)
    assert isinstance(error, SourceError)
    assert "is damaged" in str(error)


@pytest.mark.parametrize("number", [1, 2, 9, COUNT])
def test_frame_that_nvdec_leaves_out_is_told(nvdec: FakeNvdec, tmp_path: Path, number: int) -> None:
    path = film(tmp_path / "a.mp4")
    nvdec.lost = {number}
    found, error = read(path)
    assert isinstance(error, SourceError)
    assert "gave no frame" in str(error) or "looks otherwise" in str(error)
    assert_same(found, list(Frames.open(path).read())[: len(found)])


def test_frame_that_is_left_out_of_a_video_without_times_is_told(
    nvdec: FakeNvdec, tmp_path: Path
) -> None:
    path = film(tmp_path / "a.avi", options={"x264-params": "bframes=0:keyint=12"})
    nvdec.lost = {9}
    found, error = read(path)
    assert len(found) == COUNT - 1
    assert "1 of its packets gave no frame" in str(error)


@pytest.mark.parametrize(("number", "place"), [(1, "at its beginning"), (15, "behind frame")])
def test_decoder_that_fails_is_told(
    nvdec: FakeNvdec, tmp_path: Path, number: int, place: str
) -> None:
    path = film(tmp_path / "a.mp4")
    nvdec.fails_at = number
    found, error = read(path)
    assert isinstance(error, SourceError)
    assert f"cannot be decoded by NVDEC {place}" in str(error)
    assert "HandlePictureDecode failed. Leave out --decoder nvdec." in str(error)
    assert_same(found, list(Frames.open(path).read())[: len(found)])


def test_gpu_that_is_lost_is_told(nvdec: FakeNvdec, tmp_path: Path) -> None:
    source = Frames.open(film(tmp_path / "a.mp4")).decoded_on(0).read()
    with source:
        next(source)
        nvdec.cuda.lost = True
        with pytest.raises(BackendError, match="CUDA failed"):
            list(source)
    nvdec.cuda.lost = False


# What is refused


def test_video_that_begins_in_the_middle(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = film(tmp_path / "a.h264")
    content = path.read_bytes()
    second = content.index(b"\0\0\1\x41")  # the first picture that is no key frame
    head = content[: content.index(b"\0\0\1\x65")]
    path.write_bytes(head + content[second:])
    assert "begins in the middle" in refused(path)


def other_codec(path: Path) -> Path:
    return write_film(path, "mpeg4", count=3)


def ten_bit(path: Path) -> Path:
    return write_film(path, "libx264", count=3, pixels="yuv420p10le")


def all_chroma(path: Path) -> Path:
    return write_film(path, "libx264", count=3, pixels="yuv444p")


def small(path: Path) -> Path:
    return write_video(path, 2, size=(14, 96))


def interlaced(path: Path) -> Path:
    return write_film(path, "libx264", count=3, options={"x264-params": "interlaced=1:tff=1"})


def other_colours(path: Path) -> Path:
    return write_film(path, "libx264", count=3, options={"x264-params": "colormatrix=smpte240m"})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (other_codec, "holds mpeg4; NVDEC decodes h264, hevc, vp9, av1 here"),
        (ten_bit, "has 96x64 pixels in yuv420p10le"),
        (all_chroma, "has 96x64 pixels in yuv444p"),
        (small, "has 96x14 pixels in yuv420p; NVDEC is used for even sides from 16 on"),
        (interlaced, "is interlaced"),
        (other_colours, "colours of the kind 7 of ITU-T H.273"),
    ],
)
def test_video_that_would_look_otherwise_is_refused(
    nvdec: FakeNvdec, tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    told = refused(make(tmp_path / "a.mp4"))
    assert words in told
    assert told.endswith("Leave out --decoder nvdec.")
    assert nvdec.sent == 0


@pytest.mark.parametrize(
    ("caps", "words"),
    [
        ({"num_decoder_engines": 0}, "holds H264, which Orin does not decode"),
        ({"width_max": 0, "height_max": 0}, "holds H264, which Orin does not decode"),
        ({"width_min": 128}, "Orin decodes H264 of 128x16 to 4096x4096"),
        ({"height_max": 48}, "Orin decodes H264 of 48x16 to 4096x48"),
        ({"mb_num_max": 23}, "at most 23 blocks of 16x16"),
    ],
)
def test_video_that_the_card_does_not_decode_is_refused(
    nvdec: FakeNvdec, tmp_path: Path, caps: dict[str, int], words: str
) -> None:
    nvdec.caps.update(caps)
    assert words in refused(film(tmp_path / "a.mp4"))
    assert nvdec.sent == 0


def test_picture_that_is_not_that_of_ffmpeg_is_refused(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    nvdec.change = lambda luma: luma // 2 + 60
    assert "looks otherwise by NVDEC than by FFmpeg" in refused(path)
    nvdec.change = lambda luma: np.roll(luma, 1, axis=0)
    assert "looks otherwise by NVDEC than by FFmpeg" in refused(path)


def test_surfaces_of_another_kind_are_refused(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    nvdec.form = Pixel_Format.P016
    assert "becomes P016 by NVDEC; expected NV12" in refused(path)


def test_size_that_changes_is_refused(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    nvdec.change = lambda luma: luma[:32] if nvdec.sent > 12 else luma
    found, error = read(path)
    assert 0 < len(found) < COUNT
    assert f"has 96x32 pixels at frame {len(found)}; the first had 96x64" in str(error)


@pytest.mark.parametrize(("suffix", "codec"), [(".h264", "libx264"), (".h265", "libx265")])
def test_colours_that_change_are_refused(
    nvdec: FakeNvdec, tmp_path: Path, suffix: str, codec: str
) -> None:
    """FFmpeg's conversion follows them, frame by frame."""
    key = codec.removeprefix("lib") + "-params"
    parts = [
        film(tmp_path / f"{matrix}{suffix}", codec, {key: f"keyint=12:colormatrix={matrix}"})
        for matrix in ("bt709", "bt709", "bt2020nc")
    ]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts[:2]))
    found, error = read(path)
    assert error is None
    assert len(found) == 2 * COUNT
    path.write_bytes(b"".join(part.read_bytes() for part in parts[1:]))
    found, error = read(path)
    assert "changes its format behind frame" in str(error)
    assert_same(found, list(Frames.open(path).read())[: len(found)])


def test_gpu_that_is_not_there_is_told(nvdec: FakeNvdec, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="there is no GPU 1"):
        Frames.open(film(tmp_path / "a.mp4")).decoded_on(1).read()


def test_file_that_is_no_video(nvdec: FakeNvdec, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"This is a text.\n" * 100)
    assert "cannot be read as a video" in refused(path)


def test_damaged_frames_cannot_be_left_out(nvdec: FakeNvdec, tmp_path: Path) -> None:
    frames = Frames.open(film(tmp_path / "a.mp4")).decoded_on(0)
    with pytest.raises(UsageError, match="--skip-damaged"):
        frames.read(skip_damaged=True)


@pytest.mark.parametrize("where", ["rtsp://host/a", "https://host/a.m3u8", "0"])
def test_only_films_are_decoded_there(where: str) -> None:
    with pytest.raises(UsageError, match="expected video files, got"):
        Frames.open(where).decoded_on(0)


def test_images_beside_videos_are_refused(tmp_path: Path, images: Path) -> None:
    paths = [film(tmp_path / "a.mp4"), images]
    with pytest.raises(UsageError, match=f"expected video files, got {images.name}"):
        Frames.open(paths).decoded_on(0)


# What must be installed


def test_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[nvdec\]'"):
        NvdecFile(tmp_path / "a.mp4")


def test_package_that_does_not_start_tells_of_the_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As 2.2.4 does where there is no driver."""
    package = tmp_path / "PyNvVideoCodec"
    package.mkdir()
    reason = "Failed to load NVENC library: libnvidia-encode.so.1: cannot open shared object file"
    (package / "__init__.py").write_text(f"raise RuntimeError('{reason}\\n\\n=== STEPS ===')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError) as told:
        import_nvdec()
    assert f"PyNvVideoCodec does not start: {reason}. Install NVIDIA's driver" in str(told.value)
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video" in str(told.value)


def test_films_are_told_apart(tmp_path: Path) -> None:
    """Each frame of them is another, or the tests above would miss a frame."""
    assert np.abs(moving_frame(3).astype(int) - moving_frame(4)).mean() > 10
