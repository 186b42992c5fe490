"""The fastest backend of a machine, and ONNX Runtime after it has failed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle
from edgeunet.errors import (
    BackendError,
    EdgeUNetError,
    EngineError,
    MissingDependencyError,
    UsageError,
)
from edgeunet.extras import is_installed

from ..frames import Batch, NetOutputs
from ..gpu.libcuda import has_gpu
from ..options import LoadOptions
from ..pipeline.lease import Lease, supply
from . import create_backend
from .base import Backend, Net, Wrapper
from .smoothing import Smoother

if TYPE_CHECKING:
    from .candidates import Candidate

T = TypeVar("T")
_log = logging.getLogger(__name__)


def open_automatic(bundle: Bundle, options: LoadOptions) -> Backend:
    """Open the fastest backend of this machine, in the bundle's precision.

    This is TensorRT if it is installed, otherwise TensorRT-RTX if it is installed and there is an
    NVIDIA GPU or an option asks for one, otherwise the engine that `choose` finds the fastest.

    Args:
        options: `device`, `dla` and `trust_engines` are for the GPU's backend only, `threads` for
            the others.

    Raises:
        MissingDependencyError: neither TensorRT nor an engine for the CPU is installed.
        BackendError: neither the GPU nor ONNX Runtime can be used, or the GPU that `device` or
        `dla` names cannot. UsageError: one of these was given, but TensorRT is not installed.
    """
    if not uses_gpu(options):
        from .choice import choose

        chosen = choose(bundle, replace(options, precision=bundle.manifest.precision))
        return open_chosen(chosen.use, bundle, options)
    on_the_cpu = partial(_on_the_cpu, threads=options.threads)
    try:
        backend = _on_the_gpu(bundle, options)
    except (BackendError, EngineError, MissingDependencyError) as error:
        if _named(options):
            raise
        return _opened_after(error, bundle, on_the_cpu)
    if not is_installed("onnxruntime"):
        _warn(
            f"{MissingDependencyError('onnxruntime', 'cpu')} Without it nothing takes over if "
            "the GPU fails."
        )
    return FallbackBackend(backend, on_the_cpu)


def uses_gpu(options: LoadOptions) -> bool:
    """Whether `auto` takes the GPU, by TensorRT; a warning says why it does not, if there is one.

    TensorRT-RTX may have been installed to build engines for other machines: without a GPU or an
    option that asks for one it is not taken. Nor is any if a processor for OpenVINO is named.

    Raises:
        UsageError: `device` or `dla` names a GPU, and nothing is installed that could use it.
    """
    if options.processor is not None:
        return False
    named = _named(options)
    if is_installed("tensorrt"):
        return True
    gpu = has_gpu()
    if not gpu and not named and not options.trust_engines:
        return False
    if is_installed("tensorrt_rtx_bindings"):
        return True
    if gpu and options.dla is None and _has_provider():
        return False  # `choose` finds it
    if named:
        raise UsageError(
            f"{' and '.join(named)} was given, but TensorRT is not installed in this Python; "
            "expected a GPU that can be used. Install it, or leave the option out to run on the "
            "CPU. `edgeunet doctor` says what is missing."
        )
    why = "there is an NVIDIA GPU" if gpu else "trust_engines was given"
    _warn(
        f"{why}, but TensorRT is not installed in this Python: no GPU is used. "
        "`edgeunet doctor` says what is missing."
    )
    return False


def _named(options: LoadOptions) -> list[str]:
    """Options that ask for a certain GPU: without it, nothing else is what the caller wants."""
    return [name for name in ("device", "dla") if getattr(options, name) is not None]


def _has_provider() -> bool:
    """Whether ONNX Runtime can be asked for the GPU."""
    try:
        from .providers import usable_providers

        return "cuda" in usable_providers()
    except MissingDependencyError:
        return False


def open_chosen(use: Candidate, bundle: Bundle, options: LoadOptions) -> Backend:
    """Open what was chosen, for a bundle in its precision.

    If another engine than ONNX Runtime on the CPU fails later, that takes over.
    """
    backend = create_backend(use.backend, bundle, use.options(options))
    plain = use.backend == "onnxruntime" and use.provider is None
    if plain or not is_installed("onnxruntime"):
        return backend
    return FallbackBackend(backend, partial(_on_the_cpu, threads=options.threads))


class FallbackBackend(Wrapper):
    """Runs the first backend until it fails, then the second, from the first unfinished batch on.

    If the second cannot be opened, each call that fails says so.
    """

    def __init__(self, first: Backend, second: Callable[[Bundle], Backend]) -> None:
        super().__init__(first.bundle)
        self._current = self._first = first
        self._second: Callable[[Bundle], Backend] | None = second
        self._switching = threading.Lock()

    @property
    def inner(self) -> Backend:
        """See `Wrapper`."""
        return self._current

    @property
    def net(self) -> Net:  # type: ignore[override]  # it may change
        """See `Backend`. It falls back too."""
        return _FallbackNet(self)

    def segment(self, batch: Batch) -> Batch:
        """See `Backend`."""
        return self.attempt(lambda backend: backend.segment(batch))

    def stream(
        self, batches: Iterable[Batch], *, smoother: Smoother | None = None
    ) -> Generator[Batch, None, None]:
        """See `Backend`. No batch is lost or repeated when the backend changes."""
        arriving, left = supply(batches), list[Batch]()
        while True:
            failed, lease = self._current, Lease(arriving, left=left)
            with closing(failed.stream(lease, smoother=smoother)) as results:
                try:
                    for batch in results:
                        lease.done()
                        yield batch
                    return
                except BackendError as error:
                    self._switch(error, failed)
            left = lease.undone()  # the threads of the failed backend have ended

    def net_alone(self, batch: Batch) -> Callable[[], object]:
        """See `Backend`."""
        return self.attempt(lambda backend: backend.net_alone(batch))

    def close(self) -> None:
        """Free both backends. A failed one stays open until now: other threads may still use it."""
        for backend in {self._first, self._current}:
            backend.close()

    def attempt(self, run: Callable[[Backend], T]) -> T:
        """Call `run` with the current backend, and again with the second if that fails."""
        backend = self._current
        try:
            return run(backend)
        except BackendError as error:
            self._switch(error, backend)
            return run(self._current)

    def _switch(self, error: BackendError, failed: Backend) -> None:
        """Switch to the second backend; raise the error if that is the one that failed."""
        with self._switching:
            if self._current is not failed:
                return  # another thread has switched already
            if self._second is None:
                raise error
            self._current = _opened_after(error, self.bundle, self._second)
            self._second = None


class _FallbackNet(Net):
    def __init__(
        self,
        backend: FallbackBackend,
        net_of: Callable[[Backend], Net] = lambda backend: backend.net,
    ) -> None:
        self._backend, self._net_of = backend, net_of
        self.lanes = backend.inner.net.lanes

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        return self._backend.attempt(lambda backend: self._net_of(backend).infer(images))

    def infer_gated(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        return self._backend.attempt(lambda backend: self._net_of(backend).infer_gated(images))

    def lane(self) -> Net:
        return _FallbackNet(self._backend, lambda backend: backend.net.lane())


def _on_the_gpu(bundle: Bundle, options: LoadOptions) -> Backend:
    """The backend of the kind of TensorRT that is installed."""
    if is_installed("tensorrt"):
        from .tensorrt import open_tensorrt

        return open_tensorrt(bundle, options)
    from .tensorrt import open_rtx

    return open_rtx(bundle, options)


def _on_the_cpu(bundle: Bundle, *, threads: int | None) -> Backend:
    """ONNX Runtime on the CPU; it computes the graph of FP32 for a bundle in BF16."""
    from .ort import open_onnxruntime

    if bundle.manifest.precision == "bf16":
        bundle = bundle.at("fp32")
    return open_onnxruntime(bundle, LoadOptions(threads=threads))


def _opened_after(
    error: EdgeUNetError, bundle: Bundle, second: Callable[[Bundle], Backend]
) -> Backend:
    """Open the second backend after the first failed with this error, and log a warning."""
    try:
        backend = second(bundle)
    except EdgeUNetError as missing:
        raise BackendError(f"{error} There is no fallback: {missing}") from error
    _log.warning("%s Going on with ONNX Runtime on the CPU.", error)
    return backend


@cache
def _warn(message: str) -> None:
    """Log a message once, although a bundle of several depths opens a backend for each."""
    _log.warning("%s", message)
