"""C++ of the tests, compiled by g++ once for all processes that run them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

WARNINGS = ("-Wall", "-Wextra", "-Werror")


def compiled(source: Path, *flags: str, includes: Sequence[Path] = ()) -> Path:
    """A shared library of a source and what lies beside it; skips where there is no g++.

    It is kept in the folder for temporary files, by a hash of sources and flags.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile what stands in for a GPU")
    command = [compiler, "-std=c++17", "-shared", "-fPIC", *WARNINGS, *flags]
    command += [f"-I{folder}" for folder in includes]
    content = hashlib.sha256("\n".join(command).encode())
    for folder in (source.parent, *includes):
        for path in sorted(folder.iterdir()):
            if path.suffix in (".cpp", ".h", ".cu", ".cuh"):
                content.update(path.name.encode() + path.read_bytes())
    library = kept_folder() / f"{source.stem}-{content.hexdigest()[:16]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / library.name
            done = subprocess.run(
                [*command, str(source), "-o", str(made)], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            made.replace(library)
    return library


def kept_folder() -> Path:
    """The tests' own folder for what takes long to make."""
    folder = Path(tempfile.gettempdir()) / f"edgeunet-tests-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    assert folder.stat().st_uid == os.getuid(), f"{folder} belongs to another user"
    return folder
