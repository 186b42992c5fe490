"""Who tries tokens becomes slow, alone, and in little memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeunet.runtime.serve import throttle as module
from edgeunet.runtime.serve.throttle import Throttle, TooManyTokens
from support.serving import Client, serving

TOKEN = "an open secret"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_first_wrong_tokens_are_free_and_the_next_ones_wait() -> None:
    throttle = Throttle(Clock())
    waits = [throttle.attempt("one") for _ in range(8)]
    assert waits == [0, 0, 0, 0, 0, 1, 2, 3]
    assert throttle.attempt("other") == 0


def test_parallel_attempts_are_refused_beyond_the_longest_wait() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    waits = [throttle.attempt("one") for _ in range(15)]
    assert max(waits) == 10
    with pytest.raises(TooManyTokens):
        throttle.attempt("one")
    clock.now += 2
    assert throttle.attempt("one") == pytest.approx(9)


def test_hours_of_guessing_try_one_token_a_second() -> None:
    clock, tried = Clock(), 0
    throttle = Throttle(clock)
    for _ in range(36_000):  # an hour
        clock.now += 0.1
        try:
            throttle.attempt("one")
            tried += 1
        except TooManyTokens:
            pass
    assert 3600 <= tried <= 3630


def test_right_tokens_cost_nothing() -> None:
    throttle = Throttle(Clock())
    for _ in range(100):
        assert throttle.attempt("one") == 0
        throttle.was_right("one")


def test_clients_that_are_remembered_are_bounded() -> None:
    throttle = Throttle(Clock())
    for number in range(5000):
        throttle.attempt(str(number))
    assert len(throttle._clients) == module._CLIENTS
    for _ in range(7):
        throttle.attempt("4999")
    assert throttle.attempt("4999") > 0, "the newest are remembered"


def test_log_names_the_address_from_time_to_time(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    throttle = Throttle(clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            throttle.attempt("192.0.2.7")
            throttle.was_wrong("192.0.2.7")
            clock.now += 1
    assert caplog.messages == [
        "a wrong token from 192.0.2.7",
        "10 wrong tokens from 192.0.2.7",
        "10 wrong tokens from 192.0.2.7",
    ]


# Over real sockets


@pytest.fixture
def guessed(fp32_bundle: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A server at which 127.0.0.2 has tried as many tokens as are free."""
    monkeypatch.setattr(module, "_FREE", 5)
    monkeypatch.setattr(module, "_LONGEST", 2.0)
    with serving(fp32_bundle, images, token=TOKEN) as client:
        for _ in range(5):
            assert client.ask("/stats?token=wrong", source="127.0.0.2").status == 401
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_guesses_become_slow_for_their_address_alone(guessed: Client) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(40) as pool:
        guesses = [
            pool.submit(guessed.ask, path, source="127.0.0.2", **bearer(f"guess {number}"))
            for number, path in enumerate(["/stats", "/healthz", "/", "/static/main.js"] * 10)
        ]
        time.sleep(0.1)
        for _ in range(5):
            assert guessed.ask("/stats", **bearer(TOKEN)).status == 200
        assert guessed.ask("/healthz", source="127.0.0.2").status == 200
        late = guessed.ask("/stats", source="127.0.0.2", **bearer(TOKEN))
        assert late.status == 429, "an answer at once would tell that the token is right"
        assert late.headers["retry-after"] == "10"
        assert late.headers["x-content-type-options"] == "nosniff"
        assert time.monotonic() - started < 1.5, "others wait too"
        answers = [guess.result() for guess in guesses]
    assert sum(answer.status == 429 for answer in answers) >= 30
    assert time.monotonic() - started > 1.5
    time.sleep(1)
    assert guessed.ask("/stats", source="127.0.0.2", **bearer(TOKEN)).status == 200


def test_page_that_is_logged_in_is_not_slowed(guessed: Client) -> None:
    login = guessed.ask("/?token=an+open+secret")
    cookie = login.headers["set-cookie"].split(";")[0]
    started = time.monotonic()
    for _ in range(3):
        assert guessed.ask("/stats", source="127.0.0.2", Cookie=cookie).status == 200
    assert time.monotonic() - started < 1
