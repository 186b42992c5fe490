"""Files and directories appear whole or not at all, also when the process is killed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet import files
from edgeunet.errors import OutputError, OutputExistsError, UsageError
from edgeunet.files import (
    check_directory,
    check_file,
    entries,
    locked,
    new_directory,
    read_file,
    remove_stale,
    sha256,
    write_bytes,
    write_json,
)

# Kills itself after it wrote the temporary file, before that replaces the old one.
KILLED_WRITE = """
import os, sys
from pathlib import Path
from edgeunet.files import write_bytes
os.fsync = lambda handle: os.kill(os.getpid(), 9)
write_bytes(Path(sys.argv[1]), b"new" * 1000)
"""

KILLED_DIRECTORY = """
import os, sys
from pathlib import Path
from edgeunet.files import new_directory
with new_directory(Path(sys.argv[1]), force=True, strangers=lambda folder: []) as folder:
    (folder / "file").write_text("new")
    os.kill(os.getpid(), 9)
"""


def run_until_killed(code: str, path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def visible(folder: Path) -> list[str]:
    """Names in `folder` without the temporary ones, which start with a dot."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def make(folder: Path, content: str = "old") -> Path:
    folder.mkdir()
    (folder / "file").write_text(content)
    return folder


# Files


@given(content=st.binary(max_size=100), sync=st.booleans())
def test_file_holds_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, sync: bool
) -> None:
    path = tmp_path_factory.mktemp("deep") / "a" / "b.bin"
    for written in (b"old", content):
        write_bytes(path, written, sync=sync)
        assert path.read_bytes() == written
    assert [entry.name for entry in path.parent.iterdir()] == ["b.bin"]


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each of some masks, in force during the test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o027], indirect=True)
def test_umask_decides_who_can_read(tmp_path: Path, umask: int) -> None:
    write_bytes(tmp_path / "file", b"x")
    write_bytes(tmp_path / "file", b"y", sync=False)
    with new_directory(tmp_path / "out", force=False) as folder:
        write_json(folder / "x.json", 1)
    for path, mode in ((tmp_path / "file", 0o666), (tmp_path / "out", 0o777)):
        assert path.stat().st_mode & 0o777 == mode & ~umask
    assert (tmp_path / "out" / "x.json").stat().st_mode & 0o777 == 0o666 & ~umask


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True], "b": {"ü": "x"}}
    write_json(tmp_path / "x.json", value)
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == value


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, object())
    assert path.read_text() == "1\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    run_until_killed(KILLED_WRITE, path)
    assert path.read_bytes() == b"old"
    assert visible(tmp_path) == ["file"]


def test_killed_first_write_leaves_no_file(tmp_path: Path) -> None:
    run_until_killed(KILLED_WRITE, tmp_path / "file")
    assert visible(tmp_path) == []


def test_sha256_is_that_of_hashlib_over_several_blocks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # 2.4 blocks of 1 MiB
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_file_of_bounded_size_is_read(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    assert read_file(tmp_path / "file", most=100) == b"x" * size


def test_larger_file_and_what_is_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="it has 101 bytes; expected at most 100"):
        read_file(tmp_path / "file", most=100)
    os.mkfifo(tmp_path / "pipe")
    before = len(entries(Path("/proc/self/fd")))
    for path, kind in (
        (tmp_path, "directory"),
        (tmp_path / "pipe", "pipe"),
        ("/dev/zero", "device"),
    ):
        with pytest.raises(OSError, match=f"it is a {kind}"):
            read_file(path, most=100)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "missing", most=100)
    assert len(entries(Path("/proc/self/fd"))) == before


# Directories


def test_directory_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out"
    with new_directory(path, force=False) as folder:
        (folder / "file").write_text("new")
        assert folder.parent == path.parent  # the same file system, so that renaming works
        assert not path.exists()
    assert (path / "file").read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_without_force_an_existing_path_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    make(path) if kind == "directory" else path.write_text("old")
    with (
        pytest.raises(OutputExistsError, match=r"out exists already\. Pass --force"),
        new_directory(path, force=False),
    ):
        pytest.fail("the block must not run")
    assert (path / "file" if kind == "directory" else path).read_text() == "old"
    assert visible(tmp_path) == [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_without_force_a_path_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out"

    def overtaken() -> None:
        with new_directory(path, force=False) as folder:
            (folder / "file").write_text("new")
            make(path, "of another process")

    with pytest.raises(OutputExistsError):
        overtaken()
    assert (path / "file").read_text() == "of another process"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def only_file(folder: Path) -> list[str]:
    """Names in a folder besides `file`, which is the output of these tests."""
    return [name for name in entries(folder) if name != "file"]


@pytest.mark.parametrize("kind", ["earlier output", "empty folder", "nothing"])
def test_force_replaces_an_earlier_output(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    if kind == "earlier output":
        make(path)
    elif kind == "empty folder":
        path.mkdir()
    with new_directory(path, force=True, strangers=only_file) as folder:
        (folder / "file").write_text("new")
        assert path.exists() == (kind != "nothing")
    assert [entry.name for entry in path.iterdir()] == ["file"]
    assert (path / "file").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("late", [False, True])
def test_force_deletes_no_other_files(tmp_path: Path, late: bool) -> None:
    """Neither those that are there before the work nor those that appear while it is done."""
    path = make(tmp_path / "out")
    names = ["a\x1b[2J", "b", "c", "d", "e"]

    def replace() -> None:
        with new_directory(path, force=True, strangers=only_file) as folder:
            (folder / "file").write_text("new")
            assert late, "the block must not run"
            for name in names:
                (path / name).touch()

    if not late:
        for name in names:
            (path / name).touch()
    with pytest.raises(UsageError) as error:
        replace()
    message = str(error.value)
    assert f"{path} holds 'a\\x1b[2J', 'b', 'c' and 2 more. --force replaces" in message
    assert "Choose another output, or move these away." in message
    assert entries(path) == sorted(["file", *names])
    assert (path / "file").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_force_replaces_only_an_empty_folder_if_nothing_else_is_said(tmp_path: Path) -> None:
    path = make(tmp_path / "out")
    with (
        pytest.raises(UsageError, match="out holds 'file'"),
        new_directory(path, force=True),
    ):
        pytest.fail("the block must not run")
    assert (path / "file").read_text() == "old"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_force_replaces_no_file_and_no_link(tmp_path: Path, kind: str) -> None:
    target, path = make(tmp_path / "target"), tmp_path / "out"
    path.write_text("old") if kind == "file" else path.symlink_to(target)
    with (
        pytest.raises(UsageError, match=f"out is a {kind}; --force replaces directories only"),
        new_directory(path, force=True, strangers=only_file),
    ):
        pytest.fail("the block must not run")
    assert path.is_symlink() == (kind == "link")
    assert (target / "file").read_text() == "old"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("stood", [False, True])
def test_error_in_the_block_changes_nothing(
    tmp_path: Path, error: type[BaseException], stood: bool
) -> None:
    path = tmp_path / "out"
    if stood:
        make(path)

    def fail() -> None:
        with new_directory(path, force=True, strangers=only_file) as folder:
            (folder / "file").write_text("new")
            raise error

    with pytest.raises(error):
        fail()
    assert [entry.name for entry in tmp_path.iterdir()] == (["out"] if stood else [])
    assert not stood or (path / "file").read_text() == "old"


def test_failed_renaming_leaves_the_old_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "out")
    rename = Path.replace

    def fails_for_the_new_one(self: Path, target: Any) -> Path:
        if (self / "file").is_file() and (self / "file").read_text() == "new":
            raise PermissionError("no renaming")
        return rename(self, target)

    monkeypatch.setattr(files, "_renamed", lambda *_: False)  # as where there is no exchange
    monkeypatch.setattr(Path, "replace", fails_for_the_new_one)
    with (
        pytest.raises(PermissionError, match="no renaming"),
        new_directory(path, force=True, strangers=only_file) as folder,
    ):
        (folder / "file").write_text("new")
    assert (path / "file").read_text() == "old"


def test_killed_block_leaves_the_old_directory(tmp_path: Path) -> None:
    path = make(tmp_path / "out")
    run_until_killed(KILLED_DIRECTORY, path)
    assert (path / "file").read_text() == "old"
    assert visible(tmp_path) == ["out"]


def test_killed_first_block_leaves_no_directory(tmp_path: Path) -> None:
    run_until_killed(KILLED_DIRECTORY, tmp_path / "out")
    assert visible(tmp_path) == []


def test_next_try_after_a_kill_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "out"
    run_until_killed(KILLED_DIRECTORY, path)
    with new_directory(path, force=False) as folder:
        (folder / "file").write_text("again")
    assert (path / "file").read_text() == "again"


# Places for an output


@pytest.mark.parametrize("force", [False, True])
def test_the_wrong_kind_of_thing_in_the_place_is_refused(tmp_path: Path, force: bool) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(UsageError, match="file is a file; expected a directory"):
        check_directory(tmp_path / "file", force=force)
    with pytest.raises(UsageError, match="is a directory; expected a file"):
        check_file(tmp_path, force=force)


def test_place_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    for check in (check_file, check_directory):
        with pytest.raises(UsageError, match="file is a file; a/b cannot be written in it"):
            check(tmp_path / "file" / "a" / "b", force=True)
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # root may write all
    for check in (check_file, check_directory):
        with pytest.raises(OutputError, match=f"{tmp_path} cannot be written"):
            check(tmp_path / "a" / "b", force=True)


def test_something_in_the_place_needs_force(tmp_path: Path) -> None:
    check_directory(tmp_path, force=False)  # empty
    check_directory(tmp_path / "new", force=False)
    check_file(tmp_path / "new", force=False)
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(OutputExistsError, match="--force"):
        check_file(tmp_path / "file", force=False)
    with pytest.raises(OutputExistsError, match="--force"):
        check_directory(tmp_path, force=False)
    check_file(tmp_path / "file", force=True)
    check_directory(tmp_path, force=True)


# Two writers

HOLD = """
import sys, time
from pathlib import Path
from edgeunet.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_writer_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    for _ in range(2):
        with locked(output):
            with (
                pytest.raises(OutputError, match="out is being written by another run"),
                locked(output),
            ):
                pytest.fail("the block must not run")
            with locked(output.with_name("other")):
                pass
        assert list(output.parent.iterdir()) == []


def test_second_writer_may_wait_for_the_first(tmp_path: Path) -> None:
    output, waits, done = tmp_path / "out", threading.Event(), threading.Event()

    def second() -> None:
        with locked(output, waiting=waits.set):
            done.set()

    thread = threading.Thread(target=second)
    with locked(output, waiting=pytest.fail):
        thread.start()
        assert waits.wait(10)
        assert not done.wait(0.05)
    thread.join(10)
    assert done.is_set()
    assert entries(tmp_path) == []


@pytest.mark.parametrize("output", [".", "", "..", "/"])
def test_output_without_a_name_is_refused(output: str) -> None:
    with pytest.raises(UsageError, match="has no name of its own"), locked(Path(output)):
        pass
    with (
        pytest.raises(UsageError, match="has no name of its own"),
        new_directory(Path(output), force=True),
    ):
        pass


def test_lock_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match="file is a file; a cannot be written in it"),
        locked(tmp_path / "file" / "a"),
    ):
        pass


def test_lock_of_a_dead_process_is_not_in_the_way(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError), locked(tmp_path / "out"):
            pytest.fail("the block must not run")
        process.kill()
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]
    with locked(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_lock_file_that_vanishes_between_opening_and_locking_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = tmp_path / ".out.lock", []

    def flock(handle: int, operation: int) -> None:
        calls.append(handle)
        if len(calls) == 1:  # its last holder removes it at this moment
            lock.unlink()

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path / "out"):
        assert lock.exists()
    assert len(calls) == 2


def test_file_system_without_locks_causes_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with caplog.at_level(logging.WARNING), locked(tmp_path / "out"):
        pass
    assert "file system without locks (No locks available)" in caplog.text


# Replacing in one step


@pytest.mark.parametrize("exchanges", [True, False])
def test_directory_is_replaced_with_and_without_an_exchange(
    tmp_path: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(files, "_renamed", lambda *_: False)
    path = tmp_path / "out"
    for content in ("first", "second", "third"):
        with new_directory(path, force=True, strangers=only_file) as folder:
            (folder / "file").write_text(content)
        assert (path / "file").read_text() == content
        assert entries(tmp_path) == ["out"]


def test_reader_never_finds_the_directory_missing(tmp_path: Path) -> None:
    """Two renames would leave a moment without it."""
    one, other = make(tmp_path / "one", "1"), make(tmp_path / "other", "2")
    if not files._renamed(one, other, files._EXCHANGE):
        pytest.skip("this file system cannot exchange two directories")
    path, missing, stop = one, [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            if not path.exists():
                missing.append(path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(200):
            with new_directory(path, force=True, strangers=only_file) as folder:
                (folder / "file").write_text("new")
    finally:
        stop.set()
        thread.join()
    assert missing == []


@pytest.mark.parametrize("step", ["_NO_REPLACE", "_EXCHANGE"])
def test_rename_that_fails_is_an_error(tmp_path: Path, step: str) -> None:
    make(tmp_path / "one")
    with pytest.raises(FileNotFoundError):
        files._renamed(tmp_path / "missing", tmp_path / "one", getattr(files, step))


def test_directory_that_appears_at_the_last_moment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "out", files._renamed

    def overtaken(source: Path, target: Path, flag: int) -> bool:
        make(path, "of another process")
        return rename(source, target, flag)

    monkeypatch.setattr(files, "_renamed", overtaken)
    with pytest.raises(OutputExistsError), new_directory(path, force=False) as folder:
        (folder / "file").write_text("new")
    assert (path / "file").read_text() == "of another process"
    assert entries(tmp_path) == ["out"]


# What killed processes leave


@pytest.mark.parametrize("code", [KILLED_WRITE, KILLED_DIRECTORY])
@pytest.mark.parametrize("writer", ["file", "many files", "directory"])
def test_temporaries_of_a_killed_process_are_removed(
    tmp_path: Path, code: str, writer: str
) -> None:
    run_until_killed(code, tmp_path / "file")
    (left,) = entries(tmp_path)
    assert re.fullmatch(r"\.edgeunet-[0-9a-f]{16}\.tmp", left)
    if writer == "directory":
        with new_directory(tmp_path / "out", force=False):
            pass
    else:
        write_bytes(tmp_path / "out", b"", sync=writer == "file")
    assert entries(tmp_path) == ["out"]


def test_temporaries_of_a_living_process_stay(tmp_path: Path) -> None:
    with new_directory(tmp_path / "one", force=False) as one:
        (one / "file").write_text("1")
        with new_directory(tmp_path / "two", force=False) as two:
            (two / "file").write_text("2")
            write_bytes(tmp_path / "three", b"3")
            remove_stale(tmp_path)
            assert len(entries(tmp_path)) == 3
    assert entries(tmp_path) == ["one", "three", "two"]
    assert entries(tmp_path / "one") == entries(tmp_path / "two") == ["file"]


def test_temporaries_of_another_process_stay(tmp_path: Path) -> None:
    code = KILLED_DIRECTORY.replace("os.kill(os.getpid(), 9)", "print(folder, flush=True); input()")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    held = Path(process.stdout.readline().strip())
    remove_stale(tmp_path)
    assert (held / "file").is_file()
    process.communicate("\n", timeout=60)
    assert entries(tmp_path) == ["out"]
    assert entries(tmp_path / "out") == ["file"]


def test_other_files_stay(tmp_path: Path) -> None:
    names = [".edgeunet-0123.tmp", ".edgeunet-0123456789abcdef.tmp~", ".file.abc", "x.tmp"]
    for name in names:
        (tmp_path / name).touch()
    outside = tmp_path / "outside"
    make(outside)
    (tmp_path / ".edgeunet-0123456789abcdef.tmp").symlink_to(outside)
    remove_stale(tmp_path)
    assert entries(tmp_path) == sorted([*names, "outside", ".edgeunet-0123456789abcdef.tmp"])
    assert entries(outside) == ["file"]


def test_temporary_that_is_taken_for_a_stale_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making and locking it, it looks like one."""
    lock, swept = fcntl.flock, []

    def late(handle: int, how: int) -> None:
        if not swept:
            swept.append(handle)
            remove_stale(tmp_path)
        lock(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", late)
    write_bytes(tmp_path / "file", b"x", sync=False)
    assert swept and entries(tmp_path) == ["file"]


@given(count=st.integers(2, 6))
def test_writers_of_one_file_at_once_leave_one_of_their_contents(
    tmp_path_factory: pytest.TempPathFactory, count: int
) -> None:
    path = tmp_path_factory.mktemp("shared") / "file"
    contents = [bytes([index]) * 50_000 for index in range(count)]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda content: write_bytes(path, content), contents))
    assert path.read_bytes() in contents
    assert entries(path.parent) == ["file"]
