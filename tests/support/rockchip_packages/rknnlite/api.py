"""Stands in for rknn-toolkit-lite2's `RKNNLite`, by the signatures of release 2.5."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from fake_rknn import Session


class RKNNLite:
    """faults: what each call does wrong, by its name. opened: contexts that are not released."""

    NPU_CORE_AUTO, NPU_CORE_0, NPU_CORE_1, NPU_CORE_2 = 0, 1, 2, 4

    faults: ClassVar[dict[str, Any]] = {}
    opened: ClassVar[list[RKNNLite]] = []
    paths: ClassVar[list[Path]] = []

    def __init__(self, verbose: bool = False, verbose_file: str | None = None) -> None:
        self.content: bytes | None = None
        self.core_mask: int | None = None
        self.frames = 0
        self._session: Session | None = None
        self._running = threading.Lock()
        RKNNLite.opened.append(self)

    def load_rknn(self, path: str, key_path: str | None = None) -> int:
        self.paths.append(Path(path))
        self.content = Path(path).read_bytes()
        return int(self._fault("load_rknn") or 0)

    def init_runtime(
        self,
        target: str | None = None,
        device_id: str | None = None,
        async_mode: bool = False,
        core_mask: int = NPU_CORE_AUTO,
    ) -> int:
        assert self.content is not None
        if code := self._fault("init_runtime"):
            return int(code)
        self.core_mask, self._session = core_mask, Session(self.content)
        return 0

    def inference(
        self,
        inputs: list[Any],
        data_type: list[str] | None = None,
        data_format: list[str] | None = None,
        inputs_pass_through: list[int] | None = None,
        get_frame_id: bool = False,
        reuse_outputs: bool = False,
    ) -> list[Any] | None:
        assert self._session is not None and data_format == ["nhwc"]
        assert self._running.acquire(blocking=False), "two calls of one context at once"
        try:
            self.frames += 1
            outputs = self._session.run(inputs[0])
            fault = self._fault("inference")
            if fault == "none":
                return None
            return [np.roll(outputs[0], 1, axis=1), *outputs[1:]] if fault else outputs
        finally:
            self._running.release()

    def get_sdk_version(self) -> str:
        assert self._session is not None
        return "\n==========\n API: 2.3.2 (1842325d6a@2025-03-30)\n DRV: rknn_server: none\n"

    def release(self) -> None:
        self._session = None
        RKNNLite.opened.remove(self)

    def _fault(self, call: str) -> Any:
        fault = self.faults.get(call)
        if isinstance(fault, Exception):
            raise fault
        return fault
