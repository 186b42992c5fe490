"""The file that a run resumes from, and how often it is written."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, first_line
from ..files import write_bytes
from ..models.weight_files import read_weight_file

STATE = "last.pt"

_SHOWN = 80  # characters of a value in an error

_PAUSE = 20  # times as long as saving a state takes: epochs on a GPU may be as short


class StateFile:
    """The state of a run in its folder.

    Args:
        run: what a state and the run that resumes it must have in common.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self._path = folder / STATE
        self._run = json.dumps(run, sort_keys=True)
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        """Whether saving costs at most a twentieth of the time since the last one."""
        return time.monotonic() > self._due

    def read(self, names: Sequence[str]) -> dict[str, Any] | None:
        """What was written under these names; None if nothing was.

        Raises:
            CheckpointError: damaged, a name is missing, or it belongs to another run.
        """
        if not self._path.exists():
            return None
        state = read_weight_file(self._path)
        if missing := [name for name in ("run", *names) if name not in state]:
            raise CheckpointError(
                f"{self._path} lacks {', '.join(missing)}. Remove it to start again."
            )
        if other := _differences(self._kept_run(state["run"]), json.loads(self._run)):
            raise CheckpointError(
                f"{self._path} belongs to another run: {'; '.join(other)}. Use the same "
                "arguments, or another output directory."
            )
        return {name: state[name] for name in names}

    def _kept_run(self, text: Any) -> dict[str, Any]:
        """The run that a state names; CheckpointError if it names none."""
        try:
            found = json.loads(text)
        except (TypeError, ValueError, RecursionError):  # anybody may have written the file
            found = None
        if not isinstance(found, dict):
            raise CheckpointError(
                f"{self._path} does not tell of which run it is. Remove it to start again."
            )
        return found

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the state by this one: tensors and plain values."""
        started = time.monotonic()
        buffer = io.BytesIO()
        torch.save({"run": self._run, **state}, buffer)
        write_bytes(self._path, buffer.getvalue())
        now = time.monotonic()
        self._due = now + _PAUSE * (now - started)


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], of: str = "") -> list[str]:
    """What differs in two runs, in words."""
    found = []
    for name in sorted(there.keys() | here.keys()):
        before, now = there.get(name), here.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            found += _differences(before, now, f"{of}{name}.")
        elif before != now:
            texts = (first_line(json.dumps(each), most=_SHOWN) for each in (before, now))
            found.append("{} is {} there, and {} here".format(of + name, *texts))
    return found
