"""`edgeunet run`: what it writes, what it says, and how it ends."""

from __future__ import annotations

import json
import re
import resource
import signal
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeunet.data.cells import snapshots
from edgeunet.errors import SourceError
from edgeunet.files import locked
from edgeunet.runtime import Segmenter, load
from edgeunet.runtime.run import run
from edgeunet.runtime.sinks import overlay
from edgeunet.runtime.sources import Frames, Source
from support.commands import call, data, fails, finish, names, start, succeeds, visible
from support.media import (
    VIDEO_SIZE,
    cut_to,
    decode,
    lose_packets,
    read_mask_png,
    write_film,
    write_png,
    write_video,
)

FRAMES = 3000  # of a film that nobody waits for


def test_run_writes_masks_in_order(fp32_bundle: Path, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "masks"
    summary = data("run", fp32_bundle, images, "-o", output, "--batch", "2")
    assert (summary["frames"], summary["backend"], summary["stopped"]) == (5, "onnxruntime", False)
    assert summary["rate"] == pytest.approx(5 / summary["seconds"])
    stream = summary["stream"]
    assert [stream[name] for name in ("read", "segmented", "dropped", "skipped")] == [5, 5, 0, 0]
    assert list(summary["busy"]) == ["decode", "preprocess", "infer", "postprocess", "sink"]
    assert all(0 < share < 1 for share in summary["busy"].values())
    assert visible(output) == [f"{index}.png" for index in range(5)]
    with load(fp32_bundle) as segmenter:
        for frame in Frames.open(images).read():
            wanted = segmenter([frame.image]).masks[0]
            np.testing.assert_array_equal(read_mask_png(output / frame.name), wanted)
            assert len(np.unique(wanted)) > 1, "one class alone shows nothing"


def test_run_writes_a_file_of_coco_for_each_source(
    fp32_bundle: Path, images: Path, tmp_path: Path
) -> None:
    clip = write_video(tmp_path / "clip.mp4", 3)
    succeeds("run", fp32_bundle, clip, images / "1.png", "-o", tmp_path / "out", "--format", "coco")
    assert visible(tmp_path / "out") == ["clip.json", "images.json"]
    with load(fp32_bundle) as segmenter:
        (wanted,) = segmenter([images / "1.png"])
    written = json.loads((tmp_path / "out" / "images.json").read_text())
    assert written["annotations"] == wanted.to_coco()["annotations"] != []
    film = json.loads((tmp_path / "out" / "clip.json").read_text())
    assert [image["file_name"] for image in film["images"]] == [
        f"clip.mp4#{number}" for number in (1, 2, 3)
    ]


def test_run_writes_an_overlay_video(fp32_bundle: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mp4", 6)
    result = call("run", fp32_bundle, source, "-o", tmp_path / "out.mp4")
    assert result.exit_code == 0, result.output
    assert re.match(
        r"6 frames in .* frames/s on onnxruntime FP32, wrote .*out\.mp4\n", result.stdout
    )
    frames, rate = decode(tmp_path / "out.mp4")
    assert len(frames) == 6
    assert rate == 25


def test_run_needs_no_output(
    fp32_bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert data("run", fp32_bundle, images, "--backend", "pytorch")["backend"] == "pytorch"
    told = succeeds("run", fp32_bundle, images, "--backend", "onnxruntime").stdout
    assert "wrote nothing; -o overlay.mp4 would\n" in told
    assert names(tmp_path) == []


def test_run_as_a_process_keeps_stdout_to_its_data(fp32_bundle: Path, images: Path) -> None:
    command = ("run", fp32_bundle, images / "1.png", "--backend", "onnxruntime", "--json")
    code, out, err = finish(start(*command))
    assert (code, err) == (0, "")
    assert json.loads(out)["frames"] == 1


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_run_onto_an_existing_output_needs_force(
    fp32_bundle: Path, images: Path, tmp_path: Path, name: str
) -> None:
    output = tmp_path / name
    arguments = ("run", fp32_bundle, images, "-o", output)
    assert call(*arguments).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in [output, *output.rglob("*")]}
    message = fails(2, *arguments)
    assert f"{name} exists already" in message
    assert "--force" in message
    assert {path: path.stat().st_mtime_ns for path in [output, *output.rglob("*")]} == before
    assert call(*arguments, "--force").exit_code == 0
    assert output.stat().st_mtime_ns != before[output]


def test_run_of_a_truncated_video_keeps_the_masks_before_the_cut(
    fp32_bundle: Path, tmp_path: Path
) -> None:
    source = cut_to(write_video(tmp_path / "clip.mp4", 12, index_first=True), 0.6)
    result = call("run", fp32_bundle, source, "-o", tmp_path / "masks", "--batch", "4")
    assert result.exit_code == 1
    (last,) = map(int, re.findall(r"clip\.mp4 is .* frame (\d+)\b", result.stderr))
    written = visible(tmp_path / "masks")
    assert result.stdout.startswith(f"{len(written)} frames in ")
    assert 1 < len(written) < 12
    assert written == [f"{index:06d}.png" for index in range(len(written))]
    assert len(written) in (last, last + 1)  # damaged at that frame, or truncated after it


def test_run_of_a_truncated_video_finishes_the_overlay(fp32_bundle: Path, tmp_path: Path) -> None:
    source = cut_to(write_video(tmp_path / "clip.mp4", 12, index_first=True), 0.6)
    assert call("run", fp32_bundle, source, "-o", tmp_path / "out.mp4").exit_code == 1
    assert 1 < len(decode(tmp_path / "out.mp4")[0]) < 12


@pytest.mark.parametrize("name", ["absent", "absent.png", "absent.mp4"])
def test_run_of_a_missing_source(fp32_bundle: Path, tmp_path: Path, name: str) -> None:
    message = fails(1, "run", fp32_bundle, tmp_path / name, "-o", tmp_path / "masks")
    assert f"{name} does not exist" in message
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("rtsp://user:secret@127.0.0.1:9/1", 1, ["rtsp://", "127.0.0.1:9/1", "refuses port 9"]),
        ("v4l2:///dev/video99", 1, ["/dev/video99"]),
        ("gopher://camera/1", 2, ["gopher://", "rtsp://"]),
    ],
)
def test_run_of_a_camera_that_is_not_there(
    fp32_bundle: Path, source: str, code: int, words: list[str]
) -> None:
    message = fails(code, "run", fp32_bundle, source)
    for word in words:
        assert word in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("address", "order"),
    [(None, ["opened", "loaded"]), ("rtsp://camera/1", ["loaded", "opened"])],
)
def test_files_are_opened_before_the_bundle_and_cameras_behind_it(
    fp32_bundle: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str | None,
    order: list[str],
) -> None:
    """Loading may take minutes: too long to hear of a wrong path, or to hold a camera unread."""
    told: list[str] = []
    open_frames, read, open_bundle = Frames.open, Frames.read, Segmenter.open

    def at_address(source: str) -> Frames:
        if source == address:
            return replace(open_frames(images), where=address)
        return open_frames(source)

    def opened(frames: Frames, **options: bool) -> Source:
        told.append("opened")
        return read(frames, **options)

    def loaded(*arguments: object) -> Segmenter:
        told.append("loaded")
        return open_bundle(fp32_bundle)

    monkeypatch.setattr(Frames, "open", at_address)
    monkeypatch.setattr(Frames, "read", opened)
    monkeypatch.setattr(Segmenter, "open", loaded)
    assert run(fp32_bundle, address or str(images), "-").frames == 5
    assert told == order
    told.clear()
    with pytest.raises(SourceError):
        run(fp32_bundle, str(images / "absent"), "-")
    assert told == []


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--backend", "tpu", ["'tpu'", "auto, onnxruntime, openvino"]),
        ("--batch", "9", ["batch is 9", "1 to 4", "--max-batch"]),
        ("--batch", "0", ["--batch", "x>=1"]),
    ],
)
def test_run_with_a_wrong_option_touches_no_output(
    fp32_bundle: Path, images: Path, tmp_path: Path, option: str, value: str, words: list[str]
) -> None:
    (tmp_path / "000000.png").write_bytes(b"old")
    message = fails(2, "run", fp32_bundle, images, "-o", tmp_path, "--force", option, value)
    for word in words:
        assert word in message
    assert names(tmp_path) == ["000000.png"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "out.avi"], "expected NAME.mp4"),
        (["-o", "rtsp://camera/1"], "looks like an address"),
        (["-o", "out.png"], "one picture, but the source has several frames"),
        (["-o", "out.mp4", "--overlay"], "--overlay is for a directory"),
        (["-o", "file/new/out.mp4"], "file is a file; new/out.mp4 cannot be written in it"),
        (["-o", "old.mp4"], "old.mp4 exists already"),
        (["-o", "file"], "file is a file"),
        (["-o", "file/masks"], "file is a file; masks cannot be written in it"),
    ],
)
def test_run_looks_at_its_output_before_it_loads_anything(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file", "old.mp4"):
        (tmp_path / name).write_bytes(b"kept")
    assert words in fails(2, "run", tmp_path / "no bundle", images, *options)
    assert names(tmp_path) == ["file", "old.mp4"]


@pytest.mark.parametrize("name", ["out.png", "out.jpg"])
def test_run_of_an_image_into_an_image(
    fp32_bundle: Path, images: Path, tmp_path: Path, name: str
) -> None:
    succeeds("run", fp32_bundle, images / "1.png", "-o", tmp_path / name)
    (image,) = (frame.image for frame in Frames.open(images / "1.png").read())
    with load(fp32_bundle) as segmenter:
        wanted = overlay(image, segmenter([image]).masks[0], segmenter.manifest.palette)
    difference = np.asarray(Image.open(tmp_path / name)).astype(int) - wanted
    assert np.abs(difference).mean() < (8 if name.endswith("jpg") else 1e-9)  # of noise


def test_run_writes_overlays_of_images(fp32_bundle: Path, images: Path, tmp_path: Path) -> None:
    succeeds("run", fp32_bundle, images, "-o", tmp_path / "out", "--overlay")
    assert visible(tmp_path / "out") == [f"{index}.png" for index in range(5)]
    with Image.open(tmp_path / "out" / "1.png") as picture:
        assert picture.mode == "RGB"


def test_second_run_into_an_output_is_refused(
    fp32_bundle: Path, images: Path, tmp_path: Path
) -> None:
    with locked(tmp_path / "out.mp4"):
        arguments = ("run", fp32_bundle, images, "-o", tmp_path / "out.mp4")
        assert "is being written by another run" in fails(1, *arguments)
    assert names(tmp_path) == []


def test_run_into_the_directory_of_its_source_loses_no_image(
    fp32_bundle: Path, tmp_path: Path
) -> None:
    for index in range(3):
        write_png(tmp_path / f"{index:06d}.png", np.full((64, 64, 3), 40 * index, np.uint8))
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    message = fails(2, "run", fp32_bundle, tmp_path, "-o", tmp_path, "--force")
    assert "is the source or its directory" in message
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_run_refuses_a_bundle_that_answers_wrongly(
    wrong_bundle: Path, images: Path, tmp_path: Path
) -> None:
    message = fails(1, "run", wrong_bundle, images, "-o", tmp_path / "masks")
    assert "of the golden pixels agree with PyTorch" in message
    assert names(tmp_path) == []


# Outputs


def test_run_writes_run_lengths(fp32_bundle: Path, images: Path, tmp_path: Path) -> None:
    data("run", fp32_bundle, images, "-o", tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == [f"{index}.png" for index in range(5)]


def test_run_into_a_pipe_keeps_stdout_to_the_masks(fp32_bundle: Path, images: Path) -> None:
    result = call("run", fp32_bundle, images, "-o", "pipe:masks")
    assert "5 frames in" in result.stderr
    with load(fp32_bundle) as segmenter:
        wanted = b"".join(segmenter([f.image]).masks.tobytes() for f in Frames.open(images).read())
    assert result.stdout_bytes == wanted


# Frames of another kind


def test_frames_unlike_those_of_the_bundle_cause_a_warning(
    fp32_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = [frame.image for frame in snapshots(3, height=64, width=96, seed=9)]
    for name, change in (("like", lambda image: image), ("unlike", lambda image: image // 9)):
        (tmp_path / name).mkdir()
        for index, image in enumerate(drawn):
            write_png(tmp_path / name / f"{index}.png", change(image))
    assert data("run", fp32_bundle, tmp_path / "like")["stream"]["unlike"] is None
    assert caplog.text == ""
    found = data("run", fp32_bundle, tmp_path / "unlike")["stream"]["unlike"]
    assert found.startswith("brightness 0.0")
    assert f"unlike those that this bundle was made with: {found}. The masks are" in caplog.text


# Over time


def test_smoothing_takes_flicker_away(cells_bundle: Path, tmp_path: Path) -> None:
    still = next(iter(snapshots(1, height=256, width=320, seed=4))).image.astype(np.int16)
    for index in range(8):  # a scene that does not move, filmed by a noisy sensor
        noise = np.random.default_rng(index).normal(0, 6, still.shape)
        write_png(tmp_path / f"{index}.png", (still + noise).clip(0, 255).astype(np.uint8))
    rates = [
        data("run", cells_bundle, tmp_path, "--temporal", weight)["flicker"] for weight in (0, 0.8)
    ]
    assert 0 < rates[1] < 0.6 * rates[0]


def test_flicker_is_told_only_where_something_was_smoothed(fp32_bundle: Path, images: Path) -> None:
    assert data("run", fp32_bundle, images)["flicker"] is None
    assert "flicker" not in succeeds("run", fp32_bundle, images).stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--temporal", "1"], "0<=x<1"),
        (["--temporal", "0.5", "--tile"], "frames in tiles or windows are not smoothed"),
    ],
)
def test_smoothing_that_cannot_be_touches_no_output(
    fp32_bundle: Path, images: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    (tmp_path / "000000.png").write_bytes(b"old")
    assert words in fails(2, "run", fp32_bundle, images, "-o", tmp_path, "--force", *options)
    assert (tmp_path / "000000.png").read_bytes() == b"old"


# Ends


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film that takes long enough to be interrupted."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write_video(path, FRAMES, size=VIDEO_SIZE)


def limit_files(size: int) -> None:
    """Let this process write no larger files, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("output", ["out.mp4", "out.jsonl"])
def test_full_disk_is_told_of(fp32_bundle: Path, tmp_path: Path, output: str) -> None:
    """A video is written in blocks: with few frames, the only one is too large."""
    film, folder = write_video(tmp_path / "film.mp4", 300, size=VIDEO_SIZE), tmp_path / "out"
    folder.mkdir()
    process = start(
        "run", fp32_bundle, film, "-o", folder / output, preexec_fn=lambda: limit_files(4_000)
    )
    code, out, err = finish(process)
    assert (code, out, "Traceback" in err) == (1, "", False), err
    assert re.search(rf"error: .*{re.escape(output)} cannot be written: File too large", err)
    if output == "out.mp4":  # it could not be finished
        assert names(folder) == []
    else:
        lines = [json.loads(line) for line in (folder / output).read_text().splitlines()]
        assert len(lines) > 1
        assert [line["frame"] for line in lines] == list(range(len(lines)))


def test_reader_of_a_pipe_that_leaves_ends_the_run(fp32_bundle: Path, long_film: Path) -> None:
    process = start("run", fp32_bundle, long_film, "-o", "pipe:masks")
    assert process.stdout is not None
    process.stdout.buffer.read(10)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "pipe:masks cannot be written: Broken pipe" in err
    assert "Traceback" not in err


# Damage, and several sources


@pytest.fixture
def one_bad(tmp_path: Path) -> Path:
    """Images a, b and c, of which b is none, and a text."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("a", "b", "c"):
        write_png(folder / f"{name}.png", np.full((64, 64, 3), 40, np.uint8))
    (folder / "b.png").write_bytes(b"none")
    (folder / "notes.txt").write_text("none")
    return folder


def test_image_that_cannot_be_read_is_told_and_the_others_are_written(
    fp32_bundle: Path, one_bad: Path, tmp_path: Path
) -> None:
    result = call("run", fp32_bundle, one_bad, "-o", tmp_path / "masks")
    assert result.exit_code == 1
    assert "2 frames in" in result.stdout
    assert "damaged and skipped: 1" in result.stdout
    assert "not read: 1 other" in result.stdout
    assert re.search(r"error: 1 of 3 images cannot be read; .*b\.png", result.stderr)
    assert {"a.png", "c.png"} <= set(names(tmp_path / "masks"))


def test_summary_has_what_was_not_read(fp32_bundle: Path, one_bad: Path) -> None:
    for options, code in (((), 1), (("--skip-damaged",), 0)):
        result = call("run", fp32_bundle, one_bad, "--json", *options)
        assert result.exit_code == code
        summary = json.loads(result.stdout)
        assert (summary["frames"], summary["stream"]["skipped"]) == (2, 1)
        assert summary["ignored"] == {"hidden": 0, "other": 1}
        (fault,) = summary["damaged"]
        assert "b.png cannot be read as an image" in fault


def test_damaged_video_ends_with_an_error_or_goes_on(fp32_bundle: Path, tmp_path: Path) -> None:
    options = {"x264-params": "keyint=12:min-keyint=12:scenecut=0"}
    film = lose_packets(write_film(tmp_path / "clip.ts", "libx264", options=options), 0.3)
    result = call("run", fp32_bundle, film, "--json")
    before = json.loads(result.stdout)["frames"]
    assert result.exit_code == 1
    assert f"clip.ts is damaged at frame {before}: " in result.stderr
    summary = data("run", fp32_bundle, film, "--skip-damaged")
    assert summary["frames"] + summary["stream"]["skipped"] == 24
    assert 12 <= summary["frames"] < 24


def test_several_sources_are_read_in_a_row(fp32_bundle: Path, images: Path, tmp_path: Path) -> None:
    film = write_video(tmp_path / "clip.mp4", 3)
    output = tmp_path / "out.jsonl"
    assert data("run", fp32_bundle, film, images, images / "1.png", "-o", output)["frames"] == 9
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(9))
    assert [line["name"] for line in lines[:4]] == [
        "clip.mp4#1", "clip.mp4#2", "clip.mp4#3", "0.png"
    ]  # fmt: skip


def test_several_sources_are_told_apart(fp32_bundle: Path, images: Path, tmp_path: Path) -> None:
    door = write_video(tmp_path / "door.mp4", 6)
    cut = cut_to(write_video(tmp_path / "cut.mp4", 12, size=(80, 64), index_first=True), 0.6)
    output = tmp_path / "out"
    command = ("run", fp32_bundle, door, f"yard={cut}", images, "-o", output)
    result = call(*command)
    assert result.exit_code == 1
    head, first, second, third, fair, busy, *rest = result.stdout.splitlines()
    assert rest == []
    assert re.fullmatch(rf"\d+ frames in .* on onnxruntime FP32, wrote {output}", head)
    told = r"latency \d+ ms, 99 % within \d+ ms"
    assert re.fullmatch(rf"  door: 6 frames, [\d.]+ frames/s, {told}", first)
    assert re.fullmatch(rf"  yard: \d+ frames, .*, {told}, failed: .*cut\.mp4 is .*", second)
    assert third.startswith(f"  {images.name}: 5 frames, ")
    assert fair == "fairness 1.00: 100% to 100% of the frames of each source segmented"
    assert busy.startswith("busy: decode ") and busy.count(" (limits the rate)") == 1
    assert "error: 1 of 3 sources failed; the others are done. The first: yard: " in result.stderr
    assert visible(output) == sorted(["door", "yard", images.name])
    assert visible(output / images.name) == [f"{index}.png" for index in range(5)]
    assert "exists already" in fails(2, *command)
    tables = ("run", fp32_bundle, door, images, "-o", tmp_path / "csv", "--format", "csv")
    summary = data(*tables, "--temporal", "0.5")
    assert visible(tmp_path / "csv") == sorted(["door.csv", f"{images.name}.csv"])
    assert {name: each["read"] for name, each in summary["stream"]["sources"].items()} == {
        "door": 6, images.name: 5
    }  # fmt: skip
    assert summary["stream"]["fairness"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("sources", "options", "words"),
    [
        (["a.mp4", "0"], ["-o", "out.mp4"], "v4l2:///dev/video0 is read beside the other sources"),
        (["a.mp4", "x=b.mp4"], ["-o", "out.json"], "x is read beside the other sources, and out"),
        (["a.mp4", "rtsp://h/1"], ["-o", "pipe:masks"], "pipe:masks is one output"),
        (["a.mp4", "a.mp4"], ["-o", "out"], "a.mp4 is given twice"),
        (["a.mp4", "a/a.mp4"], ["-o", "out"], "both called a"),
        (["a.mp4", "b.mp4"], ["-o", "."], "is the source or its directory"),
        (["a.mp4", "b.mp4"], ["-o", "a"], "a exists already"),
        (["a.mp4", "b.mp4"], ["-o", "{source}.mp4"], "a.mp4 is the source"),
        (["a.mp4", "b.mp4"], ["-o", "{source}.csv", "--format", "coco"], "coco is written to"),
        (["a.mp4", "b.mp4"], ["-o", "{source}.png"], "one picture, but the source has several"),
        (["a.mp4", "b.mp4"], ["-o", "out", "--drop", "oldest"], "read in full (a, b)"),
        (["a.mp4", "-"], ["-o", "out"], "- does not exist"),
    ],
)
def test_several_sources_that_cannot_run_are_refused_before_anything_is_written(
    fp32_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sources: list[str],
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mp4", "a/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"none")
    code = 1 if "-" in sources else 2
    assert words in fails(code, "run", fp32_bundle, *sources, *options)
    assert names(tmp_path) == ["a", "a.mp4", "b.mp4"]


def test_images_of_an_archive_that_would_be_one_file_are_refused(
    fp32_bundle: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "frames.zip", "w") as file:
        for name in ("day/a.png", "night/a.jpg", "b.png"):
            file.writestr(name, b"none")
    message = fails(2, "run", fp32_bundle, tmp_path / "frames.zip", "-o", tmp_path / "masks")
    assert "would both be written as a.png" in message
    assert names(tmp_path) == ["frames.zip"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workers", "2", "--overlay", "--drop", "none", "--max-delay", "5", "--temporal", "0.5"],
         "leave out --overlay, --max-delay, --drop, --temporal"),
        (["--workers", "2", "--format", "coco", "--target-fps", "5", "--device", "0"],
         "leave out --format, --target-fps, --device"),
        (["--ray", "auto"], "--ray needs --workers"),
        (["--column", "image"], "--column needs --workers"),
        (["--workers", "2"], "expected -o FOLDER or an address, got no -o"),
        (["--workers", "2", "-o", "a.mp4"], "expected -o FOLDER or an address, got a.mp4"),
    ],
)  # fmt: skip
def test_options_that_would_do_nothing_beside_workers_are_refused(
    fp32_bundle: Path, images: Path, options: list[str], words: str
) -> None:
    assert words in fails(2, "run", fp32_bundle, images, *options)
