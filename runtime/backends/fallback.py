"""A GPU by TensorRT or TensorRT-RTX, ONNX Runtime elsewhere, and from where the GPU fails."""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle
from edgeunet.errors import BackendError, EdgeUNetError, EngineError, MissingDependencyError

from ..frames import Frame
from ..gpu.cuda_driver import has_gpu
from ..pipeline.channel import Ended
from ..pipeline.stage import Stage, Stoppable
from .base import Backend, NetOutputs, Result
from .smoothing import Smoother

T = TypeVar("T")
_log = logging.getLogger(__name__)
_POLL = 0.05  # seconds


def open_automatic(bundle: Bundle, *, device: int | None = None, dla: int | None = None) -> Backend:
    """The fastest backend of this machine; why the GPU is not used is logged as a warning.

    TensorRT where it is installed, else TensorRT-RTX where that and PyCUDA are, else ONNX Runtime.

    Args:
        device, dla: of the GPU's backend, see `TensorRTBackend`; the CPU has no use for them.

    Raises:
        MissingDependencyError: there is no TensorRT, and ONNX Runtime is not installed.
        BackendError: the GPU cannot be used, nor ONNX Runtime in its place.
    """
    asked = {"device": device, "dla": dla}
    asked = {name: value for name, value in asked.items() if value is not None}
    try:
        backend = _on_the_gpu(bundle, **asked)
    except (BackendError, EngineError, MissingDependencyError) as error:
        return _opened_after(error, bundle, _on_the_cpu)
    if backend is None:
        if asked or has_gpu():
            why = "there is an NVIDIA GPU" if has_gpu() else f"{' and '.join(asked)} came"
            _warn(
                f"{why}, but {_missing()} is not installed in this Python: no GPU is used. "
                "`edgeunet doctor` says what is missing."
            )
        return _on_the_cpu(bundle)
    if importlib.util.find_spec("onnxruntime") is None:
        _warn(
            f"{MissingDependencyError('onnxruntime', 'cpu')} Without it nothing takes over where "
            "the GPU fails."
        )
    return FallbackBackend(backend, _on_the_cpu)


class FallbackBackend(Backend):
    """A backend until it fails; another from then on, which begins with what the first left.

    Where the other cannot be opened, each call that fails says so.
    """

    def __init__(self, first: Backend, second: Callable[[Bundle], Backend]) -> None:
        super().__init__(first.bundle)
        self._current = self._first = first
        self._second: Callable[[Bundle], Backend] | None = second
        self._changing = threading.Lock()

    @property
    def name(self) -> str:  # type: ignore[override]  # it changes
        """Name of the backend that computes."""
        return self._current.name

    @property
    def lanes(self) -> int:  # type: ignore[override]  # as above
        """See `Backend`."""
        return self._current.lanes

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """Run the net on (N, C, H, W)."""
        return self._attempt(lambda backend: backend.infer(images))

    def infer_gated(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Backend`."""
        return self._attempt(lambda backend: backend.infer_gated(images))

    def infer_in_lane(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Backend`."""
        return self._attempt(lambda backend: backend.infer_in_lane(images))

    def net_alone(self, images: npt.NDArray[np.float32]) -> Callable[[], object]:
        """See `Backend`."""
        return self._attempt(lambda backend: backend.net_alone(images))

    def segment(self, frames: Sequence[Frame], *, confidence: bool = False) -> Result:
        """8-bit RGB frames of one size -> masks at that size."""
        return self._attempt(lambda backend: backend.segment(frames, confidence=confidence))

    def stream(
        self, batches: Iterable[Sequence[Frame]], *, smoother: Smoother | None = None
    ) -> Generator[Result, None, None]:
        """`segment` for each batch in order, also where the backend changes in between."""
        with Stage(_same, batches, depth=1, name="batches") as arriving:
            in_flight: deque[Sequence[Frame]] = deque()
            while True:
                failed, taken = self._current, _Taken(in_flight, arriving)
                in_flight = taken.in_flight
                results = failed.stream(taken, smoother=smoother)
                with closing(results):
                    while True:
                        try:
                            result = next(results)
                        except StopIteration:
                            return
                        except BackendError as error:
                            self._change(error, failed)
                            break
                        in_flight.popleft()
                        yield result

    def close(self) -> None:
        """Free the backend, and one that failed: until now, another thread may have been in it."""
        for backend in {self._first, self._current}:
            backend.close()

    def _attempt(self, run: Callable[[Backend], T]) -> T:
        backend = self._current
        try:
            return run(backend)
        except BackendError as error:
            self._change(error, backend)
            return run(self._current)

    def _change(self, error: BackendError, failed: Backend) -> None:
        """Go on with the second backend; the error is raised where that is the one that failed."""
        with self._changing:
            if self._current is not failed:
                return  # another thread was here before
            if self._second is None:
                raise error
            self._current = _opened_after(error, self.bundle, self._second)
            self._second = None


class _Taken(Stoppable, Iterator[Sequence[Frame]]):
    """Batches for one backend: those that another left, and those that arrive.

    in_flight: what it took and has not given back. To stop it does not stop what arrives: that is
    for the next backend, and a camera that is away must not hold this one.
    """

    def __init__(
        self,
        left: Iterable[Sequence[Frame]],
        arriving: Stage[Sequence[Frame], Sequence[Frame]],
    ) -> None:
        self.in_flight: deque[Sequence[Frame]] = deque()
        self._left = deque(left)
        self._arriving = arriving
        self._stopped = False

    def __next__(self) -> Sequence[Frame]:
        batch = self._left.popleft() if self._left else self._arrived()
        self.in_flight.append(batch)
        return batch

    def stop(self) -> None:
        """See `Stoppable`."""
        self._stopped = True

    def _arrived(self) -> Sequence[Frame]:
        while not self._stopped:
            try:
                return self._arriving.get(_POLL)
            except TimeoutError:
                continue
            except Ended:
                break
        raise StopIteration


def _same(batch: Sequence[Frame]) -> Sequence[Frame]:
    return batch


def _on_the_gpu(bundle: Bundle, **asked: Any) -> Backend | None:
    """The backend of the kind of TensorRT that is installed, None where none is."""
    if importlib.util.find_spec("tensorrt") is not None:
        from .tensorrt import TensorRTBackend

        return TensorRTBackend(bundle, **asked)
    # TensorRT-RTX alone builds engines for other machines: without PyCUDA it is there for that.
    if all(importlib.util.find_spec(name) for name in ("tensorrt_rtx_bindings", "pycuda")):
        from .tensorrt import RtxBackend

        return RtxBackend(bundle, **asked)
    return None


def _missing() -> str:
    """What `_on_the_gpu` did not find."""
    rtx = importlib.util.find_spec("tensorrt_rtx_bindings") is not None
    return "PyCUDA" if rtx else "TensorRT"


def _on_the_cpu(bundle: Bundle) -> Backend:
    from .ort import OnnxRuntimeBackend

    return OnnxRuntimeBackend(bundle)


def _opened_after(
    error: EdgeUNetError, bundle: Bundle, second: Callable[[Bundle], Backend]
) -> Backend:
    """The second backend in the place of one that failed; told once it is there."""
    try:
        backend = second(bundle)
    except EdgeUNetError as missing:
        raise BackendError(f"{error} There is no fallback: {missing}") from error
    _log.warning("%s Going on with ONNX Runtime on the CPU.", error)
    return backend


@cache
def _warn(message: str) -> None:
    """Once: a bundle of several depths opens a backend for each."""
    _log.warning("%s", message)
