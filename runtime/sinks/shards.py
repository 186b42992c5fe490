"""Masks in tar archives of WebDataset's form, which appear whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgeunet.errors import EdgeUNetError, OutputError, UsageError, first_line, printable
from edgeunet.files import check_directory, entries, locked, temporary_file, write_json

from ..frames import Segmented
from ..sources.places import Place
from .overlay import Palette
from .pictures import mask_file

GO_ON = "What is done stays; run again to go on."

_OURS = re.compile(r"\.edgeunet[-.].*")
_PAGE = re.compile(r"(.+)#(\d+)", re.DOTALL)
_LONGEST_PART, _LONGEST_KEY = 200, 1000  # bytes: file systems take 255 and 4096

# Addresses at which a file appears once it was sent whole. Elsewhere it is renamed then.
_WHOLE = ("abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "s3", "s3a")


class ShardFolder:
    """A folder, also at an address for fsspec, whose files appear whole or not at all.

    Raises:
        UsageError: there is a file of this name, or the address is of an unknown form.
        OutputError: it cannot be read or made.

    Example:
        >>> from edgeunet.runtime.sinks.shards import ShardFolder
        >>> folder = ShardFolder("masks")
        >>> folder.write_json("plan.json", {"units": 2})
        >>> folder.names(), folder.read_json("plan.json")
        ({'plan.json'}, {'units': 2})
    """

    def __init__(self, where: str | Path) -> None:
        self._place = Place.of(where)
        if str(where).lower().startswith(("http://", "https://")):
            raise UsageError(
                f"{self._place}: nothing is written over HTTP; expected a folder, or an address "
                "such as s3://BUCKET/NAME."
            )
        self._path = Path(self._place.where)
        if not self._place.remote:
            check_directory(self._path, force=True)

    def __str__(self) -> str:
        return str(self._place)

    def locked(self) -> Any:
        """Keep other runs on this machine out while a block runs; none at an address."""
        if self._place.remote:
            return nullcontext()
        self._path.mkdir(parents=True, exist_ok=True)
        return locked(self._path, lock=self._path / ".edgeunet.lock")

    def names(self) -> set[str]:
        """Names of all files and folders, but for those of runs that are under way."""
        with self._failures():
            if not self._place.remote:
                found = entries(self._path) if self._path.exists() else []
            else:
                system, path = self._place.filesystem()
                system.invalidate_cache()
                listed = system.ls(path, detail=False) if system.exists(path) else []
                found = [each.rstrip("/").rpartition("/")[2] for each in listed if each != path]
        return {name for name in found if not _OURS.fullmatch(name)}

    def read_json(self, name: str) -> Any:
        """Content of a JSON file; None if there is none.

        Raises:
            OutputError: it is damaged.
        """
        with self._failures(name):
            try:
                if not self._place.remote:
                    content = (self._path / name).read_bytes()
                else:
                    system, path = self._place.filesystem()
                    content = system.cat_file(f"{path}/{name}")
            except FileNotFoundError:
                return None
        try:
            return json.loads(content)
        except ValueError:
            raise OutputError(
                f"{self}/{name} is damaged: it holds no JSON. Remove it, and run again."
            ) from None

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, or replace it."""
        with self._failures(name):
            if not self._place.remote:
                write_json(self._path / name, value)
                return
            system, path = self._place.filesystem()
            content = (json.dumps(value, indent=1) + "\n").encode()
            self._send(system, io.BytesIO(content), f"{path}/{name}")

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a file that gets its name when the block ends without an error."""
        with self._failures(name, only=OSError):
            if not self._place.remote:
                self._path.mkdir(parents=True, exist_ok=True)
                with temporary_file(self._path) as temporary:
                    with temporary.path.open("r+b") as file:
                        yield file
                    temporary.move_to(self._path / name)
                return
            with tempfile.TemporaryFile() as file:
                yield file
                file.seek(0)
                with self._failures(name):
                    system, path = self._place.filesystem()
                    self._send(system, file, f"{path}/{name}")

    def remove(self, names: Sequence[str]) -> None:
        """Remove files, as far as they are there."""
        for name in names:
            with self._failures(name), suppress(FileNotFoundError):
                if not self._place.remote:
                    (self._path / name).unlink()
                else:
                    system, path = self._place.filesystem()
                    system.rm_file(f"{path}/{name}")

    def _send(self, system: Any, content: IO[bytes], path: str) -> None:
        whole = self._place.where.startswith(tuple(f"{each}://" for each in _WHOLE))
        to = path if whole else f"{path}.{secrets.token_hex(8)}.tmp"
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        with system.open(to, "wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
        if not whole:
            system.mv(to, path)

    @contextmanager
    def _failures(self, name: str = "", *, only: type[Exception] = Exception) -> Iterator[None]:
        """Turn errors of the file system into one that names the file."""
        try:
            yield
        except EdgeUNetError:
            raise
        except only as error:
            where = f"{self}/{name}".rstrip("/")
            reason = getattr(error, "strerror", None) or first_line(error)
            raise OutputError(
                f"{where} cannot be written or read: {printable(reason).rstrip('.')}. {GO_ON}"
            ) from error


class Shard:
    """A tar archive of masks: for each frame a key with a mask, `.png`, and a record, `.json`.

    The bytes depend only on the frames and their masks. The mask is that of `mask_file`. The record
    has `name` (in the input), `index` (in the unit), `size` (height, width), `presence` (by class,
    null without a gate) and `shares` (of the pixels, by class).

    frames: number of them. pixels: number of each class, by name.
    """

    def __init__(self, file: IO[bytes], *, classes: Sequence[str], palette: Palette) -> None:
        self.frames = 0
        self.pixels: Counter[str] = Counter()
        self._hashed = _Hashed(file)
        self._tar = tarfile.open(fileobj=self._hashed, mode="w|")  # type: ignore[call-overload]  # noqa: SIM115
        self._classes, self._palette = classes, palette
        self._keys: set[str] = set()

    def add(self, segmented: Segmented) -> None:
        """Add a mask."""
        frame, mask = segmented.frame, segmented.mask
        counts = np.bincount(mask.ravel(), minlength=256)
        pixels = {
            _class_name(self._classes, each): int(counts[each])
            for each in map(int, counts.nonzero()[0])
        }
        presence = segmented.presence
        record = {
            "name": printable(frame.name),
            "index": frame.index,
            "size": list(mask.shape),
            "presence": None if presence is None else [round(float(p), 4) for p in presence],
            "shares": {name: round(count / mask.size, 6) for name, count in pixels.items()},
        }
        key = self._new_key(frame.name, frame.index)
        suffix, content = mask_file(segmented, self._palette)
        self._write(key + suffix, content)
        self._write(f"{key}.json", json.dumps(record).encode())
        self.frames += 1
        self.pixels.update(pixels)

    def finish(self) -> str:
        """Write the end; the SHA-256 of the archive."""
        self._tar.close()
        return self._hashed.digest.hexdigest()

    def _write(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        self._tar.addfile(info, io.BytesIO(content))
        self._tar.members = []  # it would keep all of them

    def _new_key(self, name: str, index: int) -> str:
        key = again = key_of(name, index)
        number = 1
        while again in self._keys:
            number += 1
            again = f"{key}-{number}"
        self._keys.add(again)
        return again


def key_of(name: str, index: int) -> str:
    """WebDataset's key of a frame: its path without suffix, fit to be unpacked anywhere.

    Readers cut a name at the first dot of its last part, so that has none. Parts that leave the
    folder and characters that some file systems refuse are replaced.

    Args:
        name: of the frame, such as `day/0001.left.jpg`, or `stack.tif#2` for a page.
        index: its number, for a frame without a name.

    Example:
        >>> from edgeunet.runtime.sinks.shards import key_of
        >>> key_of("day.1/0001.left.jpg", 0), key_of("../../etc/stack.tif#2", 0), key_of("", 7)
        ('day.1/0001_left', 'etc/stack-2', '000007')
    """
    parts = [part for part in re.split(r"[/\\]", name) if part.strip(". ")]
    last = parts.pop() if parts else ""
    found = _PAGE.fullmatch(last)
    file, page = (found[1], found[2]) if found else (last, "")
    stem = file.rpartition(".")[0] or file
    last = f"{stem}-{page}" if page else stem
    safe = [_safe(part) for part in parts] + ([_safe(last).replace(".", "_")] if last else [])
    return _end("/".join(safe), _LONGEST_KEY).lstrip("/") or f"{index:06d}"


def _safe(part: str) -> str:
    known = "".join(each if each.isprintable() and each not in '<>:"|?*' else "_" for each in part)
    return _end(known.strip(". "), _LONGEST_PART).strip(". ") or "_"


def _end(text: str, most: int) -> str:
    """As much of the end of a text as has so many bytes."""
    return text.encode()[-most:].decode(errors="ignore")


def _class_name(classes: Sequence[str], number: int) -> str:
    return classes[number] if number < len(classes) else f"class {number}"


class _Hashed:
    """Hashes what is written to a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self._file.write(content)
