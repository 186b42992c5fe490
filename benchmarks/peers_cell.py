"""One net with one number of threads and one batch size: every column, timed in turns.

Each column lives in a process of its own, as it does for its users: threads of one engine get in
the way of another's even while they sleep, and most in that of threads that are not pinned to
cores, as ours are not.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peers_column import HINTS, LIBRARY, OURS, TORCH, images_of
from peers_nets import SIZE, Kept

from edgeunet.benchmark.peers import PEERS, peer_versions
from edgeunet.benchmark.timing import first_seconds, sampled_latencies
from edgeunet.bundle.bundle import REPORT_NAMES
from edgeunet.doctor import environment, instructions
from edgeunet.models.summary import count
from edgeunet.runtime.backends.candidates import candidates
from edgeunet.runtime.backends.choice import choose
from edgeunet.runtime.backends.openvino_library import openvino_core
from edgeunet.runtime.options import LoadOptions

Logits = npt.NDArray[np.float32]

_EAGER = f"{TORCH}eager"


def compiled_mark(kept: Kept, threads: int, batch: int) -> Path:
    """Exists if `torch.compile` has filled its cache for this cell: that takes a minute each."""
    return kept.folder / f"compiled-{threads}-{batch}"


@torch.inference_mode()
def compile_net(kept: Kept, threads: int, batch: int) -> None:
    """Fill the cache of `torch.compile`."""
    torch.set_num_threads(threads)
    torch.compile(kept.net())(torch.from_numpy(images_of(kept.bundle, batch)))
    compiled_mark(kept, threads, batch).touch()


def measure_cell(kept: Kept, threads: int, batch: int, *, budget: float) -> dict[str, Any]:
    """Median milliseconds of a frame, and agreement with PyTorch eager, by column.

    Columns that do not run are in `problems` with their reasons. `auto` is the column that the
    backend of this name chooses; it measures for itself.
    """
    names, problems = _columns(kept, threads, batch)
    answers: dict[str, Logits] = {}
    with ExitStack() as stack:
        columns: dict[str, Column] = {}
        first: dict[str, float] = {}
        for name in names:
            column = Column(kept, threads, batch, name)
            stack.callback(column.close)
            try:
                answers[name] = column.open()
                first[name] = first_seconds(column)
            except ColumnError as error:
                problems[name] = str(error)
            else:
                columns[name] = column
        times = sampled_latencies(columns, budget=budget, rounds=4, first=first)
    classes = {name: found.argmax(1) for name, found in answers.items()}
    agreement = {name: float(np.mean(found == classes[_EAGER])) for name, found in classes.items()}
    chosen, why = _auto(kept, threads, again=batch == 1)
    return {
        "row": kept.row.name,
        "threads": threads,
        "batch": batch,
        "ms": {name: statistics.median(each) / batch for name, each in times.items()},
        "calls": {name: len(each) for name, each in times.items()},
        "agreement": agreement,
        "gflops": count(kept.net(), height=SIZE[0], width=SIZE[1]).gflops,
        "miou": _miou(kept),
        "auto": chosen,
        "why": why,
        "problems": problems,
        "machine": environment() | peer_versions() | {"instructions": _instructions()},
    }


class ColumnError(Exception):
    """A column that does not run, and why."""


class Column:
    """The process of a column; each call computes the frames once."""

    def __init__(self, kept: Kept, threads: int, batch: int, name: str) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, str(Path(__file__).with_name("peers_column.py"))),
                *(str(kept.folder), kept.row.name, str(threads), str(batch), name),
            ],
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def open(self) -> Logits:
        """What it answers to the frames, once it is ready."""
        assert self._process.stdout is not None
        head = self._process.stdout.readline()
        if not head:
            raise ColumnError(self._last_words())
        shape = json.loads(head)
        content = self._process.stdout.read(4 * math.prod(shape))
        return np.frombuffer(content, np.float32).reshape(shape)

    def __call__(self) -> None:
        """Compute the frames once; ColumnError if it ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        if not self._process.stdout.read(1):
            raise ColumnError(self._last_words())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _last_words(self) -> str:
        said = self._process.communicate()[1].decode(errors="replace")
        return (said.strip().splitlines() or ["no word"])[-1]


def _miou(kept: Kept) -> dict[str, float]:
    """Percent on CamVid's val by stage of parity, of a net that was trained for it."""
    if not kept.row.of_camvid:
        return {}
    judged = json.loads((kept.bundle_path / REPORT_NAMES[0]).read_text())
    stages = {stage["name"]: stage["miou"] for stage in judged["stages"]}
    return {"pytorch": judged["reference_miou"], **stages}


def _columns(kept: Kept, threads: int, batch: int) -> tuple[list[str], dict[str, str]]:
    """Names of the columns, and why others are left out."""
    problems: dict[str, str] = {}
    found = candidates(kept.bundle, LoadOptions(threads=threads))
    names = [*(OURS + each.label for each in found), _EAGER]
    compiled = f"{TORCH}compiled"
    if compiled_mark(kept, threads, batch).exists():
        names.append(compiled)
    else:
        problems[compiled] = "not compiled beforehand by --prepare"
    capable = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    names += [LIBRARY, *(f"OpenVINO {each}" for each in HINTS if each in capable)]
    for peer in PEERS:
        if peer.missing is None and (kept.folder / "peers" / peer.name / "made").exists():
            names.append(peer.label)
        else:
            problems[peer.label] = peer.missing or "not converted; --prepare says why"
    return names, problems


def _instructions() -> str:
    """Such as "INT8: AMX, VNNI; BF16: AMX; FP16: none"."""
    found = instructions().items()
    return "; ".join(f"{kind}: {', '.join(names) or 'none'}" for kind, names in found)


def _auto(kept: Kept, threads: int, *, again: bool) -> tuple[str, str]:
    """The column that `auto` takes, and its reason; measured on one frame, for all batches."""
    choice = choose(kept.bundle, LoadOptions(threads=threads), again=again)
    return OURS + choice.use.label, choice.why
