"""Finding Ray, and what is said where there is none; tests/runtime/test_archive.py runs on it."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys

import pytest

from edgeunet.errors import BackendError, MissingDependencyError, UsageError
from edgeunet.runtime.pipeline import cluster
from edgeunet.runtime.pipeline.cluster import Cluster, cores, ray_cluster


def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for where in (address, "nonsense"):
            with pytest.raises(BackendError, match=f"^no Ray at {where}: .* auto or HOST:6379"):  # noqa: SIM117
                with ray_cluster(where, workers=1, payload=0):
                    pass
    with pytest.raises(UsageError, match=r"client is not supported.* with auto or HOST:6379"):  # noqa: SIM117
        with ray_cluster(f"ray://{address}", workers=1, payload=0):
            pass
    assert {number: signal.getsignal(number) for number in before} == before
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ


def test_an_interrupted_start_is_cleaned_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    ended: list[bool] = []
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(True))
    monkeypatch.setattr(ray, "init", lambda **_: sys.exit(signal.SIGTERM))  # as its handler does
    taken: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: taken.append(number))
    try:
        with pytest.raises(SystemExit), ray_cluster(None, workers=1, payload=0):
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended == [True]
    assert taken == [signal.SIGTERM], "whoever handled it before gets it"


def test_ray_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[ray\]'"):  # noqa: SIM117
        with ray_cluster(None, workers=1, payload=0):
            pass


def test_a_worker_sends_what_it_warned_of() -> None:
    def work(piece: str) -> str:
        logging.getLogger("edgeunet.runtime.backends").warning("%s is slow here", piece)
        logging.getLogger("edgeunet.runtime.backends").info("as always")
        logging.getLogger("other").warning("not ours")
        return piece.upper()

    actor = cluster._Actor(lambda: work)
    for piece in ("fp16", "int8"):
        told = json.dumps([f"{piece} is slow here"])
        assert actor({"piece": [piece]}) == {"result": [piece.upper()], "told": [told]}


def test_another_ray_in_this_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(UsageError, match="Leave out the address"):  # noqa: SIM117
        with ray_cluster("auto", workers=1, payload=0):
            pass


def test_a_token_is_made_once_and_not_behind_somebodys_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray reads it once; one that was loaded before has read its settings."""
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    cluster._token.cache_clear()
    token = cluster._token()
    assert token["RAY_AUTH_MODE"] == "token" and len(token["RAY_AUTH_TOKEN"]) == 64
    monkeypatch.setitem(sys.modules, "ray", object())  # type: ignore[arg-type]
    assert cluster._token() == token
    cluster._token.cache_clear()
    assert cluster._token() == {}
    cluster._token.cache_clear()


def test_settings_of_the_user_win_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_A", "theirs")
    with cluster._environment({"RAY_A": "ours", "RAY_B": "ours"}):
        assert (os.environ["RAY_A"], os.environ["RAY_B"]) == ("theirs", "ours")
    assert (os.environ["RAY_A"], os.environ.get("RAY_B")) == ("theirs", None)


def test_workers_share_the_cores() -> None:
    assert [Cluster(cpus=8, gpus=0).share(workers) for workers in (1, 3, 8, 20)] == [8, 2, 1, 1]
    assert 1 <= cores() <= (os.cpu_count() or 1)
