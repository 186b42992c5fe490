"""Options of the commands that load a bundle."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from edgeunet.cli.bundle_options import StreamOptions, bundle_of
from edgeunet.data.fit import Reading
from edgeunet.errors import SourceError
from edgeunet.runtime.backends.candidates import Candidate
from edgeunet.runtime.options import LoadOptions, Tiling
from support.commands import fails, succeeds
from support.engines import Engine, machine_of

READING = Reading(levels=(0, 4095))


def test_tiles_need_the_switch() -> None:
    assert StreamOptions(batch=4).arguments(LoadOptions(), READING)["options"].tiling is None
    arguments = StreamOptions(batch=4, tile=True).arguments(LoadOptions(), READING)
    assert arguments["batch"] == 1
    assert arguments["options"].tiling == Tiling(batch=4)
    chosen = StreamOptions(tile=True, overlap=0.5, blend="valid").arguments(LoadOptions(), READING)
    assert chosen["options"].tiling == Tiling(overlap=0.5, blend="valid")
    for name, value in (("overlap", 0.5), ("blend", "valid")):
        with pytest.raises(click.UsageError, match=f"--{name} needs --tile"):
            StreamOptions(**{name: value})  # type: ignore[arg-type]


def test_explain_prints_all_candidates_and_the_reason(
    int8_bundle: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fp32, int8 = Candidate("onnxruntime", "fp32"), Candidate("openvino", "int8")
    machine_of(monkeypatch, Engine(fp32, 0.02), Engine(int8, 0.01))
    told = succeeds("run", int8_bundle, images, "-o", tmp_path / "out", "--explain")
    lines = told.stderr.splitlines()
    assert lines[0].split() == ["onnxruntime", "FP32", "20.00", "ms", "100.00%"]
    assert lines[1].split() == ["*", "openvino", "INT8", "10.00", "ms", "100.00%"]
    assert "openvino INT8 is used (measured on this machine, kept in" in lines[2]
    assert "frames/s on openvino INT8, wrote" in told.stdout
    message = fails(2, "bench", int8_bundle, "--explain", "--backend", "onnxruntime")
    assert "--explain tells what auto chooses" in message
    message = fails(2, "run", int8_bundle, images, "-o", tmp_path, "--workers", 1, "--explain")
    assert "leave out --explain" in message


def test_explain_says_that_nothing_is_measured(int8_bundle: Path) -> None:
    told = succeeds("bench", int8_bundle, "--explain", "--precision", "fp32", "--repeats", 1).stderr
    assert told == "EDGEUNET_MEASURE=0: nothing is measured, onnxruntime FP32 is used\n"


def test_packaged_weights_are_calibrated_with_the_first_source_that_has_frames(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.touch()
    asked: list[Path | None] = []

    def made(name: str, *, calib: Path | None, report: object) -> Path:
        assert name == "mobile_unet:camvid"
        asked.append(calib)
        return tmp_path

    monkeypatch.setattr("edgeunet.exporting.packaged.packaged_bundle", made)
    given = Path("mobile_unet:camvid")
    for sources in (["0"], ["rtsp://door/1", str(film)], [f"door={film}"], ["/dev/video77"]):
        assert bundle_of(given, sources, quiet=True) == tmp_path
    assert asked == [None, film, film, None]
    assert bundle_of(tmp_path, ["0"]) == tmp_path and len(asked) == 4
    (tmp_path / "README.md").touch()
    for source, problem in (("nofilm.mp4", "does not exist"), ("README.md", "neither an image")):
        with pytest.raises(SourceError, match=problem):
            bundle_of(given, [str(film), str(tmp_path / source)], quiet=True)
    assert len(asked) == 4, "nothing was exported"
    assert bundle_of(given, ["s3://day/*.tar"], checked=False, quiet=True) == tmp_path
