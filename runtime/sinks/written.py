"""The list of the files that a run wrote into a directory, so that the next removes no others."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from edgeunet.errors import UsageError
from edgeunet.files import write_bytes

from ..pipeline.stopping import Closing

LIST_NAME = ".edgeunet-written.jsonl"
"""The list, in the directory itself: one line of JSON for each file, with name and SHA-256."""


class WrittenFiles(Closing):
    """Writes files into a directory and keeps the list of them; no file is left half-written.

    Opening removes what the list of an earlier run names, as far as it is unchanged: a file that
    somebody edited or put there is kept, and never overwritten.

    Args:
        folder: the directory, which exists. names: the files that will be written, as far as they
            are known; if one of them is somebody else's, nothing is removed.

    Raises:
        UsageError: a name of `names` is taken.
    """

    def __init__(self, folder: Path, *, names: set[str]) -> None:
        self._folder = folder
        own = set(_unchanged(folder))
        for name in sorted(names - own):
            self._refuse_taken(name)
        for name in own:
            (folder / name).unlink()
        self._list = (folder / LIST_NAME).open("wb", buffering=0)

    def write(self, name: str, content: bytes) -> None:
        """Write a file.

        Raises:
            UsageError: the name is taken, by an earlier frame or by somebody else's file.
        """
        self._refuse_taken(name)
        entry = {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
        # First the list: a killed run may list a file that is missing, but leaves none unlisted.
        self._list.write(json.dumps(entry).encode() + b"\n")
        write_bytes(self._folder / name, content, sync=False)

    def close(self) -> None:
        """Close the list, which stays for the next run."""
        self._list.close()

    def _refuse_taken(self, name: str) -> None:
        path = self._folder / name
        if os.path.lexists(path):
            raise UsageError(
                f"{path} exists already, and no earlier run wrote it: it is another file, or it "
                "belongs to another frame of the same name. Move it away, rename the source, or "
                "choose another output."
            )


def _unchanged(folder: Path) -> Iterator[str]:
    """Names of the files that an earlier run wrote and nobody has changed since."""
    try:
        lines = (folder / LIST_NAME).read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
            name, digest = entry["name"], entry["sha256"]
            if Path(name).name != name:  # not of this folder, so not from us
                continue
            path = folder / name
            plain = path.is_file() and not path.is_symlink()
        except (ValueError, TypeError, KeyError, RecursionError):  # cut off, or not from us
            continue
        if plain and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            yield name
