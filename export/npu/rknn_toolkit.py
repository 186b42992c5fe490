"""Rockchip's compiler and simulator, rknn-toolkit2: an environment of its own, and a process.

It wants older packages than edgeunet, prints what it does, and ends processes. So it gets a virtual
environment in the user's cache and is talked to by a pipe; its prints go to a log.
"""

from __future__ import annotations

import json
import os
import platform
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.schema import SchemaError, load_json
from edgeunet.errors import ExportError, UsageError, first_line
from edgeunet.files import locked, new_directory, write_bytes, write_json
from edgeunet.user_folders import cache_folder

VERSION = "2.5.0"
PINS = (
    f"rknn-toolkit2=={VERSION}",
    "fast-histogram==0.14",
    "numpy==1.26.4",
    "onnx==1.17.0",
    "onnxruntime==1.23.2",
    "opencv-python-headless==4.11.0.86",
    "protobuf==4.25.4",
    "psutil==7.0.0",
    "ruamel.yaml==0.18.10",
    "scipy==1.13.1",
    "setuptools==80.9.0",  # the last ones with pkg_resources
    "tqdm==4.67.1",
)
"""All that it imports, without what these packages depend on: PyTorch alone would be GBs."""
PYTHONS = ("3.11", "3.12", "3.10")
"""Versions that have wheels of all of them."""

_WORKER = Path(__file__).with_name("rknn_worker.py")
_RECORD = "pins.json"
_SECONDS = 3600  # for one step; a net of 30 million weights is compiled in minutes
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
# Lines of a log that say nothing of a failure.
_NOISE = re.compile(
    r"[IDW] |E rknn-toolkit2 version|--> |\s|Traceback|During handling|The above exception|$"
    r"|RefusedError|SystemExit|.*: Traceback|[\w ]+=\S+, "
)
_LAYER = re.compile(
    r"D RKNN: \[[\d:.]+\] \d+ +(?P<operator>\S+) +(?P<type>\S+) +(?P<processor>NPU|CPU|GPU) +\S+ "
    r"+\S+ +\d+/\d+/(?P<cycles>\d+) +\S+ +(?P<name>.+)"
)
_ENDS = ("InputOperator", "OutputOperator")


@dataclass(frozen=True)
class Layer:
    """A layer as the compiler placed it.

    operator: such as "ConvClip". type: such as "INT8". processor: "NPU", "CPU" or "GPU". cycles: as
    the compiler estimates them.
    """

    name: str
    operator: str
    type: str
    processor: str
    cycles: int

    @property
    def is_end(self) -> bool:
        """Whether it converts an input or an output of the net, which the CPU always does."""
        return self.operator in _ENDS


def read_layers(log: str) -> tuple[Layer, ...]:
    """The table of layers in a log of the compiler.

    Example:
        >>> from edgeunet.exporting.npu.rknn_toolkit import read_layers
        >>> line = "1 Conv INT8 NPU (1,3,8,8),(8,3,3,3) (1,8,4,4) 12/34/34 9 Conv:/head/Conv"
        >>> read_layers(f"D RKNN: [10:00:00.000] {line}")[0].cycles
        34
    """
    found = (_LAYER.fullmatch(line.rstrip()) for line in log.splitlines())
    return tuple(
        Layer(each["name"], each["operator"], each["type"], each["processor"], int(each["cycles"]))
        for each in found
        if each is not None
    )


def reason_in(log: str) -> str:
    r"""The last line of a log that says why something failed; empty if there is none.

    Example:
        >>> from edgeunet.exporting.npu.rknn_toolkit import reason_in
        >>> reason_in("\n".join(["E build: Traceback", "  File x", "ValueError: no such op"]))
        'ValueError: no such op'
    """
    lines = [_COLOUR.sub("", line.split("\r")[-1]).rstrip() for line in log.splitlines()]
    said = [line for line in lines if not _NOISE.match(line)]
    return first_line(said[-1].removeprefix("E "), most=300) if said else ""


def ensure_environment(report: Callable[[str], None]) -> Path:
    """The Python of the toolkit's environment, which is made if it is missing or has other pins.

    It appears whole or not at all. Another process that needs it waits.

    Args:
        report: told what is done, if it takes long.

    Raises:
        UsageError: the toolkit does not exist for this machine. ExportError: no version of Python
            that it has wheels for, or pip cannot install it.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise UsageError(
            f"rknn-toolkit2 is for Linux on x86-64, and this is {platform.system()} on "
            f"{platform.machine()}. Deploy on such a machine and copy the folder."
        )
    folder = cache_folder() / "rknn-toolkit2"
    python = folder / "bin" / "python"
    with locked(folder, waiting=lambda: report("waiting for another process that makes it")):
        if _recorded(folder) != [*PINS]:
            _make(folder, report)
    return python


def _recorded(folder: Path) -> object:
    """The pins that an environment was made of; None if it is not whole."""
    try:
        found = load_json(folder / _RECORD)
    except (OSError, SchemaError):
        return None
    # An upgrade of the system may have removed the Python that it links to.
    return found if (folder / "bin" / "python").exists() else None


def _make(folder: Path, report: Callable[[str], None]) -> None:
    report(f"installing rknn-toolkit2 {VERSION} in {folder}, once: 0.2 GB to fetch, 0.6 GB on disk")
    found = _python()
    with new_directory(folder, force=True, strangers=lambda _: ()) as new:
        _call([found, "-m", "venv", str(new)], "Python cannot make a virtual environment")
        # It is called by this path, as a script of pip would name another folder later.
        pip = [
            str(new / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--no-input",
            "--no-deps",
            "--no-compile",
        ]
        _call([*pip, "--only-binary", ":all:", *PINS], "pip cannot install rknn-toolkit2")
        write_json(new / _RECORD, PINS)


def _python() -> str:
    """A Python that the toolkit has wheels for: this one, or another on the path."""
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if own in PYTHONS:
        return sys.executable
    for version in PYTHONS:
        if found := shutil.which(f"python{version}"):
            return found
    raise ExportError(
        f"rknn-toolkit2 {VERSION} has wheels for Python {', '.join(sorted(PYTHONS))}, and this is "
        f"{own}. Install one of these beside it, such as python3.12 and python3.12-venv."
    )


def _call(command: Sequence[str], problem: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if ran.returncode == 0:
        return
    lines = [line.strip() for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ")] or lines or ["no reason"]
    raise ExportError(
        f"{problem}: {first_line(errors[-1].removeprefix('ERROR: '))} Without a network, fetch "
        f"the wheels elsewhere (`pip download --no-deps -d wheels {' '.join(PINS)}`), copy the "
        "folder, and set PIP_NO_INDEX=1 and PIP_FIND_LINKS=wheels."
    )


class Toolkit:
    """A process that compiles nets and simulates them; a context manager that ends it.

    Args:
        report: see `ensure_environment`. advice: what to do if it fails.

    Raises:
        ExportError: the toolkit failed; the message quotes its log, which is kept.
        See also `ensure_environment`.
    """

    def __init__(self, report: Callable[[str], None], *, advice: str = "") -> None:
        self._advice = advice
        python = ensure_environment(report)
        self._folder = tempfile.TemporaryDirectory(prefix="edgeunet-rknn-")
        self._place = Path(self._folder.name)
        reading, writing = os.pipe()
        self._answers = os.fdopen(reading, "rb")
        try:
            with (self._place / "log").open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603
                    # Nothing of the caller's environment is imported, and no path of the user's.
                    [str(python), "-I", "-B", str(_WORKER), str(writing)],
                    cwd=self._place,  # it leaves files there
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    bufsize=0,
                    pass_fds=(writing,),
                    env={**os.environ, "TMPDIR": self._folder.name},
                )
        finally:
            os.close(writing)

    def __enter__(self) -> Toolkit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and remove what it left."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._answers):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()

    def build(
        self,
        graph: Path,
        *,
        soc: str,
        mean: Sequence[float],
        std: Sequence[float],
        output: Path | None = None,
    ) -> tuple[Layer, ...]:
        """Compile a graph of batch 1 for frames of bytes; the simulator then runs it.

        Args:
            mean, std: of the raw values, see `mean_and_std`. output: the file to write.

        Returns:
            The layers, as the compiler placed them.
        """
        written = None if output is None else str(output.resolve())
        self._ask(
            "build", graph=str(graph.resolve()), soc=soc, mean=[*mean], std=[*std], output=written
        )
        layers = read_layers(self._log())
        if not layers:
            raise self._failure("its log has no table of layers")
        return layers

    def run(self, frames: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """All outputs of the net that was compiled last, on bytes (N, H, W, C)."""
        given, found = self._place / "frames.npy", self._place / "outputs.npz"
        np.save(given, frames)
        self._ask("run", frames=str(given), output=str(found))
        with np.load(found) as outputs:
            return [outputs[name] for name in outputs.files]

    def _ask(self, step: str, **arguments: object) -> None:
        """Let the process do one step; ExportError if it fails, ends or takes too long."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"step": step, **arguments}).encode() + b"\n")
            answer = self._answer()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise self._failure(self._ending())
        if not json.loads(answer)["ok"]:
            raise self._failure(f"{step} failed without a reason")

    def _answer(self) -> bytes:
        """A line from the process; empty if it has ended."""
        ready, _, _ = select.select([self._answers], [], [], _SECONDS)
        if not ready:
            raise self._failure(f"it took more than {_SECONDS} s")
        return self._answers.readline()

    def _ending(self) -> str:
        deadline = time.monotonic() + 5
        while (code := self._process.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if code is not None and code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it ended with code {code}"

    def _log(self) -> str:
        return (self._place / "log").read_text(encoding="utf-8", errors="replace")

    def _failure(self, otherwise: str) -> ExportError:
        """An error that quotes the log, or says something else if that holds no reason.

        A log that a signal has cut ends anywhere.
        """
        log = self._log()
        quoted = "" if (self._process.poll() or 0) < 0 else reason_in(log)
        kept = cache_folder() / "rknn-toolkit2.log"
        write_bytes(kept, log.encode())
        return ExportError(
            f"rknn-toolkit2 {VERSION}: {quoted or otherwise} Its log is {kept}. "
            f"{self._advice}".rstrip()
        )
