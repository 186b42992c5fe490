"""Keeps the answer of each step of a search in a file, so that a search that was killed resumes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..bundle.schema import SchemaError, load_json
from ..errors import UsageError, printable
from ..files import write_json

JOURNAL_VERSION = 1


class Journal:
    """Answers by the name of the step, each with the seconds that it took.

    A search asks for the same steps in the same order each time, since all that it decides follows
    from the answers and their seconds. So one that resumes gets the answers that are there at once,
    and goes on as if it had never stopped. What a killed step took does not count.

    Args:
        path: written anew after each step. request: what is searched for; a file of another
            search is refused. clock: seconds.

    Raises:
        UsageError: the file is of another search, or damaged.

    Example:
        >>> from pathlib import Path
        >>> from edgeunet.tuning.journal import Journal
        >>> Journal(Path("tune.json"), {"net": "unet"}).ask("sum", lambda: 1 + 1)
        2
        >>> Journal(Path("tune.json"), {"net": "unet"}).ask("sum", lambda: 0)
        2
    """

    def __init__(
        self, path: Path, request: dict[str, Any], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._request, self._clock = path, request, clock
        self._kept = _read(path, request)
        self.spent = 0.0
        """Seconds of the steps that were asked for so far."""

    def knows(self, step: str) -> bool:
        """Whether the answer is there already."""
        return step in self._kept

    def ask(self, step: str, work: Callable[[], Any]) -> Any:
        """The kept answer of a step, or that of `work`: values that JSON holds."""
        if step not in self._kept:
            started = self._clock()
            answer = work()
            self._kept[step] = {"seconds": self._clock() - started, "answer": answer}
            self.write({})
        self.spent += self._kept[step]["seconds"]
        return self._kept[step]["answer"]

    def seconds(self, step: str) -> float:
        """What a step took whose answer is there."""
        seconds: float = self._kept[step]["seconds"]
        return seconds

    def write(self, outcome: dict[str, Any]) -> None:
        """Write all answers, and what came of them if that is known."""
        head = {"version": JOURNAL_VERSION, "request": self._request}
        write_json(self._path, {**head, "steps": self._kept, "outcome": outcome})


def _read(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The steps in a file; none if there is no file."""
    shown = printable(path)
    try:
        found = load_json(path)
    except FileNotFoundError:
        return {}
    except SchemaError as error:
        raise UsageError(f"{shown} {error}. Choose another output, or remove it.") from None
    if not isinstance(found, dict) or found.get("version") != JOURNAL_VERSION or not _whole(found):
        raise UsageError(
            f"{shown} is damaged, or of another edgeunet. Choose another output, or remove it."
        )
    kept = found["request"]
    for name in (*request, *kept):
        if kept.get(name) != request.get(name):
            raise UsageError(
                f"{shown} belongs to another search: {name} is {kept.get(name)!r} there, and "
                f"{request.get(name)!r} here. Use the same arguments, or choose another output."
            )
    steps: dict[str, Any] = found["steps"]
    return steps


def _whole(found: dict[str, Any]) -> bool:
    """Whether a file has what `Journal` writes."""
    steps = found.get("steps")
    return (
        isinstance(found.get("request"), dict)
        and isinstance(steps, dict)
        and all(
            isinstance(each, dict)
            and isinstance(each.get("seconds"), (int, float))
            and each["seconds"] >= 0
            and "answer" in each
            for each in steps.values()
        )
    )
