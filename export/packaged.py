"""Bundles of the packaged weights, which are exported at their first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeunet import __version__
from edgeunet.bundle.manifest import MANIFEST_NAME, Exported
from edgeunet.catalogue import find_weights, packaged_name
from edgeunet.data import cells
from edgeunet.errors import UsageError, printable
from edgeunet.files import sha256
from edgeunet.user_folders import cache_folder

from .options import ExportOptions
from .pipeline import export_bundle


def packaged_bundle(
    name: str, *, calib: Path | None, report: Callable[[str], None] = lambda step: None
) -> Path:
    """The bundle of packaged weights in `cache_folder`, which is exported if it is not there.

    Other weights, or another version of edgeunet, get another one.

    Args:
        name: MODEL:TAG. calib: frames to calibrate INT8 with, at the first use; without them the
            bundle is FP16, unless the weights are the procedural ones. report: told each step.

    Raises:
        UsageError: the name is none. UnknownNameError: no such weights. See also `export_bundle`.

    Example:
        >>> packaged_bundle("mobile_unet:camvid", calib=Path("film.mp4"))  # doctest: +SKIP
        PosixPath('/home/me/.cache/edgeunet/bundles/mobile_unet-camvid-int8-2fd4e1c67a2d')
    """
    found = packaged_name(name)
    if found is None:
        raise UsageError(
            f"{printable(name)} is no MODEL:TAG of packaged weights, such as mobile_unet:camvid. "
            "`edgeunet models` lists them."
        )
    model, tag = found
    key = f"{__version__}-{sha256(find_weights(model, tag))[:12]}"
    folder = cache_folder() / "bundles"
    precision: Exported = "fp16" if calib is None and tag != cells.NAME else "int8"
    int8, path = (folder / f"{model}-{tag}-{each}-{key}" for each in ("int8", precision))
    if (int8 / MANIFEST_NAME).is_file():
        return int8
    if not (path / MANIFEST_NAME).is_file():
        with_frames = "" if calib is None else f", calibrated with {calib}"
        report(f"exporting {name} to {path}, once{with_frames}")
        options = ExportOptions(model, weights=tag, precision=precision, calib=calib)
        parity = export_bundle(path, options, report=report)
        kept = f"{parity.candidate.agreement:.2%} of the pixels as {parity.reference}'s"
        report(f"{precision.upper()}: {kept}; `edgeunet parity {path}` says more")
    return path
