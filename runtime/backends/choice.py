"""Which engine and precision `auto` uses on this machine: the fastest, by measurement."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import MANIFEST_NAME
from edgeunet.doctor import processor_identity
from edgeunet.errors import (
    EdgeUNetError,
    MissingDependencyError,
    UsageError,
    printable,
)
from edgeunet.extras import is_installed
from edgeunet.files import sha256

from ..options import DEFAULTS, LoadOptions
from .attempts import ended_in, forget, noting
from .candidates import Candidate, candidates, held_by, is_worth_timing
from .kept import Asked, Kept, Measured, read_kept, versions, write_kept
from .measuring import measure

_log = logging.getLogger(__name__)

MEASURE = "EDGEUNET_MEASURE"
"""Environment variable; 0: nothing is measured, and ONNX Runtime runs the bundle's precision."""
_ENDED = "it ended the process when it was tried; --explain tries it again"


@dataclass(frozen=True)
class Choice:
    """What `auto` uses, and why, in one line.

    results: of all candidates, the closest precision first; empty if nothing was measured.
    is_new: whether it was measured just now. path: file that keeps it; None if none does.
    """

    use: Candidate
    why: str
    results: tuple[Measured, ...] = ()
    is_new: bool = False
    path: Path | None = None

    @property
    def is_kept(self) -> bool:
        """Whether it is an earlier measurement's."""
        return self.path is not None and not self.is_new

    @property
    def table(self) -> str:
        """The candidates with latency, agreement or problem, and the reason, as lines."""
        lines = []
        for each in self.results:
            candidate = _candidate(each)
            mark = "*" if candidate == self.use else " "
            time = "" if each.latency_ms is None else f"{each.latency_ms:.2f} ms"
            same = "" if each.agreement is None else f"{each.agreement:.2%}"
            problem = f"  {each.problem}" if each.problem else ""
            lines.append(f"{mark} {candidate.label:<24}{time:>12}{same:>10}{problem}")
        return "\n".join([*lines, self.why])


def choose(
    bundle: Bundle,
    options: LoadOptions = DEFAULTS,
    *,
    again: bool = False,
    thorough: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Choice:
    """The engine and precision to use for a bundle on this machine, measured once and then kept.

    The candidates are opened, and run the net alone in turns, see `Race`. The fastest is used, or
    one of a closer precision that takes at most 2 % longer; of one precision, the fastest. It must
    pass the golden check: none is used for its speed alone.

    A candidate that ends the process, by a fault in an engine's own code, is left out when the next
    one measures, see `attempts`. So is one that hangs until the process is killed.

    The choice is kept in the user's folder for caches, see `kept.folder`. It is made anew if the
    bundle, the options, the processor, the number of cores that this process may use, or a version
    of edgeunet or of a runtime changes. A kept choice is not checked again: the same versions
    compute the same on the same machine. `Segmenter.self_check` checks it before `run` and `serve`.

    With `EDGEUNET_MEASURE=0` in the environment nothing is measured or kept: ONNX Runtime runs the
    bundle's own precision, or the named one.

    Args:
        bundle: the whole; of several depths the deepest is measured, and one choice is for all.
        options: `precision` leaves the engine to choose. `threads` are those that will compute.
        again: measure also if a choice is kept.
        thorough: as `again`, and open and check all candidates, also those that cannot win and
            those that ended a process.
        tell: gets the reason, in one line, if something was measured. None: logged as a warning
            that names the bundle.

    Raises:
        MissingDependencyError: no engine is installed. BackendError: no candidate passes; the
            message lists all with their reasons. UsageError: the bundle lacks the precision, or no
            engine here computes in it.

    Example:
        >>> from edgeunet.runtime import open_bundle
        >>> from edgeunet.runtime.backends.choice import choose
        >>> choose(open_bundle(bundle)).use.label
        'onnxruntime FP32'
    """
    if os.environ.get(MEASURE) == "0":
        return _unmeasured(bundle, options)
    asked = _asked(bundle, options)
    kept = None if again or thorough else read_kept(asked)
    if kept is not None and kept.results[kept.use].precision in held_by(bundle, options):
        _log.info("%s", kept.why)
        return _choice(kept, path=asked.path)
    found = [each for each in candidates(bundle, options) if is_worth_timing(each, options)]
    if not found:
        raise _nothing(bundle, options)
    if len(found) == 1:
        return Choice(found[0], f"{found[0].label} is the only one that can run this bundle here.")
    if thorough:
        forget(asked)
    ended = [each for each in found if each in ended_in(asked)]
    with noting(asked) as trying:
        results, use = measure(
            bundle,
            found,
            options,
            problems=dict.fromkeys(ended, _ENDED),
            thorough=thorough,
            trying=trying,
        )
    why = _reason(results, use)
    path = write_kept(Kept(asked, use, f"{why} (measured on this machine)", results))
    where = f", kept in {path}" if path is not None else ""
    why = f"{why} (measured on this machine{where})"
    choice = Choice(_candidate(results[use]), why, results, is_new=True, path=path)
    if tell is None:
        _log.warning("%s: %s", printable(bundle.root.resolve().name), choice.why)
    else:
        tell(choice.why)
    return choice


def _reason(results: Sequence[Measured], use: int) -> str:
    """The times, the fastest first, what fails, and what is used."""
    timed = [(each.latency_ms, _candidate(each)) for each in results if each.latency_ms is not None]
    parts = [f"{candidate.label} {latency:.1f} ms" for latency, candidate in sorted(timed)]
    parts += [
        f"{_candidate(each).label} fails ({each.problem})" for each in results if each.problem
    ]
    used = _candidate(results[use])
    fastest = min(timed, default=(0.0, used))[1]
    words = "is used"
    if used.precision != fastest.precision:
        words = f"is used: it is closer than {fastest.label}, and as fast"
    return f"{', '.join(parts)}: {used.label} {words}" if parts else f"{used.label} {words}"


def _candidate(measured: Measured) -> Candidate:
    return Candidate(measured.backend, measured.precision, measured.provider)


def _choice(kept: Kept, path: Path | None) -> Choice:
    return Choice(_candidate(kept.results[kept.use]), kept.why, kept.results, path=path)


def _asked(bundle: Bundle, options: LoadOptions) -> Asked:
    """What the choice depends on."""
    names = ("precision", "provider", "processor", "device", "threads")
    given = {name: getattr(options, name) for name in names}
    return Asked(
        bundle=sha256(bundle.root / MANIFEST_NAME),
        options={name: str(value) for name, value in given.items() if value is not None},
        machine=processor_identity(),
        versions=versions(),
    )


def _unmeasured(bundle: Bundle, options: LoadOptions) -> Choice:
    """ONNX Runtime, or the first engine that is installed, in the precision of the bundle."""
    precision = options.precision or bundle.manifest.precision
    found = candidates(bundle, replace(options, precision=precision))
    if not found:
        raise _nothing(bundle, options)
    use = next((each for each in found if each.backend == "onnxruntime"), found[0])
    return Choice(use, f"{MEASURE}=0: nothing is measured, {use.label} is used")


def _nothing(bundle: Bundle, options: LoadOptions) -> EdgeUNetError:
    """Why there is no candidate."""
    engines = ["openvino"] if options.processor is not None else ["onnxruntime", "openvino"]
    there = [each for each in engines if is_installed(each)]
    if not there:
        return MissingDependencyError(engines[0])
    precision = options.precision or bundle.manifest.precision
    return UsageError(
        f"{' and '.join(there)} do{'es' if len(there) == 1 else ''} not compute in "
        f"{precision.upper()} on this machine. Pass another --precision."
    )
