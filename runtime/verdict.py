"""Which of a bundle's precisions to use on the machine at hand, by measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import FLAVOURS, Precision
from edgeunet.errors import ParityError
from edgeunet.latency import median_latencies

from .backends import create_backend
from .segmenter import Segmenter

_WORTH = 0.95
"""A lower precision is worth it from this share of the higher one's time on; less is noise."""


@dataclass(frozen=True)
class PrecisionResult:
    """A precision here. latency_ms: median of the net alone on one frame, None where it failed.

    agreement: share of the golden pixels that are PyTorch's, None where too few are. problem: why
    it cannot be used, None where it can.
    """

    precision: Precision
    latency_ms: float | None
    agreement: float | None
    problem: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The precision to use, and why. results: highest precision first, of one run."""

    use: Precision
    why: str
    results: tuple[PrecisionResult, ...]


def compare_precisions(
    bundle: Bundle, backend: str = "auto", *, rounds: int = 6, **arguments: Any
) -> Verdict:
    """Time every precision that a bundle holds, in turns, after checking its golden frames.

    Args:
        arguments: those of the backend, such as `threads`.

    Raises:
        ParityError: none of them gives the masks that were promised.
    """
    calls: dict[Precision, Callable[[], object]] = {}
    agreements: dict[Precision, float] = {}
    problems: dict[Precision, str] = {}
    held: list[Precision] = [p for p in FLAVOURS if p in bundle.manifest.flavours]
    with ExitStack() as stack:
        for precision in held:
            at = bundle.at(precision)
            segmenter = stack.enter_context(Segmenter(at, create_backend(backend, at, **arguments)))
            try:
                agreements[precision] = segmenter.self_check()
            except ParityError as error:
                problems[precision] = str(error)
            else:
                calls[precision] = _net_alone(segmenter)
        if not calls:
            raise ParityError(next(iter(problems.values())))
        latencies = median_latencies(calls, rounds=rounds)
    results = tuple(
        PrecisionResult(p, latencies.get(p), agreements.get(p), problems.get(p)) for p in held
    )
    return decide(results)


def decide(results: Sequence[PrecisionResult]) -> Verdict:
    """The highest precision, but for a lower one that is worth it; at least one must have run."""
    timed = [(r.precision, r.latency_ms) for r in results if r.latency_ms is not None]
    use, best = timed[0]
    for precision, latency in timed[1:]:
        if latency <= _WORTH * best:
            use, best = precision, latency
    listed = ", ".join(f"{precision.upper()} {latency:.1f} ms" for precision, latency in timed)
    lower = list(FLAVOURS)[list(FLAVOURS).index(use) + 1 :]
    notes = {
        "would be slower": [p for p, latency in timed if p in lower and latency > best],
        "gains too little": [p for p, latency in timed if p in lower and latency <= best],
        "gives wrong masks here": [r.precision for r in results if r.problem is not None],
    }
    said = "".join(
        f"; {' and '.join(p.upper() for p in named)} {note}"
        for note, named in notes.items()
        if named
    )
    return Verdict(use, f"{listed}: use {use.upper()}{said}", tuple(results))


def _net_alone(segmenter: Segmenter) -> Callable[[], object]:
    """A call of the net on the next of the golden frames, without pre- and post-processing."""
    backend = segmenter.backend
    frames = segmenter.bundle.golden().frames
    calls = cycle([backend.net_alone(backend.preprocess([frame])) for frame in frames])
    return lambda: next(calls)()
