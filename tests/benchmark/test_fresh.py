"""Start-up and memory, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeunet.benchmark import fresh
from edgeunet.benchmark.entries import Entry
from edgeunet.benchmark.fresh import measure_fresh
from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import BackendError
from edgeunet.runtime.backends.choice import Candidate
from edgeunet.runtime.options import LoadOptions, Tiling


def entry(bundle: Path) -> Entry:
    options = LoadOptions(threads=1, tiling=Tiling(blend="valid"))
    return Entry(open_bundle(bundle), options, Candidate("onnxruntime", "fp32"))


def test_a_fresh_process_tells_what_it_took(
    int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('a file that lies here was run')")
    monkeypatch.chdir(tmp_path)
    found = measure_fresh(entry(int8_bundle), batch=2)
    graph = (int8_bundle / "model.fp32.onnx").stat().st_size / 1e6
    assert found.size_mb == pytest.approx(graph), "the graph that it runs, and no other"
    assert 20 < found.memory_mb < 2000
    assert 0.05 < found.start_s < 60


def test_what_fails_there_is_told_here(fp32_bundle: Path, tmp_path: Path) -> None:
    gone = entry(fp32_bundle)
    gone = replace(gone, bundle=replace(gone.bundle, root=tmp_path / "gone"))
    with pytest.raises(BackendError, match="gone is not a directory; expected a bundle"):
        measure_fresh(gone, batch=1)


@pytest.mark.parametrize(
    ("code", "err", "words"),
    [(-11, "", "ended by signal 11: it said nothing"), (3, "a\nb\n", "ended by code 3: b")],
)
def test_a_crash_is_told(
    code: int, err: str, words: str, fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = SimpleNamespace(returncode=code, stdout="", stderr=err)
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: ran)
    with pytest.raises(BackendError, match=words):
        measure_fresh(entry(fp32_bundle), batch=1)


def test_a_process_that_hangs_is_told(fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "_SECONDS", 0.01)
    with pytest.raises(BackendError, match=r"took more than 0\.01 s to start"):
        measure_fresh(entry(fp32_bundle), batch=1)


def test_a_job_prints_one_line_of_json(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[str] = []
    ran = SimpleNamespace(returncode=1, stdout="", stderr="no")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: taken.extend(command) or ran)
    with pytest.raises(BackendError, match=r"^no$"):
        measure_fresh(entry(fp32_bundle), batch=1)
    assert taken[0] == sys.executable
    monkeypatch.setattr(sys, "addaudithook", lambda hook: None)  # it could not be removed
    fresh.main(taken[-1])
    line = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(line.partition(": ")[2])["start_s"] > 0
