"""Candidates of `auto` that end the process are left out of the next measurement."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.runtime import open_bundle
from edgeunet.runtime.backends import attempts as attempts_module
from edgeunet.runtime.backends.attempts import Tried, ended_in, forget, noting
from edgeunet.runtime.backends.candidates import Candidate
from edgeunet.runtime.backends.choice import choose
from edgeunet.runtime.backends.kept import Asked, folder
from support.engines import Engine, machine_of

ASKED = Asked("0" * 64, {"threads": "2"}, {"processor": "made up"}, {"onnxruntime": "1.0"})
FP32, INT8 = Candidate("onnxruntime", "fp32"), Candidate("openvino", "int8")
TRIED: Tried = ("openvino", "int8", None)

DIE = """
import os, sys
from pathlib import Path
import pytest
from edgeunet.runtime import open_bundle
from edgeunet.runtime.backends.candidates import Candidate
from edgeunet.runtime.backends.choice import choose
from support.engines import Engine, EngineBackend, machine_of

patch = pytest.MonkeyPatch()
machine = machine_of(
    patch,
    Engine(Candidate("onnxruntime", "fp32"), 0.02),
    Engine(Candidate("openvino", "int8"), 0.01),
)
spend = machine.spend
def end(seconds):
    if seconds == 0.01:
        os.kill(os.getpid(), int(sys.argv[2]))
    spend(seconds)
machine.spend = end
choose(open_bundle(Path(sys.argv[1])))
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def leave(asked: Asked = ASKED, tried: Tried = TRIED) -> Path:
    """The note that stays behind if a process ends while it tries a candidate."""
    assert asked.path is not None
    before = set(notes())
    with noting(asked) as trying, trying(tried):
        (name,) = set(notes()) - before
        content = (asked.path.parent / name).read_bytes()
    path = asked.path.parent / name
    path.write_bytes(content)
    return path


def notes() -> list[str]:
    place = folder()
    assert place is not None
    return sorted(path.name for path in place.glob("*.trying"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGILL])
def test_what_ended_the_process_is_left_out_until_all_are_asked_for(
    how: signal.Signals, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DIE, str(int8_bundle), str(int(how))],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "EDGEUNET_MEASURE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == -how, ended.stderr
    machine = machine_of(monkeypatch, Engine(FP32, 0.02), Engine(INT8, 0.01))
    told: list[str] = []
    choice = choose(open_bundle(int8_bundle), tell=told.append)
    assert (choice.use, machine.opened) == (FP32, ["onnxruntime FP32"])
    assert "openvino INT8 fails (it ended the process when it was tried; --explain" in told[0]
    assert choose(open_bundle(int8_bundle)).is_kept
    assert choose(open_bundle(int8_bundle), again=True, tell=told.append).use == FP32
    assert choose(open_bundle(int8_bundle), thorough=True, tell=told.append).use == INT8
    assert (notes(), choose(open_bundle(int8_bundle)).use) == ([], INT8)


def test_a_note_is_there_only_while_a_candidate_is_tried() -> None:
    with noting(ASKED) as trying:
        assert ended_in(ASKED) == set(), "this process is alive"
        with trying(TRIED):
            assert ended_in(ASKED) == set()
    assert (notes(), ended_in(ASKED)) == ([], set())


def test_an_error_or_ctrl_c_leaves_no_note() -> None:
    with pytest.raises(KeyboardInterrupt), noting(ASKED) as trying, trying(TRIED):
        raise KeyboardInterrupt
    assert notes() == []


def test_between_candidates_nobody_is_to_blame() -> None:
    path = leave()
    with noting(ASKED) as trying:
        with trying(TRIED):
            pass
        (name,) = set(notes()) - {path.name}
        between = path.with_name(name).read_bytes()
    path.write_bytes(between)
    assert (ended_in(ASKED), notes()) == (set(), [])


def test_notes_hold_for_what_was_asked_and_these_versions() -> None:
    leave()
    leave(tried=("onnxruntime", "fp16", "cuda"))
    assert ended_in(replace(ASKED, bundle="1" * 64)) == set()
    assert ended_in(ASKED) == {TRIED, ("onnxruntime", "fp16", "cuda")}
    assert len(notes()) == 2
    assert ended_in(replace(ASKED, versions={"onnxruntime": "2.0"})) == set()
    assert notes() == []


def test_forgetting_keeps_those_of_living_processes() -> None:
    leave()
    with noting(ASKED) as trying, trying(TRIED):
        forget(ASKED)
        assert len(notes()) == 1
    assert notes() == []


@given(data=st.data())
def test_damage_blames_nobody_else(data: st.DataObject) -> None:
    path = leave()
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:at] + data.draw(st.binary(max_size=4)) + content[at + 1 :])
    found = ended_in(ASKED)
    assert len(found) == len(notes()) <= 1
    forget(ASKED)


def test_processes_side_by_side_do_not_disturb_each_other() -> None:
    def work(_: int) -> set[Tried]:
        with noting(ASKED) as trying, trying(TRIED):
            return ended_in(ASKED)

    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(work, range(40)))
    assert notes() == []


def test_without_a_folder_nothing_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with noting(ASKED) as trying, trying(TRIED):
        assert ended_in(ASKED) == set()
    forget(ASKED)


def test_a_note_is_what_its_schema_says() -> None:
    """It may be of another version of edgeunet."""
    path = leave()
    note = json.loads(path.read_text())
    assert note["schema_version"] == attempts_module.SCHEMA_VERSION
    path.write_text(json.dumps(note | {"schema_version": 9}))
    assert (ended_in(ASKED), notes()) == (set(), [])
