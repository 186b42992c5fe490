"""Compiles and runs the C++ that `edgeunet deploy --to cpp` writes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeunet.bundle.manifest import BYTE_FILTERS, MANIFEST_NAME, Flavour, flavour_file
from edgeunet.bundle.schema import encode
from edgeunet.data.normalise import scaling
from edgeunet.exporting.deploy import base
from edgeunet.exporting.deploy.cpp import write_golden
from edgeunet.files import sha256, write_json
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.frames import Frame
from support.compiling import WARNINGS, kept_folder
from support.pixels import Small

TEMPLATES = base.TEMPLATES / "cpp"
_SOURCE = Path(__file__).with_name("cpp_api.cpp")
_HEADER = "onnxruntime_cxx_api.h"
_SANITIZED = ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@cache
def onnxruntime_root() -> Path:
    """A folder as of a release of ONNX Runtime: the wheel's library, and Debian's headers."""
    folders = [Path(place) / "onnxruntime" for place in ("/usr/local/include", "/usr/include")]
    headers = [folder for folder in folders if (folder / _HEADER).is_file()]
    if not headers:
        pytest.skip(f"no {_HEADER}, which tests/install_system_packages.sh brings")
    libraries = list((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not libraries:
        pytest.skip("the wheel of onnxruntime has no library for C++")
    name = hashlib.sha256(f"{headers[0]} {libraries[0]}".encode()).hexdigest()[:16]
    root = kept_folder() / f"onnxruntime-{name}"
    (root / "lib").mkdir(parents=True, exist_ok=True)
    for link, target in (
        (root / "include", headers[0]),
        (root / "lib" / "libonnxruntime.so", libraries[0]),
        (root / "lib" / "libonnxruntime.so.1", libraries[0]),
    ):
        with suppress(FileExistsError):  # another process of the tests made it
            link.symlink_to(target)
    return root


@cache
def checker() -> Path:
    """`cpp_api.cpp`, compiled with all warnings as errors, and with sanitizers."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the header with")
    root = onnxruntime_root()
    command = [compiler, "-std=c++17", *WARNINGS, "-Wpedantic", "-Wconversion", "-Wshadow"]
    command += [*_SANITIZED, f"-I{TEMPLATES}", f"-I{TEMPLATES / 'include'}"]
    command += [f"-isystem{root / 'include'}", str(_SOURCE), f"-L{root / 'lib'}", "-lonnxruntime"]
    command += [f"-Wl,-rpath,{root / 'lib'}"]
    content = hashlib.sha256("\n".join(command).encode())
    for path in (_SOURCE, *sorted(TEMPLATES.rglob("*.?pp"))):
        content.update(path.read_bytes())
    program = kept_folder() / f"check-{content.hexdigest()[:16]}"
    if not program.exists():
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            made = Path(folder) / program.name
            done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            made.replace(program)
    return program


def check(*arguments: object) -> tuple[int, str]:
    """Exit code and output of `check MODEL GOLDEN`; 2 with one line is an error that it names."""
    command = [str(checker()), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def assert_masks(small: Small, frames: list[Frame], folder: Path) -> None:
    """The header makes the runtime's image and masks of frames of one size."""
    outputs, size = small.outputs(frames), frames[0].shape[:2]
    masks = small.finish()(*outputs, (size[0], size[1]))
    write_golden(folder / "golden", np.stack(frames), masks)
    model = write_small(small, folder / "model")
    code, said = check(model, folder / "golden")
    assert code == 0, said

    spec = small.manifest.input
    assert check("prepare", model, folder / "golden", folder / "image") == (0, "")
    expected = Preprocessor(spec)(frames)
    found = np.fromfile(folder / "image", np.float32).reshape(expected.shape)
    if spec.filter in BYTE_FILTERS or size == (spec.height, spec.width):
        np.testing.assert_array_equal(found, expected)
    else:
        full_scale = np.ptp(np.asarray(spec.levels)) * np.abs(scaling(spec)[0]).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * full_scale)


def write_small(small: Small, folder: Path, flavour: Flavour = "fp32") -> Path:
    """A net without a gate, as the folder that the header opens."""
    folder.mkdir()
    path = folder / flavour_file(flavour)
    onnx.save(small.model, path)
    manifest = replace(small.manifest, files={path.name: sha256(path)})
    write_json(folder / MANIFEST_NAME, encode(manifest))
    return folder
