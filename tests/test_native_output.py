"""What native code prints does not reach stdout."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from edgeunet.native_output import stderr_dropped, stdout_to_stderr


def test_what_passes_python_goes_to_stderr_and_no_longer_than_asked(
    capfd: pytest.CaptureFixture[str],
) -> None:
    print("before")
    with suppress(ZeroDivisionError), stdout_to_stderr():
        os.write(1, b"noise\n")
        os.write(1, b"more\n"[1 // 0 :])
    os.write(1, b"after\n")
    found = capfd.readouterr()
    assert found.out == "before\nafter\n"
    assert found.err == "noise\n"


def test_stderr_is_dropped_and_no_longer_than_asked(capfd: pytest.CaptureFixture[str]) -> None:
    with stderr_dropped():
        os.write(2, b"noise\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
