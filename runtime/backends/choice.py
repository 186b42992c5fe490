"""What can run a bundle on this machine: engines and precisions for `auto` to choose from."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple, get_args

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import Precision

from ..options import LoadOptions


class Candidate(NamedTuple):
    """A backend in a precision. provider: of ONNX Runtime, None for its CPU."""

    backend: str
    precision: Precision
    provider: str | None = None

    @property
    def label(self) -> str:
        """Such as "onnxruntime INT8" or "onnxruntime cuda FP16"."""
        return " ".join(filter(None, (self.backend, self.provider, self.precision.upper())))


def candidates(bundle: Bundle, options: LoadOptions) -> list[Candidate]:
    """What is installed and can run the bundle with these options, the closest precision first.

    PyTorch is the reference and none of them. The GPU by TensorRT is none either: its engines take
    minutes to build.

    Args:
        options: `precision`, if it is not None, is the only one.

    Raises:
        UsageError: the bundle lacks the precision.
    """
    held = precisions(bundle, options)
    if importlib.util.find_spec("onnxruntime") is None:
        return []
    return [Candidate("onnxruntime", precision) for precision in held]


def precisions(bundle: Bundle, options: LoadOptions) -> list[Precision]:
    """Precisions that the bundle holds graphs of, the closest to the reference first."""
    if options.precision is not None:
        return [bundle.at(options.precision).manifest.precision]
    return [each for each in get_args(Precision) if each in bundle.manifest.flavours]
