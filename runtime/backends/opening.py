"""Opens what a segmenter runs on: a named backend, the GPU's, or what was chosen by measurement."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from edgeunet.bundle.bundle import Bundle
from edgeunet.errors import BackendError, MissingDependencyError, UsageError

from ..options import LoadOptions
from . import check_kind, create_backend, hexagon
from .base import Backend
from .candidates import Candidate
from .choice import Choice, choose
from .fallback import open_chosen, uses_gpu
from .golden import agreement_on_npu, golden_agreement
from .steering import SteeredBackend
from .tiling import TiledBackend, by_windows

_log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A bundle in the precision that runs, and its backend.

    plain: the backends inside it that run one net the bundle's own way, one a depth.
    choice: why this backend; None if it was named, or is the GPU's.
    """

    bundle: Bundle
    backend: Backend
    plain: list[Backend]
    choice: Choice | None = None


def open_backend(
    bundle: Bundle, backend: str, options: LoadOptions, *, prefer: Candidate | None = None
) -> Opened:
    """Put a bundle on a backend, in tiles and at several depths if the options ask for that.

    A choice that was kept and cannot be opened any more is measured again, which is logged.
    A provider of ONNX Runtime that is named must pass the golden check.

    Args:
        backend: "auto" for the GPU if TensorRT is there, otherwise for what `choose` finds.
        prefer: what "auto" uses without measuring, if it can be opened.

    Raises:
        See `load`.
    """
    if options.precision is not None:
        bundle = bundle.at(options.precision)
    if backend == "auto" and options.provider is not None:
        raise UsageError(
            f"provider {options.provider} is one of ONNX Runtime's. Pass --backend onnxruntime too."
        )
    if backend == "auto" and not uses_gpu(options):
        check_kind(backend, bundle, options)
        return _chosen(bundle, options, prefer)
    if backend == "pytorch" and options.precision in ("fp16", "int8"):
        raise UsageError(
            f"pytorch computes in FP32 and BF16; precision {options.precision} needs another "
            "backend."
        )
    opened = _opened(bundle, options, partial(create_backend, backend, options=options))
    if options.provider not in (None, "cpu"):
        try:
            for each in opened.plain:
                _check_provider(each, options.provider)
        except BaseException:
            opened.backend.close()
            raise
    return opened


def _check_provider(backend: Backend, provider: str | None) -> None:
    if provider == "qnn" and hexagon.find_hexagon().soc is not None:
        agreement_on_npu(backend, told=hexagon.versions(), remedy=hexagon.REMEDY)
    else:
        golden_agreement(backend)


class _GoneError(Exception):
    """What was chosen earlier cannot be opened any more, or not here; the cause says why."""


def _chosen(bundle: Bundle, options: LoadOptions, prefer: Candidate | None) -> Opened:
    if prefer is not None:
        choice = Choice(prefer, f"{prefer.label} is used, as where the segmenter was pickled")
    else:
        choice = choose(bundle, options)
        if not choice.is_kept:
            return _on(choice, bundle, options)
    try:
        return _on(choice, bundle, options, earlier=True)
    except _GoneError as error:
        _log.warning("%s cannot be opened here: %s", choice.use.label, error.__cause__)
    if prefer is not None:
        return _chosen(bundle, options, None)
    return _on(choose(bundle, options, again=True), bundle, options)


def _on(choice: Choice, bundle: Bundle, options: LoadOptions, *, earlier: bool = False) -> Opened:
    """Open what was chosen; _GoneError if that was earlier and the engine cannot be opened."""

    def create(at: Bundle) -> Backend:
        with _or_gone(earlier=earlier):
            return open_chosen(choice.use, at, options)

    with _or_gone(earlier=earlier):
        at = bundle.at(choice.use.precision)
    return _opened(at, options, create)._replace(choice=choice)


@contextmanager
def _or_gone(*, earlier: bool) -> Iterator[None]:
    """Tell errors of an engine that was chosen earlier from those of the caller's options."""
    try:
        yield
    except (BackendError, MissingDependencyError, UsageError) as error:
        if not earlier:
            raise
        raise _GoneError from error


def _opened(bundle: Bundle, options: LoadOptions, create: Callable[[Bundle], Backend]) -> Opened:
    tiling = options.tiling
    plain: list[Backend] = []

    def make(at: Bundle) -> Backend:
        whole = create(at)
        plain.append(by_windows(whole))
        return plain[-1] if tiling is None else TiledBackend(whole, tiling)

    if options.target_fps is None:
        return Opened(bundle, make(bundle), plain)
    steered = SteeredBackend(bundle, make, target_fps=options.target_fps)
    return Opened(bundle, steered, plain)
