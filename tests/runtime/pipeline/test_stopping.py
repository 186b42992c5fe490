"""Signals that stop a stream."""

from __future__ import annotations

import signal
import threading

import pytest

from edgeunet.runtime.pipeline.stopping import stopping_on_signals


def test_second_signal_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stops = []
    with stopping_on_signals(lambda: stops.append(True)) as stopped:
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stops == [True]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping_on_signals(lambda: None) as stopped:
            signal.raise_signal(signal.SIGINT)
            assert not stopped()
            signal.raise_signal(signal.SIGTERM)
            assert stopped()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_handler_that_is_not_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[int] = []
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda number, handler: changed.append(number))
    with stopping_on_signals(lambda: None):
        pass
    assert changed == []


def test_signals_are_left_alone_in_other_threads() -> None:
    came = []

    def run() -> None:
        with stopping_on_signals(lambda: None) as stopped:
            came.append(stopped())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert came == [False]
