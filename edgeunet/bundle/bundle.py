"""Opens bundles: checks the manifest, the hash of each file, and that none lies outside."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import get_args

from edgeunet.bundle.golden import GOLDEN_NAME, Golden, check_golden, read_golden
from edgeunet.bundle.graphs import MAX_BYTES, check_graph
from edgeunet.bundle.manifest import (
    DEPTHS_DIR,
    MANIFEST_NAME,
    PARTS,
    SCHEMA_VERSION,
    Exported,
    Flavour,
    Manifest,
    Part,
    Precision,
    flavour_file,
    part_file,
    pixels_file,
)
from edgeunet.bundle.schema import MAX_BYTES as MAX_JSON_BYTES
from edgeunet.bundle.schema import SchemaError, load_json, read
from edgeunet.errors import BundleError, GraphError, UsageError
from edgeunet.files import entries, read_file, sha256

GRAPH_SUFFIX = ".onnx"
CHECKPOINT_NAME = "checkpoint.safetensors"
REPORT_NAMES = ("parity.json", "parity.html")
ENGINES_DIR = "engines"
BESIDE_THE_FILES = (*REPORT_NAMES, ENGINES_DIR)
"""What a bundle's folder may hold that its manifest does not list."""
MAX_FILES = 100
MAX_TOTAL_BYTES = 8 << 30
_ENGINE_SUFFIXES = (".cache", ".cubin", ".engine", ".json")
# Parts of the manifest that must be the same at every depth, because callers see them.
_SHARED = ("model", "precision", "classes", "palette", "input", "logits_size", "max_batch", "gate")


@dataclass(frozen=True)
class BundleFile:
    """A file that a manifest lists. sha256: its hash there."""

    path: Path
    sha256: str

    def read(self) -> bytes:
        """Its content, read once and compared with the hash.

        Whoever parses these bytes parses what was checked: the path is not opened again.

        Raises:
            BundleError: it cannot be read, or was changed.
        """
        try:
            content = read_file(self.path, most=MAX_BYTES)
        except OSError as error:
            raise BundleError(f"{self.path} cannot be read: {error}") from None
        _compare(self.path, hashlib.sha256(content).hexdigest(), self.sha256)
        return content


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files have been checked.

    shallower: bundles of the smaller depths that it carries, by depth, ascending.

    Example:
        >>> from edgeunet.runtime import open_bundle
        >>> open_bundle(bundle).model_path("fp32").name
        'model.fp32.onnx'
    """

    root: Path
    manifest: Manifest
    shallower: dict[int, Bundle] = field(default_factory=dict)

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths to choose from, ascending, its own last; empty if it carries no others."""
        return (*self.shallower, self.manifest.arguments["depth"]) if self.shallower else ()

    def at_depth(self, depth: int) -> Bundle:
        """The bundle of one of its depths.

        Raises:
            UsageError: the bundle was exported without that depth.
        """
        if depth not in self.depths:
            carried = ", ".join(map(str, self.depths)) or "no depths to choose from"
            raise UsageError(
                f"expected a bundle with depth {depth}, but {self.root} carries {carried}. Export "
                "unetpp with it: --depths 1,2,3,4."
            )
        return self.shallower.get(depth, self)

    def model_path(self, flavour: Flavour) -> Path:
        """Path of a graph; UsageError if the bundle was exported without it."""
        if flavour not in self.manifest.flavours:
            raise UsageError(
                f"expected a bundle with {flavour}, but {self.root} was exported for "
                f"{self.manifest.precision} and holds {', '.join(self.manifest.flavours)}. Export "
                "it again with --fp16 or --int8."
            )
        return self.root / flavour_file(flavour)

    def part_path(self, flavour: Flavour, part: Part) -> Path | None:
        """Path of one part of a graph, None if the graph has no parts."""
        name = part_file(flavour, part)
        return self.root / name if name in self.manifest.files else None

    def pixels_path(self, flavour: Flavour) -> Path | None:
        """Path of a graph from frames to masks, None if the bundle was exported without it."""
        name = pixels_file(flavour)
        return self.root / name if name in self.manifest.files else None

    def file(self, path: Path) -> BundleFile:
        """One of its files by path, such as that of a graph; KeyError if it is not listed."""
        return BundleFile(path, self.manifest.files[path.name])

    def at(self, precision: Precision) -> Bundle:
        """The same bundle, to run in another precision, at every depth.

        Every bundle can be run in BF16, see `Precision`; the backend says whether the machine can.

        Raises:
            UsageError: the bundle was exported without that precision.
        """
        if precision != "bf16":
            self.model_path(precision)
        return Bundle(
            self.root,
            replace(self.manifest, precision=precision),
            {depth: bundle.at(precision) for depth, bundle in self.shallower.items()},
        )

    def golden(self) -> Golden:
        """The golden frames; BundleError if they are damaged."""
        file = self.file(self.root / GOLDEN_NAME)
        try:
            return read_golden(file.read(), self.manifest)
        except ValueError as error:
            raise _no_golden(file.path, error) from None


def read_manifest(path: Path) -> Manifest:
    """Read and validate a manifest.

    Raises:
        BundleError: missing, not JSON, of another schema version, or it does not fit the schema.
    """
    try:
        manifest = read(Manifest, path, version=SCHEMA_VERSION)
        exported = get_args(Exported)
        if manifest.precision not in exported:
            raise SchemaError(
                f"is damaged: $.precision: expected one of {', '.join(exported)}, got "
                f"{manifest.precision!r}"
            )
    except FileNotFoundError:
        raise BundleError(
            f"{path.parent} is not a bundle: it has no {path.name}. `edgeunet export` writes one."
        ) from None
    except SchemaError as error:
        raise BundleError(
            f"{path} {error}. Export the bundle again{_command(path)}, or install the edgeunet "
            "that wrote it."
        ) from None
    return manifest


def _command(path: Path) -> str:
    """The command that exports a bundle anew, as far as its manifest tells; else empty."""
    try:
        found = load_json(path)
        words = [found["model"], found["weights"], found["precision"]]
    except (SchemaError, OSError, KeyError, TypeError):
        return ""
    if not all(isinstance(word, str) and re.fullmatch(r"[\w.-]{1,80}", word) for word in words):
        return ""
    flag = f" --{words[2]}" if words[2] in ("fp16", "int8") else ""
    return f" (`edgeunet export --model {words[0]} --weights {words[1]}{flag}`)"


def open_bundle(path: str | Path) -> Bundle:
    """Read the manifest and check every file that it names.

    Raises:
        BundleError: not a bundle, an unknown schema version, a name that leaves the directory, a
            missing file, a wrong hash, a graph that reads other files, see `check_graph`, no golden
            frames, or a depth of another net.

    Example:
        >>> from edgeunet.runtime import open_bundle
        >>> open_bundle(bundle).manifest.precision
        'fp32'
    """
    bundle = _open(Path(path))
    depths = sorted((int(depth), digest) for depth, digest in bundle.manifest.depths.items())
    shallower = {depth: _open_depth(bundle, depth, digest) for depth, digest in depths}
    return replace(bundle, shallower=shallower)


def strangers_in(folder: Path) -> list[str]:
    """Names in a folder that do not belong to a bundle; all of them if it is none.

    The bundle need not be whole, nor of a version that can be read.

    Example:
        >>> from edgeunet.bundle.bundle import strangers_in
        >>> strangers_in(bundle)
        []
    """
    names = entries(folder)
    try:
        listed = set(load_json(folder / MANIFEST_NAME)["files"])
    except (FileNotFoundError, SchemaError, TypeError, KeyError, IndexError):
        return names
    known = {*listed, *BESIDE_THE_FILES, MANIFEST_NAME, DEPTHS_DIR}
    strangers = [name for name in names if name not in known]
    for name in _held(folder / ENGINES_DIR):
        if not name.startswith(".") and Path(name).suffix not in _ENGINE_SUFFIXES:
            strangers.append(str(Path(ENGINES_DIR, name)))
    for name in _held(folder / DEPTHS_DIR):
        place = Path(DEPTHS_DIR, name)
        inner = strangers_in(folder / place) if (folder / place).is_dir() else [""]
        strangers += [str(place / each) for each in inner]
    return strangers


def is_plain_name(name: str) -> bool:
    """Whether a name stays in its folder on any system: no drive, separator or dots alone.

    Example:
        >>> from edgeunet.bundle.bundle import is_plain_name
        >>> [is_plain_name(name) for name in ("golden.npz", "../golden.npz", "C:golden.npz")]
        [True, False, False]
    """
    plain = PurePosixPath(name).name == name == PureWindowsPath(name).name
    return plain and name not in ("", "..")


def _held(folder: Path) -> list[str]:
    """Names in a folder; none if it is missing, or a link, which would be removed alone."""
    return entries(folder) if folder.is_dir() and not folder.is_symlink() else []


def _open_depth(whole: Bundle, depth: int, digest: str) -> Bundle:
    """A smaller depth of a bundle, whose manifest must have the hash `digest`."""
    place = Path(DEPTHS_DIR, str(depth))
    root = whole.root / place
    _check_place(whole.root, place)
    path, _ = _found(root, MANIFEST_NAME, most=MAX_JSON_BYTES)
    _compare(path, sha256(path), digest)
    bundle = _open(root)
    differing = [
        name for name in _SHARED if getattr(bundle.manifest, name) != getattr(whole.manifest, name)
    ]
    if bundle.manifest.arguments.get("depth") != depth:
        differing.append("depth")
    if differing or bundle.manifest.depths:
        problem = f"has another {differing[0]}" if differing else "carries depths itself"
        raise BundleError(
            f"{root} {problem}; expected the net of {whole.root} at depth {depth}. Export the "
            "bundle again."
        )
    return bundle


def _check_place(root: Path, place: Path) -> None:
    try:
        inside = (root / place).resolve() == root.resolve() / place
    except (OSError, RuntimeError) as error:  # a loop of links
        raise BundleError(f"{root / place} cannot be read: {error}") from None
    if not inside:
        raise BundleError(f"{root / place} is a link that leaves the bundle. Refused.")


def _open(root: Path) -> Bundle:
    """A bundle without the depths that it carries."""
    if not root.is_dir():
        raise BundleError(
            f"{root} is not a directory; expected a bundle. `edgeunet export` makes one."
        )
    manifest = read_manifest(root / MANIFEST_NAME)
    required = {flavour_file(flavour) for flavour in manifest.flavours}
    required |= {GOLDEN_NAME, *((CHECKPOINT_NAME,) if manifest.reference == "checkpoint" else ())}
    if manifest.gate is not None:
        required |= {part_file(flavour, part) for flavour in manifest.flavours for part in PARTS}
    unlisted = sorted(required - set(manifest.files))
    if unlisted:
        raise BundleError(
            f"{root / MANIFEST_NAME} lists no hash for {unlisted[0]}. Export the bundle again."
        )
    if len(manifest.files) > MAX_FILES:
        raise BundleError(
            f"{root / MANIFEST_NAME} lists {len(manifest.files)} files; expected at most "
            f"{MAX_FILES}. Refused."
        )
    left = MAX_TOTAL_BYTES
    for name, digest in manifest.files.items():
        path, size = _found(root, name, most=left)
        left -= size
        _check_content(BundleFile(path, digest), manifest)
    return Bundle(root, manifest)


def _no_golden(path: Path, error: ValueError) -> BundleError:
    return BundleError(f"{path} does not hold golden frames: {error}. Export the bundle again.")


def _found(root: Path, name: str, *, most: int) -> tuple[Path, int]:
    """A file, whose place and size were checked, and its size in bytes."""
    path = root / name
    try:
        # Links may lead anywhere too.
        inside = is_plain_name(name) and path.resolve().parent == root.resolve()
        is_file = inside and path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # NUL, too long, a loop of links
        raise BundleError(
            f"{root} names the file {name!r}, which is not a valid name: {error}"
        ) from None
    if not inside:
        raise BundleError(
            f"{root} names the file {name!r}, which lies outside the bundle. Refused."
        )
    if not is_file:
        raise BundleError(f"{root} lacks {name}. Copy the bundle again, or export it again.")
    size = path.stat().st_size
    if size > most:  # hashing it could take hours
        raise BundleError(f"{path} is too large: a bundle has at most {MAX_TOTAL_BYTES} bytes.")
    return path, size


def _check_content(file: BundleFile, manifest: Manifest) -> None:
    """Check the hash of a file, and what a graph or golden frames hold, in one reading."""
    if file.path.suffix == GRAPH_SUFFIX:
        try:
            check_graph(file.read(), name=str(file.path))
        except GraphError as error:
            raise BundleError(str(error)) from None
    elif file.path.name == GOLDEN_NAME:
        try:
            check_golden(file.read(), manifest)
        except ValueError as error:
            raise _no_golden(file.path, error) from None
    else:
        _compare(file.path, sha256(file.path), file.sha256)


def _compare(path: Path, found: str, digest: str) -> None:
    if found != digest:
        raise BundleError(
            f"{path} has SHA-256 {found[:12]}…; the manifest expects {digest[:12]}…. The file is "
            "damaged or was changed: copy the bundle again, or export it again."
        )
