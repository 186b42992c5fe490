"""`push_to_hub`: a bundle to the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ..bundle.bundle import Bundle, open_bundle
from ..bundle.manifest import DEPTHS_DIR, MANIFEST_NAME
from ..bundle.schema import MAX_BYTES as MAX_JSON_BYTES
from ..bundle.schema import SchemaError, load_json
from ..errors import OutputError, UsageError
from .model_card import MARK, README_NAME, model_card
from .repository import MAIN, Remote, asking, check_names, open_api, parsed

_OF_THE_HUB = (".gitattributes", README_NAME)  # what a new repository may hold


def push_to_hub(
    bundle: str | Path, address: str, *, private: bool = True, message: str = ""
) -> str:
    """Upload a bundle to the Hugging Face Hub, and give the address of the commit.

    What its manifest lists is uploaded, golden frames and weights among it, and a README.md with
    the figures of parity.json. Reports and engines stay here. Files of an earlier bundle that this
    one lacks are deleted there, and nothing else.

    Args:
        address: hf://ORG/NAME; a new repository is created.
        private: whether only its owners see a new repository.
        message: of the commit; empty for the name of the net.

    Raises:
        BundleError: the bundle is damaged, or holds code. UsageError: no such address, or the
            repository holds something else than a bundle. OutputError: no network, or the token
            does not permit it. MissingDependencyError: huggingface_hub is not installed.

    Example:
        >>> edgeunet.push_to_hub("bundle", "hf://me/cells")  # doctest: +SKIP
        'https://huggingface.co/me/cells/commit/5f2c…'
    """
    repository, revision = parsed(address)
    if revision != MAIN:
        raise UsageError(f"{address} names a revision. Pushes go to main: hf://{repository}")
    opened = open_bundle(bundle)
    files = {str(name): opened.root / name for name in _listed(opened)}
    readme = model_card(opened, repository).encode()
    api = open_api()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    with asking(address, OutputError):
        if not api.repo_exists(repository):
            api.create_repo(repository, private=private)
    remote = Remote.at(api, repository, MAIN, address, failure=OutputError)
    with tempfile.TemporaryDirectory() as folder:
        gone = _replaceable(remote, Path(folder)) - set(files)
        added: dict[str, Path | bytes] = {**files}
        if _may_write_readme(remote, Path(folder)):
            added[README_NAME] = readme
    with asking(address, OutputError):
        commit = api.create_commit(
            repository,
            [
                *(CommitOperationAdd(name, content) for name, content in added.items()),
                *(CommitOperationDelete(name) for name in sorted(gone)),
            ],
            commit_message=message or f"Upload {opened.manifest.model} {opened.manifest.precision}",
            parent_commit=remote.commit,  # so that what was just looked at is what changes
        )
    return str(commit.commit_url)


def _listed(bundle: Bundle) -> Iterator[PurePosixPath]:
    """Manifest and files of a bundle and of the depths that it carries, from its root."""
    for each in (bundle, *bundle.shallower.values()):
        part = PurePosixPath(each.root.relative_to(bundle.root).as_posix())
        check_names(each.manifest, str(each.root / MANIFEST_NAME))
        yield from (part / name for name in (MANIFEST_NAME, *each.manifest.files))


def _replaceable(remote: Remote, folder: Path) -> set[str]:
    """Files of the bundle that a repository holds, none if it is new.

    The bundle may be of a version that this edgeunet does not read.

    Raises:
        UsageError: the repository holds something else.
    """
    names = set(remote.sizes) - set(_OF_THE_HUB)
    if not names:
        return set()
    manifest: Any = None
    if MANIFEST_NAME in names:
        remote.fetch(MANIFEST_NAME, folder, most=MAX_JSON_BYTES)
        try:
            manifest = load_json(folder / MANIFEST_NAME)
        except SchemaError:
            manifest = None
    ours = isinstance(manifest, dict) and {"schema_version", "classes"} <= manifest.keys()
    if not ours or not isinstance(manifest.get("files"), dict):
        raise UsageError(
            f"{remote.address} holds {min(names)!r} and is not a bundle. Nothing was changed: "
            "choose another name."
        )
    listed = {MANIFEST_NAME, *manifest["files"]}
    return {name for name in names if name in listed or name.startswith(f"{DEPTHS_DIR}/")}


def _may_write_readme(remote: Remote, folder: Path) -> bool:
    """Whether a repository has no README.md, or one that was written here."""
    if README_NAME not in remote.sizes:
        return True
    remote.fetch(README_NAME, folder, most=MAX_JSON_BYTES)
    return MARK in (folder / README_NAME).read_text(encoding="utf-8", errors="replace")
