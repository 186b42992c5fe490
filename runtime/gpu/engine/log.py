"""The log of TensorRT. A failed call only returns None or False; the log holds the reason."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

_MESSAGES = 4  # only the last: earlier ones are often about abandoned tactics

# Pattern in the log -> what to do.
_ADVICE = (
    (
        r"out ?of ?memory|memory is insufficient|insufficient memory|MemoryAllocation",
        "The GPU ran out of memory: close other programs that use it, pass a smaller --workspace, "
        "or export the bundle with a smaller --max-batch.",
    ),
    (
        r"insufficient workspace",
        "A larger --workspace may allow what this layer needs.",
    ),
    (
        r"error:? 35\b|driver version|insufficient ?driver",
        "The driver is too old for the CUDA version of this TensorRT: update the driver, or "
        "install an older tensorrt-cu12.",
    ),
    (r"initiali[sz]ation failure", "Check GPU and driver with nvidia-smi (on Jetson: dmesg)."),
)


# What a tactic asked for when it was skipped, and what there was. Without a unit, sizes are in MB
# before version 10, and in bytes since.
_ASKED = (
    re.compile(r"Tactic Device request: (?P<mb>\d+) ?MB Available: (?P<available>\d+) ?MB"),
    re.compile(r"due to insuff?icient memory on requested size of (?P<unknown>\d+)"),
    re.compile(r"Requested (?:amount of GPU memory|size was) \(?(?P<bytes>\d+) bytes"),
)
_NEXT_LAYER = "Computing costs for"
_MB = 1 << 20


@dataclass(frozen=True)
class Shortage:
    """Memory in MB that a tactic asked for in vain. available: None if the log does not tell."""

    requested: int
    available: int | None


def read_shortage(message: str) -> Shortage | None:
    """The memory that a message of the log is about; None if it is about something else.

    Example:
        >>> read_shortage("Tactic Device request: 143MB Available: 112MB. Device memory is ...")
        Shortage(requested=143, available=112)
    """
    for pattern in _ASKED:
        if found := pattern.search(message):
            figures = {name: int(text) for name, text in found.groupdict().items() if text}
            size = figures.get("bytes", figures.get("unknown", 0))
            in_bytes = "bytes" in figures or size >= _MB  # no tactic asks for a terabyte
            requested = figures.get("mb", -(-size // _MB) if in_bytes else size)
            return Shortage(requested, figures.get("available"))
    return None


def fresh_logger(trt: Any) -> Any:
    """ILogger that collects all messages from now on in `errors` and `warnings`.

    `shortages` has the memory that tactics of the last layer asked for in vain.

    The process has only one: TensorRT ignores a second logger while any builder, runtime or engine
    that uses the first one lives.
    """
    log = _logger(trt)
    log.errors.clear()
    log.warnings.clear()
    log.shortages.clear()
    return log


@cache
def _logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.shortages: list[Shortage] = []

        def log(self, severity: Any, message: str) -> None:
            if severity == trt.ILogger.VERBOSE:
                if _NEXT_LAYER in message:
                    self.shortages.clear()
                return
            if shortage := read_shortage(message):
                self.shortages.append(shortage)
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(message)

    return Log()


def error_text(log: Any) -> str:
    """The last errors in a log, or its last warnings if it has no errors, and what to do.

    TensorRT logs a failure to start CUDA as a warning.
    """
    messages = list(dict.fromkeys(log.errors or log.warnings))[-_MESSAGES:]  # each once
    text = "; ".join(messages) or "it gave no reason"
    return f"{text.rstrip('.')}. {advice_for(text)}".rstrip()


def advice_for(text: str) -> str:
    """What to do about messages of the log; empty if that is not known."""
    return next((do for words, do in _ADVICE if re.search(words, text, re.IGNORECASE)), "")


@contextmanager
def objects_freed() -> Iterator[None]:
    """If the block raises, clear the local variables of the traceback's frames.

    They would keep a builder or runtime alive for as long as the error lives. By then the GPU's
    context may be gone, and TensorRT fails to free its memory or ends the process.
    """
    try:
        yield
    except Exception as error:
        traceback.clear_frames(error.__traceback__)
        raise
