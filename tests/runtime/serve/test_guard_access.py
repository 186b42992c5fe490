"""What those are told whom the server refuses, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serving import Answer, Client, serving

TOKEN = "an open secret"
OF_GET = "a token is asked for: Authorization: Bearer TOKEN, or ?token=TOKEN."
OF_OTHERS = "a token is asked for: Authorization: Bearer TOKEN; ?token= is taken of GET alone."
WRONG = "the token is wrong. One that the server makes is new with each start."


@pytest.fixture(scope="module")
def server(fp32_bundle: Path, images: Path) -> Iterator[Client]:
    with serving(fp32_bundle, images) as client:
        yield client


@pytest.fixture(scope="module")
def locked(fp32_bundle: Path, images: Path) -> Iterator[Client]:
    with serving(fp32_bundle, images, token=TOKEN) as client:
        yield client


def refused(answer: Answer) -> str:
    """What a 401 says."""
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    message: str = answer.json["error"]
    return message


# The token


@pytest.mark.parametrize("path", ["/stats", "/stats?token=", "/stream.mjpg?other=1"])
def test_a_token_in_the_address_is_offered_where_it_is_taken(locked: Client, path: str) -> None:
    assert refused(locked.ask(path)) == OF_GET
    assert locked.ask("/stats?token=an+open+secret").status == 200


@pytest.mark.parametrize("query", ["", "?token=an+open+secret", "?token=another+one"])
def test_a_token_in_the_address_is_not_offered_for_an_upload(locked: Client, query: str) -> None:
    assert refused(locked.ask(f"/segment{query}", method="POST", body=b"x")) == OF_OTHERS


def test_a_head_is_asked_for_the_header(locked: Client) -> None:
    head = locked.ask("/stats?token=an+open+secret", method="HEAD")
    assert (head.status, head.body) == (401, b"")
    assert int(head.headers["content-length"]) == len('{"error":""}') + len(OF_OTHERS)
    assert locked.ask("/stats", method="HEAD", Authorization=f"Bearer {TOKEN}").status == 200


@pytest.mark.parametrize("came", ["wrong-9f1c", "an open secreT", "\xe4\xf6\xfc"])
def test_a_wrong_token_is_told_from_none_and_never_repeated(locked: Client, came: str) -> None:
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


def test_a_wrong_token_in_the_address_is_told_too(locked: Client) -> None:
    assert refused(locked.ask("/stream.mjpg?token=wrong-9f1c")) == WRONG


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer  ", "Basic YTpi", "wrong-9f1c"])
def test_what_is_no_token_is_not_called_a_wrong_one(locked: Client, header: str) -> None:
    assert refused(locked.ask("/stats", Authorization=header)) == OF_GET


def test_a_cookie_of_an_earlier_start_is_no_wrong_token(locked: Client) -> None:
    cookie = f"edgeunet_{locked.port}=left-over"
    assert refused(locked.ask("/stats", Cookie=cookie)) == OF_GET
    assert not shows_wrong(locked.ask("/", Cookie=cookie))


def test_a_wrong_token_does_not_shut_out_who_is_logged_in(locked: Client) -> None:
    cookie = locked.ask("/?token=an+open+secret").headers["set-cookie"].split(";")[0]
    assert locked.ask("/stats?token=wrong-9f1c", Cookie=cookie).status == 200


def shows_wrong(page: Answer) -> bool:
    """Whether the page that asks for the token says that one was wrong."""
    assert page.status == 401
    assert page.headers["content-type"].startswith("text/html")
    text = page.body.decode()
    assert "$" not in text
    (line,) = [line for line in text.splitlines() if "The token is wrong" in line]
    return "hidden" not in line


def test_the_page_that_asks_says_when_a_token_was_wrong(locked: Client) -> None:
    assert not shows_wrong(locked.ask("/"))
    assert not shows_wrong(locked.ask("/?token="))
    wrong = locked.ask("/?token=wrong-9f1c")
    assert shows_wrong(wrong)
    assert b"wrong-9f1c" not in wrong.body
    assert shows_wrong(locked.ask("/", Authorization="Bearer wrong-9f1c"))


# Proxies

PROXIES = {
    "Forwarded": "for=192.0.2.60;proto=https",
    "X-Forwarded-For": "192.0.2.60",
    "via": "1.1 proxy.example",  # names of headers have no case
    "X-FORWARDED-FOR": "127.0.0.1",  # whoever asks may have written that
}


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/stream"), ("HEAD", "/"), ("POST", "/segment"), ("GET", "/healthz")],
)
def test_a_proxy_gets_nothing_without_a_token(
    server: Client, name: str, method: str, path: str
) -> None:
    answer = server.ask(path, method=method, **{name: PROXIES[name]})
    assert answer.status == 403
    if method != "HEAD":
        message = answer.json["error"]
        assert message.lower().startswith(f"{name.lower()} came: a proxy asks for someone else")
        assert "--token or EDGEUNET_TOKEN" in message


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_changes_nothing_where_a_token_is_asked_for(locked: Client, name: str) -> None:
    came = {name: PROXIES[name]}
    assert refused(locked.ask("/stats", **came)) == OF_GET
    assert locked.ask("/healthz", **came).json == {"status": "ok"}
    assert locked.ask("/stats", Authorization=f"Bearer {TOKEN}", **came).status == 200


def test_a_proxy_reaches_a_locked_server_by_a_name_of_its_own(locked: Client) -> None:
    came = {"Host": "camera.example:8443", "X-Forwarded-Proto": "https"}
    assert locked.ask("/stats", Authorization=f"Bearer {TOKEN}", **came).status == 200
    assert refused(locked.ask("/stats", **came)) == OF_GET
    page = {"Origin": "https://camera.example:8443", "Authorization": f"Bearer {TOKEN}"}
    assert locked.ask("/segment", method="POST", body=b"no image", **came, **page).status == 415
    page["Origin"] = "https://evil.example"
    assert locked.ask("/segment", method="POST", body=b"no image", **came, **page).status == 403


def test_what_no_proxy_wrote_is_answered(server: Client) -> None:
    assert server.ask("/stats").status == 200
    assert server.ask("/stats", X_Forwarded="no such header", User_Agent="Via").status == 200
