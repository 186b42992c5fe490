"""Opens, checks and times what `auto` chooses from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import cycle

from edgeunet.bundle.bundle import Bundle
from edgeunet.errors import BackendError, EdgeUNetError, first_line
from edgeunet.latency import Race

from ..frames import Batch, Frame
from ..options import DEFAULTS, LoadOptions
from . import create_backend
from .base import Backend
from .candidates import Candidate, rank_of
from .golden import golden_agreement
from .kept import Measured
from .tiling import by_windows

MARGIN = 1.02
"""Factor in time that a closer precision may cost: about what a measurement cannot tell."""
WITHIN = 1.03
"""The race goes on until what would be chosen is known to take at most this factor of the best."""
SECONDS = 6.0
"""Longest time for the rounds of it."""
BEHIND = 1.25
"""Factor by which BF16 must be behind the fastest for FP16 and FP32 of its engine to be left out.
They would have to be faster than BF16 by more than that: on a Xeon with AMX, FP32 took 2.0 to 6.5
times as long as BF16, and FP16 2.6 to 10.5 times, for nine nets at 352x480."""


def measure(
    bundle: Bundle,
    found: Sequence[Candidate],
    options: LoadOptions = DEFAULTS,
    *,
    problems: Mapping[Candidate, str] | None = None,
    thorough: bool = False,
    trying: Callable[[Candidate], AbstractContextManager[object]] = nullcontext,
) -> tuple[tuple[Measured, ...], int]:
    """Time candidates and check the one to use; the results, in their order, and its place.

    The narrowest precision is opened first, and each runs a first block of calls then. What wins
    the race must pass the golden check; otherwise the others race again without it. A candidate
    that fails has a problem and no latency. One that cannot win, see `BEHIND`, has neither.

    Args:
        problems: of candidates that are left out. thorough: open and check all others, whether or
            not they can win. trying: surrounds the first calls of a candidate.

    Raises:
        BackendError: all fail; the message lists them with their reasons.
    """
    trial = _Trial(bundle, options, dict(problems or {}), thorough=thorough, trying=trying)
    use: Candidate | None = None
    while use is None:
        left = [each for each in found if each not in trial.problems]
        if not left:
            reasons = [f"{each.label}: {problem}" for each, problem in trial.problems.items()]
            raise BackendError(f"nothing here can run {bundle.root}: {'; '.join(reasons)}")
        use = trial.winner(left)
    results = tuple(
        Measured(
            *each,
            trial.latencies.get(each),
            trial.agreements.get(each),
            trial.problems.get(each),
        )
        for each in found
    )
    return results, list(found).index(use)


class _Trial:
    """Candidates on trial, and what is found out about them.

    problems: why candidates cannot be used. agreements: of those that passed the golden check.
    latencies: milliseconds of the net alone, if there were several to compare.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: LoadOptions,
        problems: dict[Candidate, str],
        *,
        thorough: bool,
        trying: Callable[[Candidate], AbstractContextManager[object]],
    ) -> None:
        self._bundle, self._options = bundle, options
        self._thorough, self._trying = thorough, trying
        self._frames = bundle.golden().frames
        self.problems = problems
        self.agreements: dict[Candidate, float] = {}
        self.latencies: dict[Candidate, float] = {}

    def winner(self, found: Sequence[Candidate]) -> Candidate | None:
        """The one to use, which passed the golden check; None if those that won have a problem.

        The net alone is timed, on one frame. Batches of 8, and two batches at once as in streams,
        gave the engines the same order for mobile_unet, unet, unetpp of depth 4 and eff_unet (EPYC
        with AVX2, two threads).
        """
        race: Race[Candidate] = Race(rank=rank_of, margin=MARGIN)
        opened: dict[Candidate, Backend] = {}
        with ExitStack() as stack:
            for each in sorted(found, key=rank_of, reverse=True):
                if not self._thorough and _cannot_win(each, race):
                    continue
                try:
                    with self._trying(each):
                        opened[each] = stack.enter_context(self._open(each))
                        self._run_first(each, opened[each], race)
                except EdgeUNetError as error:
                    self._fail(each, error, opened)
            several = len(opened) > 1
            if several:
                race.run(
                    seconds=SECONDS,
                    within=WITHIN,
                    left=lambda each: opened[each].close(),
                    failed=lambda each, error: self._fail(each, error, opened),
                )
            if not opened:
                return None
            use = race.best if several else next(iter(opened))
            self.latencies = race.milliseconds if several else {}
            return use if self._is_right(use, opened) else None

    def _open(self, each: Candidate) -> Backend:
        return create_backend(
            each.backend, self._bundle.at(each.precision), each.options(self._options)
        )

    def _run_first(self, each: Candidate, backend: Backend, race: Race[Candidate]) -> None:
        if self._thorough:
            self.agreements[each] = golden_agreement(by_windows(backend))
        call = net_alone_on(backend, self._frames)
        call()  # OpenVINO compiles the net only now
        race.add(each, call)

    def _is_right(self, each: Candidate, opened: dict[Candidate, Backend]) -> bool:
        """Whether it passes the golden check."""
        try:
            if each not in self.agreements:
                with self._trying(each):
                    self.agreements[each] = golden_agreement(by_windows(opened[each]))
        except EdgeUNetError as error:
            self._fail(each, error, opened)
            return False
        return True

    def _fail(self, each: Candidate, error: Exception, opened: dict[Candidate, Backend]) -> None:
        if not isinstance(error, EdgeUNetError):
            raise error
        self.problems[each] = first_line(error)
        backend = opened.pop(each, None)
        if backend is not None:
            backend.close()


def _cannot_win(each: Candidate, race: Race[Candidate]) -> bool:
    """Whether BF16 on the same engine is so far behind that a wider precision need not be tried."""
    if each.precision not in ("fp32", "fp16"):
        return False
    ratio = race.first_ratio(each._replace(precision="bf16"))
    return ratio is not None and ratio > BEHIND


def net_alone_on(backend: Backend, frames: Iterable[Frame]) -> Callable[[], object]:
    """A function that runs only the net, each time on the next of the frames."""
    calls = cycle([backend.net_alone(Batch.of([frame])) for frame in frames])
    return lambda: next(calls)()
