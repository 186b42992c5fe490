"""Packaged weights become a bundle once, and that is used again."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeunet.errors import UnknownNameError, UsageError
from edgeunet.exporting import ExportOptions, packaged
from edgeunet.exporting.packaged import packaged_bundle


@pytest.fixture
def exported(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[ExportOptions]:
    """What is exported, which a bundle of the tests takes the place of."""
    asked: list[ExportOptions] = []

    def export(output: Path, options: ExportOptions, **_: Any) -> Any:
        asked.append(options)
        shutil.copytree(fp32_bundle, output)
        return SimpleNamespace(candidate=SimpleNamespace(agreement=0.9978), reference="PyTorch")

    monkeypatch.setattr(packaged, "export_bundle", export)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return asked


def test_weights_are_exported_once_with_frames_of_the_first_use(
    exported: list[ExportOptions], tmp_path: Path
) -> None:
    told: list[str] = []
    film = tmp_path / "film.mp4"
    path = packaged_bundle("mobile_unet:camvid", calib=film, report=told.append)
    assert path.parent == tmp_path / "cache" / "edgeunet" / "bundles"
    assert path.name.startswith("mobile_unet-camvid-int8-0.")
    assert exported == [
        ExportOptions("mobile_unet", weights="camvid", precision="int8", calib=film)
    ]
    assert str(path) in told[0] and f"calibrated with {film}" in told[0]
    assert told[1:] == [
        f"INT8: 99.78% of the pixels as PyTorch's; `edgeunet parity {path}` says more"
    ]
    for calib in (film, tmp_path / "other.mp4", None):
        assert packaged_bundle("mobile_unet:camvid", calib=calib, report=told.append) == path
    assert (len(exported), len(told)) == (1, 2)


def test_without_frames_it_is_fp16_but_for_procedural_weights(
    exported: list[ExportOptions], tmp_path: Path
) -> None:
    camera = packaged_bundle("mobile_unet:camvid", calib=None)
    assert "-fp16-" in camera.name
    assert "-int8-" in packaged_bundle("unet:cells", calib=None).name
    assert [each.precision for each in exported] == ["fp16", "int8"]
    assert "-int8-" in packaged_bundle("mobile_unet:camvid", calib=tmp_path).name


def test_other_weights_of_one_name_get_a_bundle_of_their_own(
    exported: list[ExportOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = packaged_bundle("unet:cells", calib=None)
    weights = tmp_path / "unet.cells.safetensors"
    weights.write_bytes(b"newer")
    monkeypatch.setattr(packaged, "find_weights", lambda model, tag: weights)
    assert packaged_bundle("unet:cells", calib=None) != before
    assert len(exported) == 2


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("mobile_unet:camvit", UnknownNameError, "Did you mean 'camvid'"),
        ("net:cells", UnknownNameError, "Did you mean 'unet'"),
        ("own:cells", UsageError, "own:cells is no MODEL:TAG"),
        ("a/bundle", UsageError, "is no MODEL:TAG"),
    ],
)
def test_name_of_nothing_is_refused(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        packaged_bundle(name, calib=None)
