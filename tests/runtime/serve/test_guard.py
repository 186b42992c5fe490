"""Access control over real sockets, and the address that is printed."""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeunet.errors import UsageError
from edgeunet.runtime.frames import Frame
from edgeunet.runtime.serve import throttle
from edgeunet.runtime.serve.guard import choose_token, is_loopback, page_url
from support.serving import Answer, Client, png, serving

TOKEN = "an open secret"
HEADER = "this server needs its token. Send the header Authorization: Bearer TOKEN; "
HELP_FOR_GET = f"{HEADER}or add ?token=TOKEN to the address."
HELP_FOR_OTHERS = f"{HEADER}?token= is for GET only."
WRONG = "wrong token. If the server made it, it is new after each start."

Network = Callable[..., None]


@pytest.fixture(scope="module")
def server(fp32_bundle: Path, images: Path) -> Iterator[Client]:
    with serving(fp32_bundle, images) as client:
        yield client


@pytest.fixture(scope="module")
def locked(fp32_bundle: Path, images: Path) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throttle, "_FREE", 1000)  # these tests send many wrong tokens
        with serving(fp32_bundle, images, token=TOKEN) as client:
            yield client


@pytest.fixture(scope="module")
def picture(images: Path) -> Frame:
    with Image.open(images / "1.png") as image:
        return np.asarray(image.convert("RGB"))


# Whether a token is required


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_loopback_hosts_are_recognised(host: str, wanted: bool) -> None:
    assert is_loopback(host) == wanted


def test_token_is_made_only_if_others_can_reach_the_server() -> None:
    assert choose_token("localhost", None) == (None, False)
    assert choose_token("localhost", "given here") == ("given here", False)
    one, two = choose_token("0.0.0.0", None), choose_token("0.0.0.0", None)
    assert one[1] and one[0] is not None and len(one[0]) >= 20
    assert one != two
    with pytest.raises(UsageError, match="at least 8"):
        choose_token("0.0.0.0", "")


# Hosts and origins


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "[::1", "a]b"]
)
def test_foreign_host_headers_are_refused_on_loopback(server: Client, host: str) -> None:
    answer = server.ask("/", Host=host)
    assert answer.status == 403
    assert host in answer.json["error"]


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1", "[::1]:80"])
def test_loopback_host_headers_are_accepted(server: Client, host: str) -> None:
    assert server.ask("/", Host=host).status == 200


def test_pages_of_other_origins_cannot_upload(server: Client, picture: Frame) -> None:
    body = png(picture)
    own = f"{server.host}:{server.port}"
    others = ("https://evil.example", "null", "http://[")
    for origin, status in (*((other, 403) for other in others), (f"http://{own}", 200)):
        answer = server.ask("/segment", method="POST", body=body, Origin=origin, Host=own)
        assert answer.status == status


# Tokens


def refused(answer: Answer) -> str:
    """The error of a 401."""
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    message: str = answer.json["error"]
    return message


@pytest.mark.parametrize("path", ["/stats", "/stream", "/stream.mjpg", "/metrics", "/nothing"])
def test_nothing_is_shown_without_the_token(locked: Client, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"edgeunet_{locked.port}=x"}):
        answer = locked.ask(path, **headers)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert locked.ask(f"{path}?token=wrong").status == 401


def test_uploads_need_the_token_as_a_header(locked: Client, picture: Frame) -> None:
    body = png(picture)
    assert locked.ask("/segment", method="POST", body=body).status == 401
    assert locked.ask("/segment?token=an+open+secret", method="POST", body=body).status == 401
    bearer = f"Bearer {TOKEN}"
    assert locked.ask("/segment", method="POST", body=body, Authorization=bearer).status == 200


def test_page_without_token_is_a_login_form(locked: Client) -> None:
    answer = locked.ask("/")
    assert answer.status == 401
    assert b'name="token"' in answer.body
    assert locked.ask("/static/style.css").status == 200


def test_token_in_the_address_becomes_a_cookie(locked: Client) -> None:
    answer = locked.ask("/?token=an+open+secret")
    assert answer.status == 200
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert locked.ask("/stats", Cookie=cookie.split(";")[0]).status == 200
    assert locked.ask("/?token=wrong").headers["set-cookie"] is None


def test_health_needs_no_token_and_gives_no_reason(locked: Client) -> None:
    assert locked.ask("/healthz").json == {"status": "ok"}


@pytest.mark.parametrize("path", ["/stats", "/stats?token=", "/stream.mjpg?other=1"])
def test_error_suggests_the_token_in_the_address_for_get(locked: Client, path: str) -> None:
    assert refused(locked.ask(path)) == HELP_FOR_GET
    assert locked.ask("/stats?token=an+open+secret").status == 200


@pytest.mark.parametrize("query", ["", "?token=an+open+secret", "?token=another+one"])
def test_error_suggests_only_the_header_for_uploads(locked: Client, query: str) -> None:
    assert refused(locked.ask(f"/segment{query}", method="POST", body=b"x")) == HELP_FOR_OTHERS


def test_head_needs_the_header(locked: Client) -> None:
    head = locked.ask("/stats?token=an+open+secret", method="HEAD")
    assert (head.status, head.body) == (401, b"")
    assert int(head.headers["content-length"]) == len('{"error":""}') + len(HELP_FOR_OTHERS)
    assert locked.ask("/stats", method="HEAD", Authorization=f"Bearer {TOKEN}").status == 200


@pytest.mark.parametrize("came", ["wrong-9f1c", "an open secreT", "\xe4\xf6\xfc"])
def test_wrong_token_has_its_own_error_that_never_repeats_it(locked: Client, came: str) -> None:
    bearer = f"Bearer {came}"
    answers = [
        locked.ask("/stats", Authorization=bearer),
        locked.ask("/segment", method="POST", body=b"x", Authorization=bearer),
    ]
    for answer in answers:
        assert refused(answer) == WRONG
        for text in (str(answer.headers), answer.body.decode()):
            assert came not in text
            assert TOKEN not in text


def test_wrong_token_in_the_address_has_the_same_error(locked: Client) -> None:
    assert refused(locked.ask("/stream.mjpg?token=wrong-9f1c")) == WRONG


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer  ", "Basic YTpi", "wrong-9f1c"])
def test_headers_without_a_token_do_not_count_as_wrong(locked: Client, header: str) -> None:
    assert refused(locked.ask("/stats", Authorization=header)) == HELP_FOR_GET


def test_cookie_of_an_earlier_start_does_not_count_as_wrong(locked: Client) -> None:
    cookie = f"edgeunet_{locked.port}=left-over"
    assert refused(locked.ask("/stats", Cookie=cookie)) == HELP_FOR_GET
    assert not shows_wrong(locked.ask("/", Cookie=cookie))


def test_wrong_token_does_not_end_a_login(locked: Client) -> None:
    cookie = locked.ask("/?token=an+open+secret").headers["set-cookie"].split(";")[0]
    assert locked.ask("/stats?token=wrong-9f1c", Cookie=cookie).status == 200


def shows_wrong(page: Answer) -> bool:
    """Whether the login form says that the token was wrong."""
    assert page.status == 401
    assert page.headers["content-type"].startswith("text/html")
    text = page.body.decode()
    assert "$" not in text
    (line,) = [line for line in text.splitlines() if "Wrong token." in line]
    return "hidden" not in line


def test_login_form_says_if_the_token_was_wrong(locked: Client) -> None:
    assert not shows_wrong(locked.ask("/"))
    assert not shows_wrong(locked.ask("/?token="))
    wrong = locked.ask("/?token=wrong-9f1c")
    assert shows_wrong(wrong)
    assert b"wrong-9f1c" not in wrong.body
    assert shows_wrong(locked.ask("/", Authorization="Bearer wrong-9f1c"))


def test_cookie_cannot_be_computed_from_the_token(locked: Client) -> None:
    cookie = locked.ask("/?token=an+open+secret").headers["set-cookie"]
    assert hashlib.sha256(TOKEN.encode()).hexdigest() not in cookie
    assert len(cookie.split(";")[0].partition("=")[2]) >= 40


def test_wrong_tokens_are_logged_without_them(
    locked: Client, caplog: pytest.LogCaptureFixture
) -> None:
    locked.ask("/stats?token=wrong-9f1c", source="127.0.0.9")
    assert "a wrong token from 127.0.0.9" in caplog.messages
    assert "9f1c" not in caplog.text


# Proxies


PROXIES = {
    "Forwarded": "for=192.0.2.60;proto=https",
    "X-Forwarded-For": "192.0.2.60",
    "via": "1.1 proxy.example",  # header names ignore case
    "X-FORWARDED-FOR": "127.0.0.1",  # anyone can write this
}


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/stream"), ("HEAD", "/"), ("POST", "/segment"), ("GET", "/healthz")],
)
def test_proxies_are_refused_without_a_token(
    server: Client, name: str, method: str, path: str
) -> None:
    answer = server.ask(path, method=method, **{name: PROXIES[name]})
    assert answer.status == 403
    if method != "HEAD":
        message = answer.json["error"]
        came = f"got the header {name}: the request came through a proxy"
        assert message.lower().startswith(came.lower())
        assert "--token or EDGEUNET_TOKEN" in message


@pytest.mark.parametrize("name", PROXIES)
def test_proxies_are_accepted_with_a_token(locked: Client, name: str) -> None:
    came = {name: PROXIES[name]}
    assert refused(locked.ask("/stats", **came)) == HELP_FOR_GET
    assert locked.ask("/healthz", **came).json == {"status": "ok"}
    assert locked.ask("/stats", Authorization=f"Bearer {TOKEN}", **came).status == 200


def test_proxy_may_use_its_own_host_name_with_a_token(locked: Client) -> None:
    came = {"Host": "camera.example:8443", "X-Forwarded-Proto": "https"}
    assert locked.ask("/stats", Authorization=f"Bearer {TOKEN}", **came).status == 200
    assert refused(locked.ask("/stats", **came)) == HELP_FOR_GET
    page = {"Origin": "https://camera.example:8443", "Authorization": f"Bearer {TOKEN}"}
    assert locked.ask("/segment", method="POST", body=b"no image", **came, **page).status == 415
    page["Origin"] = "https://evil.example"
    assert locked.ask("/segment", method="POST", body=b"no image", **came, **page).status == 403


def test_similar_headers_do_not_count_as_a_proxy(server: Client) -> None:
    assert server.ask("/stats").status == 200
    assert server.ask("/stats", X_Forwarded="no such header", User_Agent="Via").status == 200


# The address that is printed


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Sets the addresses of this machine by family; None means no route."""
    routes: dict[int, str] = {}

    class Probe:
        def __init__(self, family: int, kind: int) -> None:
            self.family, self.type = family, kind

        def __enter__(self) -> Probe:
            return self

        def __exit__(self, *error: object) -> None: ...

        def connect(self, to: tuple[str, int]) -> None:
            assert self.type == socket.SOCK_DGRAM, "a packet would be sent"
            assert ipaddress.ip_address(to[0]).version == (
                6 if self.family == socket.AF_INET6 else 4
            )
            if self.family not in routes:
                raise OSError(errno.ENETUNREACH, "Network is unreachable")

        def getsockname(self) -> tuple[str, int]:
            return routes[self.family], 40_000

    def set_routes(v4: str | None = None, v6: str | None = None) -> None:
        given = {socket.AF_INET: v4, socket.AF_INET6: v6}
        routes.update({family: own for family, own in given.items() if own is not None})

    monkeypatch.setattr(socket, "socket", Probe)
    monkeypatch.setattr(socket, "gethostname", lambda: "board")
    return set_routes


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_all_addresses_print_as_the_lan_address(network: Network, host: str) -> None:
    network(v4="192.168.1.7")
    assert page_url(host, 8080, "secret") == "http://192.168.1.7:8080/?token=secret"


@pytest.mark.parametrize("host", ["::", "[::]"])
def test_ipv6_server_prints_an_ipv6_address(network: Network, host: str) -> None:
    network(v4="192.168.1.7", v6="2001:db8:7::1")
    assert page_url(host, 80, None) == "http://[2001:db8:7::1]:80/"


@pytest.mark.parametrize("own", [None, "127.0.0.1", "0.0.0.0"])
def test_without_a_network_the_host_name_is_printed(network: Network, own: str | None) -> None:
    network(v4=own)
    assert page_url("0.0.0.0", 8080, None) == "http://board:8080/"


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("10.0.0.3", "10.0.0.3"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
    ],
)
def test_given_address_is_printed_unchanged(network: Network, host: str, named: str) -> None:
    network(v4="192.168.1.7", v6="2001:db8:7::1")
    assert page_url(host, 80, None) == f"http://{named}:80/"


def test_this_machine_has_an_address() -> None:
    assert page_url("0.0.0.0", 80, None) not in ("http://0.0.0.0:80/", "http://:80/")
