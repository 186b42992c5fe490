"""Target `gstreamer`: GStreamer finds the element, and its masks are the runtime's."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import edgeunet
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import UsageError
from edgeunet.exporting.deploy import DeployOptions, deploy
from edgeunet.runtime.sources.gstreamer import formats_of
from support.commands import ROOT, succeeds
from support.gstreamer import PYTHON, drive, environment, launch

SOURCE = "appsrc name=in format=time"
SINK = "appsink name=out sync=false"


@pytest.fixture(scope="module")
def element(fp32_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which GStreamer finds the element of the tiny net."""
    folder = tmp_path_factory.mktemp("gstreamer")
    deploy(fp32_bundle, "gstreamer", folder / "out")
    return environment(folder / "out", folder / "registry")


def of(name: str, image: npt.NDArray[Any], pts: int = 0, *, gap: int = 0) -> dict[str, Any]:
    """A frame for the driver, with so many bytes more behind each row than the format asks for."""
    height, width = image.shape[:2]
    caps = f"video/x-raw, format={name}, width={width}, height={height}, framerate=0/1"
    rows = image.reshape(height, -1).view(np.uint8)
    end = -rows.shape[1] % 4 + gap
    frame = {"caps": caps, "pts": pts, "data": np.pad(rows, ((0, 0), (0, end))).tobytes().hex()}
    return frame | ({"stride": rows.shape[1] + end} if gap else {})


def pixels(frame: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """What came out of the driver, (H, W) or (H, W, 3)."""
    width, height = (int(re.search(rf"{side}=\(int\)(\d+)", frame["caps"])[1])  # type: ignore[index]
                     for side in ("width", "height"))  # fmt: skip
    data = np.frombuffer(bytes.fromhex(frame["data"]), np.uint8)
    rows = data.reshape(height, frame["stride"])
    if "GRAY8" in frame["caps"]:
        return rows[:, :width]
    return rows[:, : 3 * width].reshape(height, width, 3)


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth noise, of which the tiny net makes all classes."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (9, 13, *shape[2:]), np.uint8)
    picture = Image.fromarray(small).resize((shape[1], shape[0]))
    return np.asarray(picture)


def read(folder: Path) -> list[npt.NDArray[np.uint8]]:
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]


def test_film_has_the_masks_of_run(
    element: dict[str, str], fp32_bundle: Path, tmp_path: Path
) -> None:
    frames = [Image.fromarray(noise(45, 71, 3, seed=seed)) for seed in range(5)]
    for index, frame in enumerate(frames):
        frame.save(tmp_path / f"{index}.jpg")
    for name in ("frames", "made"):
        (tmp_path / name).mkdir()
    film = launch(element, f"multifilesrc location={tmp_path}/%d.jpg caps=image/jpeg,framerate=25/1"
                           f" ! avimux ! filesink location={tmp_path}/film.avi")  # fmt: skip
    assert film.returncode == 0, film.stderr
    done = launch(
        element,
        f"filesrc location={tmp_path}/film.avi ! avidemux ! jpegdec ! videoconvert ! "
        "video/x-raw,format=RGB ! tee name=frames "
        f"frames. ! queue ! pngenc ! multifilesink location={tmp_path}/frames/%d.png "
        f"frames. ! queue ! edgeunetseg ! pngenc ! multifilesink location={tmp_path}/made/%d.png",
    )
    assert done.returncode == 0, done.stderr
    times = re.findall(r"edgeunetseg, timestamp=\(guint64\)(\d+), .* pixels=.*< \d+", done.stdout)
    assert [int(time) for time in times] == [index * 40_000_000 for index in range(5)]
    succeeds("run", fp32_bundle, tmp_path / "frames", "-o", tmp_path / "expected")
    expected, made = read(tmp_path / "expected"), read(tmp_path / "made")
    assert len(made) == len(expected) == 5
    assert all(np.array_equal(*pair) for pair in zip(made, expected, strict=True))
    assert {0, 1, 2} == {*np.unique(np.stack(made))}


def test_golden_frames_come_out_as_promised(
    gated_bundle: Path, element: dict[str, str], tmp_path: Path
) -> None:
    """In the precision that was deployed, and in another one of the bundle."""
    deploy(gated_bundle, "gstreamer", tmp_path / "out", DeployOptions(flavour="fp32"))
    golden = open_bundle(gated_bundle).golden()
    shown = [*golden.frames, noise(64, 96, 3), noise(64, 96, 3, seed=1)]
    lines = [f"{SOURCE} ! edgeunetseg {options} ! {SINK}" for options in ("", "precision=int8")]
    frames = [of("RGB", frame) for frame in shown]
    done = drive(
        {**element, "GST_PLUGIN_PATH": str(tmp_path / "out")},
        *({"launch": line, "frames": frames} for line in lines),
    )
    presences = []
    for precision, share, made in zip(("fp32", "int8"), (0.999, 0.99), done, strict=True):
        masks = np.stack([pixels(frame) for frame in made["frames"]])
        with edgeunet.load(gated_bundle, "onnxruntime", precision=precision) as segmenter:  # type: ignore[arg-type]
            result = segmenter(shown)
        assert np.array_equal(masks, result.masks)
        assert (masks[: len(golden.masks)] == golden.masks).mean() >= share
        said = [re.findall(r"presence=\(double\)< (.*?) >", text)[0] for text in made["messages"]]
        presences.append([[float(each) for each in text.split(",")] for text in said])
        assert np.array_equal(np.float32(presences[-1]), result.presence)
    assert presences[0] != presences[1]


def test_frames_of_any_size_row_and_format(element: dict[str, str], fp32_bundle: Path) -> None:
    """They change while the element runs; times stay, and a stopped element starts again."""
    images = [
        noise(45, 71, 3), noise(64, 96, 3), noise(33, 5, 3), noise(1, 1, 3), noise(37, 54),
    ]  # fmt: skip
    shown = [
        of("RGB", images[0], 0), of("RGB", images[0], 40, gap=20), of("RGB", images[1], 80),
        of("RGB", images[2], 90), of("RGB", images[3], 100), of("GRAY8", images[4], 110, gap=3),
    ]  # fmt: skip
    lines = [f"{SOURCE} ! edgeunetseg {options} ! {SINK}" for options in
             ("", "output=overlay opacity=0.3 post-messages=false")]  # fmt: skip
    masks, overlays = drive(element, *({"launch": line, "frames": shown} for line in lines))
    with edgeunet.load(fp32_bundle, "onnxruntime") as segmenter:
        expected = [segmenter([image])[0] for image in (images[0], *images)]
    for made, wanted in zip(masks["frames"], expected, strict=True):
        assert np.array_equal(pixels(made), wanted.mask)
    for made, wanted in zip(overlays["frames"], expected, strict=True):
        assert np.array_equal(pixels(made), wanted.overlay(opacity=0.3))
    for done in (masks, overlays):
        assert not done["errors"]
        assert [made["pts"] for made in done["frames"]] == [frame["pts"] for frame in shown]
        assert {made["duration"] for made in done["frames"]} == {7}
    assert (len(masks["messages"]), len(overlays["messages"])) == (6, 0)


def test_what_fails_is_an_error_of_the_element(
    element: dict[str, str], wrong_bundle: Path, tmp_path: Path
) -> None:
    test = "videotestsrc num-buffers=2 ! video/x-raw,width=33,height=5,format=RGB"
    short = of("RGB", noise(20, 30, 3))
    short["data"] = short["data"][:-8]
    cases: Sequence[tuple[dict[str, Any], str]] = [
        ({"launch": f"{test} ! edgeunetseg bundle={tmp_path} ! fakesink"}, "has no manifest.json"),
        ({"launch": f"{test} ! edgeunetseg bundle={wrong_bundle} ! fakesink"}, "golden"),
        ({"launch": f"{test} ! edgeunetseg opacity=0.1 ! fakesink"}, "opacity is for output=over"),
        ({"launch": f"{test} ! edgeunetseg output=masks ! fakesink"}, "expected mask or overlay"),
        (
            {"launch": f"{test} ! edgeunetseg backend=pytorch threads=1 ! fakesink"},
            "backend pytorch has no threads",
        ),
        ({"launch": f"{test} ! edgeunetseg precision=int8 ! fakesink"}, "int8"),
        (
            {"launch": f"{SOURCE} ! edgeunetseg ! {SINK}", "frames": [short]},
            "frame 0 has 1836 bytes; expected at least 1840 for RGB of 30x20.",
        ),
        # Elements side by side, in threads of their own; an error would be the first one's.
        ({"launch": f"{test} ! tee name=t ! queue ! edgeunetseg backend=onnxruntime threads=1 ! "
                    "fakesink t. ! queue ! edgeunetseg output=overlay ! fakesink"}, ""),
    ]  # fmt: skip
    for done, (case, message) in zip(
        drive(element, *(case for case, _ in cases)), cases, strict=True
    ):
        errors = done["errors"]
        assert bool(errors) == bool(message), (case["launch"], errors)
        if message:
            assert message in errors[0]
            assert "\n" not in errors[0]


def test_without_edgeunet_the_element_says_how_to_get_it(element: dict[str, str]) -> None:
    done = launch({**element, "PYTHONPATH": ""}, "videotestsrc ! edgeunetseg ! fakesink")
    assert done.returncode != 0
    assert "edgeunet cannot be imported: No module named 'edgeunet'. GStreamer runs" in done.stderr


def test_example_names_the_classes_that_come_and_go(
    element: dict[str, str], tmp_path: Path
) -> None:
    example = ROOT / "examples" / "gstreamer" / "watch.py"
    assert example.read_text().count("\n") <= 60
    for index in range(2):
        Image.fromarray(noise(45, 71, 3, seed=index)).save(tmp_path / f"{index}.jpg")
    film = f"multifilesrc location={tmp_path}/%d.jpg caps=image/jpeg,framerate=25/1 ! jpegdec"
    done = subprocess.run(
        [PYTHON, example, film], env=element, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r" +0\.00 s  \+ (background|cell|dividing)\n", done.stdout)
    film = f"videotestsrc ! capsfilter caps=video/x-raw,width=9 ! edgeunetseg bundle={tmp_path}"
    done = subprocess.run(
        [PYTHON, example, film], env=element, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "has no manifest.json" in done.stderr


def test_formats() -> None:
    gray = InputSpec(8, 8, channels=("gray",))
    assert formats_of(gray) == ("GRAY8", "RGB")
    deep = InputSpec(8, 8, channels=("gray",), depth="uint16", levels=(0, 4095))
    assert formats_of(deep) == ("GRAY16_LE",)
    with pytest.raises(UsageError, match="takes a, b of uint8; GStreamer carries"):
        formats_of(InputSpec(8, 8, channels=("a", "b"), mean=(0, 0), std=(1, 1)))
