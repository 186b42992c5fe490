"""A Hugging Face Hub of folders in memory, as far as huggingface_hub 2.4 asks for them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from edgeunet.bundle.manifest import MANIFEST_NAME
from edgeunet.user_folders import cache_folder

ADDRESS, NAME = "hf://me/net", "me/net"
TOKEN = "hf_" + "a" * 34  # nothing that anybody else takes
_MODEL = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|preupload|commit)/(.+))?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_BATCH = re.compile(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch")
_OBJECT = re.compile(r"/objects/([0-9a-f]{64})")
_TEXT = (".json", ".md")  # what the Hub keeps in git itself


@dataclass
class Repository:
    """Files by name. history: those of each commit, by its hash. names: revisions beside main."""

    private: bool = False
    gated: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    history: dict[str, dict[str, bytes]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def commit(self) -> str:
        """Keep what the files are now, and give the commit's hash."""
        digest = hashlib.sha1(f"{len(self.history)}".encode())
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + content)
        self.history[digest.hexdigest()] = dict(self.files)
        self.names["main"] = digest.hexdigest()
        return digest.hexdigest()

    def at(self, revision: str) -> str | None:
        """The hash of a revision's commit."""
        return revision if revision in self.history else self.names.get(revision)


@dataclass
class Hub:
    """Repositories by ORG/NAME. asked: method and path of all requests.

    stalls: name of a file of which half is sent; stalled: that has happened.
    """

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    stalls: str = ""
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    objects: dict[str, bytes] = field(default_factory=dict)  # of git LFS, by SHA-256
    broken: str = ""  # answers 500 to paths that begin so
    closed: str = ""  # answers 403

    def put(self, name: str, files: dict[str, bytes], **given: Any) -> Repository:
        """A repository whose first commit has these files."""
        self.repositories[name] = Repository(**given, files=dict(files))
        self.repositories[name].commit()
        return self.repositories[name]


class Refused(Exception):
    """An answer that is an error. code: as the Hub names it in a header."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A Hub on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(ConnectionError):
                _answer(self, hub)

        do_HEAD = do_POST = do_PUT = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.released.set()
            server.shutdown()
            thread.join()


def _answer(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    path = unquote(urlsplit(request.path).path)
    hub.asked.append(f"{request.command} {path}")
    body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
    may = request.headers.get("authorization") == f"Bearer {TOKEN}"
    try:
        for start, status in ((hub.broken, 500), (hub.closed, 403)):
            if start and path.startswith(start):
                raise Refused(status)
        if file := _FILE.fullmatch(path):
            _send_file(request, hub, file, may=may)
            return
        if path == "/api/validate-yaml":
            reply: dict[str, Any] = {"errors": [], "warnings": []}
        elif path == "/api/repos/create":
            reply = _create(hub, json.loads(body), may=may)
        elif _BATCH.fullmatch(path):
            reply = _uploads(hub, json.loads(body)["objects"])
        elif found := _OBJECT.fullmatch(path):
            hub.objects[found[1]] = body
            reply = {}
        elif model := _MODEL.fullmatch(path):
            reply = _of_model(hub, _find(hub, model[1], may=may), model, body, may=may)
        else:
            raise Refused(404)
    except Refused as refused:
        request.send_response(refused.status)
        if refused.code:
            request.send_header("X-Error-Code", refused.code)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    content = json.dumps(reply).encode()
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


def _find(hub: Hub, name: str, *, may: bool) -> Repository:
    found = hub.repositories.get(name)
    if found is None or (found.private and not may):
        raise Refused(404 if may else 401, "RepoNotFound")
    return found


def _create(hub: Hub, wanted: dict[str, Any], *, may: bool) -> dict[str, Any]:
    if not may:
        raise Refused(401)
    name = f"{wanted['organization']}/{wanted['name']}"
    if name in hub.repositories:
        raise Refused(409)
    hub.put(name, {".gitattributes": b""}, private=wanted.get("visibility") == "private")
    return {"url": f"{hub.url}/{name}"}


def _uploads(hub: Hub, wanted: list[dict[str, Any]]) -> dict[str, Any]:
    """Where objects of git LFS are to be put."""
    return {
        "transfer": "basic",
        "objects": [
            {**each, "actions": {"upload": {"href": f"{hub.url}/objects/{each['oid']}"}}}
            for each in wanted
        ],
    }


def _of_model(
    hub: Hub, found: Repository, model: re.Match[str], body: bytes, *, may: bool
) -> dict[str, Any]:
    name, asked, revision = model.groups()
    commit = found.at(revision or "main")
    if commit is None:
        raise Refused(404, "RevisionNotFound")
    files = found.history[commit]
    if asked in (None, "revision"):
        sizes = [{"rfilename": each, "size": len(content)} for each, content in files.items()]
        return {"id": name, "sha": commit, "private": found.private, "siblings": sizes}
    if not may:
        raise Refused(403)
    if asked == "preupload":
        names = [each["path"] for each in json.loads(body)["files"]]
        return {
            "files": [
                {
                    "path": each,
                    "uploadMode": "regular" if each.endswith(_TEXT) else "lfs",
                    "shouldIgnore": False,
                }
                for each in names
            ]
        }
    head, *operations = map(json.loads, body.splitlines())
    if head["value"].get("parentCommit") not in (None, commit):
        raise Refused(412)
    for each in operations:
        value = each["value"]
        if each["key"] == "file":
            found.files[value["path"]] = base64.b64decode(value["content"])
        elif each["key"] == "lfsFile":
            found.files[value["path"]] = hub.objects[value["oid"]]
        else:
            assert each["key"] == "deletedFile", each["key"]
            del found.files[value["path"]]
    made = found.commit()
    return {"commitUrl": f"{hub.url}/{name}/commit/{made}", "commitOid": made}


def _send_file(
    request: BaseHTTPRequestHandler, hub: Hub, asked: re.Match[str], *, may: bool
) -> None:
    repository, revision, name = asked.groups()
    found = _find(hub, repository, may=may)
    if found.gated and not may:
        raise Refused(401, "GatedRepo")
    commit = found.at(revision)
    if commit is None:
        raise Refused(404, "RevisionNotFound")
    content = found.history[commit].get(name)
    if content is None:
        raise Refused(404, "EntryNotFound")
    request.send_response(200)
    request.send_header("X-Repo-Commit", commit)
    request.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command == "HEAD":
        return
    if name == hub.stalls:
        request.wfile.write(content[: len(content) // 2])
        request.wfile.flush()
        hub.stalled.set()
        hub.released.wait(60)
        return
    request.wfile.write(content)


def set_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """As HF_ENDPOINT does, which the library reads when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template)


def contents(folder: Path) -> dict[str, bytes]:
    """Files by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def left_behind() -> list[str]:
    """Everything in the cache, hidden or not."""
    return [path.name for path in cache_folder().rglob("*") if path.is_file()]


def rewrite(
    files: dict[str, bytes], change: Callable[[dict[str, object]], object]
) -> dict[str, bytes]:
    """Files of a bundle with another manifest."""
    manifest = json.loads(files[MANIFEST_NAME])
    change(manifest)
    return {**files, MANIFEST_NAME: json.dumps(manifest).encode()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that the library asks, with a token that may write, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol that is not simulated
    disable_progress_bars()  # threads write them past pytest's capture
    with hub_server() as server:
        set_endpoint(monkeypatch, server.url)
        yield server
    enable_progress_bars()
