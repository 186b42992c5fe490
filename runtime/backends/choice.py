"""Which engine and precision `auto` uses on this machine: the fastest, by measurement."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, get_args

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import MANIFEST_NAME, Precision
from edgeunet.doctor import processor_identity
from edgeunet.errors import (
    BackendError,
    EdgeUNetError,
    MissingDependencyError,
    UsageError,
    printable,
)
from edgeunet.extras import is_installed
from edgeunet.files import sha256

from ..options import DEFAULTS, LoadOptions, Provider
from . import precisions_of
from .attempts import ended_in, forget, noting
from .kept import Asked, Kept, Measured, read_kept, versions, write_kept
from .measuring import measure, rank_of
from .openvino_library import find_device

_log = logging.getLogger(__name__)

MEASURE = "EDGEUNET_MEASURE"
"""Environment variable; 0: nothing is measured, and ONNX Runtime runs the bundle's precision."""
_ENDED = "it ended the process when it was tried; --explain tries it again"


class Candidate(NamedTuple):
    """A backend in a precision. provider: of ONNX Runtime, None for its CPU."""

    backend: str
    precision: Precision
    provider: Provider | None = None

    @property
    def label(self) -> str:
        """Such as "onnxruntime INT8" or "onnxruntime cuda FP16"."""
        return " ".join(filter(None, (self.backend, self.provider, self.precision.upper())))

    def options(self, given: LoadOptions) -> LoadOptions:
        """What `create_backend` takes to open it; the rest of `given` is for the GPU's backends."""
        named = self.provider is not None or given.processor is not None
        return replace(
            DEFAULTS,
            provider=self.provider,
            processor=given.processor,
            device=given.device if named else None,
            threads=given.threads,
        )


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


def candidates(bundle: Bundle, options: LoadOptions) -> list[Candidate]:
    """What is installed and can run the bundle with these options, the closest precision first.

    PyTorch is the reference and none of them. The GPU by TensorRT is none either: its engines take
    minutes to build. OpenVINO's GPU and NPU must be named by `processor`; those of ONNX Runtime's
    providers that start fast are candidates.

    Args:
        options: `precision`, if it is not None, is the only one. `processor` leaves OpenVINO alone,
            `provider="cpu"` leaves the providers for GPUs and NPUs out.

    Raises:
        UsageError: the bundle lacks the precision.
    """
    held = _held(bundle, options)
    found: list[Candidate] = []
    if is_installed("onnxruntime") and options.processor is None:
        found += _of("onnxruntime", held, precisions_of("onnxruntime"))
        for provider in _providers() if options.provider is None else ():
            able = precisions_of("onnxruntime", replace(DEFAULTS, provider=provider))
            found += [each._replace(provider=provider) for each in _of("onnxruntime", held, able)]
    if is_installed("openvino"):
        try:
            able = find_device(_of_openvino(options)).precisions
        except (BackendError, UsageError):
            able = tuple(held[:1])  # opening it says why it cannot be used
        found += _of("openvino", held, able)
    return sorted(found, key=rank_of)


def _providers() -> list[Provider]:
    """ONNX Runtime's, for GPUs and NPUs that seem to be here; none if it cannot be loaded."""
    try:
        from .providers import usable_providers

        usable = usable_providers()
        return [each for each in get_args(Provider) if each in usable]
    except MissingDependencyError:
        return []


def _of_openvino(options: LoadOptions) -> LoadOptions:
    return Candidate("openvino", "fp32").options(options)


def _held(bundle: Bundle, options: LoadOptions) -> list[Precision]:
    """Precisions that the bundle can be run in, or the one that is named."""
    if options.precision is not None:
        return [bundle.at(options.precision).manifest.precision]
    return [each for each in get_args(Precision) if each in ("bf16", *bundle.manifest.flavours)]


def _of(backend: str, held: Sequence[Precision], able: Sequence[Precision]) -> list[Candidate]:
    return [Candidate(backend, each) for each in held if each in able]


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
    if kept is not None and kept.results[kept.use].precision in _held(bundle, options):
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


def is_worth_timing(candidate: Candidate, options: LoadOptions) -> bool:
    """Whether `auto` times one of `candidates`.

    False of FP16 that is computed in FP32, which is no faster, and less exact.
    """
    if candidate.precision != "fp16" or options.precision == "fp16":
        return True
    if candidate.backend == "openvino":
        return find_device(_of_openvino(options)).hint("fp16") == "f16"
    return candidate.provider is not None


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
