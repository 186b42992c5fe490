"""What pyproject.toml says, and the wheel that it makes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from support.commands import ROOT

FOLDERS = {"edgeunet": "edgeunet", "export": "edgeunet/exporting", "runtime": "edgeunet/runtime"}
_FILES = ["pyproject.toml", "README.md", "LICENSE"]


def module_files(folder: Path) -> list[Path]:
    """Python files of a folder that are modules; those among templates go into deployments."""
    return sorted(path for path in folder.rglob("*.py") if "templates" not in path.parts)


def extras() -> dict[str, list[str]]:
    """Extra -> what pyproject.toml wants for it."""
    text = (ROOT / "pyproject.toml").read_text()
    table = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    lists = re.findall(r"^(\w+) = \[(.*?)\]$", table, re.DOTALL | re.MULTILINE)
    return {name: re.findall(r'"([^"]+)"', wanted) for name, wanted in lists if name != "dev"}


def build_wheel(folder: Path) -> zipfile.ZipFile:
    """The wheel of a copy of the sources: the build leaves files beside them.

    Links are files with what they point to, as git leaves them on Windows without developer mode.
    `test_fresh_venv` installs from the links.
    """
    sources = folder / "sources"
    sources.mkdir()
    for name in _FILES:
        shutil.copy(ROOT / name, sources / name)
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name, sources / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for link in [path for path in (sources / "edgeunet").iterdir() if path.is_symlink()]:
        points_to = link.readlink().as_posix()
        link.unlink()
        link.write_text(points_to)
    target = folder / "wheel"
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "--no-index", "--disable-pip-version-check", "-w", str(target), str(sources),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = target.glob("*.whl")
    return zipfile.ZipFile(path)
