"""Writes files and directories atomically: they appear whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .errors import OutputBusyError, OutputError, OutputExistsError, UsageError

_log = logging.getLogger(__name__)

# What a killed process leaves behind has such a name. Nothing else is ever removed.
_TEMPORARY = re.compile(r"\.edgeunet-[0-9a-f]{16}\.tmp")
_AT_FDCWD, _NO_REPLACE, _EXCHANGE = -100, 1, 2  # of Linux, for renameat2
_DEVICES = dict.fromkeys((stat.S_IFCHR, stat.S_IFBLK), "a device")
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", **_DEVICES}


def write_bytes(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file through a temporary sibling: a killed process leaves the old file.

    The umask decides who can read it. With `sync` it waits for the disk, so that the old or the new
    file is there after a power cut too. Temporary files of killed processes are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # One of many files: listing the folder for each would take longer than writing them.
    sweep = remove_stale if sync else _remove_stale_once
    with temporary_file(path.parent, sweep=sweep) as temporary:
        with os.fdopen(temporary.handle, "wb", closefd=False) as file:
            file.write(content)
        temporary.move_to(path, sync=sync)


@dataclass(frozen=True)
class Temporary:
    """A file under a temporary name. handle: locks it, so that nobody takes it for a stale one."""

    path: Path
    handle: int

    def move_to(self, path: Path, *, sync: bool = True) -> None:
        """Give it its name, with `sync` once its content is on the disk."""
        if sync:
            os.fsync(self.handle)
        self.path.replace(path)


def remove_stale(folder: Path) -> None:
    """Remove the temporary files and directories that killed processes left in a folder.

    A process locks its own as long as it lives, also on another machine that shares the folder.
    """
    for name in entries(folder):
        if _TEMPORARY.fullmatch(name) is None:
            continue
        path = folder / name
        with suppress(OSError):  # locked, of another user, or gone
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(handle, path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)


@cache
def _remove_stale_once(folder: Path) -> None:
    """`remove_stale`, the first time that this process writes into the folder."""
    remove_stale(folder)


@contextmanager
def temporary_file(
    folder: Path, *, sweep: Callable[[Path], None] = remove_stale
) -> Iterator[Temporary]:
    """Yield a new empty file, which is removed when the block ends, unless it was moved.

    The umask decides who can read it.

    Args:
        sweep: removes temporary files of killed processes.

    Example:
        >>> from edgeunet.files import temporary_file
        >>> with temporary_file(Path()) as temporary:
        ...     _ = temporary.path.write_text("text")
        ...     temporary.move_to(Path("note"))
        >>> Path("note").read_text()
        'text'
    """
    sweep(folder)
    path, handle = new_temporary(folder, directory=False)
    try:
        yield Temporary(path, handle)
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)  # last, which ends the lock


def new_temporary(folder: Path, *, directory: bool) -> tuple[Path, int]:
    """An empty file or directory with a handle that locks it."""
    while True:
        path = folder / f".edgeunet-{secrets.token_hex(8)}.tmp"
        if directory:
            path.mkdir()
        flags = os.O_RDONLY | os.O_DIRECTORY if directory else os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            handle = os.open(path, flags | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # another process took the directory for a stale one
            continue
        with suppress(OSError):  # a file system without locks; nothing is removed there
            fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_at(handle, path):
            return path, handle
        os.close(handle)  # as above


def _is_at(handle: int, path: Path, *, follow_links: bool = False) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        found = path.stat(follow_symlinks=follow_links)
        return os.path.samestat(os.fstat(handle), found)
    except FileNotFoundError:
        return False


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with `write_bytes`."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def entries(folder: Path) -> list[str]:
    """Names of all files and folders in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def check_new_directory(
    path: Path, *, force: bool, strangers: Callable[[Path], Iterable[str]] = entries
) -> None:
    """Refuse an output directory that `new_directory` would refuse, before any work is done.

    Args:
        strangers: names in a folder that the caller's kind of output does not have. A folder with
            any is never replaced. By default only an empty folder is.

    Raises:
        OutputExistsError: `path` exists and `force` is false.
        UsageError: it exists and holds more than such an output, or it has no name, as `.`.
    """
    _check_name(path)
    if not os.path.lexists(path):
        return
    if not force:
        raise OutputExistsError(path)
    if path.is_symlink() or not path.is_dir():
        kind = "a link" if path.is_symlink() else "a file"
        raise UsageError(
            f"{path} is {kind}; --force replaces directories only. Choose another output, or "
            "remove it."
        )
    if foreign := list(strangers(path)):
        shown = ", ".join(map(repr, foreign[:3]))
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise UsageError(
            f"{path} holds {shown}{more}. --force replaces an empty folder or an earlier output of "
            "the same kind, and deletes nothing else. Choose another output, or move these away."
        )


@contextmanager
def new_directory(
    path: Path, *, force: bool, strangers: Callable[[Path], Iterable[str]] = entries
) -> Iterator[Path]:
    """Yield a temporary sibling that becomes `path` when the block ends without an error.

    Args and errors are those of `check_new_directory`, which runs before the block and after it.
    """
    check_new_directory(path, force=force, strangers=strangers)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent)
    temporary, handle = new_temporary(path.parent, directory=True)
    try:
        yield temporary
        check_new_directory(path, force=force, strangers=strangers)
        if path.exists():
            _replace_directory(temporary, path)
        else:
            _add_directory(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


def _add_directory(new: Path, path: Path) -> None:
    """Give a directory its name, which another process may take at the same moment."""
    try:
        if not _renamed(new, path, _NO_REPLACE):
            new.replace(path)
    except FileExistsError:
        raise OutputExistsError(path) from None


def _replace_directory(new: Path, path: Path) -> None:
    """Put one directory in the place of another, which moves to the new one's name or is gone."""
    if _renamed(new, path, _EXCHANGE):
        return
    # Not a name that `remove_stale` takes: if we are killed, the only copy is there.
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    path.replace(old / path.name)
    try:
        new.replace(path)
    except BaseException:
        (old / path.name).replace(path)
        raise
    finally:
        shutil.rmtree(old)


def _renamed(source: Path, target: Path, flag: int) -> bool:
    """Rename in one step that either exchanges the two or replaces nothing.

    False if the system or the file system cannot do that.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(source), os.fsencode(target)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))


def check_file(path: Path, *, force: bool) -> None:
    """Refuse a place for a file.

    Raises:
        UsageError: `path` is a directory, or below a file. OutputExistsError: it exists and `force`
            is false. OutputError: its folder cannot be written.
    """
    _check_parents(path)
    if path.is_dir():
        raise UsageError(f"{path} is a directory; expected a file to write.")
    if path.exists() and not force:
        raise OutputExistsError(path)


def check_directory(path: Path, *, force: bool) -> None:
    """Refuse a place for a directory of files.

    Raises:
        UsageError: `path` is a file, or below one. OutputExistsError: it holds something and
            `force` is false. OutputError: its folder cannot be written.
    """
    _check_parents(path)
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; expected a directory to write.")
    if path.exists() and not force and any(path.iterdir()):
        raise OutputExistsError(path)


def _check_name(path: Path) -> None:
    """Refuse a path that nothing can be renamed to."""
    if path.name in ("", ".."):
        raise UsageError(f"the output '{path}' has no name of its own. Choose a new folder in it.")


def _check_parents(path: Path) -> None:
    """Refuse a new path whose nearest existing folder is a file or cannot be written."""
    if path.exists():
        return
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        rest = path.absolute().relative_to(nearest)
        raise UsageError(f"{nearest} is a file; {rest} cannot be written in it.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{nearest} cannot be written. Choose another output, or permit it.")


@contextmanager
def locked(
    output: Path, *, lock: Path | None = None, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Keep other writers, in this process or another, away from an output while the block runs.

    The lock file is removed at the end. The system releases the lock of a process that dies, so a
    lock file that was left behind is not in the way.

    Args:
        output: what is written, named in the error.
        lock: the lock file; None: `.NAME.lock` beside the output.
        waiting: wait for a writer to end, after this was called, instead of raising.

    Raises:
        OutputBusyError: the output has a writer already. OutputError: its folder cannot be written.
        UsageError: the output is below a file, or has no name.
    """
    if lock is None:
        _check_name(output)
        _check_parents(output)
    path = output.with_name(f".{output.name}.lock") if lock is None else lock
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            claim(handle, output, waiting=waiting)
            if _is_at(handle, path, follow_links=True):
                break
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder removed the file between our opening and locking
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock goes, or a newcomer's file might be removed
        os.close(handle)


def claim(handle: int, output: Path, *, waiting: Callable[[], None] | None = None) -> None:
    """Lock an open file until it is closed. See `locked` for a second writer."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting is not None:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
            return
        raise OutputBusyError(
            f"{output} is being written by another run. Wait for it to end, or choose another "
            "output."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        _log.warning(
            "%s lies on a file system without locks (%s): nothing keeps a second run from writing "
            "it too.",
            output,
            error.strerror,
        )


def read_file(path: Path, *, most: int) -> bytes:
    """Content of a regular file of at most `most` bytes.

    Raises:
        OSError: it is missing, larger, or no regular file. Pipes and devices may never end.

    Example:
        >>> from pathlib import Path
        >>> from edgeunet.files import read_file, write_bytes
        >>> write_bytes(Path("note"), b"text")
        >>> read_file(Path("note"), most=100)
        b'text'
    """
    # Without O_NONBLOCK, opening a pipe waits for someone to write into it.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'no regular file')}")
        if status.st_size > most:
            raise OSError(f"it has {status.st_size} bytes; expected at most {most}")
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read(status.st_size + 1)
    finally:
        os.close(handle)
    if len(content) > status.st_size:
        raise OSError("it grew while it was read")
    return content


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
