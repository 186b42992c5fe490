"""Bundles and tables that several tests make."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgeunet.bundle.calibration_table import CalibrationTable
from edgeunet.bundle.manifest import InputSpec, Precision
from edgeunet.errors import ExportError
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.exporting.int8.calibration.calibrate import make_table
from edgeunet.exporting.int8.calibration.observe import observe
from edgeunet.exporting.proof import check_simulator
from edgeunet.files import sha256
from edgeunet.runtime.frames import Frame
from support.engine_fixtures import (
    cache_folder,  # noqa: F401 - fixtures
    configured,  # noqa: F401 - fixtures
    dla,  # noqa: F401 - fixtures
    install,  # noqa: F401 - fixtures
    trt,  # noqa: F401 - fixtures
)


def need_simulator() -> None:
    """Skip where INT8 cannot be proved, as on Python 3.10."""
    try:
        check_simulator()
    except ExportError as error:
        pytest.skip(str(error))


def make_bundle(checkpoint: Path, folder: Path, precision: Precision) -> Path:
    """Export the tiny net; its INT8 is not what these tests judge, so any drop is allowed."""
    if precision == "int8":
        need_simulator()
    output = folder / f"tiny-{precision}"
    options = ExportOptions(
        "mobile_unet",
        weights=str(checkpoint),
        precision=precision,
        max_batch=4,
        max_iou_drop=100.0,
    )
    export_bundle(output, options)
    return output


def table_of(graph: Path, frames: Sequence[Frame], spec: InputSpec) -> CalibrationTable:
    """Calibration of a graph on frames by percentiles."""
    observation = observe(graph, frames, spec)
    return make_table(graph, observation, "percentile", model="any", source="test")


def edited_bundle(bundle: Path, folder: Path, edit: Callable[[Path], str]) -> Path:
    """Copy of a bundle after `edit`, which returns the name of the file it changed."""
    copy = folder / bundle.name
    shutil.copytree(bundle, copy)
    name = edit(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    if name in manifest["files"]:
        manifest["files"][name] = sha256(copy / name)
        (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy
