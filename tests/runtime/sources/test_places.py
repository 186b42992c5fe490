"""Paths and addresses: names, listings, stamps, passwords, and what cannot be opened."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from edgeunet.errors import MissingDependencyError, SourceError, UsageError
from edgeunet.runtime.sources import places
from edgeunet.runtime.sources.places import Place


@pytest.fixture
def memory() -> Iterator[Any]:
    """Files at memory:// addresses; none is left."""
    system = fsspec.filesystem("memory")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield system
    MemoryFileSystem.store.clear()


def test_files_at_an_address_are_listed_read_and_stamped(memory: Any, tmp_path: Path) -> None:
    """As those in a folder are."""
    (tmp_path / "b").mkdir()
    for name in ("10.png", "9.png"):
        memory.pipe(f"/day/{name}", name.encode())
        (tmp_path / name).write_text(name)
    memory.pipe("/day/more/1.png", b"")
    for folder in (Place.of("memory://day"), Place.of(tmp_path)):
        assert folder.is_folder()
        files, folders = folder.entries()
        assert ([file.name for file in files], folders) == (["9.png", "10.png"], 1)
        assert [file.read(100) for file in files] == [b"9.png", b"10.png"]
        assert [file.stamp.split()[0] for file in files] == ["5", "6"]
        assert Place.of(files[0].where).stamped().stamp.split()[0] == "5"
        with pytest.raises(SourceError, match="more than 4 bytes"):
            files[0].read(4)
    assert [file.name for file in Place.of("memory://day/*0.png").entries()[0]] == ["10.png"]
    assert Place.of("memory://day/list.txt").beside("1.png").where == "memory://day/1.png"
    assert Place.of("/day/list.txt").beside("memory://x/1.png").where == "memory://x/1.png"
    with pytest.raises(SourceError, match=r"^memory://day/none\.png cannot be read: "):
        Place.of("memory://day/none.png").read(1)


def test_a_changed_file_has_another_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_text("1")
    before = Place.of(path).stamped().stamp
    path.write_text("2")
    assert Place.of(path).stamped().stamp != before


def test_a_failed_connection_is_tried_again(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_PAUSE", 0)
    memory.pipe("/a.png", b"1")
    calls = []

    def flaky(path: str, mode: str) -> Any:
        calls.append(path)
        if len(calls) < places._ATTEMPTS:
            raise ConnectionError("reset at https://me:secret@host/")
        return whole(path, mode)

    whole = memory.open
    monkeypatch.setattr(memory, "open", flaky)
    assert Place.of("memory://a.png").read(10) == b"1"
    calls.clear()

    def gone(path: str, mode: str) -> Any:
        calls.append(path)
        raise FileNotFoundError("gone")

    monkeypatch.setattr(memory, "open", gone)
    with pytest.raises(SourceError, match="it does not exist"):
        Place.of("memory://a.png").read(10)
    assert len(calls) == 1, "what is not there is not asked for again"


def test_http_says_why_a_file_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec calls it missing, whatever happened."""
    monkeypatch.setattr(places, "_PAUSE", 0)
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(int(self.path.strip("/")))

        do_HEAD = do_GET
        log_message = lambda *_: None  # noqa: E731

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        for status, words, attempts in (
            (404, "it does not exist", 1),
            (403, "the server says 403 Forbidden", 1),
            (503, "the server says 503 Service Unavailable", places._ATTEMPTS),
        ):
            asked.clear()
            with pytest.raises(SourceError, match=f"cannot be read: {words}"):
                Place.of(f"{address}/{status}").read(10)
            assert len(asked) == 2 * attempts  # HEAD and GET
        server.shutdown()
    with pytest.raises(SourceError, match=f"{address}/1 cannot be read: Connect call failed"):
        Place.of(f"{address}/1").read(10)


@pytest.mark.parametrize(
    ("where", "kind", "words"),
    [
        ("", UsageError, "an empty name is no file or folder"),
        ("bag:day.mcap?topic=/image", UsageError, "is a bag. Run it without --workers"),
        ("rtsp://me:secret@host/main", UsageError, "is a camera or stream"),
        ("zip://a.png::s3://bucket/a.zip", UsageError, "without '::'"),
        ("nosuch://bucket/a.zip", UsageError, "nosuch:// is not supported"),
        ("dropbox://bucket/a.zip", SourceError, "dropbox:// needs another package: "),
    ],
)
def test_addresses_that_are_not_read(where: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        Place.of(where)
    assert "secret" not in str(caught.value)


def test_fsspec_is_needed_for_addresses_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not Place.of(tmp_path / "a.png").remote
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[ray\]'"):
        Place.of("s3://bucket/a.png")


def test_errors_hold_no_password(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("memory://me:secret@host/a.png?token=hidden")
    told = str(place.failure(OSError("401 at https://me:secret@host/a.png?token=hidden")))
    assert "401" in told
    assert "secret" not in told and "hidden" not in told
