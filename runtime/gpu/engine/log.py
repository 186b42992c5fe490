"""What TensorRT says, kept: a call that fails returns None or False, and says why only there."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
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
    (
        r"error:? 35\b|driver version|insufficient ?driver",
        "The driver is older than the CUDA that this TensorRT is made for: update the driver, or "
        "install an older tensorrt-cu12.",
    ),
    (
        r"initiali[sz]ation failure",
        "See nvidia-smi (on Jetson: dmesg) whether GPU and driver are there and fit.",
    ),
)


def listen(trt: Any) -> Any:
    """ILogger whose `errors` and `warnings` are the messages from now on, in order.

    It is one for the whole process: while any builder, runtime or engine lives, TensorRT ignores
    the loggers of later ones.
    """
    log = _logger(trt)
    log.errors.clear()
    log.warnings.clear()
    return log


@cache
def _logger(trt: Any) -> Any:
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


@contextmanager
def objects_freed() -> Iterator[None]:
    """Let an error pass without the variables of the frames that it went through.

    They would keep a builder or a runtime alive until the error is forgotten, when the context of
    the GPU may be gone: TensorRT then fails to free what it holds, or ends the process.
    """
    try:
        yield
    except Exception as error:
        traceback.clear_frames(error.__traceback__)
        raise
