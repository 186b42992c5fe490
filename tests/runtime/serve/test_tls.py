"""https: certificates that are good and bad, and connections that never finish a handshake."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from websockets.sync.client import connect

from edgeunet.errors import UsageError
from edgeunet.runtime.serve import connections as connections_module
from edgeunet.runtime.serve.app import Bounds
from edgeunet.runtime.serve.server import open_service
from edgeunet.runtime.serve.tls import load_certificate
from support.certificates import make_certificate, openssl
from support.serving import Client, is_closed, read_record, serving, wait_for


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """certificate.pem and key.pem, and others that do not fit."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    make_certificate(folder, "other-")
    locked = ("-aes256", "-passout", "pass:secret", "-out", "locked.pem")
    openssl(folder, "pkey", "-in", "key.pem", *locked)
    both = (folder / "certificate.pem").read_text() + (folder / "key.pem").read_text()
    (folder / "both.pem").write_text(both)
    broken = "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n"
    (folder / "broken.pem").write_text(broken)
    (folder / "empty.pem").write_text("")
    return folder


@pytest.fixture(scope="module")
def source(images: Path) -> Path:
    return images / "1.png"


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("absent.pem", "key.pem", r"absent\.pem: expected a certificate as PEM: No such file"),
        ("certificate.pem", "absent.pem", r"absent\.pem: expected a private key as PEM: No such"),
        ("key.pem", "key.pem", r"key\.pem: expected a certificate as PEM, found none"),
        ("certificate.pem", "empty.pem", r"empty\.pem: expected a private key as PEM, found"),
        ("certificate.pem", None, r"a private key as PEM in it or by --key, found none"),
        ("certificate.pem", "other-key.pem", r"other-key\.pem: expected the key of .*certificate"),
        ("certificate.pem", "locked.pem", r"without a passphrase\. Remove it: openssl pkey -in"),
        ("broken.pem", "key.pem", r"what OpenSSL cannot load .* Make both files: openssl req -x50"),
        (".", "key.pem", r"expected a certificate as PEM: Is a directory"),
    ],
)
def test_bad_files_are_named_with_what_helps(
    files: Path, certificate: str, key: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        load_certificate(files / certificate, None if key is None else files / key)


def test_key_needs_a_certificate(fp32_bundle: Path, source: Path, files: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"without a certificate\. Pass --certificate too"),
        open_service(fp32_bundle, str(source), port=0, key=files / "key.pem"),
    ):
        pass


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, but for warnings about the frames."""
    about_frames = ("edgeunet.data", "edgeunet.bundle")
    return [each.message for each in caplog.records if not each.name.startswith(about_frames)]


def trusting(client: Client, files: Path) -> Client:
    client.tls = ssl.create_default_context(cafile=files / "certificate.pem")
    return client


def test_page_stream_and_camera_come_by_https(
    fp32_bundle: Path, source: Path, files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secured = {"certificate": files / "both.pem", "token": "an open secret"}
    with serving(fp32_bundle, source, **secured) as client:
        assert client.service.url == f"https://127.0.0.1:{client.port}/"
        with client.raw(send=b"GET / HTTP/1.1\r\n\r\n") as plain, suppress(ConnectionError):
            assert b"HTTP" not in plain.recv(4096)
        trusting(client, files)
        page = client.ask("/?token=an+open+secret")
        cookie = page.headers["set-cookie"]
        assert (page.status, "; Secure" in cookie) == (200, True)
        with client.stream(Cookie=cookie.split(";")[0]) as response:
            read_record(response)
        with connect(
            f"wss://127.0.0.1:{client.port}/camera?answer=png",
            ssl=client.tls,
            origin=client.service.url[:-1],
            additional_headers={"Cookie": cookie.split(";")[0]},
        ) as camera:
            camera.send(source.read_bytes())
            assert camera.recv(30).startswith(b"\x89PNG")
        wait_for(lambda: client.service.connections.count == 0)
    assert complaints(caplog) == []


def test_crowd_without_handshakes_gives_way_and_is_forgotten(
    fp32_bundle: Path,
    source: Path,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(connections_module, "REQUEST_TIMEOUT", 2.0)
    with (
        serving(
            fp32_bundle,
            source,
            certificate=files / "certificate.pem",
            key=files / "key.pem",
            bounds=Bounds(connections=20),
        ) as client,
        ExitStack() as stack,
    ):
        trusting(client, files)
        crowd: list[socket.socket] = []
        for number in range(120):
            with suppress(ConnectionError):
                sent = (b"", b"\x16\x03\x01\x02\x00", b"no handshake")[number % 3]
                crowd.append(stack.enter_context(client.raw(send=sent)))
        assert client.ask("/healthz").status == 200
        count = client.service.connections.count
        assert count <= 20
        assert sum(not is_closed(each) for each in crowd if each.fileno() >= 0) <= 10
        wait_for(lambda: client.service.connections.count == 0)  # by the timeout
        assert client.ask("/healthz").status == 200
    assert complaints(caplog) == []
