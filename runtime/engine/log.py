"""What TensorRT says of a build, kept: a failed one returns None, and says why only there."""

from __future__ import annotations

import re
from typing import Any

_MESSAGES = 4  # the last ones: the first are often of tactics that were given up

# Words of the log -> what to do.
_ADVICE = (
    (
        r"out ?of ?memory|memory is insufficient|insufficient memory|MemoryAllocation",
        "The GPU ran out of memory: close what else uses it, pass a smaller --workspace, or export "
        "the bundle with a smaller --max-batch.",
    ),
    (
        r"insufficient workspace|find any implementation",
        "A larger --workspace may allow what this layer needs.",
    ),
)


def collecting_logger(trt: Any) -> Any:
    """ILogger with `errors` and `warnings`, their messages in order."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the module is known at run time only
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


def last_words(log: Any) -> str:
    """The last errors, and what to do where they tell.

    Warnings where there are none: that CUDA does not start is one to TensorRT.
    """
    messages = list(dict.fromkeys(log.errors or log.warnings))[-_MESSAGES:]  # each once
    said = "; ".join(messages) or "it gave no reason"
    advice = [text for words, text in _ADVICE if re.search(words, said, re.IGNORECASE)][:1]
    return " ".join([f"{said.rstrip('.')}.", *advice])
