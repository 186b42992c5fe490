"""An entry in a process of its own: what its start costs, and how fast it is then.

What a process has loaded before would count as memory and make the start faster, and threads of one
engine get in the way of another's even while they sleep (docs/benchmarks.md). A library that
crashes ends its own process only, and that is told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BackendError, printable

if TYPE_CHECKING:
    from ..runtime.frames import Frame
    from ..runtime.segmenter import Segmenter
    from .entries import Entry

_SECONDS = 900  # TensorRT may have to build an engine
_MARK = "edgeunet.benchmark.worker: "


@dataclass(frozen=True)
class Fresh:
    """start_s: from an empty interpreter to the first mask. memory_mb: largest resident set.

    size_mb: of the files of the bundle that opening read, or of a peer's model.
    """

    start_s: float
    memory_mb: float
    size_mb: float


class Worker:
    """A process that has loaded an entry and segmented one batch of golden frames.

    fresh: what that took. infers: seconds of the net in each call of `whole`.

    Args:
        batch: frames of a call; a tiled entry takes them one by one. frames: .npy (N, H, W, C) of
            frames that the calls take in turn.

    Raises:
        BackendError: it fails there, crashes, or takes more than a quarter of an hour; also later,
        if a call does.
    """

    def __init__(self, entry: Entry, batch: int, frames: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            _command(entry, batch, frames),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.infers: list[float] = []
        self._late = False
        late = Timer(_SECONDS, self._too_late)
        late.start()
        try:
            self.fresh = Fresh(**self._answer())
        except BackendError:
            self.close()
            if self._late:
                raise BackendError(f"{entry.name} took more than {_SECONDS} s to start.") from None
            raise
        finally:
            late.cancel()

    def net(self) -> None:
        """Compute the net alone on the next batch."""
        self._ask("net")

    def whole(self) -> None:
        """Segment the next batch, with pre- and post-processing."""
        self.infers.append(self._ask("whole"))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _too_late(self) -> None:
        self._late = True
        self._process.kill()

    def _ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended; the answer says how
        return self._answer()

    def _answer(self) -> Any:
        """The next answer; libraries print other lines."""
        assert self._process.stdout is not None
        said = "it said nothing"
        for line in self._process.stdout:
            before, mark, answer = line.partition(_MARK)
            if mark:
                return json.loads(answer)
            said = before.strip() or said
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"code {code}"
        last = printable(said)
        raise BackendError(last if code == 1 else f"its process ended by {how}: {last}")


def _command(entry: Entry, batch: int, frames: Path) -> list[str]:
    made = entry.made
    job = {
        "bundle": str(entry.bundle.root),
        "batch": batch,
        "frames": str(frames),
        "options": asdict(entry.options),
        "candidate": entry.candidate,
        "peer": entry.peer and entry.peer.name,
        "made": made and [str(made.path), made.shape, made.outputs],
    }
    # What this process imports, the new one does; no module that lies where the command was called.
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main(sys.argv[1])"
    return [sys.executable, "-c", code, json.dumps(job)]


def main(text: str) -> None:
    """Do a job of `Worker` in this process: load, tell, and compute for each line that comes."""
    started = time.perf_counter()
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
            golden = list(islice(cycle(bundle.golden().frames), job["batch"]))
            segmenter.backend.segment(Batch.of(golden))
            found = Fresh(
                time.perf_counter() - started,
                _largest_resident() / 1e6,
                sum(path.stat().st_size for path in model) / 1e6,
            )
            _tell(asdict(found))
            batches = _batches(Path(job["frames"]), 1 if entry.tiling else job["batch"])
            calls = {"net": _nets(segmenter, batches), "whole": _wholes(segmenter, batches)}
            for line in sys.stdin:
                _tell(next(calls[line.strip()]))
    except EdgeUNetError as error:
        sys.exit(str(error))


def _tell(answer: object) -> None:
    print(_MARK + json.dumps(answer), flush=True)


def _batches(path: Path, size: int) -> list[list[Frame]]:
    """All frames, in batches of this size; those that fill none are left out."""
    frames = list(np.load(path, allow_pickle=False))
    frames = list(islice(cycle(frames), max(size, len(frames))))
    return [frames[at : at + size] for at in range(0, len(frames) - size + 1, size)]


def _nets(segmenter: Segmenter, batches: Sequence[list[Frame]]) -> Iterator[None]:
    """Computes the net alone on each batch in turn."""
    from ..runtime.frames import Batch

    calls: list[Callable[[], object]] = [
        segmenter.backend.net_alone(Batch.of(each)) for each in batches
    ]
    for call in cycle(calls):
        call()
        yield


def _wholes(segmenter: Segmenter, batches: Sequence[list[Frame]]) -> Iterator[float]:
    """Segments each batch in turn; seconds of the net."""
    from ..runtime.frames import Batch

    for each in cycle(batches):
        yield segmenter.backend.segment(Batch.of(list(each))).timings.infer


def _candidate(values: list[Any]) -> Any:
    from ..runtime.backends.candidates import Candidate

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
