"""Compile the CUDA kernels for every GPU that the wheel has them for: `make cubins`.

Downloads compilers from PyPI into build/cubins (300 MB), and writes runtime/gpu/kernels/cubins.
The same sources and versions give the same bytes. Needs no GPU, no CUDA toolkit, no C++ compiler.

NVRTC, NVIDIA's compiler as a library, compiles all of them: it makes a cubin from CUDA C++ by
itself. PyPI's wheels of nvcc for CUDA 11 and 12 hold parts of nvcc, not the program, and nvcc needs
a C++ compiler.

The oldest toolkit on PyPI that knows an architecture compiles for it. A driver runs the cubins of
older toolkits, and of newer ones up to its own major version (NVIDIA's "CUDA Compatibility"), so
these run on the most drivers: CUDA 11 for all up to sm90. CUDA 13 could not serve all of them: it
writes another ELF format (ABI version 8) even for sm75, and drivers of CUDA 12.7 and older have
never seen that one. CUDA 12 writes it for sm100 and newer only, which such drivers do not run.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import lzma
import os
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from edgeunet.runtime.gpu.kernels.shipped import CUBINS, INDEX, OPTIONS, SOURCES, sources_digest

DOWNLOADS = Path(__file__).parents[1] / "build" / "cubins"


@dataclass(frozen=True)
class Toolkit:
    """A version of CUDA, its packages on PyPI, and the architectures that it compiles for."""

    cuda: str
    packages: tuple[str, str]  # NVRTC; the headers
    capabilities: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its packages are."""
        return DOWNLOADS / self.cuda

    def install(self) -> None:
        """Download the packages, if they are not there."""
        done = self.folder / "packages.txt"
        if done.is_file() and done.read_text().split() == list(self.packages):
            return
        subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade",
                "--only-binary", ":all:", "--target", str(self.folder), *self.packages,
            ],
            check=True,
        )  # fmt: skip
        done.write_text("\n".join(self.packages))


TOOLKITS = (
    Toolkit(
        "11.8",
        ("nvidia-cuda-nvrtc-cu11==11.8.89", "nvidia-cuda-runtime-cu11==11.8.89"),
        ("sm75", "sm80", "sm86", "sm87", "sm89", "sm90"),
    ),
    Toolkit(
        "12.8",
        ("nvidia-cuda-nvrtc-cu12==12.8.93", "nvidia-cuda-runtime-cu12==12.8.90"),
        ("sm100", "sm120"),
    ),
    Toolkit(
        "12.9",
        ("nvidia-cuda-nvrtc-cu12==12.9.86", "nvidia-cuda-runtime-cu12==12.9.79"),
        ("sm121",),
    ),
    Toolkit(  # 12.8 calls it sm101. Its drivers are of CUDA 13.
        "13.0",
        ("nvidia-cuda-nvrtc==13.0.88", "nvidia-cuda-runtime==13.0.96"),
        ("sm110",),
    ),
)

# Registers that spill to memory are an error, as is every other remark of the compiler.
_STRICT = ("--ptxas-options=-warn-spills", "--ptxas-options=-warn-lmem-usage")
# NVRTC has the functions of the C library itself, but not its headers.
_HEADERS = {
    "math.h": "#define INFINITY __int_as_float(0x7f800000)\n",
    "stddef.h": "",
    "string.h": "",
}


def compile_cubin(toolkit: Toolkit, capability: str) -> bytes:
    """A cubin of the kernels. The toolkit must be installed; a process can use only one."""
    (builtins,) = toolkit.folder.rglob("libnvrtc-builtins.so.*")
    (library,) = toolkit.folder.rglob("libnvrtc.so.*")
    ctypes.CDLL(str(builtins))  # NVRTC of CUDA 13 does not look beside itself
    nvrtc = ctypes.CDLL(str(library))
    (include,) = {path.parent for path in toolkit.folder.rglob("cuda_fp16.h")}
    # NVRTC writes its process id into the names of an anonymous namespace: each cubin would differ.
    texts = {
        path.name: path.read_text(encoding="utf-8").replace(
            "\nnamespace {", "\ninline namespace kernels {"
        )
        for path in SOURCES
    }
    source = texts.pop(SOURCES[0].name)
    headers = {**_HEADERS, **texts}
    options = (f"-arch={capability.replace('sm', 'sm_')}", *OPTIONS, *_STRICT, f"-I{include}")

    program = ctypes.c_void_p()
    created = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), SOURCES[0].name.encode(),
        len(headers), _strings(headers.values()), _strings(headers),
    )  # fmt: skip
    failed = created or nvrtc.nvrtcCompileProgram(program, len(options), _strings(options))
    log = _read(nvrtc, program, "ProgramLog").rstrip(b"\0\n").decode()
    if failed or log:
        raise SystemExit(f"NVRTC {toolkit.cuda}, {capability}: {log or failed}")
    return _read(nvrtc, program, "CUBIN")


def _strings(texts: Any) -> Any:
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(encoded))(*encoded)


def _read(nvrtc: Any, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    failed = getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    content = ctypes.create_string_buffer(size.value)
    if failed or getattr(nvrtc, f"nvrtcGet{what}")(program, content):
        raise SystemExit(f"NVRTC gives no {what}")
    return content.raw


def main() -> None:
    """Download, compile, compress, and write the index last."""
    for toolkit in TOOLKITS:
        toolkit.install()
    jobs = [(toolkit, capability) for toolkit in TOOLKITS for capability in toolkit.capabilities]
    jobs.sort(key=lambda job: int(job[1].removeprefix("sm")))
    with get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        images = pool.starmap(compile_cubin, jobs, chunksize=1)
    CUBINS.mkdir(exist_ok=True)
    for path in CUBINS.iterdir():
        path.unlink()
    cubins = {}
    for (toolkit, capability), image in zip(jobs, images, strict=True):
        packed = lzma.compress(image, preset=9 | lzma.PRESET_EXTREME)
        (CUBINS / f"{capability}.cubin.xz").write_bytes(packed)
        cubins[capability] = {"cuda": toolkit.cuda, "sha256": hashlib.sha256(image).hexdigest()}
        print(
            f"{capability:<6} CUDA {toolkit.cuda}  {len(image):>7,} bytes, packed {len(packed):,}"
        )
    index = {"sources": sources_digest(), "cubins": cubins}
    (CUBINS / INDEX).write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
