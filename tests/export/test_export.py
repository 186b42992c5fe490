"""The export: options that exclude each other, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.errors import OutputExistsError, UsageError
from edgeunet.export import ExportOptions, export_bundle


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
    ],
)
def test_options_that_exclude_each_other_are_refused(
    options: ExportOptions, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        export_bundle(tmp_path / "bundle", options)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine").touch()
    with pytest.raises(OutputExistsError, match="--force"):
        export_bundle(tmp_path / "bundle", ExportOptions("mobile_unet", str(checkpoint)))
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["mine"]
