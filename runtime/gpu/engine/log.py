"""The log of TensorRT. A failed call only returns None or False; the log holds the reason."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
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
        r"insufficient workspace|find any implementation",
        "A larger --workspace may allow what this layer needs.",
    ),
    (
        r"error:? 35\b|driver version|insufficient ?driver",
        "The driver is too old for the CUDA version of this TensorRT: update the driver, or "
        "install an older tensorrt-cu12.",
    ),
    (r"initiali[sz]ation failure", "Check GPU and driver with nvidia-smi (on Jetson: dmesg)."),
)


def fresh_logger(trt: Any) -> Any:
    """ILogger that collects all messages from now on in `errors` and `warnings`.

    The process has only one: TensorRT ignores a second logger while any builder, runtime or engine
    that uses the first one lives.
    """
    log = _logger(trt)
    log.errors.clear()
    log.warnings.clear()
    return log


@cache
def _logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
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
    advice = [do for words, do in _ADVICE if re.search(words, text, re.IGNORECASE)][:1]
    return " ".join([f"{text.rstrip('.')}.", *advice])


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
