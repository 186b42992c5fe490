"""Streams that run as late as possible, and libcuda's calls for CUDA graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

Work = Callable[[], None]
_LOST, _NOT_CAPTURED = 719, 901
_WORDS = {
    _LOST: b"unspecified launch failure",
    _NOT_CAPTURED: b"operation failed due to a previous error during capture",
}


@dataclass
class Queue:
    """Waiting work. During a capture, work goes to `captured` instead."""

    waiting: list[Work] = field(default_factory=list)
    captured: list[Work] | None = None


class Streams:
    """All streams by handle, and libcuda's functions by name.

    capturable: False makes every capture fail. lost: if set, all calls fail.
    """

    def __init__(self) -> None:
        self.queues: dict[int, Queue] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self.launched = 0
        self.current: list[int] = []  # the driver's own stack, below PyCUDA's
        self.capturable = True
        self.lost = False
        self._handles = count(1)
        self._lock = threading.RLock()

    def create(self) -> int:
        handle = next(self._handles)
        self.queues[handle] = Queue()
        return handle

    def enqueue(self, stream: int, work: Work) -> None:
        with self._lock:
            queue = self.queues[stream]
            (queue.waiting if queue.captured is None else queue.captured).append(work)

    def run(self, stream: int, until: Work | None = None) -> None:
        """Run a stream's waiting work, all of it or up to a mark."""
        with self._lock:
            queue = self.queues[stream]
            assert queue.captured is None, "a stream that is being captured cannot be waited for"
            while queue.waiting:
                work = queue.waiting.pop(0)
                work()
                if work is until:
                    return

    # libcuda, as ctypes calls it: 0 means success.

    def cuStreamBeginCapture_v2(self, stream: Any, mode: Any) -> int:
        if self.lost:
            return _LOST
        assert mode.value == 1, "thread-local"
        self.queues[stream.value].captured = []
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        queue = self.queues[stream.value]
        captured, queue.captured = queue.captured, None
        if not self.capturable:
            return _NOT_CAPTURED
        assert captured is not None
        graph._obj.value = next(self._handles)
        self.graphs[graph._obj.value] = captured
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> int:
        assert flags.value == 0
        executable._obj.value = next(self._handles)
        self.executables[executable._obj.value] = self.graphs[graph.value]
        return 0

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:
        if self.lost:
            return _LOST
        self.launched += 1
        for work in self.executables[executable.value]:
            self.enqueue(stream.value, work)
        return 0

    def cuGraphExecDestroy(self, executable: Any) -> int:
        del self.executables[executable.value]
        return _LOST if self.lost else 0

    def cuGraphDestroy(self, graph: Any) -> int:
        del self.graphs[graph.value]
        return _LOST if self.lost else 0

    def cuCtxGetCurrent(self, context: Any) -> int:
        context._obj.value = self.current[-1] if self.current else None
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        context._obj.value = self.current.pop()
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12060
        return 0

    def cuGetErrorString(self, code: Any, words: Any) -> int:
        words._obj.value = _WORDS[code.value]
        return 0
