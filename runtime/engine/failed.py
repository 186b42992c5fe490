"""What a failed call of TensorRT leaves behind."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager


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
