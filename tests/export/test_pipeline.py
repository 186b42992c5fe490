"""The export: options that exclude each other, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.steps import Window
from edgeunet.errors import OutputError, OutputExistsError, UsageError
from edgeunet.exporting import ExportOptions, export, export_bundle
from edgeunet.files import locked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions("unetpp", depth=1, depths=(1, 2)), "got both depth and depths"),
        (
            ExportOptions("unetpp", depths=(1, 2), calib_table=Path("t.json")),
            "a table belongs to the graph of one depth",
        ),
        (ExportOptions("unet", calib_table=Path("t.json")), "got --calib-table without --int8"),
        (
            ExportOptions("unet", precision="int8", calib_table=Path("t.json"), calib_method="mse"),
            "got --calib-table and --calib-method mse",
        ),
        (ExportOptions("unet", qat_epochs=1), "got --qat-epochs without --int8"),
        (ExportOptions("unet", precision="int8", qat_epochs=1), "got --qat-epochs without --data"),
        (ExportOptions("unet", precision="int8", qat_epochs=-1), "qat_epochs is -1"),
        (ExportOptions(onnx=Path("a.onnx"), weights="b.pth"), "got --weights for a.onnx, which"),
        (ExportOptions(onnx=Path("a.onnx"), arch=("a=1",)), "got --arch for a.onnx, which"),
        (ExportOptions("nets/a.onnx"), "Pass it as --onnx nets/a.onnx"),
        (ExportOptions(str(Path(__file__).parent)), "a folder; expected the prefix of what wrote"),
        (ExportOptions(__file__), "Pass weights as --model NAME --weights"),
        (ExportOptions("unet", precision="bf16"), "pass bf16 to run, bench or parity"),  # type: ignore[arg-type]
        (ExportOptions("unet", pixels_confidence=True), "without --pixels. Add --pixels fixed or"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    options: ExportOptions, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        export_bundle(tmp_path / "bundle", options)
    assert list(tmp_path.iterdir()) == []


def test_an_input_that_no_pixels_graph_can_make_is_refused_before_frames_are_looked_at(
    tmp_path: Path,
) -> None:
    net, spec = nn.Conv2d(3, 2, 1).eval(), InputSpec(16, 16, window=Window())
    with pytest.raises(UsageError, match="windows every"):
        export(net, tmp_path / "bundle", input=spec, pixels="fixed", calib=tmp_path / "absent")
    with pytest.raises(UsageError, match="without --pixels"):
        export(net, tmp_path / "bundle", size=(16, 16), pixels_confidence=True)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine").touch()
    with pytest.raises(OutputExistsError, match="--force"):
        export_bundle(tmp_path / "bundle", ExportOptions("mobile_unet", str(checkpoint)))
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["mine"]


def test_the_output_is_looked_at_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    options = ExportOptions("mobile_unet", "absent", precision="int8", calib=tmp_path / "absent")
    with pytest.raises(OutputExistsError, match="--force"):
        export_bundle(tmp_path / "file", options)
    with (
        locked(tmp_path / "bundle"),
        pytest.raises(OutputError, match="bundle is being written by another run"),
    ):
        export_bundle(tmp_path / "bundle", options)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
