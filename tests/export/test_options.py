"""Options of the export: the name of the bundle, and what frames say of nets without a card."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.bundle.manifest import Precision
from edgeunet.data.fit import Reading
from edgeunet.errors import UsageError
from edgeunet.exporting import ExportOptions, Preparation
from edgeunet.exporting.options import class_names, for_the_net


@pytest.mark.parametrize(
    ("weights", "precision", "name"),
    [
        ("cells", "int8", "mobile_unet-cells-int8"),
        ("camvid", "fp32", "mobile_unet-camvid-fp32"),
        ("runs/mine/best.safetensors", "int8", "mobile_unet-mine-int8"),
        ("runs/mine/half.safetensors", "fp16", "mobile_unet-half-fp16"),
        ("../net.v2.pth", "fp32", "mobile_unet-net.v2-fp32"),
        ("runs/mine", "fp32", "mobile_unet-mine-fp32"),
    ],
)
def test_default_name_tells_the_weights(weights: str, precision: Precision, name: str) -> None:
    assert ExportOptions("mobile_unet", weights, precision).name == name


def test_best_weights_are_called_by_their_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "mine.2"
    run.mkdir()
    (run / "best.safetensors").touch()
    assert ExportOptions("unet", str(run)).name == "unet-mine.2-fp32"
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert ExportOptions("unet", "best.safetensors").name == "unet-mine-fp32"
    monkeypatch.chdir("/")
    assert ExportOptions("unet", "best.safetensors").name == "unet-best-fp32"


def test_what_is_said_of_the_frames_belongs_to_a_net_without_a_card() -> None:
    reading = Reading(levels=(0, 4095), channels=("gray",))
    told = for_the_net(ExportOptions("unet", reading=reading))
    assert told.preparation == Preparation(("gray",), (0, 4095))
    assert told.reading == Reading()
    kept = Preparation(("bgr",), mean=(0.5,))
    assert for_the_net(ExportOptions("unet", preparation=kept)).preparation == kept


@pytest.mark.parametrize("text", ["road\ncar\n", "\ufeffroad\r\n car \r\n\r\n"])
def test_names_of_classes_come_from_a_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(text.encode())
    assert class_names([str(path)]) == ("road", "car")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"road\n\ncar", "no name for class 1"),
        (b"road\nroad", "'road' twice"),
        (b"\xff\xfe", "no short UTF-8 text"),
        (b"a" * 2**17, "at most 65536"),
        (b"\n".join(b"%d" % index for index in range(300)), "has 300 names; 256"),
    ],
)
def test_files_without_names_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        class_names([str(path)])


def test_missing_file_of_names_is_refused() -> None:
    with pytest.raises(UsageError, match=r"names.txt cannot be read: No such file"):
        class_names(["names.txt"])
