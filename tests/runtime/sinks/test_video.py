"""Sinks: lossless masks, overlay videos that appear whole, and what stands is not lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeunet.errors import OutputError, OutputExistsError, SourceError, UsageError
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sinks import (
    JsonLines,
    MaskDirectory,
    NullSink,
    OverlayVideo,
    Palette,
    Sink,
    VideoWriter,
    colourise,
    open_sink,
    overlay,
)
from edgeunet.runtime.sources import Frames, SourceFrame
from support.media import Frame, decode, number_of, numbered_frame, read_mask_png, write_video

PALETTE = ((0, 0, 0), (255, 0, 0), (0, 0, 255))
CLASSES = ("background", "cell", "film")
RATE = Fraction(25)
# Codec loss, 8-bit steps: of flat colours at CRF 20, two pixels off every edge.
CODEC = 2


def frame(size: tuple[int, int] = (64, 96), value: int = 100) -> Frame:
    return np.full((*size, 3), value, np.uint8)


def no_class(size: tuple[int, int] = (64, 96)) -> Frame:
    return np.zeros(size, np.uint8)


def write(sink: Sink, image: Frame, mask: Frame, *, index: int = 0) -> None:
    sink.write(Segmented(SourceFrame(index, "", image), mask))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def video(path: Path, *, rate: Fraction = RATE, force: bool = False) -> OverlayVideo:
    return OverlayVideo(path, rate=rate, palette=PALETTE, force=force)


# Masks


@given(masks=st.lists(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2)), max_size=4))
def test_masks_are_stored_losslessly_in_order(
    masks: list[Frame], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("masks") / "new" / "run"
    with MaskDirectory(folder) as sink:
        for index, mask in enumerate(masks):
            write(sink, frame(), mask, index=index)
    assert names(folder) == [f"{index:06d}.png" for index in range(len(masks))]
    for name, mask in zip(names(folder), masks, strict=True):
        stored = read_mask_png(folder / name)
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, mask)


def test_mask_files_can_be_read_by_others(tmp_path: Path) -> None:
    with MaskDirectory(tmp_path / "run") as sink:
        write(sink, frame(), no_class())
    assert (tmp_path / "run" / "000000.png").stat().st_mode & 0o777 == 0o644


def test_empty_directory_is_taken(tmp_path: Path) -> None:
    with MaskDirectory(tmp_path) as sink:
        write(sink, frame(), no_class())
    assert names(tmp_path) == ["000000.png"]


def test_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "000007.png").write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="--force"):
        MaskDirectory(tmp_path)
    assert (tmp_path / "000007.png").read_bytes() == b"old"


@pytest.mark.parametrize("old", ["000000.png", "000007.png", "1000000.png"])
def test_force_removes_the_masks_of_an_earlier_run(tmp_path: Path, old: str) -> None:
    (tmp_path / old).write_bytes(b"old")
    (tmp_path / "notes.txt").write_bytes(b"kept")
    others = ["000.png", "0000001.png", "12345.png", "figure.png", "٠٠٠٠٠٠.png"]
    for name in others:
        (tmp_path / name).write_bytes(b"kept")
    with MaskDirectory(tmp_path, force=True) as sink:
        write(sink, frame(), no_class())
    assert names(tmp_path) == sorted(["000000.png", "notes.txt", *others])
    np.testing.assert_array_equal(read_mask_png(tmp_path / "000000.png"), no_class())


@pytest.mark.parametrize("force", [False, True])
def test_file_in_place_of_the_mask_directory_is_refused(tmp_path: Path, force: bool) -> None:
    (tmp_path / "run").write_bytes(b"kept")
    with pytest.raises(UsageError, match="run is a file; expected a directory"):
        MaskDirectory(tmp_path / "run", force=force)
    assert (tmp_path / "run").read_bytes() == b"kept"


# Overlay videos


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(25), Fraction(30000, 1001)])
@pytest.mark.parametrize("size", [(64, 96), (63, 96), (64, 95), (31, 33)])
def test_video_has_the_rate_the_frames_and_even_sides(
    tmp_path: Path, size: tuple[int, int], rate: Fraction
) -> None:
    with video(tmp_path / "out.mp4", rate=rate) as sink:
        for index in range(8):
            write(sink, numbered_frame(index, size), no_class(size))
    frames, decoded_rate = decode(tmp_path / "out.mp4")
    assert decoded_rate == rate
    assert [number_of(picture) for picture in frames] == list(range(8))
    assert {picture.shape for picture in frames} == {
        (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    }


def test_video_shows_the_class_colours(tmp_path: Path) -> None:
    mask = no_class()
    mask[:, 32:64] = 1
    mask[:, 64:] = 2
    with video(tmp_path / "out.mp4") as sink:
        write(sink, frame(), mask)
    ((picture,), _) = decode(tmp_path / "out.mp4")
    for left, colour in {0: (100, 100, 100), 32: (178, 50, 50), 64: (50, 50, 178)}.items():
        inside = picture[2:-2, left + 2 : left + 30].astype(int)
        assert np.abs(inside - colour).max() <= CODEC, colour


@pytest.mark.parametrize(
    "times", [[0.0, 0.1, 0.15, 0.4, 0.41], [0.5, 0.54, 0.58], [0.0, 10.0, 3600.0]]
)
def test_video_keeps_the_frames_times(tmp_path: Path, times: list[float]) -> None:
    with VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer:
        for time in times:
            writer.write(frame(), time=time)
    with av.open(tmp_path / "out.mp4") as container:
        came = [picture.time for picture in container.decode(video=0)]
    assert came == pytest.approx(times, abs=1e-4)


def test_clock_that_goes_back_keeps_the_order(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer:
        for index, time in enumerate([0.0, 0.5, 0.5, 0.2, 1.0]):
            writer.write(numbered_frame(index), time=time)
    assert [number_of(picture) for picture in decode(tmp_path / "out.mp4")[0]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ([0.0, 0.04, 30000.0, 30000.04, 90000.0], [0.0, 0.04, 3600.04, 3600.08, 7200.08]),
        ([0.0, 0.1, 0.2, 0.0, 0.1, 0.2], [0.0, 0.1, 0.2, 0.24, 0.34, 0.44]),
        ([None, None, None], [0.0, 0.04, 0.08]),
    ],
    ids=["long pauses", "joined", "by rate"],
)
def test_film_goes_on_where_its_clock_jumps(
    tmp_path: Path, times: list[float | None], wanted: list[float]
) -> None:
    with VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer:
        for time in times:
            writer.write(frame(), time=time)
    with av.open(tmp_path / "out.mp4") as container:
        came = [picture.time for picture in container.decode(video=0)]
    assert came == pytest.approx(wanted, abs=1e-4)


def test_frame_that_cannot_be_encoded_is_told_of(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"out\.mp4 cannot be encoded: .* Write masks"),
        VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer,
    ):
        writer.write(frame((16, 20000)))
    assert names(tmp_path) == []


def test_video_may_be_closed_twice(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer:
        writer.write(frame())
        writer.close()
    assert len(decode(tmp_path / "out.mp4")[0]) == 1


def test_video_that_cannot_be_opened_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(PermissionError):
        VideoWriter(tmp_path / "out.mp4", rate=RATE)
    assert names(tmp_path) == []


def test_video_appears_when_closed(tmp_path: Path) -> None:
    sink = video(tmp_path / "out.mp4")
    for _ in range(3):
        write(sink, frame(), no_class())
        assert not (tmp_path / "out.mp4").exists()
    sink.close()
    assert names(tmp_path) == ["out.mp4"]
    assert (tmp_path / "out.mp4").stat().st_mode & 0o777 == 0o644


def test_video_without_frames_leaves_nothing(tmp_path: Path) -> None:
    with video(tmp_path / "out.mp4"):
        pass
    assert names(tmp_path) == []


def test_video_makes_its_folder(tmp_path: Path) -> None:
    with video(tmp_path / "new" / "run" / "out.mp4") as sink:
        write(sink, frame(), no_class())
    assert names(tmp_path / "new" / "run") == ["out.mp4"]


def test_existing_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="--force"):
        video(tmp_path / "out.mp4")
    assert names(tmp_path) == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"old"


def test_force_replaces_a_video_when_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    with video(tmp_path / "out.mp4", force=True) as sink:
        write(sink, frame(), no_class())
        assert (tmp_path / "out.mp4").read_bytes() == b"old"
    assert len(decode(tmp_path / "out.mp4")[0]) == 1


@pytest.mark.parametrize("force", [False, True])
def test_directory_in_place_of_the_video_is_refused(tmp_path: Path, force: bool) -> None:
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(UsageError, match=r"out\.mp4"):
        video(tmp_path / "out.mp4", force=force)


def test_change_of_size_is_refused_and_the_frames_before_it_stay(tmp_path: Path) -> None:
    with video(tmp_path / "out.mp4") as sink:
        write(sink, frame(), no_class())
        with pytest.raises(SourceError, match="32x96"):
            write(sink, frame((32, 96)), no_class((32, 96)))
    assert names(tmp_path) == ["out.mp4"]
    assert len(decode(tmp_path / "out.mp4")[0]) == 1


@pytest.mark.parametrize("written", [0, 1, 30])
def test_fault_finishes_the_video_of_the_frames_before_it(tmp_path: Path, written: int) -> None:
    def run() -> None:
        with video(tmp_path / "out.mp4") as sink:
            for index in range(written):
                write(sink, numbered_frame(index % 12), no_class())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert names(tmp_path) == ["out.mp4"][: written > 0]
    if written:
        numbers = [number_of(picture) for picture in decode(tmp_path / "out.mp4")[0]]
        assert numbers == [index % 12 for index in range(written)]


WRITE_AND_WAIT = """
import sys, time
from fractions import Fraction
from pathlib import Path
import numpy as np
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sinks import OverlayVideo
from edgeunet.runtime.sources import SourceFrame
folder = Path(sys.argv[1])
sinks = [
    OverlayVideo(folder / name, rate=Fraction(25), palette=[(0, 0, 0)], force=True)
    for name in ("new.mp4", "old.mp4")
]
for _ in range(90):
    for sink in sinks:
        picture = np.zeros((64, 96, 3), np.uint8)
        sink.write(Segmented(SourceFrame(0, "", picture), np.zeros((64, 96), np.uint8)))
print("written", flush=True)
time.sleep(60)
"""


def test_kill_leaves_no_video_and_keeps_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert len(names(tmp_path)) == 3, "it was killed before or after the work"
    assert not (tmp_path / "new.mp4").exists()
    assert (tmp_path / "old.mp4").read_bytes() == b"old"


# Choice


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("-", NullSink),
        ("out.mp4", OverlayVideo),
        ("out.MP4", OverlayVideo),
        ("out.jsonl", JsonLines),
        ("out", MaskDirectory),
    ],
)
def test_output_chooses_the_sink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, kind: type
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE) as sink:
        assert type(sink) is kind
        write(sink, frame(), no_class())
    assert names(tmp_path) == ([] if output == "-" else [output])


@pytest.mark.parametrize("output", ["out.avi", "out.png", "run/out.mkv", "pipe:", "pipe:video"])
def test_other_outputs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=rf"{output}: .*NAME\.mp4 .*a directory .*-"):
        open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE)
    assert names(tmp_path) == []


def test_images_become_a_video_of_ten_frames_a_second(tmp_path: Path) -> None:
    with open_sink(str(tmp_path / "out.mp4"), rate=None, classes=CLASSES, palette=PALETTE) as sink:
        for _ in range(3):
            write(sink, frame(), no_class())
    assert decode(tmp_path / "out.mp4")[1] == 10


@pytest.mark.parametrize("name", ["out.mp4", "out.jsonl", "out"])
def test_force_reaches_the_sink(tmp_path: Path, name: str) -> None:
    def run(force: bool) -> None:
        with open_sink(
            str(tmp_path / name), rate=RATE, classes=CLASSES, palette=PALETTE, force=force
        ) as sink:
            write(sink, frame(), no_class())

    run(False)
    with pytest.raises(OutputExistsError):
        run(False)
    run(True)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("images", "images"),
        ("images", "images/../images"),
        ("images/000000.png", "images"),
        ("images/*.png", "images"),
        ("**/*.png", "images"),
        ("link", "images"),
        ("clip.mp4", "clip.mp4"),
    ],
)
def test_output_that_could_replace_the_source_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, output: str, force: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to("images")
    kept = [tmp_path / "images" / "000000.png", write_video(tmp_path / "clip.mp4", 1)]
    kept[0].write_bytes(b"kept")
    before = [path.read_bytes() for path in kept]
    files = Frames.open(source).read().files
    with pytest.raises(UsageError, match="is the source or its directory"):
        open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE, sources=files, force=force)
    assert [path.read_bytes() for path in kept] == before


@pytest.mark.parametrize("source", ["images", "images/a.png", "clip.mp4"])
def test_output_beside_the_source_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"kept")
    write_video(tmp_path / "clip.mp4", 1)
    files = Frames.open(source).read().files
    for output in ("masks", "images/masks", "out.mp4", "-"):
        open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE, sources=files).close()
    assert (tmp_path / "images" / "a.png").read_bytes() == b"kept"


# Pictures

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)
colours = st.tuples(*[st.integers(0, 255)] * 3)
palettes = st.lists(colours, min_size=1, max_size=6).map(lambda rest: [(0, 0, 0), *rest])


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Frame, Frame, Palette]:
    """A frame, a mask with ids beyond the palette among them, and the palette."""
    height, width = draw(shapes)
    image = draw(hnp.arrays(np.uint8, (height, width, 3)))
    ids = st.one_of(st.integers(0, 7), st.just(255))
    return image, draw(hnp.arrays(np.uint8, (height, width), elements=ids)), draw(palettes)


@given(picture=pictures())
def test_overlay_is_the_mean_of_frame_and_colour(picture: tuple[Frame, Frame, Palette]) -> None:
    image, mask, palette = picture
    before = image.copy()
    out = overlay(image, mask, palette)
    table = np.zeros((256, 3))
    table[: len(palette)] = palette
    tint = table[mask]
    visible = tint.max(axis=2) > 0
    wanted = np.where(visible[..., None], (image + tint) / 2, image)
    assert out.dtype == np.uint8
    # Halves may go either way.
    assert np.abs(out - wanted).max() <= 0.5
    np.testing.assert_array_equal(out[~visible], image[~visible])
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(("opacity", "wanted"), [(0.0, 100), (0.25, 125), (1.0, 200)])
def test_overlay_takes_an_opacity(opacity: float, wanted: int) -> None:
    out = overlay(frame(), np.ones((64, 96), np.uint8), [(0, 0, 0), (200,) * 3], opacity=opacity)
    np.testing.assert_array_equal(out, frame(value=wanted))


@given(picture=pictures())
def test_colourise_gives_the_palette_and_white_where_ignored(
    picture: tuple[Frame, Frame, Palette],
) -> None:
    _, mask, palette = picture
    out = colourise(mask, palette)
    assert out.dtype == np.uint8
    assert out.shape == (*mask.shape, 3)
    colours_by_id = {**dict(enumerate(palette)), 255: (255, 255, 255)}
    for place, class_id in np.ndenumerate(mask):
        assert tuple(out[place]) == colours_by_id.get(int(class_id), (0, 0, 0))
