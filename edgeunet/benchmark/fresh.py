"""Start-up time and memory of one entry, each in a process of its own.

What a process has loaded before would count as memory and make the start faster. A library that
crashes ends its own process only, and that is told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, printable

if TYPE_CHECKING:
    from .entries import Entry

_SECONDS = 900  # TensorRT may have to build an engine
_MARK = "edgeunet.benchmark.fresh: "


@dataclass(frozen=True)
class Fresh:
    """start_s: from an empty interpreter to the first mask. memory_mb: largest resident set.

    size_mb: of the files of the bundle that opening read, or of a peer's model.
    """

    start_s: float
    memory_mb: float
    size_mb: float


def measure_fresh(entry: Entry, batch: int) -> Fresh:
    """Load an entry in a new process and segment one batch of golden frames.

    Raises:
        BackendError: it fails there, crashes, or takes more than a quarter of an hour.
    """
    made = entry.made
    job = {
        "bundle": str(entry.bundle.root),
        "batch": batch,
        "options": asdict(entry.options),
        "candidate": entry.candidate,
        "peer": entry.peer and entry.peer.name,
        "made": made and [str(made.path), made.shape, made.outputs],
    }
    # What this process imports, the new one does; no module that lies where the command was called.
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main(sys.argv[1])"
    command = [sys.executable, "-c", code, json.dumps(job)]
    try:
        ran = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise BackendError(f"{entry.name} took more than {_SECONDS} s to start.") from None
    lines = [line for line in ran.stdout.splitlines() if line.startswith(_MARK)]
    if ran.returncode or not lines:
        said = [line for line in ran.stderr.splitlines() if line.strip()]
        how = f"signal {-ran.returncode}" if ran.returncode < 0 else f"code {ran.returncode}"
        last = printable(said[-1].strip()) if said else "it said nothing"
        raise BackendError(last if ran.returncode == 1 else f"its process ended by {how}: {last}")
    return Fresh(**json.loads(lines[-1].removeprefix(_MARK)))


def main(text: str) -> None:
    """Do a job of `measure_fresh`, in this process, and print what was found."""
    started = time.perf_counter()
    from itertools import cycle, islice

    from ..bundle.bundle import open_bundle
    from ..errors import EdgeUNetError
    from ..runtime.frames import Batch
    from .entries import Entry, peer_called
    from .tools import Made

    job = json.loads(text)
    candidate, peer, made = job["candidate"], job["peer"], job["made"]
    read: set[Path] = set()
    try:
        bundle = open_bundle(job["bundle"])
        sys.addaudithook(_note_files(bundle.root, read))
        entry = Entry(
            bundle,
            _options(job["options"]),
            candidate and _candidate(candidate),
            peer and peer_called(peer),
            made and Made(Path(made[0]), tuple(made[1]), made[2]),
        )
        with entry.open() as segmenter:
            model = set(read) if made is None else _with_stem(Path(made[0]))
            frames = list(islice(cycle(bundle.golden().frames), job["batch"]))
            segmenter.backend.segment(Batch.of(frames))
    except EdgeUNetError as error:
        sys.exit(str(error))
    found = Fresh(
        time.perf_counter() - started,
        _largest_resident() / 1e6,
        sum(path.stat().st_size for path in model) / 1e6,
    )
    print(_MARK + json.dumps(asdict(found)))


def _candidate(values: list[Any]) -> Any:
    from ..runtime.backends.choice import Candidate

    return Candidate(*values)


def _options(values: dict[str, Any]) -> Any:
    from ..runtime.options import LoadOptions, Tiling

    tiling = values["tiling"]
    del values["reading"]  # golden frames are fitted to the net already
    return LoadOptions(**{**values, "tiling": tiling and Tiling(**tiling)})


def _note_files(root: Path, into: set[Path]) -> Any:
    """An audit hook that notes the files of a folder that are opened."""
    folder = os.path.join(os.path.realpath(root), "")  # noqa: PTH118

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            path = os.path.realpath(arguments[0])
            if path.startswith(folder):
                into.add(Path(path))

    return hook


def _with_stem(path: Path) -> set[Path]:
    """A model's file and those that belong to it, such as its weights."""
    return set(path.parent.glob(f"{path.stem}.*"))


def _largest_resident() -> int:
    """Bytes. Linux counts this process alone; `ru_maxrss` may hold what its parent had."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
