"""What `auto` chooses from on this machine: engines, each in its precisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, get_args

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import Precision
from edgeunet.errors import BackendError, MissingDependencyError, UsageError
from edgeunet.extras import is_installed

from ..options import DEFAULTS, LoadOptions, Provider
from . import precisions_of
from .openvino_library import find_device


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


def rank_of(candidate: Candidate) -> int:
    """How close the candidate's precision is to the reference; 0 is the closest."""
    return get_args(Precision).index(candidate.precision)


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
    held = held_by(bundle, options)
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


def held_by(bundle: Bundle, options: LoadOptions) -> list[Precision]:
    """Precisions that the bundle can be run in, or the one that is named."""
    if options.precision is not None:
        return [bundle.at(options.precision).manifest.precision]
    return [each for each in get_args(Precision) if each in ("bf16", *bundle.manifest.flavours)]


def is_worth_timing(candidate: Candidate, options: LoadOptions) -> bool:
    """Whether `auto` times one of `candidates`.

    False of FP16 that is computed in FP32, which is no faster, and less exact.
    """
    if candidate.precision != "fp16" or options.precision == "fp16":
        return True
    if candidate.backend == "openvino":
        return find_device(_of_openvino(options)).hint("fp16") == "f16"
    return candidate.provider is not None


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


def _of(backend: str, held: Sequence[Precision], able: Sequence[Precision]) -> list[Candidate]:
    return [Candidate(backend, each) for each in held if each in able]
