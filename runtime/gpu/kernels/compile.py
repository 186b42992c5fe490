"""kernels.cu -> machine code for one compute capability, compiled once with nvcc, loaded, kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from edgeunet.errors import BackendError
from edgeunet.files import write_bytes

from ..cuda import CudaDevice, Module

SOURCES = (Path(__file__).with_name("kernels.cu"), Path(__file__).with_name("pixels.cuh"))
FLAGS = ("-cubin", "-std=c++17", "-fmad=false")
"""Products and sums are not fused: pixels.cuh says where a rounding is left out."""

_DIGEST_BYTES = 32


def load_kernels(device: CudaDevice, folder: Path | None) -> Module:
    """The kernels on a device.

    With a folder, the bundle's `engines/`, they are read from there, or compiled and kept there.
    The name holds a hash of the sources and flags, and the file ends with the SHA-256 of the rest:
    one that is old, torn, changed, or refused by the driver is compiled anew; without nvcc it is an
    error. Only what the driver has loaded is kept.

    Raises:
        BackendError: nvcc is missing or refuses, the driver refuses what it made, or the folder
            cannot be written.
    """
    if folder is None:
        return _load_compiled(device, _compile(device.capability, "they are not kept anywhere"))
    path = folder / image_name(device.capability)
    reason = "is not there"
    if path.exists():
        try:
            image = _read(path)
            if image is not None:
                return device.load_module(image)
            reason = "is damaged"
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
        except BackendError as error:  # of a toolkit that is newer than the driver
            reason = f"was refused ({error})"
    image = _compile(device.capability, f"{path} {reason}")
    module = _load_compiled(device, image)
    try:
        write_bytes(path, image + hashlib.sha256(image).digest())
    except OSError as error:
        raise BackendError(
            f"the CUDA kernels were compiled, but {path} cannot be written: {error.strerror}. Make "
            f"{folder} writable for the first run, or copy the bundle to where it is."
        ) from None
    return module


def _read(path: Path) -> bytes | None:
    """An image that was kept; None for one that is torn or changed."""
    content = path.read_bytes()
    image, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    return image if image and hashlib.sha256(image).digest() == digest else None


def image_name(capability: str) -> str:
    """File name of the kernels' cubin: `kernels-sm87-0123456789ab.cubin`."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    return f"kernels-{capability}-{digest.hexdigest()[:12]}.cubin"


def _load_compiled(device: CudaDevice, image: bytes) -> Module:
    try:
        return device.load_module(image)
    except BackendError as error:
        raise BackendError(
            f"the driver, of CUDA {device.driver}, refuses the kernels that {find_nvcc()} made: "
            f"{error} Update the driver, or let CUDA_HOME name an older toolkit."
        ) from error


def _compile(capability: str, reason: str) -> bytes:
    nvcc = find_nvcc()
    if nvcc is None:
        raise BackendError(
            f"the CUDA kernels for {capability} must be compiled, since {reason}, and no nvcc was "
            "found on PATH, in CUDA_HOME or in /usr/local/cuda. Install the CUDA toolkit (`apt "
            "install` cuda-toolkit-12-6 on JetPack 6, cuda-toolkit-13-0 on JetPack 7), or run the "
            "bundle where nvcc is on the same kind of GPU, and copy its "
            f"engines/{image_name(capability)}."
        )
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "kernels.cubin"
        architecture = f"-arch={capability.replace('sm', 'sm_')}"
        done = subprocess.run(  # noqa: S603 - the compiler that this machine's owner chose
            [nvcc, *FLAGS, architecture, "-o", str(output), str(SOURCES[0])],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or not output.is_file():
            words = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
            raise BackendError(
                f"{nvcc} could not compile the CUDA kernels for {capability}: {words}\n"
                f"A CUDA toolkit that knows {capability} and a C++ compiler that it takes are "
                "needed; CUDA_HOME or PATH chooses among several."
            )
        return output.read_bytes()


def find_nvcc() -> str | None:
    """Path of nvcc: on PATH, in CUDA_HOME, or where NVIDIA's packages put it; None elsewhere."""
    homes = [Path(home) for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    beside = os.pathsep.join(str(home / "bin") for home in homes)
    return shutil.which("nvcc") or shutil.which("nvcc", path=beside)
