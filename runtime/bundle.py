"""Opening a bundle: the manifest is valid, the files are whole, and none lies outside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edgeunet.errors import BundleError, UsageError
from edgeunet.files import sha256
from edgeunet.manifest import (
    MANIFEST_NAME,
    PARTS,
    Flavour,
    Manifest,
    Part,
    Precision,
    flavour_file,
    part_file,
    read_manifest,
)

GOLDEN_NAME = "golden.npz"
CHECKPOINT_NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Golden:
    """Frames with the reference's answers.

    frames: (N, H, W, 3) uint8 RGB. masks: (N, H, W) uint8. logits: (N, C, h, w) float32.
    """

    frames: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8]
    logits: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files have been checked."""

    root: Path
    manifest: Manifest

    def model_path(self, flavour: Flavour) -> Path:
        """Path of a graph; UsageError where the bundle was exported without it."""
        if flavour not in self.manifest.flavours:
            raise UsageError(
                f"{self.root} was exported for {self.manifest.precision} and holds "
                f"{', '.join(self.manifest.flavours)}; {flavour} was wanted. Export it again with "
                "--fp16 or --int8."
            )
        return self.root / flavour_file(flavour)

    def part_path(self, flavour: Flavour, part: Part) -> Path | None:
        """Path of one part of a graph, None where the graph does not come in parts."""
        name = part_file(flavour, part)
        return self.root / name if name in self.manifest.files else None

    def at(self, precision: Precision) -> Bundle:
        """The same bundle, to be run in a precision that it holds as well.

        Raises:
            UsageError: it was exported without that precision.
        """
        self.model_path(precision)
        return replace(self, manifest=replace(self.manifest, precision=precision))

    def golden(self) -> Golden:
        """The golden frames."""
        path = self.root / GOLDEN_NAME
        try:
            with np.load(path, allow_pickle=False) as data:
                return Golden(data["frames"], data["masks"], data["logits"])
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise BundleError(f"{path} does not hold golden frames: {error}") from None


def open_bundle(path: str | Path) -> Bundle:
    """Read the manifest and check every file that it names.

    Raises:
        BundleError: no bundle, an unknown schema version, a name that leaves the directory, a
            missing file, or a hash that differs.
    """
    root = Path(path)
    if not root.is_dir():
        raise BundleError(
            f"{root} is not a directory; a bundle is one. `edgeunet export` makes it."
        )
    manifest = read_manifest(root / MANIFEST_NAME)
    required = {flavour_file(flavour) for flavour in manifest.flavours}
    required |= {GOLDEN_NAME, CHECKPOINT_NAME}
    if manifest.gate is not None:
        required |= {part_file(flavour, part) for flavour in manifest.flavours for part in PARTS}
    unlisted = sorted(required - set(manifest.files))
    if unlisted:
        raise BundleError(f"{root / MANIFEST_NAME} lists no hash for {unlisted[0]}.")
    for name, digest in manifest.files.items():
        _check_file(root, name, digest)
    return Bundle(root, manifest)


def _check_file(root: Path, name: str, digest: str) -> None:
    # A name with a drive, a separator or dots could point anywhere, also through a link.
    plain = PurePosixPath(name).name == name == PureWindowsPath(name).name and name not in (
        "",
        "..",
    )
    path = root / name
    try:
        inside = plain and path.resolve().parent == root.resolve()
        is_file = inside and path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # NUL, too long, a loop of links
        raise BundleError(
            f"{root} names the file {name!r}, which no file can have: {error}"
        ) from None
    if not inside:
        raise BundleError(
            f"{root} names the file {name!r}, which lies outside the bundle. Refused."
        )
    if not is_file:
        raise BundleError(f"{root} lacks {name}. Copy the bundle again, or export it again.")
    found = sha256(path)
    if found != digest:
        raise BundleError(
            f"{path} has SHA-256 {found[:12]}…, the manifest says {digest[:12]}…. The file is "
            "damaged or was changed: copy the bundle again, or export it again."
        )
