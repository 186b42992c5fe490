"""Answers of steps: kept, given again, and refused if they are another search's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeunet.errors import UsageError
from edgeunet.tuning.journal import Journal

REQUEST = {"model": "unet", "data": "/cells"}


def test_answers_are_kept_with_their_seconds(tmp_path: Path) -> None:
    now = [0.0]

    def work() -> dict[str, float]:
        now[0] += 2.5
        return {"ms": 4.0}

    path = tmp_path / "tune.json"
    journal = Journal(path, REQUEST, clock=lambda: now[0])
    assert not journal.knows("one")
    assert [journal.ask("one", work), journal.ask("two", work)] == [{"ms": 4.0}] * 2
    assert journal.spent == 5.0 and journal.seconds("one") == 2.5
    again = Journal(path, REQUEST)
    assert again.knows("one") and again.spent == 0.0
    assert again.ask("one", lambda: pytest.fail("it is known")) == {"ms": 4.0}
    assert again.spent == 2.5


def test_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tune.json"
    Journal(path, REQUEST).ask("one", lambda: 1)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        Journal(path, REQUEST).ask("two", lambda: 1 / 0)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({**REQUEST, "model": "unetpp"}, "model is 'unet' there, and 'unetpp' here"),
        ({**REQUEST, "seed": 1}, "seed is None there, and 1 here"),
        ({"model": "unet"}, "data is '/cells' there, and None here"),
    ],
)
def test_another_search_is_refused(tmp_path: Path, request_: dict[str, Any], words: str) -> None:
    Journal(tmp_path / "tune.json", REQUEST).ask("one", lambda: 1)
    with pytest.raises(UsageError, match="belongs to another search") as caught:
        Journal(tmp_path / "tune.json", request_)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{", b"null", b"\xff", b"{}",
        json.dumps({"version": 2, "request": REQUEST, "steps": {}}).encode(),
        json.dumps({"version": 1, "steps": {}}).encode(),
        json.dumps({"version": 1, "request": REQUEST, "steps": []}).encode(),
        json.dumps({"version": 1, "request": REQUEST, "steps": {"a": 1}}).encode(),
        json.dumps(
            {"version": 1, "request": REQUEST, "steps": {"a": {"seconds": -1, "answer": 1}}}
        ).encode(),
    ],
)  # fmt: skip
def test_damaged_file_is_named_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tune.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"tune\.json .*Choose another output, or remove it"):
        Journal(path, REQUEST)
    assert path.read_bytes() == content
