"""`from_hub`: a bundle from the Hugging Face Hub, in the user's cache."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from ..bundle.bundle import MAX_TOTAL_BYTES, open_bundle, read_manifest
from ..bundle.manifest import DEPTHS_DIR, MANIFEST_NAME, Manifest
from ..bundle.schema import MAX_BYTES as MAX_JSON_BYTES
from ..errors import BundleError, UsageError
from ..files import new_directory, read_file, write_bytes
from ..user_folders import cache_folder
from .repository import COMMIT, Remote, check_names, open_api, parsed


def from_hub(address: str, *, download: bool = False) -> Path:
    """The folder of a bundle from the Hugging Face Hub, in `cache_folder`.

    Without `download` nothing touches a network: it is the copy that was fetched before.

    Args:
        address: hf://ORG/NAME, or hf://ORG/NAME@REVISION for a branch, a tag or a commit.
        download: ask the Hub what the revision is now, and fetch it unless it is here. All hashes
            are checked before it gets its place. Earlier commits stay.

    Raises:
        UsageError: no such address or revision, or `download` is needed.
        SourceError: no such repository, or none for this token; no network.
        BundleError: the repository holds no bundle, a damaged one, or one with code.
        MissingDependencyError: huggingface_hub is not installed.

    Example:
        >>> edgeunet.from_hub("hf://me/cells", download=True)  # doctest: +SKIP
        PosixPath('/home/me/.cache/edgeunet/hub/me/cells/5f2c…')
    """
    repository, revision = parsed(address)
    folder = cache_folder() / "hub" / repository
    known = folder / "revisions" / quote(revision, safe="")
    if not download:
        return _kept(folder, known, address)
    remote = Remote.at(open_api(), repository, revision, address)
    place = folder / remote.commit
    if not _is_whole(place):
        _fetch(remote, place)
    write_bytes(known, remote.commit.encode())
    return place


def _kept(folder: Path, known: Path, address: str) -> Path:
    """The copy of a revision that was fetched before."""
    try:
        commit = read_file(known, most=100).decode("ascii", "replace")
    except OSError:
        commit = ""
    if COMMIT.fullmatch(commit) is None or not (folder / commit / MANIFEST_NAME).is_file():
        raise UsageError(
            f"{address} has not been fetched yet, and nothing is fetched unasked. To fetch it: "
            f'edgeunet.from_hub("{address}", download=True)'
        )
    return folder / commit


def _is_whole(place: Path) -> bool:
    try:
        open_bundle(place)
    except BundleError:
        return False
    return True


def _fetch(remote: Remote, place: Path) -> None:
    """Fetch a bundle to its place in the cache, whole or not at all."""
    if MANIFEST_NAME not in remote.sizes:
        raise BundleError(
            f"{remote.address} is not a bundle: it has no {MANIFEST_NAME}. "
            "`edgeunet.push_to_hub` uploads one."
        )
    # The folder of a commit is ours alone: what is damaged there may be replaced.
    with new_directory(place, force=True, strangers=lambda folder: ()) as new:
        try:
            manifest = _fetch_part(remote, new, PurePosixPath())
            for depth in manifest.depths:
                _fetch_part(remote, new, PurePosixPath(DEPTHS_DIR, depth))
            open_bundle(new)
        except BundleError as error:
            said = str(error).replace(str(new), remote.address)
            raise BundleError(f"{said} Nothing of it was kept.") from None
        shutil.rmtree(new / ".cache", ignore_errors=True)  # notes of huggingface_hub


def _fetch_part(remote: Remote, root: Path, part: PurePosixPath) -> Manifest:
    """Fetch a bundle, or one of its depths, without the depths that it carries itself."""
    remote.fetch(part / MANIFEST_NAME, root, most=MAX_JSON_BYTES)
    manifest = read_manifest(root / part / MANIFEST_NAME)
    check_names(manifest, f"{remote.address}/{part / MANIFEST_NAME}")
    left = MAX_TOTAL_BYTES
    for name in manifest.files:
        left -= remote.fetch(part / name, root, most=left)
    return manifest
