"""Entries in processes of their own: start-up, memory, timed calls, and how they end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeunet.benchmark import worker as module
from edgeunet.benchmark.entries import Entry
from edgeunet.benchmark.worker import Fresh, Worker
from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import BackendError
from edgeunet.runtime.backends.candidates import Candidate
from edgeunet.runtime.options import LoadOptions, Tiling


def entry(bundle: Path) -> Entry:
    options = LoadOptions(threads=1, tiling=Tiling(blend="valid"))
    return Entry(open_bundle(bundle), options, Candidate("onnxruntime", "fp32"))


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Three frames of a size that the bundles do not have."""
    path = tmp_path / "frames.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (3, 80, 120, 3), np.uint8))
    return path


@pytest.fixture
def start(frames: Path) -> Iterator[Callable[..., Worker]]:
    """Starts workers, and ends them after the test."""
    with ExitStack() as stack:

        def begin(entry: Entry, batch: int = 1) -> Worker:
            worker = Worker(entry, batch, frames)
            stack.callback(worker.close)
            return worker

        yield begin


def plain(bundle: Path) -> Entry:
    return replace(entry(bundle), options=LoadOptions(threads=1))


def test_a_fresh_process_tells_what_it_took_and_stays(
    start: Callable[..., Worker],
    int8_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('a file that lies here was run')")
    monkeypatch.chdir(tmp_path)
    worker = start(plain(int8_bundle), batch=2)
    found = worker.fresh
    graph = (int8_bundle / "model.fp32.onnx").stat().st_size / 1e6
    assert found.size_mb == pytest.approx(graph), "the graph that it runs, and no other"
    assert 20 < found.memory_mb < 2000
    assert 0.05 < found.start_s < 60
    for _ in range(3):  # more calls than there are batches of two in three frames
        worker.net()
        worker.whole()
    assert len(worker.infers) == 3 and all(0 < each < 60 for each in worker.infers)


def test_tiles_are_segmented_frame_by_frame(
    start: Callable[..., Worker], fp32_bundle: Path
) -> None:
    worker = start(entry(fp32_bundle), batch=2)
    worker.whole()
    assert len(worker.infers) == 1


def test_what_fails_there_is_told_here(
    start: Callable[..., Worker], fp32_bundle: Path, tmp_path: Path
) -> None:
    gone = entry(fp32_bundle)
    gone = replace(gone, bundle=replace(gone.bundle, root=tmp_path / "gone"))
    with pytest.raises(BackendError, match=r"^.*gone is not a directory; expected a bundle"):
        start(gone)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11: it said nothing"),
        ("print('a'); print('b \\x1b[2J'); raise SystemExit(3)", r"ended by code 3: b \\x1b\[2J"),
        ("import sys; sys.exit('no')", "^no$"),
    ],
)
def test_a_crash_is_told(
    start: Callable[..., Worker],
    code: str,
    words: str,
    fp32_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_command", lambda *job: [sys.executable, "-c", code])
    with pytest.raises(BackendError, match=words):
        start(entry(fp32_bundle))


def test_a_crash_in_a_call_is_told(
    start: Callable[..., Worker], fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start(plain(fp32_bundle))
    worker._process.kill()
    worker._process.wait()
    for call in (worker.net, worker.whole):
        with pytest.raises(BackendError, match="its process ended by signal 9"):
            call()


def test_a_process_that_hangs_is_told(
    start: Callable[..., Worker], fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.01)
    with pytest.raises(BackendError, match=r"took more than 0\.01 s to start"):
        start(entry(fp32_bundle))


def test_lines_of_libraries_are_no_answers(
    start: Callable[..., Worker], fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = json.dumps({"start_s": 1.0, "memory_mb": 2.0, "size_mb": 3.0})
    code = f"print('loading'); print('50 %', end=''); print({module._MARK + fresh!r}); input()"
    monkeypatch.setattr(module, "_command", lambda *job: [sys.executable, "-c", code])
    assert start(entry(fp32_bundle)).fresh == Fresh(1.0, 2.0, 3.0)
