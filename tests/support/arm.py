"""An ARM board of this machine's own: Debian's arm64 Python on qemu, with the wheels for it."""

from __future__ import annotations

import os
import platform
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from support.commands import ROOT

QEMU = "qemu-aarch64"
WAIT = 150.0  # seconds; each command takes ten where nothing else runs
_HUNG: list[object] = []
"""Commands that hung twice in this run."""
_NO_NETWORK = ("Could not resolve", "Failed to fetch", "error sending request", "dns error")


@dataclass(frozen=True)
class Processor:
    """What qemu and Linux call it; part: its number in /proc/cpuinfo."""

    name: str
    board: str
    part: int
    features: str


PROCESSORS = {
    processor.name: processor
    for processor in (
        # Neither has 8-bit dot products, as Raspberry Pis before the 5.
        Processor("cortex-a72", "Raspberry Pi 4 Model B Rev 1.5", 0xD08, "fp asimd crc32 cpuid"),
        # Dot products, as the Cortex-A78AE of Jetson Orin, which this qemu lacks.
        Processor("cortex-a76", "Raspberry Pi 5 Model B Rev 1.0", 0xD0B, "fp asimd asimddp cpuid"),
        # All that qemu knows: products of 8-bit matrices, SVE.
        Processor("max", "none", 0, "fp asimd asimddp i8mm sve cpuid"),
    )
}


@dataclass(frozen=True)
class Board:
    """Starts processes that see an ARM machine. Files of this machine keep their paths in them."""

    processor: Processor
    root: Path

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Python of the board with these arguments."""
        python = self.root / "usr" / "bin" / "python3"
        # One core: threads of ONNX Runtime that wait for each other spin, and where others compute
        # too an emulator of two then takes minutes for what takes a second.
        core = random.choice(sorted(os.sched_getaffinity(0)))
        qemu = ["taskset", "--cpu-list", str(core), QEMU, "-cpu", self.processor.name]
        # None of this machine's variables: some steer its own libraries.
        environment = {
            "PYTHONFAULTHANDLER": "1",  # see `_end`
            "EDGEUNET_MEASURE": "0",  # times of an emulator tell nothing
            "HOME": str(self.root),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(self.root / "wheels"), str(ROOT)]),
            "PYTHONPYCACHEPREFIX": str(self.root / "compiled"),
        }
        return subprocess.Popen(
            [*qemu, "-L", str(self.root), str(python), *map(str, arguments)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def succeeds(self, *arguments: object) -> str:
        """What `edgeunet` prints there.

        Qemu 7.2 hangs once in hundreds of starts, before a command has done anything and where not
        even SIGABRT reaches it: such a command gets a second try. If that hangs too, the test says
        nothing of edgeunet and is skipped; a second one of a run is not, since then it may be ours.
        """
        stuck = ""
        for _ in range(2):
            with self.start("-m", "edgeunet", *arguments) as process:
                try:
                    out, err = process.communicate(timeout=WAIT)
                except subprocess.TimeoutExpired:
                    stuck = _end(process)
                    print(f"{process.args!r} hung: {stuck}", file=sys.stderr)
                    continue
            assert process.returncode == 0, f"ended with {process.returncode}: {err}"
            return out
        if _HUNG:
            raise AssertionError(f"hung twice, as {_HUNG[0]!r} did: {stuck}")
        _HUNG.append(arguments)
        pytest.skip(f"the emulator hung twice, each time for {WAIT:.0f} s")


def _end(process: subprocess.Popen[str]) -> str:
    """End a process that hangs. Where its threads were: in Python and in the emulator."""
    threads = []
    for folder in Path(f"/proc/{process.pid}/task").iterdir():
        waits, call = ((folder / name).read_text().strip() for name in ("wchan", "syscall"))
        threads.append(f"{folder.name} in {waits}, {call}")
    process.send_signal(signal.SIGABRT)
    try:
        said = process.communicate(timeout=WAIT / 10)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[1]
    return "\n".join([*threads, said])


def make_board(processor: str, system: Path, folder: Path) -> Board:
    """A board of this processor, which shares the files of a system."""
    chosen = PROCESSORS[processor]
    for path in system.iterdir():
        (folder / path.name).symlink_to(path)
    described = folder / "proc"
    (described / "device-tree").mkdir(parents=True)
    (described / "device-tree" / "model").write_text(f"{chosen.board}\0")
    # ONNX Runtime crashes if cpuinfo shows the x86 processor.
    (described / "cpuinfo").write_text(
        "".join(
            f"processor\t: {core}\nFeatures\t: {chosen.features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {chosen.part:#x}\n"
            "CPU revision\t: 0\n\n"
            for core in range(os.cpu_count() or 1)
        )
    )
    return Board(chosen, folder)


def arm_system(session: Path) -> Path:
    """Files of Debian's arm64 Python, and wheels, made once in a session's folder; or skip."""
    if why := lacks():
        pytest.skip(why)
    system = session / "arm64"
    with FileLock(session / "arm64.lock"):  # of all workers one makes it
        if not system.is_dir():
            unfinished = session / "arm64.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            _unpack_debian(unfinished, session / "apt")
            _unpack_wheels(unfinished)
            (unfinished / "compiled").mkdir()
            unfinished.rename(system)
    return system


def lacks() -> str:
    """What this machine lacks to become an ARM one; empty if nothing."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "emulates ARM on Linux on x86_64 only"
    for program in (QEMU, "apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            return f"no {program}; tests/install_system_packages.sh installs Debian's qemu-user"
    return ""


def _unpack_debian(root: Path, apt: Path) -> None:
    """Unpack Python and all that it needs, with an apt of its own beside this machine's."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "APT::Update::Post-Invoke": "",
        "APT::Update::Post-Invoke-Success": "",
        "Dir::Cache": apt / "cache",
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
    }
    command = [
        "apt-get",
        "--quiet",
        *(f"--option={name}={value}" for name, value in options.items()),
    ]
    _fetch([*command, "update"])
    wanted = ["python3", "libstdc++6"]
    _fetch([*command, "install", "--yes", "--no-install-recommends", "--download-only", *wanted])
    for package in (apt / "cache" / "archives").glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)


def _unpack_wheels(root: Path) -> None:
    """Unpack the wheels that a device gets, for this Python, and those of serve."""
    version = (root / "usr" / "bin" / "python3").readlink().name.removeprefix("python")
    extras = [f"--extra={extra}" for extra in ("cpu", "video", "serve")]
    wheels = ["--target", str(root / "wheels"), "--constraint", str(ROOT / "constraints.txt")]
    uv("install", "--requirement", str(ROOT / "pyproject.toml"), *extras, *wheels, python=version)


def uv(*arguments: str, python: str) -> str:
    """What `uv pip` prints about wheels for Linux on ARM of this version of Python; or skip.

    uv evaluates the markers of requirements for ARM. pip evaluates them for the machine it is on.
    """
    return _fetch(
        [
            sys.executable, "-m", "uv", "pip", *arguments, "--no-build", "--no-progress",
            "--no-python-downloads", "--system-certs",
            "--python-platform", "aarch64-manylinux_2_28", "--python-version", python,
        ]
    )  # fmt: skip


def _fetch(command: list[str]) -> str:
    """What a command prints; skip if it reaches no network."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    said = done.stdout + done.stderr
    if any(words in said for words in _NO_NETWORK):
        pytest.skip(f"no packages for ARM within reach: {said.splitlines()[-1]}")
    raise AssertionError(said)
