"""Target `cpp`: a header for C++17 programs, which do around the net what the runtime does."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import (
    MANIFEST_NAME,
    PARTS,
    Depth,
    Exported,
    Flavour,
    InputSpec,
    flavour_file,
    part_file,
)
from edgeunet.bundle.schema import encode
from edgeunet.errors import UsageError
from edgeunet.files import sha256, write_bytes, write_json
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.frames import Batch

from .base import TEMPLATES, Deployment, Target

_PRECISIONS: dict[Flavour, Exported] = {"int8.cpu": "int8", "fp32": "fp32"}
_VALUES: dict[Depth, str] = {
    "uint8": "std::uint8_t",
    "uint16": "std::uint16_t",
    "int16": "std::int16_t",
    "float32": "float",
}


def write(deployment: Deployment) -> None:
    """Write the header, the graph, programs that use them, and golden frames to check both."""
    bundle, flavour, folder = deployment.bundle, deployment.flavour, deployment.folder
    manifest = bundle.manifest
    check_input(manifest.input)
    shutil.copytree(TEMPLATES / "cpp", folder, dirs_exist_ok=True)
    write_model(bundle, flavour, folder / "model")
    frames = bundle.golden().frames
    with open_flavour(bundle, flavour) as backend:
        masks = [backend.segment(Batch.of([frame])).masks[0] for frame in frames]
    write_golden(folder / "golden", frames, np.stack(masks))
    deployment.report(f"golden: {len(frames)} frames; the program check compares their masks")
    deployment.write_page("cpp/README.md", value=_VALUES[manifest.input.depth])


def check_input(spec: InputSpec) -> None:
    """Refuse what the header cannot do to frames.

    Raises:
        UsageError: images that are measured or cut into windows.
    """
    remedy = "Use edgeunet's own runtime for this net"
    if spec.window is not None:
        raise UsageError(
            f"the net sees {spec.window.describe()}; cpp takes nets that see whole "
            f"frames. {remedy}."
        )
    if spec.statistics is not None:
        raise UsageError(
            f"images are normalised by the {spec.statistics.describe()} of each; cpp takes nets "
            f"with fixed numbers. {remedy}."
        )


def write_model(bundle: Bundle, flavour: Flavour, folder: Path) -> None:
    """Copy the graph of a flavour, in two parts if it has a gate, and a manifest of these."""
    folder.mkdir()
    manifest = bundle.manifest
    names = [flavour_file(flavour)]
    if manifest.gate is not None:
        names = [part_file(flavour, part) for part in PARTS]
    for name in names:
        write_bytes(folder / name, bundle.file(bundle.root / name).read())
    small = replace(
        manifest,
        precision=_PRECISIONS[flavour],
        files={name: sha256(folder / name) for name in names},
        depths={},
        frames=None,
    )
    write_json(folder / MANIFEST_NAME, encode(small))


def write_golden(folder: Path, frames: npt.NDArray[Any], masks: npt.NDArray[np.uint8]) -> None:
    """Write frames (N, H, W, C) and masks (N, H, W) as raw little-endian files, and their shape."""
    folder.mkdir()
    count, height, width, channels = frames.shape
    little = frames.astype(frames.dtype.newbyteorder("<"), order="C")
    write_bytes(folder / "frames.raw", little.tobytes())
    write_bytes(folder / "masks.raw", masks.tobytes())
    shape = {"count": count, "height": height, "width": width, "channels": channels}
    write_json(folder / "golden.json", {**shape, "depth": frames.dtype.name})


TARGET = Target(
    name="cpp",
    makes="a header for C++17, the graph, and programs for images, films and cameras, with CMake",
    needs="a C++17 compiler, and ONNX Runtime for C++, 1.21 or newer",
    flavours=("int8.cpu", "fp32"),
    write=write,
)
