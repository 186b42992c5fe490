"""Backends with quick nets, for tests of what is around a net."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.bundle.bundle import Bundle
from edgeunet.errors import BackendError
from edgeunet.runtime.backends import Net
from edgeunet.runtime.backends.base import NetBackend
from edgeunet.runtime.frames import NetOutputs
from edgeunet.runtime.segmenter import Segmenter

Infer = Callable[[npt.NDArray[np.float32]], NetOutputs]


def change_nets(
    segmenter: Segmenter,
    change: Callable[[Infer, npt.NDArray[np.float32]], NetOutputs],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Put a function around `infer_gated` of the net and of its lane: a stream uses both."""
    net = segmenter.backend.net
    for each in {id(one): one for one in (net, net.lane())}.values():
        monkeypatch.setattr(each, "infer_gated", partial(change, each.infer_gated))


class StandIn(NetBackend):
    """A backend that is its own net: subclasses define `infer`."""

    kind = "stand-in"

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, _NetOf(self), name=self.kind)
        self.closed = False

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


class _NetOf(Net):
    def __init__(self, backend: StandIn) -> None:
        self._backend = backend

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        return self._backend.infer(images)


class Means(StandIn):
    """Class 1 where the image is brighter than the mean; fails after `limit` calls."""

    kind = "means"

    def __init__(self, bundle: Bundle, limit: int | None = None) -> None:
        super().__init__(bundle)
        self.limit, self.calls = limit, 0

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        if self.calls == self.limit:
            raise BackendError("the GPU is lost.")
        self.calls += 1
        manifest = self.bundle.manifest
        height, width = manifest.logits_size
        logits = np.full((len(images), len(manifest.classes), height, width), -1e9, np.float32)
        for each, image in zip(logits, images, strict=True):
            each[1] = cv2.resize(image.mean(axis=0), (width, height))
            each[0] = -each[1]
        return NetOutputs(logits, None)
